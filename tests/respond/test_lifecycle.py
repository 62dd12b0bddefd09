"""What becomes of an action after it was acknowledged: proof, doubt, violation, escalation, release, expiry, watch, re-arming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from respond.lever import Lever
from respond.life import Life, make_alert

from otel_ir.model import AlertUpdate
from otel_ir.model_lifecycle import ActionState, IncidentState, LogEntry, Order
from otel_ir.store.fleet_book import AgentRow

FAST = "verify: {within: 0.2, recheck: 1, stale: 2}\nttl: 100\nwatch: 50\n"
MakeLife = Callable[..., Life]


@pytest.fixture
def make_life(tmp_path: Path) -> Iterator[MakeLife]:
    lives: list[Life] = []

    def make(policy: str = FAST) -> Life:
        lives.append(Life(tmp_path, policy))
        return lives[-1]

    yield make
    for life in lives:
        life.close()


def incident(life: Life) -> Any:
    (row,) = life.ledger.incidents()
    return row


def release(life: Life, **more: Any) -> int:
    values = {"kind": "release", "who": "ann", "reason": "checked", "at": life.clock(), "incident_id": incident(life).incident_id}
    return life.ledger.order(Order(**values | more))


def test_proof_is_what_makes_it_contained(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    assert life.steps() == ["requested", "dispatched", "applied", "verified"]
    assert incident(life).state is IncidentState.CONTAINED
    assert (row := life.actions()[0]).facts == {"handle": f"h-{row.action_id[:6]}"}
    (record,) = life.told
    assert (record["state"], record["verb"], record["service"]) == ("verified", "revoke_tools", "helpdesk")
    assert record["selectors"] == [{"otel_ir.agent.id": "helpdesk/agent-1"}, {"trace_id": f"{1:032x}"}]
    life.truth()


def test_without_a_check_it_is_never_more_than_unverified(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(Lever(life.system, check="")), make_alert())
    assert life.states() == ["unverified"]
    assert incident(life).state is IncidentState.OPEN


def test_a_target_that_lies_is_found_out_and_the_next_rung_is_taken(make_life: MakeLife) -> None:
    life = make_life()
    life.system.mood = "lie"
    life.alert(life.start(), make_alert())
    life.until(lambda: len(life.actions()) == 3 and not life.ledger.work(), "the ladder was climbed")
    assert [row.verb for row in life.actions()] == ["revoke_tools", "pause_agent", "isolate_network"]
    assert life.steps(0) == ["requested", "dispatched", "applied", "unverified", "violated", "escalated"]
    life.settled("escalated", "escalated", "escalated")
    assert "a person is needed" in life.actions()[-1].detail
    assert incident(life).state is IncidentState.OPEN
    life.truth()


def test_a_violation_that_a_span_shows(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    action = life.actions()[0].action_id
    told = make_alert(
        2, agent_id="helpdesk/agent-1", signal="containment_violated", title="Containment violated", group=(("otel_ir.action.id", action),)
    )
    life.alert(responder, told)
    life.until(lambda: len(life.actions()) == 2 and not life.ledger.work(), "it was escalated")
    assert life.steps(0)[-2:] == ["violated", "escalated"]
    assert (life.actions()[1].verb, life.actions()[1].cause) == ("pause_agent", "escalation")
    assert incident(life).state is IncidentState.CONTAINED, "the next rung is verified"
    life.alert(responder, told)
    assert len(life.actions()) == 2, "a replay brings it again and nothing happens"
    assert len(life.ledger.incidents()) == 1


def test_what_does_not_hold_any_more_is_violated(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.system.held.clear()
    life.clock.advance(2)
    life.until(lambda: "escalated" in life.states(), "the next look found out")
    assert "it does not hold any more" in [step.detail for step in life.ledger.history(life.actions()[0].action_id)][4]


def test_old_proof_is_no_proof(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.system.mood = "gone"
    life.clock.advance(3)
    life.settled("unverified")
    assert incident(life).state is IncidentState.OPEN
    life.system.mood = "obey"
    life.clock.advance(2)
    life.settled("verified")
    assert incident(life).state is IncidentState.CONTAINED


def test_after_a_restart_old_proof_is_due_at_once(make_life: MakeLife) -> None:
    life = make_life(FAST.replace("recheck: 1, stale: 2", "recheck: 40, stale: 80"))
    responder = life.start()
    life.alert(responder, make_alert())
    responder.close()
    life.system.held.clear()
    life.clock.advance(41)
    life.start()
    life.until(lambda: "violated" in life.steps(), "it was looked at without waiting as long again")


def test_a_person_lets_go_in_reverse_order(make_life: MakeLife) -> None:
    life = make_life("playbooks: {contain: [revoke_tools, isolate_network, pause_agent], restrict: []}\n" + FAST.replace("playbooks", "x"))
    life.policy.write_text(life.policy.read_text().replace("playbooks: {contain: [revoke_tools], restrict: [read_only_tools]}\n", ""))
    life.alert(life.start(), make_alert())
    assert life.states() == ["verified"] * 3
    number = release(life)
    life.settled("released", "released", "released")
    order = life.ledger.find_order(number)
    assert order is not None
    assert order.ok
    released = [verb for what, verb, _ in life.system.asked if what == "release"]
    assert released == ["pause_agent", "isolate_network", "revoke_tools"]
    row = life.actions()[0]
    assert row.let_go is not None
    assert (row.let_go.by, row.let_go.reason, row.let_go.to) == ("ann", "checked", "released")
    assert incident(life).state is IncidentState.RECOVERING
    assert {record["state"] for record in life.told[-3:]} == {"released"}
    life.until(lambda: incident(life).watch_until, "the watch began")
    life.clock.advance(51)
    life.until(lambda: incident(life).state is IncidentState.CLOSED, "the watch ended")
    kinds = [entry.kind for entry in life.ledger.incident_log(incident(life).incident_id)]
    assert kinds == ["open", "contained", "recovering", "release", "watch", "closed"]
    life.truth()


def test_an_alert_during_the_watch_takes_all_steps_again(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    release(life)
    life.settled("released")
    life.alert(responder, make_alert(2, agent_id="helpdesk/agent-1", severity="medium"))
    rows = life.actions()
    assert [(row.verb, row.turn, row.state.value) for row in rows] == [
        ("revoke_tools", 0, "released"), ("read_only_tools", 0, "verified"), ("revoke_tools", 1, "verified"),
    ]  # fmt: skip
    assert (incident(life).state, incident(life).watch_until) == (IncidentState.CONTAINED, None)
    life.truth()


def test_a_target_that_does_not_let_go_is_still_said_to_hold(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.system.mood = "refuse"
    release(life)
    life.until(lambda: life.states() == ["unverified"], "the release failed")
    assert "not let go of" in life.actions()[0].detail
    assert incident(life).state is not IncidentState.RECOVERING
    life.system.mood = "obey"
    release(life)
    life.settled("released")
    life.truth()


def test_release_during_apply(make_life: MakeLife) -> None:
    life = make_life()
    life.system.mood = "hang"
    responder = life.start(Lever(life.system, time_limit=20))
    responder.handle(life.record(make_alert()))
    life.settled("dispatched")
    release(life)
    life.settled("releasing")
    life.system.gate.set()
    life.settled("released")
    assert not life.system.held
    assert life.actions()[0].facts, "what was learnt while it was applied is what letting go needs"
    assert responder.drain(20)
    life.truth()


def test_its_time_ends(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.clock.advance(101)
    life.settled("expired")
    assert not life.system.held
    assert incident(life).state is IncidentState.RECOVERING
    life.truth()


def test_an_agent_that_did_not_stay_clean_is_held_on(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    life.clock.advance(80)
    life.alert(responder, make_alert(2, agent_id="helpdesk/agent-1"))
    life.clock.advance(21)
    life.until(lambda: "held on" in life.ledger.history(life.actions()[0].action_id)[-1].detail, "it is held on")
    life.until(lambda: [what for what, _, _ in life.system.asked] == ["apply", "apply"], "the target hears of it")
    assert life.states() == ["verified"]
    life.clock.advance(101)
    life.settled("expired")


def test_identity_that_comes_late_widens_the_action(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    early = make_alert(agent_id="helpdesk/~t/p", agent_id_source="none", trace_id="f" * 32)
    life.alert(responder, early)
    row = life.actions()[0]
    assert life.told[-1]["selectors"] == [{"trace_id": "f" * 32}]
    changed = life.ledger.apply_updates(
        [AlertUpdate(alert_id=early.alert_id, ordinal=9, agent_id="helpdesk/triage", agent_id_source="ancestor")]
    )
    responder.readdress(changed)
    assert responder.drain(20)
    wider = life.actions()[0]
    assert wider.action_id == row.action_id
    assert wider.target["otel_ir.agent.id"] == "helpdesk/triage"
    assert life.told[-1]["selectors"] == [{"otel_ir.agent.id": "helpdesk/triage"}, {"trace_id": "f" * 32}]
    assert life.told[-1]["since"] == life.told[0]["since"]
    assert incident(life).agent_id == "helpdesk/triage"
    life.truth()


def test_two_agents_of_one_trace_become_two_incidents(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    alerts = [make_alert(n, agent_id=f"helpdesk/~t/p{n}", agent_id_source="none", trace_id="f" * 32) for n in (1, 2)]
    life.alert(responder, *alerts)
    assert len(life.ledger.incidents()) == 1, "while nobody is known they are one"
    for number, alert in enumerate(alerts, 1):
        updates = [AlertUpdate(alert_id=alert.alert_id, ordinal=9, agent_id=f"helpdesk/agent-{number}", agent_id_source="ancestor")]
        responder.readdress(life.ledger.apply_updates(updates))
    assert responder.drain(20)
    agents = {row.agent_id: row.state for row in life.ledger.incidents()}
    assert agents == {"helpdesk/agent-1": IncidentState.CONTAINED, "helpdesk/agent-2": IncidentState.CONTAINED}
    held = sorted(target["otel_ir.agent.id"] for target in life.system.held.values())
    assert held == ["helpdesk/agent-1", "helpdesk/agent-2"]
    life.truth()


def test_two_alerts_of_one_incident_ask_once(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), *(make_alert(n, agent_id="helpdesk/agent-1") for n in range(1, 6)))
    assert life.states() == ["verified"]
    assert [what for what, _, _ in life.system.asked] == ["apply"]


def test_what_stops_the_target_acts_last(make_life: MakeLife) -> None:
    life = make_life(FAST.replace("0.2", "5"))
    life.policy.write_text(life.policy.read_text().replace("[revoke_tools]", "[pause_agent, revoke_tools]"))
    stopper = Lever(life.system, "pause_agent", last=True)
    life.alert(life.start(stopper, Lever(life.system, "revoke_tools")), make_alert())
    assert [verb for _, verb, _ in life.system.asked] == ["revoke_tools", "pause_agent"]


def test_a_fleet_is_not_stopped_by_a_flood(make_life: MakeLife) -> None:
    life = make_life(FAST + "safety: {fleet_share: 0.1, fleet_floor: 2, actions_per_minute: 1000}\n")
    now = life.clock()
    life.ledger.saw_agents(
        [
            AgentRow(tenant="", agent_id=f"helpdesk/agent-{n}", service="helpdesk", name=None, fingerprint=None, tools=(), models=(),
                     first_seen=now, last_seen=now)
            for n in range(1, 41)
        ]
    )  # fmt: skip
    life.alert(life.start(), *(make_alert(n) for n in range(1, 11)))
    assert life.states() == ["verified"] * 4 + ["failed"] * 6
    assert "4 of 40 agents are held already" in life.actions()[-1].detail


def test_a_restart_does_not_open_the_cap_again(make_life: MakeLife) -> None:
    life = make_life(FAST + "safety: {actions_per_minute: 3, fleet_floor: 100}\n")
    for first in (1, 11, 21):
        responder = life.start()
        life.alert(responder, *(make_alert(n) for n in range(first, first + 4)))
        responder.close()
    assert sum(row.state is ActionState.VERIFIED for row in life.actions()) == 3


def test_similar_agents_are_held_back_for_a_while(make_life: MakeLife) -> None:
    life = make_life(FAST + "similar: {by: [prompt, tools], ttl: 10, at_most: 2}\n")
    now = life.clock()

    def seen(name: str, fingerprint: str | None, *tools: str) -> AgentRow:
        return AgentRow(
            tenant="", agent_id=name, service=name.partition("/")[0], name=None, fingerprint=fingerprint, tools=tools, models=(),
            first_seen=now, last_seen=now,
        )  # fmt: skip

    life.ledger.saw_agents([
        seen("helpdesk/agent-1", "p", "a", "b"), seen("helpdesk/twin", "p", "c"), seen("sales/tools", "q", "b", "a"),
        seen("sales/other", "q", "x"), seen("zz/also", "p", "d"), seen("helpdesk/none", None), seen("desk/-", "p", "a", "b"),
    ])  # fmt: skip
    life.alert(life.start(), make_alert())
    rows = life.actions(states=[ActionState.VERIFIED])
    assert {(row.verb, row.cause, row.target["otel_ir.agent.id"], row.reason) for row in rows if row.cause == "similar"} == {
        ("read_only_tools", "similar", "helpdesk/twin", "the same system prompt as helpdesk/agent-1"),
        ("read_only_tools", "similar", "sales/tools", "the same tools as helpdesk/agent-1"),
    }
    life.clock.advance(12)
    life.until(lambda: sorted(life.states()) == ["expired", "expired", "verified"], "they are let go of")


def test_a_person_contains(make_life: MakeLife) -> None:
    life = make_life()
    life.start()
    number = life.ledger.order(
        Order(kind="contain", who="ann", reason="odd", at=life.clock(), agent_id="helpdesk/x", verbs=("pause_agent",))
    )
    life.settled("verified")
    order = life.until(lambda: (found := life.ledger.find_order(number)) and found.taken_at and found, "it was answered")
    assert (order.ok, order.incident_id) == (True, incident(life).incident_id)
    (row,) = life.actions()
    assert (row.cause, row.reason, row.verb) == ("person", "odd (ann)", "pause_agent")
    assert life.system.held[row.action_id]["otel_ir.agent.id"] == "helpdesk/x"


@pytest.mark.parametrize(
    ("order", "answer"),
    [
        ({"kind": "contain", "agent_id": "helpdesk/x", "verbs": ("explode",)}, "no such step: explode"),
        ({"kind": "contain", "agent_id": "helpdesk"}, "'helpdesk' is not service/agent"),
        ({"kind": "contain", "agent_id": "pay/roll"}, "refused: pay/roll is protected by 'pay/*'"),
        ({"kind": "release", "incident_id": "INC-0"}, "no actions of 'INC-0': otel-ir incidents lists what there is"),
        (
            {"kind": "close", "incident_id": "INC-0"},
            "not closed: something is in force (otel-ir release), or there is no such open incident",
        ),
        ({"kind": "dance"}, "'dance' is nothing that can be asked for"),
    ],
)
def test_orders_that_cannot_be_carried_out(make_life: MakeLife, order: dict[str, Any], answer: str) -> None:
    life = make_life(FAST + "safety: {protected: ['pay/*']}\n")
    life.start()
    number = life.ledger.order(Order(**{"who": "ann", "reason": "", "at": 1} | order))
    told = life.until(lambda: (found := life.ledger.find_order(number)) and found.taken_at and found, "it was answered")
    assert (told.answer, told.ok) == (answer, False)
    assert not life.actions()


def test_an_incident_is_not_closed_while_something_holds(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    assert not life.ledger.close_incident(incident(life).incident_id, LogEntry(1, "closed", "ann", ""))
    release(life)
    life.settled("released")
    assert life.ledger.close_incident(incident(life).incident_id, LogEntry(1, "closed", "ann", "sure"))
    assert not life.ledger.close_incident(incident(life).incident_id, LogEntry(1, "closed", "ann", "again"))


def test_an_incident_is_not_closed_while_an_alert_waits_to_be_answered(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    release(life)
    life.settled("released")
    life.until(lambda: incident(life).watch_until, "the watch began")
    alert = make_alert(2, agent_id="helpdesk/agent-1")
    responder.close()
    life.record(alert)  # the watch ends while it waits
    assert not life.ledger.close_incident(incident(life).incident_id, LogEntry(1, "closed", "", "quiet"))
    life.clock.advance(51)
    life.start().handle([alert])
    life.settled("released", "verified")
    assert incident(life).state is IncidentState.CONTAINED


def test_evidence_is_set_aside_before_anything_is_done(make_life: MakeLife) -> None:
    life = make_life()

    def snapshot(alert: Any, incident_id: str) -> str:
        assert not life.system.asked
        return f"kept {alert.alert_id[:8]} of {incident_id}"

    life.alert(life.start(snapshot=snapshot), make_alert())
    assert life.ledger.incident_log(incident(life).incident_id)[1].text.startswith("kept 00000001 of INC-")


def test_evidence_that_cannot_be_set_aside_holds_up_nothing(make_life: MakeLife, caplog: pytest.LogCaptureFixture) -> None:
    life = make_life()

    def snapshot(_alert: Any, _incident_id: str) -> str:
        raise OSError("disk full")

    life.alert(life.start(snapshot=snapshot), make_alert())
    assert life.states() == ["verified"]
    assert "was not set aside: OSError" in life.ledger.incident_log(incident(life).incident_id)[1].text
