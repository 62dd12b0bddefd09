"""What the releases of OpenLLMetry write, beyond what the captures show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from normalize.otlp_maker import event, normalized, span, traces

AGENTS, LANGCHAIN = "traceloop.openai_agents", "opentelemetry.instrumentation.langchain"
ASSOCIATED = "traceloop.association.properties."
TOOL = {"traceloop.span.kind": "tool", "traceloop.entity.name": "look_up"}


def of(attributes: dict[str, Any], scope: str = LANGCHAIN, **other: Any) -> dict[str, Any]:
    return event(traces(span(attributes, **other), scope=scope))


def wrapped(**metadata: str) -> str:
    return json.dumps({"input_str": "{}", "inputs": {}, "metadata": metadata, "kwargs": {"tool_call_id": "c1"}})


def test_a_tool_that_an_agent_has_is_no_call_of_it() -> None:
    declared = {"traceloop.span.kind": "tool", "gen_ai.completion.tool.name": "look_up", "gen_ai.completion.tool.type": "FunctionTool"}
    assert normalized(traces(span(declared), scope=AGENTS)).events.is_empty()
    called = of(declared | {"traceloop.entity.input": '{"x":1}', "traceloop.entity.output": "y"}, AGENTS)
    assert (called["event.type"], called["gen_ai.tool.name"], called["gen_ai.tool.call.result"]) == ("tool_call", "look_up", "y")


def test_an_agent_span_of_the_oldest_release_is_one_call_of_the_model() -> None:
    said = {"openai.agent.model": "m", "gen_ai.usage.prompt_tokens": 5, "openai.agent.group_id": "conv", "gen_ai.agent.name": "triage"}
    found = of({"traceloop.span.kind": "agent", **said}, AGENTS)
    assert (found["event.type"], found["gen_ai.usage.input_tokens"], found["gen_ai.conversation.id"]) == ("model_output", 5, "conv")


@pytest.mark.parametrize(
    "attributes",
    [
        {"traceloop.entity.name": "transfer_to_billing"},
        {
            "traceloop.entity.name": "transfer_to_desk",
            "traceloop.entity.input": wrapped(lc_agent_name="triage", __handoff_destination="billing"),
        },
        {"traceloop.entity.name": "escalate", f"{ASSOCIATED}__handoff_destination": "billing"},
    ],
)
def test_a_tool_that_hands_over(attributes: dict[str, str]) -> None:
    found = of(TOOL | {f"{ASSOCIATED}lc_agent_name": "triage"} | attributes)
    assert (found["event.type"], found["otel_ir.handoff.from"], found["otel_ir.handoff.to"]) == ("handoff", "triage", "billing")


@pytest.mark.parametrize(
    ("path", "workflow", "agent"),
    [
        ("desk.billing.tools", "team", "billing"),
        ("tools", "team", "team"),
        ("tools", "LangGraph", None),
        ("tools", "", None),
    ],
)
def test_the_graph_in_which_a_tool_stands_is_its_agent(path: str, workflow: str, agent: str | None) -> None:
    assert of(TOOL | {"traceloop.entity.path": path, "traceloop.workflow.name": workflow})["gen_ai.agent.name"] == agent


def test_a_retriever_is_a_retrieval_though_it_is_called_a_task() -> None:
    assert of({"traceloop.span.kind": "task", "gen_ai.operation.name": "vector_db_retrieve"})["event.type"] == "retrieval"


def test_control_flow_of_a_graph_is_no_error() -> None:
    raised = [("exception", {"exception.type": "langgraph.errors.ParentCommand", "exception.message": "Command(graph='__parent__')"})]
    assert of({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, status=2, events=raised)["error"] is not True
