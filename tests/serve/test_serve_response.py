"""The whole response from the outside: the real server, a real agent's process with the guard, a real system behind a webhook.

What the ledger says is held against what is so: what the agent's calls do, what the kernel says of its process, what the webhook holds.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from real.processes import until
from serve.desk import HARMFUL, POLICY, Agent, Desk, killed
from thorough import examples

from otel_ir.model_lifecycle import ActionState, IncidentState

HELD = {"revoke_tools": "verified", "isolate_network": "verified", "pause_agent": "verified"}


def test_from_the_alert_to_the_end_of_the_watch(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(POLICY.replace("watch: 2", "watch: 20"))
    with desk.serve():
        agent = desk.agent("bank")
        assert agent.call()
        agent.harm()
        desk.settled("bank", **HELD)
        incident = desk.incident("bank")
        assert incident.state is IncidentState.CONTAINED
        assert agent.stopped
        assert all(desk.webhook_holds(row) for row in desk.actions() if row.adapter == "soc")

        pause = next(row for row in desk.actions() if row.verb == "pause_agent")
        assert desk.release(pause.action_id).returncode == 0
        assert not agent.stopped
        assert desk.states() == HELD | {"pause_agent": "released"}
        assert desk.incident("bank").state is IncidentState.CONTAINED
        assert not agent.call(), "its next call is refused"
        assert not agent.call("send_email", body=HARMFUL)

        done = desk.release(incident.incident_id)
        assert done.returncode == 0, done.stderr
        assert "recovering" in done.stderr
        assert agent.call(), "its calls run again"
        assert not desk.hook._held

        agent.harm(conversation="c-2")  # in the watch
        until(lambda: [row.turn for row in desk.actions() if row.state is ActionState.VERIFIED] == [1, 1, 1], what="it is armed again")
        assert agent.stopped
        assert desk.incident("bank").incident_id == incident.incident_id
        assert "re-armed" in [entry.kind for entry in desk.ledger.incident_log(incident.incident_id)]

        assert desk.release(incident.incident_id).returncode == 0
        desk.becomes(IncidentState.CLOSED, "bank")
        assert agent.call()
        assert Counter(row.state for row in desk.actions()) == {ActionState.RELEASED: 6}


def refused(agent: Agent) -> bool:
    """Whether a call does not run now. A process that stands still runs nothing."""
    return agent.stopped or not agent.call()


def truth(desk: Desk, service: str, agent: Agent) -> None:
    """What is called verified holds, and what is called released does not."""
    newest = {row.verb: row for row in desk.actions(service)}
    for row in newest.values():
        holds = {"guard": lambda: refused(agent), "process": lambda: agent.stopped, "soc": lambda row=row: desk.webhook_holds(row)}
        if row.state is ActionState.VERIFIED:
            assert holds[row.adapter](), f"{row.verb} is called verified and does not hold"
        if row.state in (ActionState.RELEASED, ActionState.EXPIRED):
            assert not holds[row.adapter](), f"{row.verb} is called {row.state} and holds"
    if newest and desk.incident(service).state is IncidentState.CONTAINED:
        assert any(row.state is ActionState.VERIFIED for row in newest.values())


@pytest.mark.parametrize("seed", range(examples(3)))
def test_kill_nine_at_any_moment(desk: Desk, seed: int) -> None:
    """`desk` is held by guard and webhook, `vault` by the process adapter. The server is killed while they are contained, and let go of."""
    chance = random.Random(seed)
    with desk.serve() as server:
        agents = {"desk": desk.agent("desk", cache="a"), "vault": desk.agent("vault", cache="b")}
        for agent in agents.values():
            agent.harm()
        until(desk.ledger.alerts, what="an alert")
        killed(server, chance.uniform(0.0, 0.6))
    for service, agent in agents.items():
        truth(desk, service, agent)
    if chance.random() < 0.5 and desk.states("desk").get("revoke_tools") == "verified":
        agents["desk"].kill()  # and started again while nobody is there to tell it anything
        agents["desk"] = desk.agent("desk", cache="a")
        assert not agents["desk"].call(), "it remembers"

    with desk.serve() as server:
        desk.settled("desk", revoke_tools="verified", isolate_network="verified")
        desk.settled("vault", pause_agent="verified")
        for service, agent in agents.items():
            truth(desk, service, agent)
        assert not agents["desk"].call()
        assert agents["vault"].stopped
        for service in agents:
            desk.release(desk.incident(service).incident_id, "--wait", "0")
        killed(server, chance.uniform(0.0, 0.6))
    for service, agent in agents.items():
        truth(desk, service, agent)

    with desk.serve():
        desk.settled("desk", revoke_tools="released", isolate_network="released")
        desk.settled("vault", pause_agent="released")
        for service, agent in agents.items():
            truth(desk, service, agent)
            assert agent.call(), "it is free"
        until(lambda: {desk.incident(service).state for service in agents} == {IncidentState.CLOSED}, what="the end of the watch")
    assert Counter((row.verb, row.turn) for row in desk.actions()) == {
        ("revoke_tools", 0): 1, ("isolate_network", 0): 1, ("pause_agent", 0): 1,
    }, "nothing was repeated"  # fmt: skip
    asked = Counter(call.headers["webhook-id"] for call in desk.hook._hook.calls if "-" not in call.headers["webhook-id"])
    (isolated,) = (row for row in desk.actions() if row.adapter == "soc")
    assert set(asked) == {isolated.action_id}
    assert asked[isolated.action_id] <= isolated.attempts


def test_what_is_held_stays_held_without_a_server(desk: Desk) -> None:
    """The guard remembers over a restart of the agent, the kernel over everything; the server lets go after its own restart."""
    with desk.serve() as server:
        agents = {"desk": desk.agent("desk", cache="a"), "vault": desk.agent("vault", cache="b")}
        for agent in agents.values():
            agent.harm()
        desk.settled("desk", revoke_tools="verified", isolate_network="verified")
        desk.settled("vault", pause_agent="verified")
        killed(server)
    assert not agents["desk"].call()
    agents["desk"].kill()
    agents["desk"] = desk.agent("desk", cache="a")
    assert not agents["desk"].call(), "from the cache"
    assert agents["desk"].call(agent="somebody", conversation="c-9"), "and nobody else"
    assert agents["vault"].stopped
    with desk.serve():
        for service, agent in agents.items():
            assert desk.release(desk.incident(service).incident_id).returncode == 0
            assert agent.call()
        assert not agents["vault"].stopped
