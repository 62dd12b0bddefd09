"""The guard adapter with guards that speak the protocol to a real server: what it asks of them, and what it believes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from contain.scripted import Line, ScriptedGuard
from contain.served import Server, wait_for

from otel_ir.contain import GuardHub, GuardInfo, Surroundings, guard_hub, procfs
from otel_ir.contain.guard import EXPIRY_GRACE, Guard, GuardConfig
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.receive import TokenConfig
from otel_ir.respond import agent_target

T = TypeVar("T")


def asked(number: int = 1, *, tenant: str = "", agent: str = "helpdesk/triage", **changes: Any) -> ActionRequest:
    given: dict[str, Any] = {"verb": "revoke_tools", "target": agent_target(tenant, agent), "requested_at": 5}
    return ActionRequest(incident_id=f"INC-20260101000000-{number:06x}", adapter="guard", mode="enforce", **given | changes)


class World:
    """A server, guards, and an adapter."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self.now = 10
        self.adapter = Guard(GuardConfig(timeout=1.0, check_timeout=0.5), Surroundings(lambda: self.now, server.hub))

    def guard(self, instance: str = "i-1", service: str = "helpdesk", **facts: Any) -> ScriptedGuard:
        guard = ScriptedGuard(self.server.port, service, instance, **facts)
        self._stack.callback(guard.close)
        wait_for(lambda: guard.states, "its first state")
        return guard


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(server, stack)


def run(coroutine: Awaitable[T]) -> T:
    async def it() -> T:
        return await coroutine

    return asyncio.run(it())


def test_a_guard_gets_what_the_request_says(world: World) -> None:
    guard = world.guard()
    request = asked(
        verb="read_only_tools", reason="read\nonly \x1b[31m", read_only=("get_*",), tools=("a", "b"), expires_at=99,
        target=agent_target("", "helpdesk/triage") | {"gen_ai.conversation.id": "c", "trace_id": "t", "span_id": "s"},
    )  # fmt: skip
    outcome = run(world.adapter.apply(request, None))
    assert (outcome.result, outcome.detail) == ("applied", "enforced by 1 of 1 guard of helpdesk")
    assert guard.enforced[request.action_id] == {
        "id": request.action_id,
        "verb": "read_only_tools",
        "selectors": [{"otel_ir.agent.id": "helpdesk/triage"}, {"gen_ai.conversation.id": "c"}],
        "tools": ["a", "b"],
        "read_only": ["get_*"],
        "since": 5,
        "expires": 99 + EXPIRY_GRACE,
        "incident": "INC-20260101000000-000001",
        "reason": "read only  [31m",
    }
    assert world.adapter.preview(request, None)["restriction"] == guard.enforced[request.action_id]


def test_without_a_guard_it_waits_for_one(world: World) -> None:
    request = asked()
    outcome = run(world.adapter.apply(request, None))
    assert (outcome.result, outcome.detail) == ("retry", "no guard of helpdesk is registered")
    assert run(world.adapter.check(request)).result == "unknown"
    guard = world.guard()
    wait_for(lambda: guard.enforced, "what was asked before it came")
    assert run(world.adapter.apply(request, None)).result == "applied"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"otel_ir.agent.id": "helpdesk/triage", "otel_ir.agent.id_source": "own"}, "no service.name"),
        ({"service.name": "helpdesk"}, "nothing narrower"),
        ({"service.name": "helpdesk", "otel_ir.agent.id": "helpdesk/", "otel_ir.agent.id_source": "none"}, "nothing narrower"),
    ],
)
def test_a_whole_service_is_never_asked(world: World, target: dict[str, str], message: str) -> None:
    guard = world.guard()
    outcome = run(world.adapter.apply(asked(target=target), None))
    assert outcome.result == "failed"
    assert message in outcome.detail
    assert not guard.enforced
    world.adapter.restore([asked(target=target)])
    assert not world.server.hub.holds("", "helpdesk", asked().action_id)


def test_a_wider_target_replaces_the_narrower_one(world: World) -> None:
    guard = world.guard()
    narrow = asked(target={"service.name": "helpdesk", "trace_id": "t"})
    assert run(world.adapter.apply(narrow, None)).result == "applied"
    wide = replace(narrow, target=agent_target("", "helpdesk/triage") | {"trace_id": "t"})
    assert wide.action_id == narrow.action_id
    assert run(world.adapter.apply(wide, None)).result == "applied"
    assert guard.enforced[wide.action_id]["selectors"] == [{"otel_ir.agent.id": "helpdesk/triage"}, {"trace_id": "t"}]


def test_every_live_guard_must_answer_a_probe(world: World) -> None:
    guards = [world.guard(f"i-{number}") for number in range(3)]
    request = asked()
    assert run(world.adapter.apply(request, None)).result == "applied"
    assert run(world.adapter.check(request)).detail == "a canary call was stopped by 3 guards of helpdesk"
    guards[1].hang()
    finding = run(world.adapter.check(request))
    assert (finding.result, finding.detail) == ("unknown", "1 guard of 3 did not answer a probe: i-1")
    guards[1].resume()
    guards[2].lies = True
    finding = run(world.adapter.check(request))
    assert finding.result == "not_in_force"
    assert finding.detail.startswith("a canary call was not stopped by i-2")


def test_one_guard_that_lies_is_found_though_another_is_silent(world: World) -> None:
    liar, silent = world.guard("i-1"), world.guard("i-2")
    request = asked()
    assert run(world.adapter.apply(request, None)).result == "applied"
    liar.lies = True
    silent.hang()
    assert run(world.adapter.check(request)).result == "not_in_force"


def test_probes_are_fresh(world: World) -> None:
    guard = world.guard()
    request = asked()
    run(world.adapter.apply(request, None))
    for number in range(1, 4):
        assert run(world.adapter.check(request)).result == "in_force"
        assert guard.probed == number
    guard.lies = True
    assert run(world.adapter.check(request)).result == "not_in_force"


def test_unanswered_probes_do_not_pile_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_hub, "MAX_PROBES", 1)
    guard = world.guard()
    request = asked()
    run(world.adapter.apply(request, None))
    guard.hang()

    async def several() -> list[str]:
        return [finding.result for finding in await asyncio.gather(*(world.adapter.check(request) for _ in range(3)))]

    assert run(several()) == ["unknown"] * 3
    (service,) = world.server.hub._services.values()
    assert not service.guards["i-1"].probes
    guard.resume()
    wait_for(lambda: run(world.adapter.check(request)).result == "in_force", "an answer")


def test_what_is_over_by_itself_is_no_violation(world: World) -> None:
    world.guard()
    request = asked(expires_at=20)
    assert run(world.adapter.apply(request, None)).result == "applied"
    world.now = 20
    assert run(world.adapter.check(request)).result == "unknown"


def test_release_waits_for_every_live_guard(world: World) -> None:
    guards = [world.guard(f"i-{number}") for number in range(2)]
    first, second = asked(), asked(2)
    for request in (first, second):
        assert run(world.adapter.apply(request, None)).result == "applied"
    wait_for(lambda: all(len(guard.enforced) == 2 for guard in guards), "both")
    guards[1].hang()
    outcome = run(world.adapter.release(first, None))
    assert (outcome.result, outcome.detail) == ("retry", "1 guard of helpdesk may still enforce it: i-1")
    guards[1].resume()
    outcome = run(world.adapter.release(first, None))
    assert (outcome.result, outcome.detail) == ("applied", "not enforced by any of 2 guards of helpdesk")
    assert all(set(guard.enforced) == {second.action_id} for guard in guards)
    assert run(world.adapter.check(first)).result == "not_in_force"


def test_release_does_not_believe_an_old_report(world: World) -> None:
    """A guard that enforces it, and did not come to say so: what it said last does not name the action."""
    guard = world.guard()
    guard.deaf = True
    assert run(world.adapter.apply(asked(), None)).result == "retry"
    assert run(world.adapter.release(asked(), None)).result == "retry"


def test_two_incidents_on_one_agent(world: World) -> None:
    guard = world.guard()

    async def together() -> None:
        await asyncio.gather(*(world.adapter.apply(asked(number), None) for number in range(16)))
        findings = await asyncio.gather(*(world.adapter.check(asked(number)) for number in range(16)))
        assert {finding.result for finding in findings} == {"in_force"}
        await asyncio.gather(*(world.adapter.release(asked(number), None) for number in range(15)))

    run(together())
    assert set(guard.enforced) == {asked(15).action_id}


def test_too_many_restrictions_are_put_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_hub, "MAX_RESTRICTIONS", 1)
    world.guard()
    assert run(world.adapter.apply(asked(), None)).result == "applied"
    assert run(world.adapter.apply(asked(2), None)).result == "retry"
    assert run(world.adapter.apply(asked(2, agent="billing/x"), None)).detail == "no guard of billing is registered"


def test_tenants_and_services_are_kept_apart() -> None:
    server = Server(tokens=(TokenConfig(token="a", tenant="acme"), TokenConfig(token="o", tenant="other")))
    with ExitStack() as stack:
        stack.callback(server.close)
        world = World(server, stack)
        acme, other = world.guard("i-1", token="a"), world.guard("i-1", token="o")
        billing = world.guard("i-1", "billing", token="a")
        request = asked(tenant="acme")
        assert run(world.adapter.apply(request, None)).result == "applied"
        assert run(world.adapter.check(request)).detail == "a canary call was stopped by 1 guard of helpdesk"
        assert set(acme.enforced) == {request.action_id}
        assert not other.enforced
        assert not billing.enforced
        assert run(world.adapter.apply(asked(), None)).detail == "no guard of helpdesk is registered"


def test_preflight_looks_at_self_tests(world: World) -> None:
    assert not run(world.adapter.preflight()).ready
    world.guard()
    readiness = run(world.adapter.preflight())
    assert (readiness.ready, readiness.detail) == (True, "1 guard, self-tests passed, of helpdesk")
    with closing(Line(world.server.port)) as line:
        line.register("billing", "b", self_test={"outcome": "failed", "detail": "no\nhook"})
    readiness = run(world.adapter.preflight())
    assert not readiness.ready
    assert readiness.detail == "1 guard of 2 did not pass the self-test: billing/b failed no hook"


def test_restored_before_any_guard_is_there(server: Server) -> None:
    hub = GuardHub()
    adapter = Guard(GuardConfig(timeout=1.0, check_timeout=0.5), Surroundings(hub=hub))
    adapter.restore([asked(), asked(2)])
    server.stop()
    server.start(hub)
    guard = ScriptedGuard(server.port)
    try:
        wait_for(lambda: len(guard.enforced) == 2, "both")
        wait_for(lambda: run(adapter.check(asked())).result == "in_force", "an answer")
    finally:
        guard.close()


def test_what_it_would_send_is_json(world: World) -> None:
    assert json.loads(json.dumps(world.adapter.preview(asked(), None)))["service"] == "helpdesk"


@pytest.mark.parametrize("changes", [{"timeout": 0}, {"check_timeout": 6}, {"timeout": 301}, {"concurrency": 0}])
def test_config_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="check_timeout"):
        GuardConfig(**changes)


def test_guards_of_an_earlier_life_are_waited_for_until_they_are_back(world: World) -> None:
    """They enforce what they were told last: nothing is proven, and nothing is let go of, without them."""
    back, away = world.guard("i-1"), world.guard("i-2")
    request = asked()
    assert run(world.adapter.apply(request, None)).result == "applied"
    known = world.server.hub.guards()
    assert all(info.runs_here for info in known)
    world.server.stop()
    away.hang()
    world.server.start(hub := GuardHub())
    hub.recall(known)
    adapter = Guard(GuardConfig(timeout=0.5, check_timeout=0.5), Surroundings(hub=hub))
    adapter.restore([request])
    wait_for(lambda: hub.guards("", "helpdesk")[0].live and back.registered > 1, "the first one is back")
    finding = run(adapter.check(request))
    assert (finding.result, finding.detail) == ("unknown", "1 guard of 2 did not answer a probe: i-2")
    outcome = run(adapter.release(request, None))
    assert (outcome.result, outcome.detail) == ("retry", "1 guard of helpdesk may still enforce it: i-2")
    away.resume()
    wait_for(lambda: run(adapter.release(request, None)).result == "applied", "both are back")
    assert not back.enforced
    assert not away.enforced


def test_a_guard_of_an_earlier_life_is_not_waited_for_longer_than_for_others() -> None:
    now = [0.0]
    hub = GuardHub(ticks=lambda: now[0])
    me = os.getpid()
    start = procfs.stat(me).start  # type: ignore[union-attr]
    hub.recall([GuardInfo(tenant="", service="helpdesk", instance="i", pid=me, pid_start=start, proven=True)])
    hub.take_out("", "helpdesk", "x")
    assert hub.standing("", "helpdesk", "x").holding == ("i",)
    now[0] = guard_hub.LIVE_SECONDS + 1
    assert hub.standing("", "helpdesk", "x").holding == ()


def test_a_probe_while_others_are_awaited_is_answered(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """After a restart: one guard is back and lets calls through, of another one only the process is known."""
    request, me = asked(), os.getpid()
    start = procfs.stat(me).start  # type: ignore[union-attr]
    world.server.hub.recall([GuardInfo(tenant="", service="helpdesk", instance="away", pid=me, pid_start=start, proven=True)])
    guard = world.guard()
    guard.lies = True
    assert run(world.adapter.apply(request, None)).result == "applied"
    assert run(world.adapter.check(request)).result == "not_in_force"
    guard.lies = False
    finding = run(world.adapter.check(request))
    assert (finding.result, finding.detail) == ("unknown", "1 guard of 2 did not answer a probe: away")
    assert not caplog.records
