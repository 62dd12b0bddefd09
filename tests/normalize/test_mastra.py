"""Mastra: the words of its older exporters, calls that only steps or a suspended agent tell of."""

from __future__ import annotations

import pytest
from normalize.otlp_maker import event, normalized, span, traces


def of(kind: str, **attributes: str) -> dict[str, str]:
    return {"mastra.span.type": kind} | {key.replace("__", "."): value for key, value in attributes.items()}


def test_a_tool_of_the_first_exporter() -> None:
    given = of(
        "tool_call", gen_ai__operation__name="tool.execute", gen_ai__tool__name="x", gen_ai__tool__input="{}", gen_ai__tool__output="1"
    )
    found = event(traces(span(given), scope="@mastra/otel"))
    assert [found[f"gen_ai.tool.call.{name}"] for name in ("arguments", "result")] == ["{}", "1"]
    assert [found["event.type"], found["otel_ir.executed"]] == ["tool_call", "yes"]


def test_an_agent_of_the_first_exporter() -> None:
    given = of("agent_run", gen_ai__operation__name="agent.run", agent__id="a", threadId="t", userId="u")
    found = event(traces(span(given), scope="@mastra/otel"))
    assert [found[name] for name in ("gen_ai.agent.name", "gen_ai.conversation.id", "user.id")] == ["a", "t", "u"]


@pytest.mark.parametrize(
    ("kind", "operation", "expected"),
    [
        ("model_generation", "chat", ["model_output"]),
        ("model_generation", "model_generation", []),
        ("model_inference", "chat", ["model_output"]),
        ("workflow_run", "invoke_workflow", []),
        ("memory_operation", "memory_operation", []),
    ],
)
def test_the_model_calls_are_what_says_chat(kind: str, operation: str, expected: list[str]) -> None:
    found = normalized(traces(span(of(kind, gen_ai__operation__name=operation)), scope="@mastra/otel-exporter")).events
    assert found["event.type"].to_list() == expected


@pytest.mark.parametrize(("kind", "key"), [("model_step", "mastra.model_step.output"), ("model_step", "output")])
def test_a_step_tells_of_the_calls_that_it_asked_for(kind: str, key: str) -> None:
    text = '{"text":"","toolCalls":[{"toolCallId":"c","toolName":"x","args":{"a":1}}]}'
    found = normalized(traces(span(of(kind) | {key: text}), scope="@mastra/otel-exporter")).calls
    assert found.select("side", "call_id", "tool", "arguments").rows() == [("call", "c", "x", '{"a":1}')]


def test_a_suspended_agent_waits_for_a_call_and_a_resumed_one_may_have_been_refused() -> None:
    waits = '{"status":"suspended","reason":"tool-call-approval","toolName":"x","toolCallId":"c"}'
    refused, allowed = (f'{{"approved":{said},"toolName":"x","toolCallId":"c"}}' for said in ("false", "true"))
    spans = [
        span(of("agent_run") | {f"mastra.agent_run.{key}": text})
        for key, text in (("output", waits), ("input", refused), ("input", allowed))
    ]
    found = normalized(traces(*spans, scope="@mastra/otel-exporter")).calls
    assert found.select("side", "call_id", "executed").rows() == [("call", "c", None), ("result", "c", "rejected")]
