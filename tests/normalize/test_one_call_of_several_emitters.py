"""An agent framework, the process around it and a tool server describe one call, each in its own way: one event, in whatever order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, TRACE, logs, span, traces
from normalize.test_logs_join_spans import FACTS, Request, records

from otel_ir.engine import Fold
from otel_ir.offline import NO_RULES, final_form

_SECOND = 1_000_000_000
_ARGUMENTS, _RESULT = '{"id": 7}', "[found]"
_OTHER_TRACE, _SERVER_TRACE = "c" * 32, "d" * 32
ROOT, AGENT, TOOL, SERVER, CLIENT, ASKED, RAN = ("1" * 16, "2" * 16, "3" * 16, "4" * 16, "5" * 16, "6" * 16, "7" * 16)
_SDK, _CLI, _LOG = "openinference.instrumentation.claude_agent_sdk", "com.anthropic.claude_code.tracing", "com.anthropic.claude_code.events"


def one(scope: str, attributes: dict[str, Any], identity: str, **other: Any) -> Request:
    service = "cli" if scope == _CLI else "app"
    return "traces", traces(span(attributes, id=identity, **other), scope=scope, service=service)


def served(identity: str = SERVER, at: int = NOW, name: str = "lookup", **other: Any) -> Request:
    attributes = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    times = {"start": at - _SECOND // 2, "end": at - _SECOND // 4}
    return one("mcp-python-sdk", attributes | other.pop("attributes", {}), identity, **({"trace": _SERVER_TRACE} | times | other))


def seen(call: str = "c-1", at: int = NOW, identity: str = TOOL, **other: Any) -> Request:
    attributes = {
        "openinference.span.kind": "TOOL", "tool.name": "mcp__crm__lookup", "tool.id": call,
        "input.value": _ARGUMENTS, "output.value": _RESULT,
    }  # fmt: skip
    return one(_SDK, attributes, identity, **({"parent": ROOT, "start": at - _SECOND, "end": at, "status": 1} | other))


def run(call: str = "c-1", at: int = NOW, identity: str = ASKED, **attributes: Any) -> Request:
    said = {"span.type": "tool", "gen_ai.tool.name": "lookup", "tool_use_id": call, "session.id": "s-1"}
    return one(_CLI, said | attributes, identity, trace=_OTHER_TRACE, start=at - _SECOND, end=at)


def executed(call: str = "c-1", success: str = "true") -> Request:
    said = {"span.type": "tool.execution", "tool_use_id": call, "session.id": "s-1", "success": success}
    return one(_CLI, said, RAN, parent=ASKED, trace=_OTHER_TRACE)


def ended(call: str = "c-1") -> Request:
    said = {"event.name": "tool_result", "tool_name": "mcp_tool", "tool_use_id": call, "session.id": "s-1", "success": "true"}
    said["tool_parameters"] = '{"mcp_server_name":"crm","mcp_tool_name":"lookup"}'
    return "logs", logs({"attributes": said, "time": NOW + _SECOND // 10, "trace": _OTHER_TRACE, "span": RAN}, scope=_LOG, service="cli")


INTERACTION = one(_SDK, {"openinference.span.kind": "AGENT", "session.id": "s-1"}, ROOT)


def calls(sent: list[Request]) -> pl.DataFrame:
    events = final_form(records(sent))
    return events.filter(pl.col("otel_ir.duplicate_of").is_null() & pl.col("event.type").is_in(["tool_call", "handoff"]))


def test_a_server_in_the_agents_process_and_the_process_describe_one_call() -> None:
    for sent in permutations([INTERACTION, seen(), served()]):
        (found,) = calls([*sent]).select(FACTS).rows(named=True)
        assert (found["gen_ai.conversation.id"], found["gen_ai.tool.call.id"]) == ("s-1", "c-1")
        assert (found["gen_ai.tool.call.arguments"], found["gen_ai.tool.call.result"]) == (_ARGUMENTS, _RESULT)
        assert (found["otel_ir.executed"], found["error"]) == ("yes", False)


@pytest.mark.parametrize("others", [(executed(), served()), (ended(), served()), (executed(), ended())])
def test_up_to_four_descriptions_of_a_call_are_one_event(others: tuple[Request, ...]) -> None:
    for sent in permutations([seen(), run(), *others]):
        (found,) = calls([*sent]).rows(named=True)
        assert found["gen_ai.tool.call.id"] == "c-1"
        assert (found["gen_ai.tool.call.arguments"], found["gen_ai.tool.call.result"]) == (_ARGUMENTS, _RESULT)
        assert found["otel_ir.executed"] == "yes"


def test_of_one_request_the_emitter_that_knows_the_session_is_the_event() -> None:
    bodies = [body for _, body in (served(), seen(), run())]
    assert calls([("traces", b"".join(bodies))])["otel_ir.dialect"].to_list() == ["claude_code"]


def test_ids_that_come_again_later_are_other_calls() -> None:
    later = NOW + 60 * _SECOND
    sent = [seen(), run(), served(), seen(at=later, identity="8" * 16), run(at=later, identity="9" * 16), served("b" * 16, later)]
    assert calls(sent).height == calls(sent[::-1]).height == 2


def test_a_server_that_nobody_else_speaks_of_is_a_call_of_its_own() -> None:
    sent = [served(at=NOW - 60 * _SECOND), seen(), served("b" * 16, name="other")]
    assert sorted(calls(sent)["gen_ai.tool.name"]) == ["lookup", "mcp__crm__lookup", "other"]


def test_a_refusal_counts_more_than_what_looks_like_a_failure() -> None:
    refused = seen(status=2, message="no way")
    decision = {"span.type": "tool.blocked_on_user", "decision": "reject", "session.id": "s-1"}
    for sent in permutations([refused, run(), one(_CLI, decision, RAN, parent=ASKED, trace=_OTHER_TRACE)]):
        assert calls([*sent])["otel_ir.executed"].to_list() == ["rejected"]


# --- one below the other ----------------------------------------------------------------------------------------------------

_GENAI = "opentelemetry.instrumentation.genai.langchain"


def framework(name: str = "lookup", **attributes: Any) -> Request:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.call.arguments": _ARGUMENTS}
    return one(_GENAI, said | {"gen_ai.tool.call.result": _RESULT} | attributes, TOOL, parent=AGENT)


def below(parent: str = TOOL, **other: Any) -> Request:
    return served(trace=TRACE, parent=parent, **other)


INVOKED = one(_GENAI, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper", "gen_ai.conversation.id": "k"}, AGENT)
REQUESTED = one("mcp-python-sdk", {"mcp.method.name": "tools/call"}, CLIENT, parent=TOOL)


@pytest.mark.parametrize("failed", [False, True])
def test_a_server_below_a_tool_span_is_the_same_call(*, failed: bool) -> None:
    wrong = {"error.type": "tool_error"} if failed else {}
    every = [calls([*sent]).select(FACTS).rows() for sent in permutations([INVOKED, framework(), below(attributes=wrong)])]
    assert all(rows == every[0] for rows in every)
    found = dict(zip(FACTS, every[0][0], strict=True))
    assert len(every[0]) == 1
    assert (found["gen_ai.agent.name"], found["gen_ai.conversation.id"], found["otel_ir.executed"]) == ("helper", "k", "yes")
    assert (found["gen_ai.tool.call.arguments"], found["gen_ai.tool.call.result"], found["error"]) == (_ARGUMENTS, _RESULT, failed)


@pytest.mark.parametrize("name", ["lookup", "mcp__crm__lookup", "crm_lookup", "crm.lookup"])
def test_a_clients_request_may_stand_between_them(name: str) -> None:
    for sent in (
        [below(CLIENT), REQUESTED, framework(name), INVOKED],
        [REQUESTED, below(CLIENT), framework(name)],
        [REQUESTED, framework(name), below(CLIENT)],
    ):
        assert calls(sent)["gen_ai.tool.name"].to_list() in (["lookup"], [name])


def test_the_clients_own_span_gives_a_framework_without_content_what_it_knows() -> None:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c-1"}
    client = {
        "traceloop.span.kind": "tool", "traceloop.entity.name": "lookup",
        "traceloop.entity.input": '{"tool_name": "lookup", "arguments": {"id": 7}}', "traceloop.entity.output": '{"result": "found"}',
    }  # fmt: skip
    scope = "opentelemetry.instrumentation.mcp.instrumentation"
    outer, inner = one(_GENAI, said, TOOL, parent=AGENT), one(scope, client, CLIENT, parent=TOOL)
    writer = one(scope, {"mcp.request.id": "2"}, ASKED, parent=CLIENT, name="ResponseStreamWriter")
    for sent in permutations([outer, inner, writer]):
        (found,) = calls([*sent, below(ASKED)]).rows(named=True)
        assert (found["gen_ai.tool.call.id"], found["gen_ai.tool.call.arguments"]) == ("c-1", _ARGUMENTS)
        assert (found["gen_ai.tool.call.result"], found["otel_ir.executed"]) == ("found", "yes")


def test_a_tool_that_calls_another_one_is_two_calls() -> None:
    for sent in permutations([framework("research"), below()]):
        assert sorted(calls([*sent])["gen_ai.tool.name"]) == ["lookup", "research"]
    assert calls([below(AGENT), INVOKED]).height == 1


# --- sub-agents -------------------------------------------------------------------------------------------------------------


def test_what_stands_below_a_hand_off_is_done_by_the_agent_it_goes_to() -> None:
    task = run(call="c-0", tool_name="Agent", **{"gen_ai.tool.name": "Agent", "subagent_type": "billing"})
    inner = {"span.type": "tool", "gen_ai.tool.name": "Bash", "tool_use_id": "c-1", "session.id": "s-1", "agent_id": "a1"}
    for sent in permutations([task, executed("c-0"), one(_CLI, inner, TOOL, parent=RAN, trace=_OTHER_TRACE)]):
        found = {row["gen_ai.tool.name"]: row["gen_ai.agent.name"] for row in calls([*sent]).iter_rows(named=True)}
        assert found == {"Agent": None, "Bash": "billing"}


def test_a_servers_failure_is_told_of_the_call_it_stands_below_not_of_one_at_the_same_time() -> None:
    outer, failed = framework(), below(attributes={"error.type": "tool_error"})
    other = seen(identity=SERVER[:-1] + "9")
    for sent in ([outer, other, failed], [other, outer, failed], [("traces", b"".join(body for _, body in (outer, other, failed)))]):
        found = {row["gen_ai.tool.name"]: row["error"] for row in calls(sent).iter_rows(named=True)}
        assert found == {"lookup": True, "mcp__crm__lookup": False}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"gen_ai.conversation.id": "s-2"}),
        ({"user.id": "alice"}, {"user.id": "bob"}),
        ({"gen_ai.agent.name": "ours"}, {"gen_ai.agent.name": "theirs"}),
    ],
)
def test_a_servers_span_that_says_it_is_somebody_elses_is_a_call_of_its_own(ours: dict[str, str], theirs: dict[str, str]) -> None:
    other = {"gen_ai.tool.call.arguments": '{"id": 8}'}
    for sent in permutations([run(**ours), served(attributes=theirs | other)]):
        mine, server = calls([*sent]).sort("gen_ai.tool.call.id", nulls_last=True).rows(named=True)
        assert (mine["gen_ai.tool.call.arguments"], server["gen_ai.tool.call.arguments"]) == (None, '{"id": 8}')
        assert live_calls([*sent]) == 2


@pytest.mark.parametrize(
    ("arguments", "count"),
    [('{"id":7}', 1), ('{"id": 7, "limit": 5}', 1), ('{"id": "[REDACTED]"}', 1), ('{"id": 8}', 2), ('{"id": "7x"}', 2)],
)
def test_a_servers_span_with_other_arguments_is_a_call_of_its_own(arguments: str, count: int) -> None:
    for sent in permutations([seen(), served(attributes={"gen_ai.tool.call.arguments": arguments})]):
        assert calls([*sent]).height == count
        assert live_calls([*sent]) == count


def live_calls(sent: list[Request]) -> int:
    """Calls that a server counts, which cannot wait for the end."""
    fold = Fold(NO_RULES)
    events = [fold.fold(frame).events for frame in fold.frames(records(sent))]
    return sum(one.filter(pl.col("event.type") == "tool_call", pl.col("otel_ir.duplicate_of").is_null()).height for one in events)
