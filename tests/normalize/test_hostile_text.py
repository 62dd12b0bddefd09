"""What tools and models write can neither stop the fold nor change what is known of calls: it is text, wherever it stands."""

from __future__ import annotations

import time
from typing import Any

import pytest
from normalize.otlp_maker import span, traces
from normalize.test_logs_join_spans import records

from otel_ir.normalize.crew import crew_calls
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
