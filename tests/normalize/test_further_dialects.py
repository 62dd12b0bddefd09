"""Instrumentations that no shared capture shows: OpenLLMetry on Agno and LlamaIndex, OpenLIT, traceAI."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, event, span, traces

from otel_ir.model import Record
from otel_ir.normalize.results import RESULTS
from otel_ir.offline import final_form

BOTH_WAYS = pytest.mark.parametrize("step", [1, -1])
AGNO = "opentelemetry.instrumentation.agno"
LLAMA = "opentelemetry.instrumentation.llamaindex"


def read(scope: str, spans: list[dict[str, Any]], step: int) -> pl.DataFrame:
    made = [one | {"id": f"{number:016x}", "start": NOW + number, "end": NOW + 100 - number} for number, one in enumerate(spans, start=1)]
    found = final_form(Record(at, "traces", 2 * NOW, traces(one, scope=scope)) for at, one in enumerate(made[::step], start=1))
    return found.filter(pl.col("otel_ir.duplicate_of").is_null())


def of_type(found: pl.DataFrame, kind: str, *columns: str) -> list[tuple[Any, ...]]:
    return found.filter(pl.col("event.type") == kind).sort("start_time").select(columns).rows()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("status='success' result='it\\'s' error=None updated_session_state=None", ("it's", None, None)),
        ("status='success' result={'a': 1} error=None updated_session_state={}", ("{'a': 1}", None, None)),
        ("status='failure' result=None error=\"it's refused\" updated_session_state=None", ("it's refused", True, "it's refused")),
        ("status='failure' result=None er", ("status='failure' result=None er", None, None)),
    ],
)
def test_agno_says_in_a_repr_that_a_tool_failed(output: str, expected: tuple[Any, ...]) -> None:
    attributes = {"traceloop.span.kind": "tool", "gen_ai.tool.name": "send", "traceloop.entity.output": output}
    found = event(traces(span(attributes, status=1), scope=AGNO))
    assert (found["gen_ai.tool.call.result"], found["error"] or None, found["error.message"]) == expected


@BOTH_WAYS
def test_llama_index_has_two_tasks_for_a_call(step: int) -> None:
    task = {"traceloop.span.kind": "task"}
    output = {"tool_name": "send", "raw_input": {"args": [], "kwargs": {"a": 1}}, "raw_output": "refused", "is_error": True}
    whole = {"tool_name": "send", "tool_kwargs": {"a": 1}, "tool_id": "c1", "tool_output": output}
    spans = [
        span({**task, "tool.name": "send", "tool.arguments": '{"a": 1}', "traceloop.entity.output": json.dumps(whole)}),
        span({**task, "traceloop.entity.name": "FunctionTool.task", "traceloop.entity.output": json.dumps(output)}, parent=f"{1:016x}"),
        span({**task, "traceloop.entity.name": "FunctionTool.task", "traceloop.entity.output": json.dumps(output)}),
        span({**task, "tool.name": "handoff", "tool.arguments": '{"to_agent": "b", "reason": "x"}'}),
        span({**task, "traceloop.entity.name": "XRetriever.task", "traceloop.entity.input": '{"str_or_query_bundle": "q"}'}),
        span({**task, "traceloop.entity.name": "XRetriever.task", "traceloop.entity.input": '{"query_bundle": {}}'}, parent=f"{5:016x}"),
        span({**task, "traceloop.entity.name": "BaseWorkflowAgent.task"}),
    ]
    found = read(LLAMA, spans, step)
    columns = ("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "error", "error.message")
    assert of_type(found, "tool_call", *columns) == [
        ("send", "c1", '{"a": 1}', True, "refused"),
        ("send", None, '{"a": 1}', True, "refused"),
    ]
    assert of_type(found, "handoff", "otel_ir.handoff.to") == [("b",)]
    assert found.filter(pl.col("event.type") == "retrieval").height == 1


@BOTH_WAYS
def test_openlit_joins_the_calls_of_an_answer_and_names_nodes_as_agents(step: int) -> None:
    part = {"type": "tool_call", "id": "c1", "name": "send", "arguments": {"a": 1}}
    asked = json.dumps([{"role": "assistant", "parts": [part]}])
    listed = {"gen_ai.tool.name": "send, find", "gen_ai.tool.call.id": "c1, c2", "gen_ai.tool.call.arguments": "{}, {}"}
    failed = {"gen_ai.tool.call.id": "01a21cc4-9e15-7064-a64e-d6ee8106fda4", "gen_ai.framework.error.message": "refused"}
    operation = "gen_ai.operation.name"
    spans = [
        span({operation: "invoke_agent", "gen_ai.agent.name": "triage"}),
        span({operation: "chat", **listed, "gen_ai.output.messages": asked}, parent=f"{1:016x}"),
        span(
            {operation: "execute_tool", "gen_ai.tool.name": "send", "gen_ai.tool.call.arguments": "{'a': 1}", **failed}, parent=f"{1:016x}"
        ),
        span({operation: "invoke_agent", "gen_ai.agent.name": "model"}),
        span({operation: "invoke_agent", "gen_ai.agent.name": "billing", "gen_ai.agent.source": "triage"}, parent=f"{1:016x}"),
    ]
    found = read("openlit.instrumentation.langchain", spans, step)
    columns = ("gen_ai.agent.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "error.message")
    assert of_type(found, "tool_call", *columns) == [("triage", "c1", '{"a":1}', "refused")]
    assert of_type(found, "model_output", "gen_ai.tool.name", "gen_ai.tool.call.id") == [(None, None)]
    assert {*of_type(found, "agent_invocation", "gen_ai.agent.name")} - {(None,)} == {("triage",)}
    assert of_type(found, "handoff", "otel_ir.handoff.from", "otel_ir.handoff.to") == [("triage", "billing")]


def test_openlit_gives_the_repr_of_a_message_as_the_result() -> None:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find", "gen_ai.tool.call.id": "c1"}
    result = {"gen_ai.tool.call.result": "content='it\\'s \"here\"' name='find' tool_call_id='c1'"}
    found = event(traces(span(attributes | result), scope="openlit.instrumentation.langchain"))
    assert (found["gen_ai.tool.call.id"], found["gen_ai.tool.call.result"]) == ("c1", 'it\'s "here"')


@BOTH_WAYS
def test_traceai_renames_what_openinference_says(step: int) -> None:
    kind = "gen_ai.span.kind"
    call = "gen_ai.output.messages.0.message.tool_calls.0.tool_call."
    spans = [
        span({kind: "AGENT", "graph.node.id": "triage"}),
        span({kind: "LLM", "gen_ai.usage.input_tokens": 7, f"{call}id": "c1", f"{call}function.name": "find"}, parent=f"{1:016x}"),
        span({kind: "TOOL", "gen_ai.tool.name": "find", "input.value": '{"a": 1}', "output.value": "found"}, parent=f"{1:016x}"),
        span({kind: "TOOL", "input.value": "{}"}, name="handoff to billing", parent=f"{1:016x}"),
    ]
    found = read("traceai_openai_agents", spans, step)
    columns = ("gen_ai.agent.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")
    assert of_type(found, "tool_call", *columns) == [("triage", "c1", '{"a": 1}', "found", "yes")]
    assert of_type(found, "handoff", "otel_ir.handoff.from", "otel_ir.handoff.to") == [("triage", "billing")]
    assert of_type(found, "model_output", "gen_ai.usage.input_tokens") == [(7,)]


@pytest.mark.parametrize("via", [*RESULTS])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "status='x' result='", "content='", 'content="' + "\\" * 99_999, "{" * 99_999])
def test_what_cannot_be_read_has_no_members(via: str, text: str) -> None:
    assert RESULTS[via](text) in ({}, {"id": text})
