"""Forms that single releases of frameworks emit, read by their tables."""

from __future__ import annotations

from typing import Any

import pytest
from normalize.otlp_maker import NOW, event, normalized, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

RAISED = ("exception", {"exception.type": "pydantic_ai.exceptions.ApprovalRequired", "exception.message": ""})
TOOL = {"gen_ai.tool.name": "wipe", "gen_ai.tool.call.id": "c"}


def pydantic(attributes: dict[str, Any], **other: Any) -> dict[str, Any]:
    return event(traces(span(attributes, **other), scope="pydantic-ai"))


def test_pydantic_spans_without_an_operation() -> None:
    """Packages 1.1 to 1.9x with format 3."""
    found = pydantic(TOOL | {"gen_ai.tool.call.arguments": "{}", "gen_ai.tool.call.result": "ok"}, name="execute_tool wipe")
    assert (found["event.type"], found["gen_ai.tool.name"], found["otel_ir.executed"]) == ("tool_call", "wipe", "yes")
    found = pydantic({"gen_ai.agent.name": "a"}, name="invoke_agent a")
    assert (found["event.type"], found["gen_ai.agent.name"]) == ("agent_invocation", "a")


@pytest.mark.parametrize(
    ("attributes", "other"),
    [
        (
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": "{}", "pydantic_ai.tool.deferral.name": "CallDeferred"},
            {"name": "execute_tool wipe"},
        ),
        ({"tool_arguments": "{}"}, {"name": "running tool", "status": 2, "events": [RAISED]}),
    ],
)
def test_a_pydantic_tool_that_asks_for_approval_is_pending_and_no_error(attributes: dict[str, Any], other: dict[str, Any]) -> None:
    found = pydantic(TOOL | attributes, **other)
    assert (found["event.type"], found["otel_ir.executed"], found["error"]) == ("tool_call", "pending_approval", False)


def adk(attributes: dict[str, Any], **other: Any) -> dict[str, Any]:
    return event(traces(span({"gen_ai.operation.name": "execute_tool"} | TOOL | attributes, **other), scope="gcp.vertex.agent"))


@pytest.mark.parametrize("key", ["gen_ai.tool.call.result", "gcp.vertex.agent.tool_response"])
@pytest.mark.parametrize(
    ("answer", "executed"),
    [
        ("This tool call requires confirmation, please approve or reject.", "pending_approval"),
        ("This tool call is rejected.", "rejected"),
        ("no such file", "yes"),
    ],
)
def test_adk_answers_in_place_of_a_tool_that_must_be_confirmed(key: str, answer: str, executed: str) -> None:
    assert adk({key: f'{{"error": "{answer}"}}'})["otel_ir.executed"] == executed


def test_adk_merges_parallel_calls_into_a_span_that_is_no_call() -> None:
    merged = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "(merged tools)", "gen_ai.tool.call.id": "x"}
    assert normalized(traces(span(merged, name="execute_tool (merged)"), scope="gcp.vertex.agent")).events.is_empty()


def test_adk_says_where_it_could_not_write_a_result() -> None:
    found = adk({"gcp.vertex.agent.tool_call_args": '{"a": 1}', "gcp.vertex.agent.tool_response": "<not serializable>"})
    assert (found["gen_ai.tool.call.result"], found["gen_ai.tool.call.arguments"]) == (None, '{"a": 1}')


def test_autogen_names_the_tool_for_who_takes_over() -> None:
    for name, text, to in (("transfer_to_billing", "x", "billing"), ("to_billing", "Handoff to billing.", None)):
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.description": text}
        found = event(traces(span(attributes), scope="autogen-core"))
        assert (found["event.type"], found["otel_ir.handoff.to"]) == ("handoff", to)


def test_the_tool_runner_of_anthropics_client_and_why_a_tool_failed() -> None:
    said = '[{"type":"text","text":"refused"}]'
    attributes = {"gen_ai.operation.name": "execute_tool", "error.type": "tool_error", "anthropic.tool_result.content": said} | TOOL
    found = event(traces(span(attributes, status=2, name="anthropic.custom_tool_use wipe"), scope="com.anthropic.sdk.python"))
    assert (found["event.type"], found["gen_ai.tool.call.result"], found["error.message"]) == ("tool_call", said, said)


@pytest.mark.parametrize(("success", "triggered"), [("true", False), ("False", True)])
def test_crewais_own_guardrails_and_failures(success: str, triggered: bool) -> None:
    checked = event(traces(span({"crewai.guardrail.success": success}, name="evaluate guardrail"), scope="crewai"))
    assert (checked["event.type"], checked["otel_ir.guardrail.triggered"]) == ("guardrail", triggered)
    failed = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "wipe", "error.type": "_OTHER"}
    assert normalized(traces(span(failed, name="tool failure", status=2), scope="crewai")).events.is_empty()


def test_logfires_streamed_answer_counts_once() -> None:
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    told = chat | {"gen_ai.response.id": "r", "gen_ai.output.messages": "[]"}
    found = normalized(traces(span(chat), span(told), span(chat, status=2), scope="logfire.openai")).events
    assert found.select("event.type", "error").rows() == [("model_output", False), ("model_output", True)]


def test_logfire_before_5_keeps_requests_and_answers_as_they_are() -> None:
    use = '{"type": "tool_use", "id": "c", "name": "wipe", "input": {"n": 1}}'
    back = '{"type": "tool_result", "tool_use_id": "c", "content": "gone"}'
    requests = ['{"model": "m", "messages": []}', f'{{"messages": [{{"content": [{use}]}}, {{"content": [{back}]}}]}}']
    asked = '{"role": "assistant", "tool_calls": [{"function": {"name": "wipe", "arguments": "{\\"input\\": {\\"n\\": 1}}"}}]}'
    answers = [f'{{"message": {asked}, "usage": {{"input_tokens": 3}}}}', '{"message": {"role": "assistant", "content": "done"}}']
    pairs = [{"request_data": one, "response_data": two} for one, two in zip(requests, answers, strict=True)]
    made = (span(one, name="Message with {request_data[model]!r}", trace=f"{at}" * 32) for at, one in enumerate(pairs, start=1))
    events = final_form(Record(at, "traces", 2 * NOW, traces(one, scope="logfire.anthropic")) for at, one in enumerate(made, start=1))
    columns = ("event.type", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.tool.call.id", "gen_ai.tool.call.result")
    found = {tuple(row) for row in events.select(columns).iter_rows()}
    assert found == {("model_output", None, None, None, None), ("model_output", "m", 3, None, None), ("tool_call", None, None, "c", "gone")}


def test_the_answer_in_events_without_a_choice_is_what_the_assistant_said_last() -> None:
    made = '{"event.name": "gen_ai.assistant.message", "tool_calls": [{"id": "%s", "function": {"name": "wipe", "arguments": "{}"}}]}'
    told = '{"event.name": "gen_ai.tool.message", "id": "a", "content": "gone"}'
    attributes = {"gen_ai.operation.name": "responses", "events": f"[{made % 'a'}, {told}, {made % 'b'}]"}
    found = normalized(traces(span(attributes), scope="logfire.openai")).calls
    assert found.select("side", "call_id", "tool").rows() == [("result", "a", "wipe"), ("call", "b", "wipe")]


@pytest.mark.parametrize("step", [1, -1])
def test_strands_with_the_span_processor_of_openinference(step: int) -> None:
    tool = {"gen_ai.operation.name": "execute_tool", "openinference.span.kind": "TOOL", "gen_ai.tool.call.id": "c1"}
    said = "llm.output_messages.0.message.tool_calls.0.tool_call."
    model = {"gen_ai.operation.name": "chat", "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "help"}
    spans = [
        span({**model, f"{said}id": "c1", f"{said}function.name": "find"}, id=f"{1:016x}", parent=f"{9:016x}"),
        span({**tool, "gen_ai.tool.name": "find", "input.value": '{"a": 1}', "output.value": "found"}, id=f"{2:016x}", parent=f"{9:016x}"),
        span(
            {
                **tool,
                "gen_ai.tool.name": "handoff_to_agent",
                "gen_ai.tool.call.id": "c2",
                "input.value": '{"agent_name": "b", "message": "x"}',
            },
            id=f"{3:016x}",
            parent=f"{9:016x}",
        ),
        span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, id=f"{9:016x}"),
    ]
    records = (Record(at, "traces", 2 * NOW, traces(one, scope="strands.telemetry.tracer")) for at, one in enumerate(spans[::step], 1))
    found = final_form(records)
    calls = found.filter(found["event.type"] == "tool_call")
    columns = ("gen_ai.agent.name", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")
    assert calls.select(columns).rows() == [("a", '{"a": 1}', "found", "yes")]
    assert found.filter(found["event.type"] == "handoff")["otel_ir.handoff.to"].to_list() == ["b"]
    assert "help" in found.filter(found["event.type"] == "model_output")["gen_ai.input.messages"][0]
