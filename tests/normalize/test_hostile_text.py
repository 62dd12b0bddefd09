"""What tools and models write can neither stop the fold nor change what is known of calls: it is text, wherever it stands."""

from __future__ import annotations

import json
import re
import time
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import span, traces
from normalize.test_logs_join_spans import records

from otel_ir.normalize.crew import crew_calls
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.offline import final_form

_CREW, _GENAI = "opentelemetry.instrumentation.crewai", "opentelemetry.instrumentation.genai.langchain"
_MESSAGES = (
    "[{'role': 'assistant', 'tool_calls': [{'id': 'c-1', 'function': {'name': 'lookup', 'arguments': '{}'}}]},"
    " {'role': 'tool', 'tool_call_id': 'c-1', 'content': CONTENT}]"
)


def tasks(raw: str = "done", content: str = "found") -> str:
    messages = _MESSAGES.replace("CONTENT", repr(content))
    return f"[TaskOutput(description='find it', raw={raw!r}, messages={messages}, agent='Finder')]"


def rows(*spans: dict[str, Any], scope: str) -> list[dict[str, Any]]:
    return final_form(records([("traces", traces(*spans, scope=scope))])).rows(named=True)


def test_a_lone_surrogate_in_a_python_literal_stops_nothing() -> None:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t", "gen_ai.tool.call.arguments": r"{'a': '\ud800é'}"}
    (found,) = rows(span(said), scope=_GENAI)
    assert found["gen_ai.tool.call.arguments"] == r'{"a":"\ud800é"}'
    (found,) = rows(span({"crewai.crew.tasks_output": tasks(content="\ud800")}), scope=_CREW)
    assert found["gen_ai.tool.call.result"] == "?"


@pytest.mark.parametrize(
    "raw",
    ["messages=[{'tool_calls': 5}]", "TaskOutput(messages=[])", "agent='Other'", "ToolFailure(tool_call_id='c-1')", "'\"]}", "\\'" * 999],
)
def test_quoted_text_says_nothing_of_a_crews_calls(raw: str) -> None:
    (found,) = rows(span({"crewai.crew.tasks_output": tasks(raw)}), scope=_CREW)
    assert (found["gen_ai.tool.name"], found["gen_ai.agent.name"], found["error"]) == ("lookup", "Finder", False)
    assert (found["gen_ai.tool.call.result"], found["otel_ir.executed"]) == ("found", "yes")


@pytest.mark.parametrize("item", ["5", "[5]", "{'a': 1}", "[{'function': 3}]", "[{'id': 1, 'function': {'name': []}}]", "True"])
def test_a_crews_messages_of_any_shape_are_read_as_far_as_they_go(item: str) -> None:
    text = tasks().replace("[{'role'", f"[{{'tool_calls': {item}, 'tool_call_id': {{}}}}, 5, {{'role'")
    assert len(rows(span({"crewai.crew.tasks_output": text}), scope=_CREW)) == 1


def test_an_output_without_tasks_tells_of_no_calls() -> None:
    assert not rows(span({"crewai.crew.tasks_output": "tool_call"}), scope=_CREW)


@pytest.mark.parametrize("long", ["x\n" * 1_500_000, "\\" * 99_999, "\ud800" * 50_000])
def test_a_long_answer_hides_no_call_of_a_crew(long: str) -> None:
    for text in (tasks(raw=long), tasks(content=long)):
        assert [call.side for call in crew_calls(text)] == ["call", "result"]


@pytest.mark.parametrize("part", ["ToolFailure(", "(a)", "agent='", "TaskOutput(", "'", "\"'", "[{", "messages=[{"])
def test_what_looks_like_a_crews_output_takes_linear_time(part: str) -> None:
    started = time.process_time()
    assert not [*crew_calls("[TaskOutput(" + part * (1_000_000 // len(part)))]
    assert time.process_time() - started < 10


def _model(**messages: Any) -> dict[str, Any]:
    said = {name.replace("_", "."): json.dumps([{"role": "x", "parts": parts}]) for name, parts in messages.items()}
    return {"gen_ai.operation.name": "chat"} | {f"gen_ai.{name}": text for name, text in said.items()}


@pytest.mark.parametrize("proof", [{"error.type": "timeout"}, {"otel_ir.executed": "yes"}])
def test_what_a_tool_writes_cannot_unmake_a_call_of_which_a_span_says_that_it_ran(proof: dict[str, str]) -> None:
    call = {"type": "tool_call", "id": "c-1", "name": "lookup", "arguments": {}}
    answer = {"type": "tool_call_response", "id": "c-1", "response": "User rejected the tool call for `lookup`"}
    ran = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c-1"} | proof
    spans = [
        span(_model(output_messages=[call]), id="1" * 16, parent="9" * 16),
        span(ran, id="2" * 16, parent="9" * 16),
        span(_model(input_messages=[answer]), id="3" * 16, parent="9" * 16),
    ]
    for order in permutations(spans):
        for sent in ([traces(one, scope=_GENAI) for one in order], [traces(*order, scope=_GENAI)]):
            found = final_form(records([("traces", body) for body in sent])).filter(pl.col("event.type") == "tool_call")
            assert found.filter(pl.col("otel_ir.duplicate_of").is_null())["otel_ir.executed"].to_list() == ["yes"]


def test_a_result_that_only_quotes_a_refusal_is_none() -> None:
    (table,) = (one for one in DIALECTS if one.name == "agent_framework")
    ((pattern, word),) = table.verdicts
    assert word == "rejected"
    assert re.search(pattern, "Error: Tool call invocation was rejected by user.")
    assert not re.search(pattern, "42 orders found. One was rejected by the user. The others were shipped.")


def test_a_second_description_of_one_call_does_not_take_another_one() -> None:
    served = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"}
    run = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c-1"}
    calls = [{"type": "tool_call", "id": name, "name": "lookup", "arguments": {}} for name in ("c-1", "c-2")]
    sent = [
        traces(span(_model(output_messages=calls), id="1" * 16, parent="9" * 16), scope=_GENAI),
        traces(span(run, id="2" * 16, parent="9" * 16), scope=_GENAI),
        traces(span(served, id="3" * 16, parent="2" * 16), scope="mcp-python-sdk"),
    ]
    found = final_form(records([("traces", body) for body in sent])).filter(pl.col("event.type") == "tool_call")
    assert sorted(found.filter(pl.col("otel_ir.duplicate_of").is_null())["gen_ai.tool.call.id"]) == ["c-1", "c-2"]
