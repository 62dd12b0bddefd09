"""What a sender, a hijacked agent, or an unlucky restart could make of the response, and does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from respond.lever import Lever
from respond.life import Life, make_alert

from otel_ir.model import AlertUpdate
from otel_ir.model_lifecycle import DRILL_SERVICE, ActionState, IncidentState, LetGo, Order
from otel_ir.respond import selectors, target
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


def order(life: Life, kind: str, **more: Any) -> Any:
    number = life.ledger.order(Order(**{"kind": kind, "who": "ann", "reason": "checked", "at": life.clock()} | more))
    return life.until(lambda: (found := life.ledger.find_order(number)) and found.taken_at and found, "it was answered")


def seen(agent_id: str, service: str, at: int, *tools: str) -> AgentRow:
    return AgentRow(
        tenant="", agent_id=agent_id, service=service, name=None, fingerprint=None, tools=tools, models=(), first_seen=at, last_seen=at
    )


# Somebody else's incident


@pytest.mark.parametrize("source", ["none", "own"])
def test_an_incident_of_another_service_hides_nobody(make_life: MakeLife, source: str) -> None:
    """Trace ids travel between services, and `a/b` with agent `c` is called as `a` with agent `b/c` is."""
    life = make_life()
    first, second = (
        ({"service": "evil", "agent_id": "evil/~t/p"}, {"service": "helpdesk", "agent_id": "helpdesk/~t/p"})
        if source == "none"
        else ({"service": "team", "agent_id": "team/desk/triage"}, {"service": "team/desk", "agent_id": "team/desk/triage"})
    )
    responder = life.start()
    life.alert(responder, make_alert(1, **first, agent_id_source=source, trace_id="f" * 32))
    life.alert(responder, make_alert(2, **second, agent_id_source=source, trace_id="f" * 32))
    assert {row.target["service.name"]: row.state for row in life.actions()} == {
        first["service"]: ActionState.VERIFIED, second["service"]: ActionState.VERIFIED,
    }  # fmt: skip
    assert len(life.ledger.incidents()) == 2


def test_a_flood_in_one_tenant_does_not_use_up_the_actions_of_another(make_life: MakeLife) -> None:
    life = make_life(FAST + "safety: {actions_per_minute: 3, fleet_floor: 100}\n")
    responder = life.start()
    life.alert(responder, *(make_alert(n, tenant="evil") for n in range(1, 6)))
    life.alert(responder, make_alert(9, tenant="acme"))
    assert life.states() == ["verified"] * 3 + ["failed"] * 2 + ["verified"]
    responder.close()
    life.alert(life.start(), make_alert(10, tenant="acme"), make_alert(11, tenant="evil"))
    assert life.states()[-2:] == ["verified", "failed"], "nor after a restart"


def test_drills_hold_nobody_back_and_are_not_without_end(make_life: MakeLife) -> None:
    life = make_life(FAST + "safety: {actions_per_minute: 4, fleet_floor: 2}\n")
    responder = life.start()
    drills = [make_alert(n, service=DRILL_SERVICE, agent_id=f"{DRILL_SERVICE}/drill-{n}", trace_id=f"{n:032x}") for n in range(1, 8)]
    life.alert(responder, *drills)
    assert life.states() == ["verified"] * 4 + ["failed"] * 3
    life.alert(responder, make_alert(20), make_alert(21))
    assert life.states()[-2:] == ["verified", "verified"]
    responder.close()
    life.alert(life.start(), make_alert(22, agent_id="helpdesk/agent-20"), make_alert(23, agent_id="helpdesk/agent-20", severity="medium"))
    assert life.actions()[-1].state is ActionState.VERIFIED, "after a restart drills do not count against the others either"


# Names that cannot be matched


@pytest.mark.parametrize("name", ["x" * 600, "tri\0age"])
def test_a_name_that_the_ledger_had_to_change_selects_nobody(make_life: MakeLife, name: str) -> None:
    """Nobody is called that: a guard would say that it enforces it, and each call would run."""
    life = make_life()
    life.alert(life.start(), make_alert(agent_id=f"helpdesk/{name}", agent_name=name, conversation_id=name))
    (row,) = life.actions()
    assert row.state is ActionState.VERIFIED
    assert selectors(row.target) == [{"trace_id": f"{1:032x}"}]
    assert [record["selectors"] for record in life.told] == [[{"trace_id": f"{1:032x}"}]]


def test_where_no_name_can_be_matched_nothing_is_claimed(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert(agent_id="helpdesk/" + "x" * 600, trace_id=""))
    assert life.states() == ["failed"]
    assert "nothing narrower than the whole service" in life.actions()[0].detail


def test_a_protected_agent_is_not_held_with_the_conversation_of_another(make_life: MakeLife) -> None:
    life = make_life(FAST + "safety: {protected: [helpdesk/lead]}\n")
    life.alert(life.start(), make_alert(conversation_id="shared"))
    assert selectors(life.actions()[0].target) == [{"otel_ir.agent.id": "helpdesk/agent-1"}]


# Switches


def test_with_enforcing_off_nothing_more_is_done_about_what_is_held(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    early = make_alert(agent_id="helpdesk/~t/p", agent_id_source="none")
    life.alert(responder, early)
    responder.close()
    life.system.asked.clear()
    responder = life.start(enforce=False)
    changed = life.ledger.apply_updates(
        [AlertUpdate(alert_id=early.alert_id, ordinal=9, agent_id="helpdesk/triage", agent_id_source="ancestor")]
    )
    responder.readdress(changed)
    life.record(make_alert(2, agent_id="helpdesk/triage"))
    life.clock.advance(101)
    life.until(lambda: life.states()[0] == "expired", "it is let go of")
    assert [what for what, _, _ in life.system.asked] == ["release"]


def test_with_enforcing_off_a_violation_does_not_escalate_for_real(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    responder.close()
    life.system.held.clear()
    life.system.asked.clear()
    life.clock.advance(2)
    life.start(enforce=False)
    life.until(lambda: "escalated" in life.states(), "the next look found out")
    life.until(lambda: not life.ledger.work(), "the next rung has an outcome")
    assert not life.system.asked
    assert life.states() == ["escalated", "dry_run"]


def test_an_adapter_that_is_gone_proves_nothing(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start(Lever(life.system, "isolate_network"), Lever(life.system, "revoke_tools"))
    life.alert(responder, make_alert())
    responder.close()
    life.clock.advance(3)
    life.start(Lever(life.system, "isolate_network"))
    life.settled("unverified")
    (row,) = life.ledger.incidents()
    assert row.state is IncidentState.OPEN


# Letting go


def test_what_was_let_go_of_is_not_applied_again_by_who_comes_late(make_life: MakeLife) -> None:
    """Whoever read the ledger before the release asks for a wider target, or a longer life, after it."""
    life = make_life()
    responder = life.start()
    early = make_alert(agent_id="helpdesk/~t/p", agent_id_source="none")
    life.alert(responder, early)
    stale = life.actions()[0]
    (incident,) = life.ledger.incidents()
    order(life, "release", incident_id=incident.incident_id)
    life.settled("released")
    assert responder.drain(20)
    life.until(lambda: responder._carrier.widen(stale, target(replace(early, agent_id="helpdesk/x", agent_id_source="own")), early), "room")
    assert responder.drain(20)
    life.until(lambda: responder._carrier.hold_on(stale, life.clock() + 10**12, "late", early), "room")
    assert responder.drain(20)
    assert [what for what, _, _ in life.system.asked] == ["apply", "release"]
    assert life.told[-1]["state"] == "released"
    life.truth()


def test_an_alert_after_a_release_that_was_not_acknowledged_takes_the_step_again(make_life: MakeLife) -> None:
    """The old action may or may not hold: nobody asks for it any more, so the new alert needs one of its own."""
    life = make_life(FAST.replace("recheck: 1, stale: 2", "recheck: 60, stale: 120"))
    responder = life.start()
    life.alert(responder, make_alert())
    (incident,) = life.ledger.incidents()
    life.system.mood = "refuse"
    order(life, "release", incident_id=incident.incident_id)
    life.settled("unverified")
    life.system.held.clear()
    life.system.mood = "obey"
    life.alert(responder, make_alert(2, agent_id="helpdesk/agent-1"))
    assert [(row.turn, row.state.value) for row in life.actions()] == [(0, "unverified"), (1, "verified")]


def test_what_a_person_let_go_of_is_never_held_on(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    (incident,) = life.ledger.incidents()
    life.system.mood = "refuse"
    order(life, "release", incident_id=incident.incident_id)
    life.settled("unverified")
    life.system.mood = "obey"
    life.clock.advance(95)
    life.alert(responder, make_alert(2, agent_id="helpdesk/agent-1"))
    life.clock.advance(10)
    life.until(lambda: life.actions()[0].state in (ActionState.RELEASED, ActionState.EXPIRED), "it is let go of")
    assert life.states()[1:] == ["verified"]


def test_releasing_finds_what_is_held_behind_a_thousand_that_failed(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    (row,), (incident,) = life.actions(), life.ledger.incidents()
    responder.close()
    life.ledger.request_actions([replace(row.request, verb=f"v{n}", facts={}) for n in range(1001)], life.clock())
    with life.ledger._database.write() as connection:
        connection.exec_driver_sql("UPDATE actions SET state = 'failed' WHERE verb LIKE 'v%'")
    life.start()
    order(life, "release", incident_id=incident.incident_id)
    life.until(lambda: life.actions(states=[ActionState.RELEASED]), "it is let go of")
    assert not life.system.held


def test_an_order_keeps_what_is_held_already(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.clock.advance(90)
    order(life, "contain", agent_id="helpdesk/agent-1", verbs=("revoke_tools",))
    life.clock.advance(11)
    life.until(lambda: "held on" in life.ledger.history(life.actions()[0].action_id)[-1].detail, "it is held on")


def test_a_watch_with_an_alert_is_not_called_quiet(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    (incident,) = life.ledger.incidents()
    order(life, "release", incident_id=incident.incident_id)
    life.settled("released")
    life.until(lambda: life.ledger.incidents()[0].watch_until, "the watch began")
    life.clock.advance(30)
    life.alert(responder, make_alert(2, agent_id="helpdesk/agent-1", severity="low", sender=""))
    assert life.states() == ["released"]
    life.clock.advance(30)
    life.until(lambda: life.ledger.incidents()[0].watch_until > life.clock(), "it is watched for longer")
    assert life.ledger.incidents()[0].state is IncidentState.RECOVERING
    life.clock.advance(51)
    life.until(lambda: life.ledger.incidents()[0].state is IncidentState.CLOSED, "the watch ended")


# What the fold knows


@pytest.mark.parametrize("lost", ["escalated", "releasing"])
def test_the_fold_hears_of_a_release_after_a_restart(make_life: MakeLife, lost: str) -> None:
    """Else it goes on calling everything that the agent does a violation."""
    life = make_life()
    responder = life.start(Lever(life.system, "revoke_tools"))
    life.alert(responder, make_alert())
    (row,), (incident,) = life.actions(), life.ledger.incidents()
    if lost == "escalated":
        life.system.held.clear()
        life.clock.advance(2)
        life.settled("escalated")
    responder.close()
    if lost == "releasing":  # killed after the ledger knew, and before the journal did
        life.ledger.let_go(row.action_id, LetGo(ActionState.RELEASED, "ann", "", life.clock()))
    life.told.clear()
    life.start(Lever(life.system, "revoke_tools"))
    if lost == "escalated":
        order(life, "release", incident_id=incident.incident_id)
    life.settled("released")
    life.until(lambda: life.told and life.told[-1]["state"] == "released", "the fold hears of it")


def test_a_release_that_the_journal_lost_is_told_again(make_life: MakeLife) -> None:
    """The kill came when the ledger said `released` and the journal did not have it yet."""
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    order(life, "release", incident_id=life.ledger.incidents()[0].incident_id)
    life.settled("released")
    responder.close()
    life.told.clear()
    life.start()
    assert [record["state"] for record in life.told] == ["released"]


def test_what_could_not_be_told_is_told_later(make_life: MakeLife) -> None:
    life, full = make_life(), [True]

    def announce(record: dict[str, Any]) -> None:
        if full[0]:
            raise OSError("disk full")
        life.told.append(record)

    life.alert(life.start(announce=announce), make_alert())
    assert (life.states(), life.told) == (["verified"], [])
    full[0] = False
    life.until(lambda: life.told, "it is told again")
    assert [record["state"] for record in life.told] == ["verified"]


# Odd places and times


def test_a_service_with_a_slash_in_its_name(make_life: MakeLife) -> None:
    life = make_life()
    life.ledger.saw_agents([seen("team/desk/triage", "team/desk", life.clock())])
    life.start()
    order(life, "contain", agent_id="team/desk/triage", verbs=("revoke_tools",))
    life.settled("verified")
    (row,), (incident,) = life.actions(), life.ledger.incidents()
    assert (row.target["service.name"], incident.service) == ("team/desk", "team/desk")


def test_a_clock_that_was_set_back_stops_no_look(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.clock.advance(5)
    life.until(lambda: (life.actions()[0].checked_at or 0) > life.clock() - 2 * 10**9, "it was looked at")
    life.clock.advance(-3600)
    life.system.held.clear()
    life.until(lambda: "violated" in life.steps(), "it is looked at all the same")


def test_a_clock_that_was_set_back_makes_no_proof_last(make_life: MakeLife) -> None:
    life = make_life()
    life.alert(life.start(), make_alert())
    life.system.mood = "gone"
    life.clock.advance(-3600)
    life.settled("unverified")


def test_one_order_that_goes_wrong_holds_up_nothing(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    life = make_life()
    life.start()
    original = life.ledger.open_incident

    def fails(tenant: str, service: str, agent_id: str, entry: Any) -> str:
        if agent_id == "helpdesk/bad":
            raise ValueError("a fault")
        return original(tenant, service, agent_id, entry)

    monkeypatch.setattr(life.ledger, "open_incident", fails)
    bad = order(life, "contain", agent_id="helpdesk/bad", verbs=("revoke_tools",))
    assert (bad.ok, bad.answer) == (False, "could not be carried out: ValueError")
    assert order(life, "contain", agent_id="helpdesk/good", verbs=("revoke_tools",)).ok


def test_an_adapter_that_cannot_take_over_does_not_keep_the_server_from_starting(make_life: MakeLife) -> None:
    life = make_life()
    responder = life.start()
    life.alert(responder, make_alert())
    responder.close()

    class Broken(Lever):
        def restore(self, held: Any) -> None:
            raise ValueError(len(held))

    life.alert(life.start(Broken(life.system)), make_alert(2))
    assert life.states() == ["verified", "verified"]


def test_a_rung_that_is_taken_already_is_not_the_next_one(make_life: MakeLife) -> None:
    """Asked for twice is asked for once: what is in force without proof must not end the ladder."""
    life = make_life(FAST.replace("recheck: 1", "recheck: 2"))
    life.policy.write_text(life.policy.read_text().replace("[revoke_tools]", "[revoke_tools, pause_agent]"))
    life.alert(life.start(Lever(life.system, "revoke_tools", "isolate_network"), Lever(life.system, "pause_agent", check="")), make_alert())
    assert life.states() == ["verified", "unverified"]
    life.system.held.clear()
    life.clock.advance(3)
    life.until(lambda: "isolate_network" in [row.verb for row in life.actions()], "the rung after it is asked for")
