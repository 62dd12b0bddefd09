"""OpenLLMetry in JavaScript: what its releases write, beyond what the captures show."""

from __future__ import annotations

import json
import random
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, event, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

LANGCHAIN = "@traceloop/instrumentation-langchain"
TOOL = {"gen_ai.operation.name": "execute_tool", "traceloop.span.kind": "task", "traceloop.entity.name": "DynamicStructuredTool"}
NODE = {"gen_ai.operation.name": "workflow", "traceloop.span.kind": "workflow", "traceloop.workflow.name": "RunnableSequence"}


def message(kind: str, **said: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", kind], "kwargs": said}


def tool(number: int, arguments: str, **other: Any) -> dict[str, Any]:
    said = TOOL | {"traceloop.entity.input": json.dumps({"args": [arguments]})}
    if "content" in other:
        answer = message("ToolMessage", content=other.pop("content"), tool_call_id=f"c{number}", name="send", status="success")
        said |= {"traceloop.entity.output": json.dumps(answer)}
    return span(said, id=f"{number:016x}", trace=f"{number:032x}", start=NOW - 1000 + number, end=NOW - 500 + number, **other)


def node(number: int, arguments: str, content: str, status: str) -> dict[str, Any]:
    asked = {"name": "send", "args": json.loads(arguments), "type": "tool_call", "id": f"c{number}"}
    said = message("AIMessage", content="", name="desk", tool_calls=[asked])
    answer = message("ToolMessage", content=content, tool_call_id=f"c{number}", name="send", status=status)
    attributes = NODE | {
        "traceloop.entity.input": json.dumps({"messages": [message("HumanMessage", content="x"), said], "lg_tool_call": asked}),
        "traceloop.entity.output": json.dumps({"messages": [answer]}),
    }
    return span(attributes, id=f"{number + 100:016x}", trace=f"{number + 100:032x}", start=NOW - 2000, end=NOW + number)


def final(*spans: dict[str, Any]) -> pl.DataFrame:
    records = [Record(at, "traces", 2 * NOW, traces(one, scope=LANGCHAIN)) for at, one in enumerate(spans, start=1)]
    return final_form(records).filter(pl.col("otel_ir.duplicate_of").is_null())


@pytest.mark.parametrize("seed", range(8))
def test_a_tool_and_the_node_of_the_graph_around_it_are_one_call_whatever_comes_first(seed: int) -> None:
    failing = ((2, '{"to":"b"}'), (3, '{"to":"b"}'), (4, '{"to":"c"}'))
    spans = [
        tool(1, '{"to": "a"}', content="sent"),
        node(1, '{"to":"a"}', "sent", "success"),
        *(tool(n, said, status=2, message="refused") for n, said in failing),
        *(node(n, said, "Error: refused", "error") for n, said in failing),
    ]
    found = final(*random.Random(seed).sample(spans, len(spans))).sort("gen_ai.tool.call.id")
    columns = ("gen_ai.tool.call.id", "gen_ai.tool.name", "gen_ai.agent.name", "error", "otel_ir.executed")
    assert found.select(columns).rows() == [(f"c{n}", "send", "desk", n != 1, "yes") for n in (1, 2, 3, 4)]
    assert [json.loads(one) for one in found["gen_ai.tool.call.arguments"]] == [{"to": to} for to in "abbc"]


def test_a_tool_without_a_graph_is_a_call_though_nobody_names_it() -> None:
    failed, answered = tool(1, "x@y.example", status=2, message="refused"), tool(2, "{}", content="sent")
    assert final(failed, answered).select("gen_ai.tool.name", "gen_ai.tool.call.arguments", "error").rows() == [
        (None, "x@y.example", True),
        ("send", "{}", False),
    ]


def test_a_class_of_its_own_says_what_a_tool_is() -> None:
    found = event(traces(span(TOOL | {"traceloop.entity.name": "WikipediaQueryRun"}), scope=LANGCHAIN))
    assert (found["event.type"], found["gen_ai.tool.name"]) == ("tool_call", "WikipediaQueryRun")


def test_an_agent_executor_is_an_agent_where_the_run_has_a_name() -> None:
    for name, kind in (("desk", "agent_invocation"), ("AgentExecutor", None)):
        said = NODE | {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
        assert final(span(said)).get_column("event.type").to_list() == ([kind] if kind else [])
