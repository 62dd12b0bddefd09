"""Vercel AI SDK: what both modes say of a refused call, of who calls, and of a call without content."""

from __future__ import annotations

import pytest
from normalize.otlp_maker import event, normalized, span, traces

CALL = {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "search", "ai.toolCall.id": "c1"}
ASKED = '{"role":"assistant","content":[{"type":"tool-call","toolCallId":"c1","toolName":"rm","input":{}}]}'


@pytest.mark.parametrize(
    ("output", "executed"),
    [
        ('{"type":"execution-denied","reason":"no"}', "rejected"),
        ('{"type":"execution-denied"}', "rejected"),
        ('{"type":"text","value":"execution-denied"}', "yes"),
        ('{"type":"json","value":{"type":"x"}}', "yes"),
    ],
)
def test_a_denied_output_is_a_refusal(output: str, executed: str) -> None:
    prompt = f'[{ASKED},{{"role":"tool","content":[{{"type":"tool-result","toolCallId":"c1","toolName":"rm","output":{output}}}]}}]'
    found = normalized(traces(span({"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": prompt}), scope="ai"))
    assert found.calls.filter(side="result")["executed"].to_list() == [executed]


@pytest.mark.parametrize(
    ("response", "executed"),
    [
        ('{"denied":true,"reason":"not \\"now\\""}', "rejected"),
        ('{"denied":true}', "rejected"),
        ('{"denied":true,"reason":"x","account":7}', "yes"),
        ('{"denied":false}', "yes"),
    ],
)
def test_a_denied_response_of_the_modern_mode_is_a_refusal(response: str, executed: str) -> None:
    said = f'[{{"role":"tool","parts":[{{"type":"tool_call_response","id":"c1","response":{response}}}]}}]'
    found = normalized(traces(span({"gen_ai.operation.name": "chat", "gen_ai.input.messages": said}), scope="gen_ai"))
    assert found.calls.filter(side="result")["executed"].to_list() == [executed]


@pytest.mark.parametrize("place", ["ai.telemetry.metadata.", "ai.settings.context."])
def test_metadata_and_context_say_who_calls(place: str) -> None:
    found = event(traces(span(CALL | {f"{place}thread_id": "t", f"{place}user_id": "u", f"{place}agentName": "a"}), scope="ai"))
    assert [found["gen_ai.conversation.id"], found["user.id"], found["gen_ai.agent.name"]] == ["t", "u", "a"]


def test_the_context_of_the_modern_mode_says_who_calls() -> None:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "ai.settings.context.sessionId": "s"}
    found = event(traces(span(attributes | {"ai.settings.context.userId": "u"}), scope="gen_ai"))
    assert [found["gen_ai.conversation.id"], found["user.id"], found["otel_ir.dialect"]] == ["s", "u", "vercel_ai7"]


@pytest.mark.parametrize(
    ("attributes", "scope"), [(CALL, "ai"), ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}, "gen_ai")]
)
def test_a_tool_span_is_made_by_what_runs(attributes: dict[str, str], scope: str) -> None:
    assert event(traces(span(attributes), scope=scope))["otel_ir.executed"] == "yes"
