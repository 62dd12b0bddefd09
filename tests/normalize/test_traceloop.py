"""What the releases of OpenLLMetry write, beyond what the captures show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from normalize.otlp_maker import NOW, event, normalized, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

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


class TestCallsInMessages:
    """Calls and results as providers write them."""

    def calls(self, attributes: dict[str, str]) -> list[tuple[Any, ...]]:
        body = traces(
            span({"gen_ai.operation.name": "chat", "gen_ai.system": "x"} | attributes), scope="opentelemetry.instrumentation.anthropic"
        )
        names = ("side", "call_id", "tool", "arguments", "result", "error")
        return [row for row in normalized(body).calls.select(names).rows() if row[0] != "silent"]

    def test_blocks_of_anthropic_in_flat_messages(self) -> None:
        asked = [{"type": "tool_use", "id": "t1", "name": "look_up", "input": {"x": 1}}]
        given = [{"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True}]
        found = self.calls(
            {
                "gen_ai.prompt.0.role": "assistant",
                "gen_ai.prompt.0.content": json.dumps(asked),
                "gen_ai.prompt.1.role": "user",
                "gen_ai.prompt.1.content": json.dumps(given),
            }
        )
        assert found == [("result", "t1", "look_up", '{"x": 1}', "no", True)]

    def test_items_of_the_responses_api_have_other_ids_than_their_calls(self) -> None:
        asked = [{"type": "tool_call", "id": f"fc_{number}", "name": "look_up", "arguments": {"x": number}} for number in (1, 2)]
        given = [{"type": "tool_call_response", "id": f"call_{number}", "response": f"y{number}"} for number in (1, 2)]
        messages = [{"role": "assistant", "parts": asked}, {"role": "tool", "parts": given}]
        assert self.calls({"gen_ai.input.messages": json.dumps(messages)}) == [
            ("result", f"{kind}_{number}", "look_up", f'{{"x": {number}}}', f"y{number}", None)
            for number in (1, 2)
            for kind in ("call", "fc")
        ]

    def test_a_result_without_its_call_takes_no_other(self) -> None:
        parts = [
            {"type": "tool_call", "id": "a", "name": "look_up", "arguments": {}},
            {"type": "tool_call_response", "id": "a", "response": "1"},
            {"type": "tool_call_response", "id": "b", "response": "2"},
        ]
        found = self.calls({"gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}])})
        assert [one[:3] for one in found] == [("result", "a", "look_up"), ("result", "b", None)]


def test_a_response_of_a_release_that_does_not_say_what_it_is() -> None:
    said = {"gen_ai.system": "openai", "gen_ai.request.model": "m"}
    assert of(said, "opentelemetry.instrumentation.openai.v1")["event.type"] == "model_output"
    assert normalized(
        traces(span(said | {"llm.request.type": "embedding"}), scope="opentelemetry.instrumentation.openai.v1")
    ).events.is_empty()


class TestMcp:
    """What OpenLLMetry writes of a client's call of an MCP tool, and what stands around it."""

    SCOPE = "opentelemetry.instrumentation.mcp.instrumentation"

    def test_the_request_as_it_is(self) -> None:
        asked = {"method": "tools/call", "params": {"meta": None, "name": "look_up", "arguments": {"x": 1}}}
        given = {"meta": None, "content": [{"type": "text", "text": "gone"}], "isError": True}
        said = {"traceloop.entity.input": json.dumps(asked), "traceloop.entity.output": json.dumps(given)}
        found = of(said, self.SCOPE, name="tools/call.mcp", status=1)
        assert (found["gen_ai.tool.name"], found["gen_ai.tool.call.arguments"]) == ("look_up", '{"x": 1}')
        assert (found["gen_ai.tool.call.result"], found["error"], found["error.message"]) == ("gone", True, "gone")

    @pytest.mark.parametrize(("output", "result"), [('{"result": "y"}', "y"), ('{"result": "y", "more": 1}', '{"result": "y", "more": 1}')])
    def test_the_result_of_a_tool(self, output: str, result: str) -> None:
        asked = {"traceloop.entity.input": '{"tool_name": "look_up", "arguments": {"x": 1}}', "traceloop.entity.output": output}
        found = of(TOOL | asked, self.SCOPE)
        assert (found["gen_ai.tool.call.arguments"], found["gen_ai.tool.call.result"], found["error"]) == ('{"x": 1}', result, False)

    def test_streams_are_no_calls(self) -> None:
        said = {"mcp.method.name": "tools/call", "mcp.request.argument": '{"name":"look_up","arguments":{}}', "mcp.request.id": "2"}
        assert normalized(traces(span(said, name="RequestStreamWriter"), scope=self.SCOPE)).events.is_empty()


def test_what_a_tool_says_of_its_failure_is_the_error() -> None:
    given = {"output": {"lc": 1, "kwargs": {"content": "gone", "tool_call_id": "c1", "status": "error"}}}
    found = of(TOOL | {"traceloop.entity.output": json.dumps(given)})
    assert (found["error"], found["error.message"], found["gen_ai.tool.call.id"]) == (True, "gone", "c1")


def test_a_hand_off_of_a_graph_under_the_conventions() -> None:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "transfer_to_billing", "gen_ai.agent.name": "triage"}
    found = of(said, "opentelemetry.instrumentation.genai.langchain")
    assert (found["event.type"], found["otel_ir.handoff.from"], found["otel_ir.handoff.to"]) == ("handoff", "triage", "billing")


def test_the_function_around_a_supervisors_agents_is_no_agent() -> None:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "call_agent"}
    assert normalized(traces(span(said), scope="opentelemetry.instrumentation.genai.langchain")).events.is_empty()


@pytest.mark.parametrize(
    ("metadata", "attributes", "expected"),
    [
        ({"session_id": "s", "thread_id": "t", "user_id": "u"}, {}, ("s", "u")),
        ({"thread_id": "t"}, {}, ("t", None)),
        ({"session_id": "s", "user_id": "u"}, {f"{ASSOCIATED}session_id": "a"}, ("a", None)),
        ({}, {}, (None, None)),
    ],
)
def test_a_call_that_never_ran_is_of_the_conversation_that_the_run_names(
    metadata: dict[str, str], attributes: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    kept = {
        "inputs": {"messages": [{"content": {"metadata": {"session_id": "said", "user_id": "said"}}}]},
        "tags": [],
        "metadata": metadata,
    }
    run = span({"traceloop.span.kind": "workflow", "traceloop.entity.input": json.dumps(kept)} | attributes, id="1" * 16)
    call = "gen_ai.completion.0.tool_calls.0."
    asked = {"llm.request.type": "chat", f"{call}id": "c1", f"{call}name": "look_up", f"{call}arguments": "{}"}
    model = span(asked, id="2" * 16, parent="1" * 16)
    found = final_form([Record(1, "traces", 2 * NOW, traces(run, model, scope=LANGCHAIN))])
    calls = found.filter(found["event.type"] == "tool_call").select("gen_ai.conversation.id", "user.id")
    assert calls.rows() == [expected]
