"""What extract makes of single spans and log records."""

from __future__ import annotations

import time
from typing import Any

import pytest
from normalize.otlp_maker import NOW, TRACE, event, logs, normalized, span, traces

from otel_ir.model import EVENT_SCHEMA

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
MINUTE = 60_000_000_000


def tool(**attributes: Any) -> dict[str, Any]:
    return TOOL | {key.replace("__", "."): value for key, value in attributes.items()}


def test_an_event_has_every_column_in_its_type() -> None:
    found = normalized(traces(span(TOOL))).events
    assert found.schema == EVENT_SCHEMA


def test_nothing_gives_empty_frames() -> None:
    for body in (b"", traces(), traces(span({"http.method": "GET"}))):
        found = normalized(body, "otel_ir.arguments.url", "http.url")
        assert found.events.height == found.calls.height == 0
        assert found.events.columns[-2:] == ["http.url", "otel_ir.arguments.url"]
    assert normalized(b"", kind="logs").events.height == 0


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (NOW - 5, NOW - 5),
        (0, NOW),
        (NOW + 4 * MINUTE, NOW + 4 * MINUTE),
        (NOW + 6 * MINUTE, NOW + 5 * MINUTE),
        (2**64 - 1, NOW + 5 * MINUTE),
    ],
)
def test_event_time_is_the_end_within_what_is_plausible(end: int, expected: int) -> None:
    assert event(traces(span(TOOL, end=end)))["event_time"] == expected


def test_a_log_has_its_time_else_that_of_its_observation() -> None:
    stated = {"otel_ir.event.type": "auth"}
    assert event(logs(span(stated, time=NOW - 7)), kind="logs")["event_time"] == NOW - 7
    assert event(logs(span(stated, time=0, observed=NOW - 9)), kind="logs")["event_time"] == NOW - 9
    assert event(logs(span(stated, time=0)), kind="logs")["event_time"] == NOW


class TestStatement:
    """An application may state any canonical column itself, and that wins."""

    def test_an_event_of_its_own(self) -> None:
        found = event(
            traces(span({"otel_ir.event.type": "auth", "user.id": "u", "error": True, "error.type": "bad_token", "gen_ai.agent.name": "a"}))
        )
        assert (found["event.type"], found["otel_ir.dialect"], found["otel_ir.agent.id"]) == ("auth", "otel_genai_guess", "svc/a")
        assert (found["user.id"], found["error"], found["error.type"]) == ("u", True, "bad_token")

    def test_against_what_the_dialect_says(self) -> None:
        attributes = {
            "openinference.span.kind": "TOOL",
            "tool.name": "x",
            "gen_ai.tool.name": "y",
            "otel_ir.executed": "rejected",
            "error": False,
        }
        found = event(traces(span(attributes, status=2)))
        assert (found["gen_ai.tool.name"], found["otel_ir.executed"], found["error"], found["error.type"]) == ("y", "rejected", False, None)

    def test_on_a_log_record(self) -> None:
        found = event(
            logs(span({"otel_ir.event.type": "approval", "otel_ir.approval.decision": "rejected"}, trace=TRACE, span="a" * 16)), kind="logs"
        )
        assert (found["event.type"], found["otel_ir.approval.decision"], found["otel_ir.duplicate_of"]) == ("approval", "rejected", None)

    def test_numbers_and_booleans_come_in_any_form(self) -> None:
        for tokens in (7, "7", 7.0, "7.0"):
            found = event(traces(span({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": tokens})))
            assert found["gen_ai.usage.input_tokens"] == 7
        found = event(traces(span({"otel_ir.event.type": "guardrail", "otel_ir.guardrail.triggered": "True"})))
        assert found["otel_ir.guardrail.triggered"] is True

    def test_not_what_others_vouch_for(self) -> None:
        attributes = {
            "otel_ir.agent.id": "other/a",
            "service.name": "other",
            "otel_ir.tenant": "x",
            "otel_ir.event.id": "x",
            "event_time": 1,
        }
        found = event(traces(span(TOOL | attributes)))
        assert (found["otel_ir.agent.id"], found["service.name"], found["otel_ir.tenant"]) == (None, "svc", "t")
        assert (found["otel_ir.event.id"], found["event_time"]) == (f"t~s~{TRACE}/{1:016x}", NOW)

    def test_a_type_that_does_not_exist_is_none(self) -> None:
        assert normalized(traces(span({"otel_ir.event.type": "nonsense"}))).events.height == 0


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"status": 2, "message": "RuntimeError: refused"}, ("RuntimeError", "RuntimeError: refused")),
            ({"status": 2, "message": "refused"}, (None, "refused")),
            ({"status": 2, "attributes": {"error.type": "tool_error"}}, ("tool_error", "")),
            ({"status": 0, "attributes": {"error.type": "tool_error"}}, ("tool_error", "")),
            (
                {
                    "status": 2,
                    "attributes": {"error.type": "_OTHER"},
                    "events": [("exception", {"exception.type": "ValueError", "exception.message": "bad"})],
                },
                ("ValueError", "bad"),
            ),
            ({"status": 2, "attributes": {"error.type": "_OTHER"}, "message": "a.b.KeyError: 'x'"}, ("KeyError", "a.b.KeyError: 'x'")),
            ({"status": 2, "attributes": {"error.type": "_OTHER"}}, ("_OTHER", "")),
            ({"status": 2, "events": [("exception", {"exception.type": "Exception", "exception.message": "m"})]}, ("Exception", "m")),
        ],
    )
    def test_type_and_message(self, given: dict[str, Any], expected: tuple[str | None, str]) -> None:
        found = event(traces(span(TOOL | given.pop("attributes", {}), **given)))
        assert (found["error"], found["error.type"], found["error.message"] or "") == (True, *expected)
        assert found["otel_ir.executed"] == "yes"

    @pytest.mark.parametrize("status", [0, 1])
    def test_an_exception_event_alone_is_no_error(self, status: int) -> None:
        found = event(traces(span(TOOL, status=status, events=[("exception", {"exception.type": "GraphInterrupt"})])))
        assert (found["error"], found["error.type"], found["error.message"]) == (False, None, None)

    def test_expected_behavior_is_no_error(self) -> None:
        interrupted = span(
            {"openinference.span.kind": "TOOL"}, status=2, events=[("exception", {"exception.type": "langgraph.errors.GraphInterrupt"})]
        )
        retried = span(
            {"gen_ai.tool.name": "x"},
            name="running tool",
            status=2,
            events=[("exception", {"exception.type": "pydantic_ai.exceptions.ToolRetryError"})],
        )
        assert event(traces(interrupted))["error"] is False
        assert event(traces(retried, scope="pydantic-ai"))["error"] is False

    def test_a_result_may_say_that_the_call_failed(self) -> None:
        output = '{"type": "tool", "data": {"content": "no", "tool_call_id": "c", "status": "error"}}'
        found = event(traces(span({"openinference.span.kind": "TOOL", "output.value": output}, status=1)))
        assert (found["error"], found["gen_ai.tool.call.id"], found["gen_ai.tool.call.result"]) == (True, "c", "no")


@pytest.mark.parametrize("key", ["http.response.status_code", "http.status_code"])
@pytest.mark.parametrize(("code", "kind", "expected"), [(401, 3, 1), ("403", 3, 1), (404, 3, 0), (401, 2, 0)])
def test_a_refused_http_request_is_an_auth_event(key: str, code: Any, kind: int, expected: int) -> None:
    found = normalized(traces(span({key: code}, kind=kind, name="GET"))).events
    assert found.height == expected
    if expected:
        row = found.row(0, named=True)
        assert (row["event.type"], row["error"], row["error.type"], row["otel_ir.dialect"]) == ("auth", True, str(code), "http")


class TestIdentity:
    def test_the_agent_is_the_service_and_its_stable_id_or_name(self) -> None:
        named = event(traces(span(tool(gen_ai__agent__name="a"))))
        with_id = event(traces(span(tool(gen_ai__agent__name="a", gen_ai__agent__id="asst_7"))))
        assert (named["otel_ir.agent.id"], named["otel_ir.agent.id_source"]) == ("svc/a", "own")
        assert with_id["otel_ir.agent.id"] == "svc/asst_7"
        nobody = event(traces(span(TOOL)))
        assert (nobody["otel_ir.agent.id"], nobody["otel_ir.agent.id_source"]) == (None, "none")

    @pytest.mark.parametrize("uuid", ["0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d", "agent_0b1c2d3e4f504a6b8c7d9e0f1a2b3c4d"])
    def test_a_uuid_is_no_stable_id(self, uuid: str) -> None:
        body = traces(span(tool(gen_ai__agent__name="a", gen_ai__agent__id=uuid)))
        assert event(body)["otel_ir.agent.id"] == "svc/a"
        assert normalized(body).nodes.row(0, named=True)["agent_id"] is None

    def test_an_agent_span_without_a_name_is_structure(self) -> None:
        found = normalized(traces(span({"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c"})))
        assert found.events.height == 0
        assert found.nodes.select("conversation", "event_type").row(0) == ("c", None)

    def test_structure_lends_its_conversation_and_user(self) -> None:
        found = normalized(traces(span({"session.id": "c", "user.id": "u"}, name="request"))).nodes.row(0, named=True)
        assert (found["conversation"], found["user"], found["event_type"]) == ("c", "u", None)

    def test_tokens_count_on_model_calls_only(self) -> None:
        usage = {"gen_ai.usage.input_tokens": 5, "gen_ai.agent.name": "a"}
        assert event(traces(span(usage | {"gen_ai.operation.name": "invoke_agent"})))["gen_ai.usage.input_tokens"] is None
        assert event(traces(span(usage | {"gen_ai.operation.name": "chat"})))["gen_ai.usage.input_tokens"] == 5


class TestContent:
    @pytest.mark.parametrize(
        ("arguments", "result", "flags"),
        [
            ('{"a":1}', "ok", None),
            (None, None, "absent"),
            ('{"a":1,"b":', "ok", "truncated"),
            ('{"a":"[Scrubbed due to \'ssn\']"}', "ok", "scrubbed"),
            ("__REDACTED__", "ok", "scrubbed"),
            ('{"a":1}', "x" * 4096, "truncated"),
            ('{"a":1}', "x" * 64, None),
        ],
    )
    def test_what_is_missing_is_said(self, arguments: str | None, result: str | None, flags: str | None) -> None:
        given = {"gen_ai.tool.call.arguments": arguments, "gen_ai.tool.call.result": result}
        found = event(traces(span(TOOL | {key: value for key, value in given.items() if value is not None})))
        assert found["otel_ir.content"] == flags
        assert found["otel_ir.arguments.size"] == (None if arguments is None else len(arguments))
        assert found["otel_ir.result.size"] == (None if result is None else len(result))

    def test_dropped_attributes(self) -> None:
        assert event(traces(span(TOOL, dropped=3)))["otel_ir.content"] == "absent,dropped"

    def test_a_span_is_no_proof_of_execution(self) -> None:
        arguments = {"gen_ai.tool.call.arguments": "{}"}
        assert event(traces(span(TOOL)))["otel_ir.executed"] == "unknown"
        assert event(traces(span(TOOL | arguments)))["otel_ir.executed"] == "unknown"
        assert event(traces(span(TOOL | {"gen_ai.tool.call.result": ""})))["otel_ir.executed"] == "yes"
        assert event(traces(span(TOOL), scope="pydantic-ai"))["otel_ir.executed"] == "yes"
        pending = {"openinference.span.kind": "TOOL", "input.value": "{}"}
        assert (
            event(traces(span(pending, status=1), scope="openinference.instrumentation.openai_agents"))["otel_ir.executed"]
            == "pending_approval"
        )


class TestFields:
    def test_any_attribute_by_its_own_name(self) -> None:
        body = traces(
            span(TOOL | {"x.n": 5, "x.list": {"a": [] if False else "b"}}, id="b" * 16),
            resource={"deployment.environment": "prod", "x.n": 1},
        )
        found = event(body, "x.n", "x.list", "deployment.environment", "x.none")
        assert (found["x.n"], found["x.list"], found["deployment.environment"], found["x.none"]) == ("5", '{"a":"b"}', "prod", None)

    @pytest.mark.parametrize(
        ("arguments", "body", "length"),
        [
            ('{"body": "häh"}', "häh", 3),
            ('{"body": 12}', "12", 2),
            ('{"body": [1, {"a": "b"}]}', '[1,{"a":"b"}]', 13),
            ('{"body": null}', None, None),
            ('{"b\\u006fdy": "x"}', "x", 1),
            ('"{\\"body\\": \\"x\\"}"', "x", 1),
            ("{'body': 'x'}", "x", 1),
            ('{"to": "a", "body": "cut he', "cut he", 6),
            ('{"other": {"body": 1}}', None, None),
            ("body", None, None),
            ("[1]", None, None),
        ],
    )
    def test_single_arguments(self, arguments: str, body: str | None, length: int | None) -> None:
        found = event(
            traces(span(tool(gen_ai__tool__call__arguments=arguments))), "otel_ir.arguments.body", "otel_ir.arguments.body.length"
        )
        assert (found["otel_ir.arguments.body"], found["otel_ir.arguments.body.length"]) == (body, length)


class TestMessages:
    PARTS = (
        '[{"role":"assistant","parts":[{"type":"tool_call","id":"c1","name":"f","arguments":{"a":1}}]},'
        '{"role":"tool","parts":[{"type":"tool_call_response","id":"c1","response":"done"}]}]'
    )

    def test_calls_and_results_of_the_conventions(self) -> None:
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": self.PARTS, "gen_ai.output.messages": self.PARTS}
        found = normalized(traces(span(attributes))).calls
        rows = found.select("side", "call_id", "tool", "arguments", "result", "executed").rows()
        assert rows == [("result", "c1", "f", '{"a":1}', "done", "yes"), ("call", "c1", "f", '{"a":1}', None, None)]

    def test_a_refusal_is_no_execution(self) -> None:
        attributes = {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "tool",
            "llm.input_messages.0.message.tool_call_id": "c1",
            "llm.input_messages.0.message.content": "User rejected the tool call for `f` with id c1",
        }
        assert normalized(traces(span(attributes))).calls["executed"].to_list() == ["rejected"]

    def test_flattened_messages_become_json(self) -> None:
        attributes = {"openinference.span.kind": "LLM"} | {
            f"llm.input_messages.{number}.message.{key}": value
            for number, key, value in (
                (0, "role", "user"),
                (0, "contents.0.message_content.text", "hi"),
                (10, "role", "user"),
                (10, "content", "ho"),
            )
        }
        found = event(traces(span(attributes)))
        assert found["gen_ai.input.messages"] == (
            '[{"role":"user","parts":[{"type":"text","content":"hi"}]},{"role":"user","parts":[{"type":"text","content":"ho"}]}]'
        )

    def test_a_log_of_a_model_call_is_its_second_description(self) -> None:
        record = span({"gen_ai.operation.name": "chat"}, event="gen_ai.client.inference.operation.details", trace=TRACE, span="c" * 16)
        found = event(logs(record), kind="logs")
        assert (found["event.type"], found["otel_ir.duplicate_of"]) == ("model_output", f"t~s~{TRACE}/{'c' * 16}")


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        '{"body":"' + "x" * 5_000_000 + '"}',
        '{"kwargs":{"body":"' + "\\u00e9" * 800_000 + '"}}',
        '{"body":' + DEEP + "}",
        "{'body': " + DEEP,
        '{"body": "' + '\\"' * 1_000_000,
        "{'a': '" + "x" * 1_000_000 + "', 'body': 1}",
        '{"tool_call_id": "data", "kwargs": ' * 20_000,
        "{" + "'body':1," * 100_000 + "}",
    ],
    ids=range(8),
)
def test_hostile_values_cost_bounded_time(text: str) -> None:
    tool_span = span({"openinference.span.kind": "TOOL", "input.value": text, "output.value": text, "metadata": text})
    model = span({"gen_ai.operation.name": "chat", "gen_ai.input.messages": text, "gen_ai.output.messages": text})
    begin = time.process_time()
    found = normalized(traces(tool_span, model), "otel_ir.arguments.body", "otel_ir.arguments.body.length")
    assert time.process_time() - begin < 5
    assert found.events.height == 2


def test_ten_thousand_attributes() -> None:
    many = {f"llm.input_messages.{number}.message.content": "x" for number in range(10_000)}
    begin = time.process_time()
    found = event(traces(span({"openinference.span.kind": "LLM"} | many)))
    assert time.process_time() - begin < 3
    assert len(found["gen_ai.input.messages"]) < 20_000


@pytest.mark.parametrize("operation", ["framework", "execute_tool"])
def test_a_tool_observation_of_spring_ai_is_made_around_the_execution(operation: str) -> None:
    given = {"spring.ai.kind": "tool_call", "gen_ai.operation.name": operation, "spring.ai.tool.definition.name": "search"}
    found = event(traces(span(given), scope="org.springframework.boot"))
    assert [found["event.type"], found["gen_ai.tool.name"], found["otel_ir.executed"]] == ["tool_call", "search", "yes"]
