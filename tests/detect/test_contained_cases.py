"""What a containment in force makes impossible: cases written out by hand, each run through the reference fold and the engine."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest
from reference.script import SECOND, TRACE, At, agent, held, model, play, quiet, tool, who
from reference.streams import contain

from otel_ir.detect.contained import CONTAINMENT_VIOLATED, Contained, Containment, WatchLimits
from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA

X = {"agent": "x"}
"""A span that names its agent itself."""
HELD = held("act", "revoke_tools", 10, who("x"))
LATE = {"start": 13}
"""Begins later than the allowance (2 ns here) after 10."""


def shown(*script: Any, **limits: Any) -> tuple[list[Any], dict[str, int]]:
    found = play(script, [], **limits)
    return found.alerts, found.counts


# --- What is impossible ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "more", "kind", "impossible"),
    [
        ("revoke_tools", {}, tool, True),
        ("revoke_tools", {"tools": ["a", "b"]}, tool, True),
        ("revoke_tools", {"tools": ["b"]}, tool, False),
        ("revoke_tools", {"tools": []}, tool, False),
        ("revoke_tools", {}, model, False),
        ("read_only_tools", {}, tool, True),
        ("read_only_tools", {"read_only": ["b*", "a*"]}, tool, False),
        ("read_only_tools", {"read_only": ["b*"], "tools": ["a"]}, tool, True),
        ("read_only_tools", {"read_only": ["b*"], "tools": ["c"]}, tool, False),
        ("read_only_tools", {}, model, False),
        ("pause_agent", {}, tool, True),
        ("pause_agent", {}, model, True),
        ("pause_agent", {}, agent, False),
        ("isolate_network", {}, tool, False),
        ("rotate_credentials", {}, model, False),
    ],
)
def test_what_each_verb_makes_impossible(verb: str, more: dict[str, Any], kind: Any, impossible: bool) -> None:
    span = kind("1", 20, "x") if kind is agent else kind("1", 20, **X)
    alerts, counts = shown(held("act", verb, 10, who("x"), **more), [span])
    assert alerts == ([(2, "x", "act 1", "1")] if impossible else [])
    assert counts == ({"act 1": 1} if impossible else {})


@pytest.mark.parametrize(("executed", "impossible"), [("yes", True), ("unknown", True), ("rejected", False), ("pending_approval", False)])
@pytest.mark.parametrize("verb", ["revoke_tools", "read_only_tools", "pause_agent"])
def test_a_call_that_was_stopped_is_none(verb: str, executed: str, impossible: bool) -> None:
    alerts, _ = shown(held("act", verb, 10, who("x")), [tool("1", 20, **X, executed=executed)])
    assert bool(alerts) == impossible


@pytest.mark.parametrize(
    ("start", "end", "impossible"),
    [(12, 20, False), (13, 20, True), (0, 12, False), (0, 13, True), (None, 13, True), (None, 12, False), (99, 12, False)],
)
def test_it_must_have_begun_after_the_allowance(start: int | None, end: int, impossible: bool) -> None:
    alerts, _ = shown(HELD, [tool("1", end, **X, start=start)])
    assert bool(alerts) == impossible


def test_only_what_comes_after_the_control_record_counts() -> None:
    assert shown([tool("1", 20, **X)], HELD) == ([], {})
    assert shown([tool("1", 20)], HELD, [agent("f", 21, "x")]) == ([], {})


def test_the_action_alerts_once_and_counts_the_rest() -> None:
    alerts, counts = shown(HELD, [tool("1", 20, **X), tool("2", 21, **X)], [tool("3", 22, **X), tool("1", 23, **X)])
    assert alerts == [(2, "x", "act 1", "1")]
    assert counts == {"act 1": 3}


def test_journal_order_decides_which_is_the_first() -> None:
    alerts, _ = shown(HELD, [tool("1", 30, **X)], [tool("2", 20, **X)])
    assert alerts == [(2, "x", "act 1", "1")]


def test_each_action_speaks_for_itself() -> None:
    script = [HELD, held("pause", "pause_agent", 10, TRACE), [tool("1", 20, **X)], [model("2", 21)], [tool("3", 22, trace="2", **X)]]
    alerts, counts = shown(*script)
    assert alerts == [(3, "x", "act 1", "1"), (3, "x", "pause 1", "1")]
    assert counts == {"act 1": 2, "pause 1": 2}


# --- Who is meant ---------------------------------------------------------------------------------------------------------------


def test_any_selector_may_match_and_all_keys_of_one_must() -> None:
    both = who("x") | {"gen_ai.conversation.id": "c"}
    script = [held("act", "revoke_tools", 10, both, {"gen_ai.conversation.id": "d"})]
    calls = [("1", X), ("2", {"conversation": "c"}), ("3", {"conversation": "d"}), ("4", X | {"conversation": "c"})]
    alerts, counts = shown(*script, *([tool(name, 20, parent=None, **said)] for name, said in calls))
    assert alerts == [(4, "~", "act 3", "3")]
    assert counts == {"act 3": 2}


def test_an_agent_that_takes_another_name_stays_contained_by_its_trace() -> None:
    alerts, _ = shown(held("act", "revoke_tools", 10, who("x"), TRACE), [tool("1", 20, agent="y")], [tool("2", 20, trace="2", agent="y")])
    assert alerts == [(2, "y", "act 1", "1")]


@pytest.mark.parametrize("more", [{"service": "other"}, {"tenant": "acme"}])
def test_nobody_else_is_meant(more: dict[str, str]) -> None:
    assert shown(held("act", "revoke_tools", 10, who("x"), TRACE, **more), [tool("1", 20, **X)]) == ([], {})


# --- Identity that comes late ---------------------------------------------------------------------------------------------------


def test_a_call_is_judged_again_when_its_agent_becomes_known() -> None:
    found = play([HELD, [tool("1", 20), tool("2", 21, parent="e")], *quiet(7), [agent("f", 22, "x")], [agent("e", 23, "y")]], [])
    assert found.alerts == [(10, "x", "act 1", "1")]
    assert found.counts == {"act 1": 1}


def test_the_alert_of_an_action_gets_the_address_that_becomes_known_later() -> None:
    found = play([held("act", "revoke_tools", 10, TRACE), [tool("1", 20)], [agent("f", 22, "x")]], [])
    assert found.alerts == [(2, "~f", "act 1", "1")]
    assert found.moved == [(3, "act 1", "x", "ancestor")]
    assert found.counts == {"act 1": 1}


def test_a_call_is_counted_once_however_often_more_becomes_known() -> None:
    script = [
        held("act", "revoke_tools", 10, who("x"), TRACE),
        [tool("1", 20)],
        [model("4", 20, agent="x")],
        [agent("f", 22, "x", user="u")],
    ]
    assert shown(*script)[1] == {"act 1": 1}


def test_what_came_too_long_ago_is_forgotten_at_the_end_of_an_epoch() -> None:
    script = [HELD, [tool("1", 20)], *quiet(4), At(20 + 100), [], [agent("f", 121, "x")]]
    assert shown(*script, keep=99)[0] == []
    assert shown(*script, keep=101)[0] == [(9, "x", "act 1", "1")]


def test_of_too_many_calls_the_oldest_are_forgotten_at_the_end_of_an_epoch() -> None:
    script = [HELD, [tool("1", 20), tool("2", 21, parent="e")], *quiet(5), [agent("f", 22, "x")], [agent("e", 22, "x")]]
    assert shown(*script, max_waiting=1)[0] == [(9, "x", "act 2", "2")]
    assert shown(*script, max_waiting=2)[0] == [(8, "x", "act 1", "1")]


# --- In force, and no longer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["released", "expired", "failed", "releasing"])
def test_a_containment_that_was_let_go_of_makes_nothing_impossible(state: str) -> None:
    assert shown(HELD, HELD | {"state": state, "selectors": []}, [tool("1", 20, **X)]) == ([], {})


@pytest.mark.parametrize("state", ["verified", "unverified", "violated", "escalated"])
def test_the_newest_record_says_all(state: str) -> None:
    wider = held("act", "revoke_tools", 15, who("x"), who("y"), state=state)
    alerts, counts = shown(HELD, [tool("1", 12, **X)], wider, [tool("2", 16, agent="y"), tool("3", 18, agent="y")])
    assert alerts == [(4, "y", "act 3", "3")]
    assert counts == {"act 3": 1}


def test_a_selector_counts_from_the_record_that_first_named_it() -> None:
    wider = held("act", "revoke_tools", 10, who("x"), who("y"))
    script = [
        HELD,
        [tool("1", 20), tool("2", 20, parent="e")],
        wider,
        [agent("f", 21, "x")],
        [agent("e", 21, "y")],
        [tool("3", 21, agent="y")],
    ]
    alerts, counts = shown(*script)
    assert alerts == [(4, "x", "act 1", "1")]
    assert counts == {"act 1": 2}


def test_an_action_in_force_again_raises_no_second_alert() -> None:
    script = [HELD, [tool("1", 20, **X)], HELD | {"state": "released"}, [tool("2", 21, **X)], HELD, [tool("3", 22, **X)]]
    assert shown(*script) == ([(2, "x", "act 1", "1")], {"act 1": 2})


# --- What only the engine can show ----------------------------------------------------------------------------------------------


def event(name: str, ordinal: int, **columns: Any) -> dict[str, Any]:
    fixed = {
        "otel_ir.event.id": f"t/{name}", "trace_id": "t", "span_id": name, "event.type": "tool_call", "gen_ai.tool.name": "a",
        "service.name": "svc", "otel_ir.agent.id": "svc/x", "otel_ir.agent.id_source": "own", "otel_ir.executed": "yes",
        "event_time": 20 * SECOND, "otel_ir.journal.ordinal": ordinal, "otel_ir.journal.position": 0,
    }  # fmt: skip
    return fixed | columns


def patch(one: dict[str, Any], ordinal: int, **columns: Any) -> dict[str, Any]:
    return {name: one.get(name) for name in PATCH_SCHEMA} | {"otel_ir.journal.ordinal": ordinal} | columns


def watch(*actions: dict[str, Any], limits: WatchLimits | None = None) -> Contained:
    made = Contained(limits)
    for action in actions:
        made.control(msgspec.convert(action | {"type": "containment"}, Containment), 1)
    return made


def fold(one: Contained, events: list[dict[str, Any]], patches: list[dict[str, Any]] | None = None) -> tuple[list[Any], list[Any]]:
    received = {ordinal: ordinal for ordinal in range(20)}
    return one.fold(pl.DataFrame(events, schema=EVENT_SCHEMA), pl.DataFrame(patches or [], schema=PATCH_SCHEMA), "rules", received)


REVOKED = contain("act", "revoke_tools", SECOND, {"otel_ir.agent.id": "svc/x"}, incident_id="INC-1")


def test_the_alert_says_all_that_responders_need() -> None:
    [alert], raised = fold(watch(REVOKED), [event("1", 2, **{"otel_ir.tenant": "", "gen_ai.conversation.id": "c"})])
    assert raised == []
    assert (alert.rule_id, alert.signal, alert.severity, alert.stage) == (
        CONTAINMENT_VIOLATED,
        "containment_violated",
        "critical",
        "compromise",
    )
    assert alert.group == (("otel_ir.action.id", "act"),)
    assert alert.description == "Containment violated: tool a was called while revoke_tools was in force"
    assert (alert.agent_id, alert.conversation_id, alert.tool_name, alert.ordinal, alert.received) == ("svc/x", "c", "a", 2, 2)
    assert [tuple(ref) for ref in alert.contributing] == [("t", "1")]


def test_the_id_of_the_alert_depends_on_tenant_sender_action_and_span() -> None:
    ids = set()
    for columns in ({}, {"otel_ir.tenant": "t2"}, {"otel_ir.sender": "s"}, {"span_id": "2"}):
        one = watch(
            REVOKED | {"tenant": columns.get("otel_ir.tenant", "")},
            REVOKED | {"action_id": "b", "tenant": columns.get("otel_ir.tenant", "")},
        )
        ids |= {alert.alert_id for alert in fold(one, [event("1", 2, **columns)])[0]}
    assert len(ids) == 8
    assert {alert.alert_id for alert in fold(watch(REVOKED), [event("1", 9)])[0]} <= ids


def test_what_becomes_known_of_the_execution_is_judged_as_it_comes_and_nothing_is_withdrawn() -> None:
    unknown = {"otel_ir.agent.id": "svc/~t/", "otel_ir.agent.id_source": "none"}
    pending, refused, plain = event("1", 2, **{"otel_ir.executed": "pending_approval"}), event("2", 2, **unknown), event("3", 3)
    one = watch(REVOKED)
    assert fold(one, [pending, refused]) == ([], [])
    named = patch(refused, 3, **{"otel_ir.agent.id": "svc/x", "otel_ir.executed": "rejected"})
    [alert], _ = fold(one, [plain], [named])
    assert alert.span_id == "3"
    assert fold(one, [], [patch(plain, 4, **{"otel_ir.executed": "rejected"})]) == ([], [])
    assert fold(one, [], [patch(pending, 5, **{"otel_ir.executed": "yes"})]) == ([], [(5, alert.alert_id, 2)])


def refusal(ordinal: int, **columns: Any) -> dict[str, Any]:
    guard = {"event.type": "guardrail", "otel_ir.guardrail.name": "otel_ir.guard", "otel_ir.guardrail.triggered": True}
    return event("9", ordinal, **guard | columns)


@pytest.mark.parametrize(
    ("columns", "seen"),
    [({}, False), ({"gen_ai.tool.name": "b"}, True), ({"trace_id": "u"}, True), ({"otel_ir.sender": "s"}, True),
     ({"otel_ir.guardrail.triggered": False}, True), ({"otel_ir.guardrail.name": "other"}, True), ({"otel_ir.journal.ordinal": 4}, True)],
)  # fmt: skip
def test_a_refusal_explains_the_call_that_only_messages_know(columns: dict[str, Any], seen: bool) -> None:
    call = event("1", 3, **{"otel_ir.event.id": "t/1#call", "otel_ir.dialect": "messages"})
    alerts, _ = fold(watch(REVOKED), sorted([refusal(2, **columns), call], key=lambda one: one["otel_ir.journal.ordinal"]))
    assert bool(alerts) == seen
    one = watch(REVOKED)
    found = [fold(one, [row])[0] for row in sorted([refusal(2, **columns), call], key=lambda one: one["otel_ir.journal.ordinal"])]
    assert any(found) == seen


def test_a_refusal_explains_no_call_that_has_a_span() -> None:
    assert fold(watch(REVOKED), [refusal(2), event("1", 3)])[0]


def test_state_survives_a_restart() -> None:
    limits = WatchLimits(keep=100)
    one, other = watch(REVOKED, limits=limits), Contained(limits)
    unknown = event("1", 2, **{"otel_ir.agent.id": "svc/~t/", "otel_ir.agent.id_source": "none"})
    derived = event("3", 3, **{"otel_ir.dialect": "messages", "trace_id": "t"})
    fold(one, [unknown, refusal(2), event("2", 2)])
    one.end_epoch(3)
    other.restore(one.state())
    assert other.state().keys() == one.state().keys()
    later = ([derived], [patch(unknown, 3, **{"otel_ir.agent.id": "svc/x"})])
    assert fold(other, *later) == fold(one, *later)
    assert fold(other, *later)[1] == []
    assert [held.count for held in other.actions.values()] == [2]


def test_actions_are_bounded_and_what_is_dropped_is_counted() -> None:
    one = watch(limits=WatchLimits(max_actions=3))
    for number in range(6):
        one.control(msgspec.convert(REVOKED | {"type": "containment", "action_id": f"act-{number}"}, Containment), 1)
    assert list(one.actions) == ["act-3", "act-4", "act-5"]
    assert one.evicted == 3
    alerts, _ = fold(one, [event("1", 2)])
    assert len(alerts) == 3


def test_nothing_is_kept_while_nothing_is_in_force() -> None:
    one = watch(REVOKED)
    fold(one, [event("1", 2), refusal(2)])
    one.control(msgspec.convert(REVOKED | {"type": "containment", "state": "released"}, Containment), 3)
    one.end_epoch(3)
    assert [*one.state()] == ["contained"]


@pytest.mark.parametrize(
    "wrong",
    [{"selectors": []}, {"selectors": [{}]}, {"selectors": [{"service.name": "svc"}]}, {"selectors": {"trace_id": "t"}}, {"since": None},
     {"since": 0}, {"since": "now"}, {"state": "held"}, {"action_id": ""}, {"action_id": 5}, {"tools": "all"}, {"read_only": "a*"},
     {"selectors": [{"trace_id": 1}]}, {"service": None}, {"selectors": [{"trace_id": "t"}] * 101}],
)  # fmt: skip
def test_a_malformed_record_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(REVOKED | {"type": "containment"} | wrong, Containment)
