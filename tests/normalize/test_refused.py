"""Calls that somebody refused, and of which nothing but the refusal tells."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, logs, span, traces
from normalize.test_logs_join_spans import Request, records
from normalize.test_one_call_of_several_emitters import calls

from otel_ir.offline import final_form

_LOG, _SPAN = "com.anthropic.claude_code.events", "com.anthropic.claude_code.tracing"


def logged(name: str, call: str = "c-1", at: int = 0, session: str = "s-1", **said: Any) -> Request:
    attributes = {"event.name": name, "session.id": session, "user.id": "u", "tool_name": "Write", "tool_use_id": call}
    return "logs", logs({"attributes": attributes | said, "time": NOW + at}, scope=_LOG)


def decided(decision: str, call: str = "c-1", **said: Any) -> Request:
    return logged("tool_decision", call, decision=decision, source="user", **said)


def made(call: str = "c-1") -> Request:
    said = {"span.type": "tool", "tool_name": "Write", "tool_use_id": call, "session.id": "s-1", "file_path": "/a"}
    return "traces", traces(span(said), scope=_SPAN)


RESULT = logged("tool_result", "c-2", 5, success="true")


def test_a_refused_call_is_an_event_though_only_the_refusal_tells_of_it() -> None:
    for sent in permutations([decided("accept", "c-2"), decided("reject"), RESULT]):
        refused, ran = calls([*sent]).sort("gen_ai.tool.call.id").rows(named=True)
        assert (refused["gen_ai.tool.name"], refused["gen_ai.tool.call.id"], refused["otel_ir.executed"]) == ("Write", "c-1", "rejected")
        assert (refused["gen_ai.conversation.id"], refused["user.id"], refused["otel_ir.agent.id"]) == ("s-1", "u", "svc/-")
        assert (refused["error"], refused["otel_ir.content"], refused["otel_ir.approval.decision"]) == (False, "absent", None)
        assert (ran["gen_ai.tool.call.id"], ran["otel_ir.executed"]) == ("c-2", "yes")
        events = final_form(records([*sent]))
        assert events["otel_ir.event.id"].is_unique().all()
        assert events.filter(events["event.type"] == "approval").height == 2


@pytest.mark.parametrize("other", [made(), logged("tool_result", success="false"), logged("tool_result", tool_name="Agent")])
def test_a_refused_call_that_something_describes_is_not_doubled(other: Request) -> None:
    for sent in permutations([decided("reject"), other, decided("reject", at=3)]):
        assert calls([*sent]).height == 1


def test_a_refusal_that_comes_twice_is_of_one_call() -> None:
    assert calls([decided("reject"), decided("reject", at=3), decided("reject")])["otel_ir.executed"].to_list() == ["rejected"]


def test_the_same_id_in_another_conversation_is_another_call() -> None:
    for sent in permutations([decided("reject", session="s-2"), logged("tool_result", success="true")]):
        found = calls([*sent]).sort("gen_ai.conversation.id").select("gen_ai.conversation.id", "otel_ir.executed").rows()
        assert found == [("s-1", "yes"), ("s-2", "rejected")]


@pytest.mark.parametrize(
    "said",
    [
        {"decision": "accept", "tool_name": "Write", "tool_use_id": "c-1"},
        {"decision": "reject", "tool_name": "Write"},
        {"decision": "reject", "tool_use_id": "c-1"},
    ],
)
def test_no_call_is_made_of_what_does_not_say_which_was_refused(said: dict[str, Any]) -> None:
    attributes = {"event.name": "tool_decision", "session.id": "s-1"} | said
    assert calls([("logs", logs({"attributes": attributes, "time": NOW}, scope=_LOG))]).is_empty()
