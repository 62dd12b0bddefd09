"""What Haystack writes, beyond what the capture shows: its second major release, other generators, and no content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from normalize.otlp_maker import NOW, event, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

COMPONENT = "haystack.component."
CALL = {"tool_name": "send", "arguments": {"to": "a"}, "id": "c1", "extra": None}


def message(**content: Any) -> dict[str, Any]:
    return {"role": "x", "meta": {"model": "m", "usage": {"prompt_tokens": 7, "completion_tokens": 2}}, "content": [content]}


def component(kind: str, name: str, number: int, output: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    attributes = {f"{COMPONENT}type": kind, f"{COMPONENT}name": name}
    attributes |= {f"{COMPONENT}output": json.dumps(output)} if output else {}
    return span(attributes, name="haystack.component.run", id=f"{number:016x}", start=NOW + number, end=NOW + number, **other)


@pytest.mark.parametrize("scope", ["haystack", "my_application"])
@pytest.mark.parametrize("step", [1, -1])
def test_the_calls_of_haystack_2_stand_in_what_its_components_give(scope: str, step: int) -> None:
    result = {"result": "refused", "origin": CALL, "error": True}
    spans = [
        component("OpenAIChatGenerator", "chat_generator", 1, {"replies": [message(tool_call=CALL)]}, parent=f"{9:016x}"),
        component("ToolInvoker", "tool_invoker", 2, {"tool_messages": [message(tool_call_result=result)]}, parent=f"{9:016x}"),
        component("Agent", "desk", 9, {"messages": [message(tool_call=CALL), message(tool_call_result=result)]}),
    ]
    found = final_form(Record(at, "traces", 2 * NOW, traces(one, scope=scope)) for at, one in enumerate(spans[::step], start=1))
    calls = found.filter(found["event.type"] == "tool_call")
    columns = ("gen_ai.agent.name", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.result", "otel_ir.executed", "error")
    assert calls.select(columns).rows() == [("desk", "send", "c1", "refused", "yes", True)]
    assert sorted(found["event.type"]) == ["agent_invocation", "model_output", "tool_call"]


@pytest.mark.parametrize(
    ("kind", "output", "expected"),
    [
        ("OpenAIChatGenerator", {"replies": [message(text="x")]}, ("model_output", "m", 7)),
        ("OpenAIGenerator", {"replies": ["x"], "meta": [{"model": "n", "usage": {"input_tokens": 3}}]}, ("model_output", "n", 3)),
        ("OpenAIGenerator", {"replies": []}, ("model_output", None, None)),
        ("InMemoryBM25Retriever", {"documents": []}, ("retrieval", None, None)),
    ],
)
def test_components_are_what_their_class_says(kind: str, output: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = event(traces(component(kind, "x", 1, output)))
    assert (found["event.type"], found["gen_ai.response.model"], found["gen_ai.usage.input_tokens"]) == expected


def test_a_tool_span_without_content_is_a_call_that_ran() -> None:
    found = event(
        traces(span({"haystack.tool.name": "send", "haystack.tool.error": True}, name="haystack.agent.step.tool"), scope="haystack")
    )
    assert (found["gen_ai.tool.name"], found["otel_ir.executed"], found["error"]) == ("send", "yes", True)


@pytest.mark.parametrize(("said", "decision"), [("confirm", "accepted"), ("modify", "accepted"), ("reject", "rejected")])
def test_what_a_person_answers_is_an_approval(said: str, decision: str) -> None:
    asked = "haystack.agent.hook.human_in_the_loop.strategy."
    attributes = {"haystack.tool.name": "send", "haystack.tool.call.id": "c1", f"{asked}type": "x", f"{asked}decision": said}
    found = event(traces(span(attributes, name=asked.strip(".")), scope="haystack"))
    columns = ("event.type", "gen_ai.tool.name", "gen_ai.tool.call.id", "otel_ir.approval.decision")
    assert tuple(found[name] for name in columns) == ("approval", "send", "c1", decision)
