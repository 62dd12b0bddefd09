"""What goes wrong while an agent is contained, with the real server and real processes: in each case the ledger tells the truth."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable

from real.processes import until
from serve.desk import POLICY, Desk, frozen, killed

from otel_ir.model_lifecycle import ActionState, IncidentState, Order

HELD = {"revoke_tools": "verified", "isolate_network": "verified"}
GUARD_ONLY = POLICY.replace("take: [revoke_tools, isolate_network]", "take: [revoke_tools]")


def history(desk: Desk, verb: str, service: str = "desk") -> list[str]:
    """Every state that the newest step of this verb went through."""
    row = [row for row in desk.actions(service) if row.verb == verb][-1]
    return [step.to_state.value for step in desk.ledger.history(row.action_id)]


def test_a_slow_target_is_dispatched_and_nothing_more(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(GUARD_ONLY.replace("{type: guard,", "{type: guard, timeout: 0.5, check_timeout: 0.3,"))
    with desk.serve():
        agent = desk.agent()
        agent.harm()
        until(desk.ledger.alerts, what="the alert")
        with frozen(agent):
            order = Order(kind="contain", who="ann", reason="odd", at=1, agent_id="desk/other", verbs=("revoke_tools",))
            desk.ledger.order(order)
            until(lambda: any(row.attempts > 1 for row in desk.actions() if row.target["otel_ir.agent.id"] == "desk/other"), what="retries")
            (row,) = (row for row in desk.actions() if row.target["otel_ir.agent.id"] == "desk/other")
            assert row.state is ActionState.DISPATCHED
        until(lambda: {row.state for row in desk.actions()} == {ActionState.VERIFIED}, what="proof, once it answers")
        assert not agent.call(agent="other", conversation="c-2")


def test_a_target_that_is_gone_is_not_called_contained(make_desk: Callable[..., Desk]) -> None:
    """The process of the guard ends: nobody can prove anything any more, until it is there again."""
    desk = make_desk(GUARD_ONLY)
    with desk.serve():
        agent = desk.agent()
        agent.harm()
        desk.settled("desk", revoke_tools="verified")
        agent.kill()
        desk.settled("desk", revoke_tools="unverified")
        desk.becomes(IncidentState.OPEN)
        again = desk.agent(cache="another machine")
        desk.settled("desk", revoke_tools="verified")
        desk.becomes(IncidentState.CONTAINED)
        assert not again.call()


def test_a_call_past_the_guard_is_a_violation_and_the_next_rung_is_taken(desk: Desk) -> None:
    """The guard says that it stops canary calls, and does; the agent has a way around it, which its spans show."""
    with desk.serve():
        agent = desk.agent()
        agent.harm()
        desk.settled("desk", **HELD)
        # One call after the other (the first two seconds are the allowance), and no wait for answers: a stopped process gives none.
        until(lambda: agent.ask(guarded=False) or history(desk, "revoke_tools")[-1] == "escalated", what="the violation")
        assert history(desk, "revoke_tools") == ["requested", "dispatched", "applied", "verified", "violated", "escalated"]
        desk.settled("desk", revoke_tools="escalated", isolate_network="verified", pause_agent="verified")
        assert agent.stopped
        assert desk.incident().state is IncidentState.CONTAINED
        assert "containment_violated" in {row.alert.signal for row in desk.ledger.alerts()}
        assert desk.release(desk.incident().incident_id).returncode == 0
        assert set(desk.states().values()) == {"released"}


def test_two_incidents_hold_one_agent(make_desk: Callable[..., Desk]) -> None:
    """`triage` has an incident of its own, and is held as a look-alike of `writer`: letting go of one leaves the other's hold."""
    similar = "similar: {by: [tools], severity: [critical], playbook: likes, ttl: 300, at_most: 3}\n"
    desk = make_desk(GUARD_ONLY.replace("playbooks: {", "playbooks: {likes: [revoke_tools], ") + similar)
    with desk.serve():
        agent = desk.agent(names="triage,writer")
        for name in ("triage", "writer"):
            agent.call("send_email", agent=name, conversation=f"c-{name}")
        until(lambda: {row.agent_id for row in desk.ledger.agents()} == {"desk/triage", "desk/writer"}, what="the roster")
        agent.harm(agent="writer", conversation="c-writer")
        until(lambda: Counter(row.state for row in desk.actions()) == {ActionState.VERIFIED: 2}, what="both are held")
        (first,) = desk.ledger.incidents()
        done = desk.command("contain", "desk/triage", "--reason", "looks odd", "--verb", "revoke_tools")
        assert done.returncode == 0, done.stderr
        second = next(row for row in desk.ledger.incidents() if row.incident_id != first.incident_id)
        assert second.agent_id == "desk/triage"
        assert not agent.call(agent="triage", conversation="c-triage")

        assert desk.release(first.incident_id).returncode == 0
        assert agent.call(agent="writer", conversation="c-writer")
        assert not agent.call(agent="triage", conversation="c-triage"), "the other incident still holds it"
        assert Counter(row.state for row in desk.actions()) == {ActionState.RELEASED: 2, ActionState.VERIFIED: 1}
        assert desk.release(second.incident_id).returncode == 0
        assert agent.call(agent="triage", conversation="c-triage")


def test_release_while_the_target_has_not_answered_yet(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(GUARD_ONLY.replace("{type: guard,", "{type: guard, timeout: 0.5, check_timeout: 0.3,"))
    with desk.serve():
        agent = desk.agent()
        desk.settled("desk")
        with frozen(agent):
            number = desk.ledger.order(
                Order(kind="contain", who="ann", reason="odd", at=1, agent_id="desk/triage", verbs=("revoke_tools",))
            )
            until(lambda: (told := desk.ledger.find_order(number)) and told.taken_at, what="the order is taken")
            desk.settled("desk", revoke_tools="dispatched")
            assert desk.release(desk.incident().incident_id, "--wait", "3").returncode == 1, "not known to be let go of"
            assert desk.states() == {"revoke_tools": "releasing"}
        desk.settled("desk", revoke_tools="released")
        assert agent.call()
        assert not [step for step in history(desk, "revoke_tools") if step in ("applied", "verified")]


def test_letting_go_after_a_restart_waits_for_the_guard(make_desk: Callable[..., Desk]) -> None:
    """The order is given while no server runs. When one does, the guard is not back yet and enforces what it was told last."""
    desk = make_desk(GUARD_ONLY.replace("{type: guard,", "{type: guard, timeout: 0.5, check_timeout: 0.3,"))
    with desk.serve() as server:
        agent = desk.agent()
        agent.harm()
        desk.settled("desk", revoke_tools="verified")
        killed(server)
    done = desk.release(desk.incident().incident_id, "--wait", "0")
    assert done.returncode == 1
    assert "no server runs" in done.stderr
    with frozen(agent), desk.serve() as server:
        until(lambda: history(desk, "revoke_tools").count("releasing") > 2, what="attempts to let go")
        assert desk.states() == {"revoke_tools": "releasing"}
        killed(server)
    assert not agent.call()
    with desk.serve():
        desk.settled("desk", revoke_tools="released")
        assert agent.call()


def test_what_is_held_on_is_held(make_desk: Callable[..., Desk]) -> None:
    """Alerts come until its time is over: guards must not let go by themselves while the ledger says that it holds."""
    desk = make_desk(POLICY.replace("take: [revoke_tools, isolate_network]", "take: [read_only_tools]").replace("ttl: 600", "ttl: 20"))

    def expires() -> int:
        (kept,) = (desk.folder / "cache-desk").glob("*.json")
        return int(json.loads(kept.read_text())["restrictions"][0]["expires"])

    with desk.serve():
        agent = desk.agent()
        agent.harm()
        desk.settled("desk", read_only_tools="verified")
        (row,) = desk.actions()
        assert row.expires_at is not None
        assert expires() > row.expires_at
        until(lambda: time.time_ns() > row.requested_at + 11_000_000_000, what="its second half")
        for _ in range(31):  # a burst, of calls that are allowed
            assert agent.call("get_status")
        until(lambda: len(desk.ledger.alerts()) == 2, what="the second alert")
        until(lambda: expires() > row.expires_at + 16_000_000_000, what="the guard's new end")
        until(lambda: "held on" in desk.ledger.history(row.action_id)[-1].detail, what="the ledger's")
        assert desk.states() == {"read_only_tools": "verified"}
        assert not agent.call()


def test_an_agent_that_renames_itself(make_desk: Callable[..., Desk]) -> None:
    """Within the hijacked conversation every name is held. In a new one another name is another agent: neither its spans nor its guard
    say that it was the contained one. What holds against that is outside of the agent: the process adapter, or the network."""
    desk = make_desk(GUARD_ONLY)
    with desk.serve():
        agent = desk.agent(names="triage,renamed")
        agent.harm()
        desk.settled("desk", revoke_tools="verified")
        assert not agent.call()
        assert not agent.call(agent="renamed"), "the conversation is tainted"
        assert not agent.call(conversation="c-new"), "under its own name it is held everywhere"
        assert agent.call(agent="renamed", conversation="c-new")
        # By a way around the guard, to see what is known of it then: it is a violation within the conversation, and none outside.
        assert agent.call(agent="renamed", conversation="c-new", guarded=False)
        assert desk.states() == {"revoke_tools": "verified"}
        until(
            lambda: agent.call(agent="renamed", guarded=False) and "violated" in history(desk, "revoke_tools"),
            what="the violation under another name",
        )


def test_a_flood_of_alerts_does_not_stop_the_fleet(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(GUARD_ONLY + "safety: {fleet_share: 0.1, fleet_floor: 2, actions_per_minute: 1000}\n")
    fleet = [f"agent-{number}" for number in range(30)]
    with desk.serve():
        agent = desk.agent(names=",".join(fleet))
        for name in fleet:
            assert agent.call(agent=name, conversation=f"c-{name}")
        until(lambda: len(desk.ledger.agents()) == len(fleet), what="the roster")
        for name in fleet:
            agent.harm(agent=name, conversation=f"c-{name}")
        until(lambda: len(desk.actions()) == len(fleet) and not desk.ledger.work(), what="every alert was answered")
        assert Counter(row.state for row in desk.actions()) == {ActionState.VERIFIED: 3, ActionState.FAILED: 27}
        held = {row.target["gen_ai.agent.name"] for row in desk.actions() if row.state is ActionState.VERIFIED}
        assert {row.detail for row in desk.actions() if row.state is ActionState.FAILED} == {
            "refused: 3 of 30 agents are held already, at most 3 may be (safety.fleet_share, fleet_floor)"
        }
        for name in fleet:
            assert agent.call(agent=name, conversation=f"c-{name}") is (name not in held)
        states = Counter(row.state for row in desk.ledger.incidents())
        assert states == {IncidentState.CONTAINED: 3, IncidentState.OPEN: 27}, "the others wait for a person, and say so"
        # A person may do what the cap keeps a machine from.
        name = next(name for name in fleet if name not in held)
        assert desk.command("contain", f"desk/{name}", "--reason", "by hand", "--verb", "revoke_tools").returncode == 0
        assert not agent.call(agent=name, conversation=f"c-{name}")


def test_a_sender_that_speaks_for_anothers_service(make_desk: Callable[..., Desk]) -> None:
    """With the token of `other` it says that `desk` did harm, and asks what `desk` must not do: nothing of both."""
    desk = make_desk(GUARD_ONLY)
    with desk.serve():
        victim = desk.agent("desk")
        intruder = desk.agent("desk", cache="intruder", token="t-other")
        intruder.harm()
        intruder.harm(conversation="c-2")

        def asked(path: str, body: bytes | None) -> int:
            headers = {"authorization": "Bearer t-other", "content-type": "application/json"}
            request = urllib.request.Request(f"http://127.0.0.1:{desk.port}/guard/v1/{path}", body, headers)
            try:
                return urllib.request.urlopen(request, timeout=30).status
            except urllib.error.HTTPError as error:
                return error.code

        registration = json.dumps({"service": "desk", "instance": "i", "pid": 1}).encode()
        report = json.dumps({"service": "desk", "instance": "i", "applied": ["x"]}).encode()
        assert asked("register", registration) == 403
        assert asked("report", report) == 403
        assert asked("state?service=desk&instance=i", None) == 403
        assert asked("state?service=desk&instance=i&wait=1", None) == 403
        # What is sent after it has arrived: so what was sent before has been judged, too.
        own = desk.agent("other", cache="own")
        own.harm()
        until(lambda: desk.states("other").get("revoke_tools") == "verified", what="its own containment")
        assert {row.alert.service for row in desk.ledger.alerts()} == {"other"}
        assert not desk.actions("desk")
        assert victim.call()
        assert {guard.service for guard in desk.ledger.guards()} == {"desk", "other"}
        assert len(desk.ledger.guards(service="desk")) == 1
