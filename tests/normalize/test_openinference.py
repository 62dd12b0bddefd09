"""What OpenInference's instrumentations say in ways of their own, span by span."""

from __future__ import annotations

import json
from typing import Any

import pytest
from normalize.otlp_maker import event, normalized, span, traces

SCOPE = "openinference.instrumentation."
ADK = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "delete_file"}


def kind(of: str, **attributes: Any) -> dict[str, Any]:
    return {"openinference.span.kind": of} | {key.replace("__", "."): value for key, value in attributes.items()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"args": ["x@y.example"], "sanitize_inputs_outputs": False, "kwargs": {"body": "hi"}}, {"to": "x@y.example", "body": "hi"}),
        ({"args": [], "sanitize_inputs_outputs": True, "kwargs": {"to": "x", "body": "hi"}}, {"to": "x", "body": "hi"}),
        ({"args": [1, 2, 3], "kwargs": {}}, {"args": [1, 2, 3], "kwargs": {}}),
    ],
)
def test_positional_arguments_get_their_names(given: dict[str, Any], expected: dict[str, Any]) -> None:
    attributes = kind("TOOL", tool__name="send", tool__parameters='{"to": {}, "body": {}}', input__value=json.dumps(given))
    found = event(traces(span(attributes), scope=SCOPE + "smolagents"))
    assert json.loads(found["gen_ai.tool.call.arguments"]) == expected


def test_hidden_arguments_are_absent_and_a_hidden_result_proves_that_the_call_ran() -> None:
    attributes = kind("TOOL", tool__name="send", input__value="__REDACTED__", output__value="__REDACTED__")
    found = event(traces(span(attributes), scope=SCOPE + "openai_agents"))
    assert found["gen_ai.tool.call.arguments"] is None
    assert found["otel_ir.executed"] == "yes"


@pytest.mark.parametrize(
    ("answer", "executed"),
    [
        ("This tool call requires confirmation, please approve or reject.", "pending_approval"),
        ("This tool call is rejected.", "rejected"),
        ("No such file.", "yes"),
    ],
)
def test_what_adk_answers_in_place_of_a_tool(answer: str, executed: str) -> None:
    said = json.dumps({"id": "c", "name": "delete_file", "response": {"error": answer}})
    ours = event(traces(span(kind("TOOL", tool__name="delete_file", output__value=said)), scope=SCOPE + "google_adk"))
    native = event(traces(span(ADK | {"gcp.vertex.agent.tool_response": json.dumps({"error": answer})}), scope="gcp.vertex.agent"))
    assert ours["otel_ir.executed"] == native["otel_ir.executed"] == executed


def test_adk_before_1_16_names_agents_and_failed_tools_by_their_spans() -> None:
    spans = (
        span({}, name="agent_run [triage_agent]"),
        span({}, name="execute_tool send", status=2),
        span(ADK, name="execute_tool (merged)"),
    )
    found = normalized(traces(*spans, scope="gcp.vertex.agent")).events
    assert found["event.type"].to_list() == ["agent_invocation", "tool_call"]
    assert found["gen_ai.agent.name"].to_list() == ["triage_agent", None]
    assert found["gen_ai.tool.name"].to_list() == [None, "send"]


def test_a_transfer_of_adk_is_a_handoff() -> None:
    attributes = kind("TOOL", tool__name="transfer_to_agent", input__value='{"agent_name": "billing"}', gen_ai__agent__name="triage")
    found = event(traces(span(attributes), scope=SCOPE + "google_adk"))
    assert (found["event.type"], found["otel_ir.handoff.from"], found["otel_ir.handoff.to"]) == ("handoff", "triage", "billing")


class TestLangChain:
    def read(self, attributes: dict[str, Any], **other: Any) -> dict[str, Any]:
        return event(traces(span(attributes, **other), scope=SCOPE + "langchain"))

    def test_a_tool_with_agent_in_its_name(self) -> None:
        found = self.read(kind("AGENT", tool__name="disable_agent", input__value="bob"), name="disable_agent")
        assert (found["event.type"], found["gen_ai.tool.name"]) == ("tool_call", "disable_agent")

    def test_a_tool_that_gives_a_command_hands_off(self) -> None:
        message = {"type": "tool", "data": {"content": "Moved.", "tool_call_id": "call_1"}}
        command = json.dumps({"graph": "__parent__", "update": {"messages": [message]}, "goto": "billing"})
        metadata = json.dumps({"langgraph_checkpoint_ns": "supervisor:1|tools:2"})
        found = self.read(kind("AGENT", tool__name="transfer", output__value=command, metadata=metadata))
        assert (found["event.type"], found["gen_ai.tool.call.id"]) == ("handoff", "call_1")
        assert (found["otel_ir.handoff.from"], found["otel_ir.handoff.to"]) == ("supervisor", "billing")

    def test_a_command_within_the_graph_is_a_result(self) -> None:
        message = {"type": "tool", "data": {"content": "noted", "tool_call_id": "call_1"}}
        found = self.read(kind("TOOL", tool__name="note", output__value=json.dumps({"graph": None, "update": {"messages": [message]}})))
        assert (found["gen_ai.tool.call.result"], found["gen_ai.tool.call.id"]) == ("noted", "call_1")

    def test_a_graph_is_the_agent_where_nothing_else_names_it(self) -> None:
        assert self.read(kind("AGENT"), name="triage_agent")["gen_ai.agent.name"] == "triage_agent"
        part = kind("AGENT", metadata='{"langgraph_node": "__start__"}')
        assert normalized(traces(span(part, name="route_to_active_agent"), scope=SCOPE + "langchain")).events.is_empty()


def test_a_handoff_of_llama_index_without_the_object_that_the_framework_puts_in() -> None:
    given = {"kwargs": {"to_agent": "billing", "reason": "r", "ctx": "<workflows.context.context.Context object at 0x7f09a4da9310>"}}
    attributes = kind("TOOL", tool__name="handoff", input__value=json.dumps(given))
    found = event(traces(span(attributes), scope=SCOPE + "llama_index"))
    assert (found["event.type"], found["otel_ir.handoff.to"]) == ("handoff", "billing")
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"to_agent": "billing", "reason": "r"}


def test_an_agent_span_made_by_hand_is_named_after_its_agent() -> None:
    assert event(traces(span(kind("AGENT"), name="triage_agent"), scope="app"))["gen_ai.agent.name"] == "triage_agent"


def test_answers_without_ids_belong_to_the_calls_in_their_order() -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.2.message.role": "tool",
        "llm.input_messages.2.message.content": "one",
    }
    attributes |= {"llm.input_messages.3.message.role": "tool", "llm.input_messages.3.message.content": "two"}
    for index, name in enumerate(("first", "second")):
        path = f"llm.input_messages.1.message.tool_calls.{index}.tool_call."
        attributes |= {path + "id": f"call_{index}", path + "function.name": name, path + "function.arguments": "{}"}
    found = normalized(traces(span(attributes), scope=SCOPE + "litellm")).calls
    answers = [(row["call_id"], row["tool"], row["result"]) for row in found.iter_rows(named=True) if row["side"] == "result"]
    assert answers == [("call_0", "first", "one"), ("call_1", "second", "two")]
