"""Real processes that are stopped and go on: which may be, which must not, and what is said of them afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from contain.scripted import Line
from contain.served import Server, wait_for
from contain.targets import Child

from otel_ir.contain import Surroundings, cgroup, procfs
from otel_ir.contain.guard import Guard, GuardConfig
from otel_ir.contain.guard_wire import Register, Report
from otel_ir.contain.held import Held
from otel_ir.contain.process import Process, ProcessConfig
from otel_ir.errors import ConfigError
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import agent_target

T = TypeVar("T")
TARGET = agent_target("", "helpdesk/triage")


def asked(number: int = 1, target: dict[str, str] | None = None, **changes: Any) -> ActionRequest:
    return ActionRequest(
        incident_id=f"INC-20260101000000-{number:06x}",
        verb=changes.pop("verb", "pause_agent"),
        adapter="process",
        mode="enforce",
        requested_at=1,
        target=TARGET if target is None else target,
        **changes,
    )


class World:
    """A server, the processes of agents, and an adapter."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self.around = Surroundings(hub=server.hub)

    def adapter(self, **settings: Any) -> Process:
        return Process(ProcessConfig(**{"method": "signal", "timeout": 10} | settings), self.around)

    def child(self, agents: str = "triage", service: str = "helpdesk", instance: str = "i-1") -> Child:
        child = self._stack.enter_context(closing(Child(self.server.port, agents, service, instance)))
        wait_for(lambda: any(info.pid == child.pid for info in self.server.hub.guards()), "its registration")
        return child


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(server, stack)


def run(coroutine: Awaitable[T]) -> T:
    async def it() -> T:
        return await coroutine

    return asyncio.run(it())


def stopped(adapter: Process, request: ActionRequest) -> ActionRequest:
    outcome = run(adapter.apply(request, None))
    assert outcome.result == "applied", outcome
    return replace(request, facts=outcome.facts)


def test_it_stands_still_and_goes_on(world: World) -> None:
    child, adapter = world.child(), world.adapter()
    child.runs_on()
    request = stopped(adapter, asked())
    assert child.stands_still
    before = child.count()
    finding = run(adapter.check(request))
    assert (finding.result, finding.detail) == ("in_force", f"process {child.pid} is stopped")
    # It counts a thousand times a second if it runs.
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.2)
    assert child.count() == before
    assert run(adapter.release(request, None)).detail == f"continued: process {child.pid}"
    child.runs_on()


def test_what_it_started_is_mentioned(world: World) -> None:
    with subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '100'])"]) as parent:
        wait_for(lambda: procfs.children(parent.pid), "its child")
        (grandchild,) = procfs.children(parent.pid)
        start = procfs.stat(parent.pid).start  # type: ignore[union-attr]
        world.server.hub.register("", Register(service="helpdesk", instance="p", pid=parent.pid, agents=["triage"]), procfs.Proof(start))
        request = stopped(world.adapter(), asked())
        assert run(world.adapter().check(request)).detail == f"process {parent.pid} is stopped (its 1 child processes are not)"
        os.kill(grandchild, signal.SIGKILL)
        parent.kill()


# Whom it must not touch


def test_an_id_that_is_used_again_is_never_hit(world: World) -> None:
    """The process of the facts ended, and another one has its id now."""
    child, adapter = world.child(), world.adapter()
    request = stopped(adapter, asked())
    assert run(adapter.release(request, None)).result == "applied"
    (held,) = msgspec.json.decode(request.facts["processes"], type=list[Held])
    earlier = msgspec.structs.replace(held, start=held.start - 1)
    old = replace(request, facts=request.facts | {"processes": msgspec.json.encode([earlier]).decode()})
    again = Process(ProcessConfig(method="signal"), Surroundings())
    assert run(again.apply(old, None)).detail == f"process {child.pid} is gone (signal)"
    child.runs_on()
    assert run(again.check(old)).detail == f"process {child.pid} is gone"
    os.kill(child.pid, signal.SIGSTOP)  # somebody else's doing
    wait_for(lambda: child.stands_still, "the stop")
    assert run(again.release(old, None)).result == "applied"
    assert child.stands_still


def test_a_foreign_process_that_was_registered_is_refused(world: World) -> None:
    with subprocess.Popen(["sleep", "100"]) as victim, closing(Line(world.server.port)) as line:
        line.register(pid=victim.pid, agents=["triage"])
        outcome = run(world.adapter().apply(asked(), None))
        assert outcome.result == "failed"
        assert outcome.detail == (
            f"process {victim.pid} of i-1 is not proven to be the agent's: its connection does not belong to process {victim.pid}"
        )
        assert procfs.stat(victim.pid).state == "S"  # type: ignore[union-attr]
        victim.kill()


@pytest.mark.parametrize("pid", [1, os.getpid(), os.getppid()])
def test_this_server_and_what_runs_it_are_refused(world: World, pid: int) -> None:
    start = procfs.stat(pid).start  # type: ignore[union-attr]
    world.server.hub.register("", Register(service="helpdesk", instance="i", pid=pid, agents=["triage"]), procfs.Proof(start))
    outcome = run(world.adapter(shared=True).apply(asked(), None))
    assert outcome.result == "failed"
    assert "must never be stopped" in outcome.detail
    assert not run(world.adapter(shared=True).preflight()).ready


def test_threads_of_the_kernel_are_known() -> None:
    assert procfs.Stat("S", 2, 0x00208040, 1).kernel
    assert not procfs.stat(os.getpid()).kernel  # type: ignore[union-attr]


def test_a_command_cannot_make_its_stat_say_something_else(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 1 1"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "100"]) as process:
        found = wait_for(lambda: (one := procfs.stat(process.pid)) and one.state == "S" and one)
        assert found.parent == os.getpid()
        process.kill()


@pytest.mark.parametrize(
    ("agents", "message"),
    [("triage,writer", "has other agents too: writer"), ("triage,a,b,c,d", "has other agents too: a, b, c (")],
)
def test_a_process_with_other_agents_is_refused(world: World, agents: str, message: str) -> None:
    child = world.child(agents)
    adapter = world.adapter()
    outcome = run(adapter.apply(asked(), None))
    assert outcome.result == "failed"
    assert message in outcome.detail
    assert message in run(adapter.preflight()).detail or "has other agents" in run(adapter.preflight()).detail
    assert message in str(adapter.preview(asked(), None))
    child.runs_on()
    request = stopped(world.adapter(shared=True), asked())
    assert child.stands_still
    run(world.adapter().release(request, None))


def test_agents_of_another_registration_in_the_same_process_count(world: World) -> None:
    child = world.child()
    (info,) = world.server.hub.guards()
    world.server.hub.register("", Register(service="billing", instance="b", pid=child.pid, agents=["triage"]), procfs.Proof(info.pid_start))
    outcome = run(world.adapter().apply(asked(), None))
    assert (outcome.result, "other agents" in outcome.detail) == ("failed", True)


def test_a_process_whose_agents_are_not_known_is_refused(world: World) -> None:
    world.child()
    world.server.hub.report("", Report(service="helpdesk", instance="i-1", agents=[]))
    here = TARGET | {"service.instance.id": "i-1"}
    outcome = run(world.adapter().apply(asked(target=here), None))
    assert outcome.result == "failed"
    assert "does not say which agents it has" in outcome.detail


def test_all_or_nothing(world: World) -> None:
    first, second = world.child(), world.child("triage,writer", instance="i-2")
    assert run(world.adapter().apply(asked(), None)).result == "failed"
    first.runs_on()
    second.runs_on()
    assert not world.around.stopped


def test_without_permission_nothing_stays_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    child, adapter = world.child(), world.adapter()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", refuse)
        outcome = run(adapter.apply(asked(), None))
        assert (outcome.result, outcome.detail) == ("failed", f"process {child.pid} cannot be stopped: Operation not permitted")
        assert not run(adapter.preflight()).ready
    assert not world.around.stopped
    request = stopped(adapter, asked())
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", refuse)
        assert run(adapter.release(request, None)).result == "failed"
    assert world.around.stopped, "it is held as before"
    assert run(adapter.check(request)).result == "in_force"
    assert run(adapter.release(request, None)).result == "applied"
    child.runs_on()


# Whom it is about


def test_while_the_agent_is_not_known(world: World) -> None:
    world.child()
    unknown = {
        "service.name": "helpdesk",
        "gen_ai.conversation.id": "c",
        "otel_ir.agent.id_source": "none",
        "otel_ir.agent.id": "helpdesk/x",
    }
    outcome = run(world.adapter().apply(asked(target=unknown), None))
    assert (outcome.result, outcome.detail) == ("retry", "neither the agent nor its instance is known yet")
    adapter = world.adapter()
    request = stopped(adapter, asked(target=unknown | {"service.instance.id": "i-1"}))
    assert run(adapter.check(request)).result == "in_force"


def test_an_instance_with_several_agents_of_which_one_is_meant(world: World) -> None:
    world.child("triage,writer")
    target = {"service.name": "helpdesk", "trace_id": "t", "service.instance.id": "i-1"}
    assert run(world.adapter().apply(asked(target=target), None)).result == "failed"


@pytest.mark.parametrize(
    "target", [agent_target("acme", "helpdesk/triage"), agent_target("", "billing/triage"), agent_target("", "helpdesk/x")]
)
def test_tenants_services_and_agents_are_kept_apart(world: World, target: dict[str, str]) -> None:
    child = world.child()
    assert run(world.adapter().apply(asked(target=target), None)).result == "retry"
    child.runs_on()


def test_every_process_of_the_agent_is_stopped(world: World) -> None:
    children = [world.child(), world.child(instance="i-2")]
    adapter = world.adapter()
    request = stopped(adapter, asked())
    assert all(child.stands_still for child in children)
    assert run(adapter.release(request, None)).result == "applied"
    for child in children:
        child.runs_on()


# What becomes of it


def test_a_process_that_somebody_continued_is_not_in_force(world: World) -> None:
    child, adapter = world.child(), world.adapter()
    request = stopped(adapter, asked())
    os.kill(child.pid, signal.SIGCONT)
    child.runs_on()
    finding = run(adapter.check(request))
    assert (finding.result, finding.detail) == ("not_in_force", f"process {child.pid} of i-1 runs: somebody continued it")


def test_a_process_that_is_gone_cannot_act_but_another_of_the_agent_can(world: World) -> None:
    child, adapter = world.child(), world.adapter()
    request = stopped(adapter, asked())
    child.process.kill()
    finding = wait_for(lambda: (found := run(adapter.check(request))).detail.endswith("is gone") and found)
    assert finding.result == "in_force"
    other = world.child(instance="i-2")  # a supervisor started it again
    finding = run(adapter.check(request))
    assert finding.result == "not_in_force"
    assert finding.detail == f"the agent is in another process too: {other.pid} of i-2"
    assert run(adapter.release(request, None)).result == "applied"


def test_killed_between_the_stop_and_the_answer(world: World) -> None:
    """Nothing of the stop is in the ledger; the guard cannot register, as it stands still. Only its registration is remembered."""
    child = world.child()
    stopped(world.adapter(), asked())
    known = world.server.hub.guards()
    for take_up in ("apply", "release"):
        world.around = Surroundings()
        world.around.hub.recall(known)
        adapter = world.adapter()
        if take_up == "apply":
            request = stopped(adapter, asked())
            assert run(adapter.check(request)).result == "in_force"
        else:
            assert run(adapter.release(asked(), None)).detail == f"continued: process {child.pid}"
    child.runs_on()


def test_facts_of_another_boot_or_container_say_nothing_here(world: World) -> None:
    child, adapter = world.child(), world.adapter()
    request = stopped(adapter, asked())
    for name in ("boot_id", "pid_namespace"):
        other = replace(request, facts=request.facts | {name: "x"})
        again = Process(ProcessConfig(method="signal"), Surroundings())
        again.restore([other])
        assert run(again.check(other)).result == "unknown"
        assert run(again.release(other, None)).result == "failed"
    assert child.stands_still


def test_a_guard_whose_process_is_stopped_need_not_answer(world: World) -> None:
    child, adapter = world.child(), world.adapter()
    guard = Guard(GuardConfig(timeout=5, check_timeout=0.5), world.around)
    revoked = asked(verb="revoke_tools")
    assert run(guard.apply(revoked, None)).result == "applied"
    request = stopped(adapter, asked())
    finding = run(guard.check(revoked))
    assert (finding.result, finding.detail) == ("in_force", "the process of 1 guard of helpdesk is stopped")
    later = asked(2, verb="revoke_tools")
    assert run(guard.apply(later, None)).result == "applied"
    assert run(guard.release(later, None)).result == "applied"
    os.kill(child.pid, signal.SIGSTOP)
    os.kill(child.pid, signal.SIGCONT)  # by somebody: the mark alone is worth nothing
    child.runs_on()
    assert run(guard.check(revoked)).detail == "a canary call was stopped by 1 guard of helpdesk"
    assert run(adapter.release(request, None)).result == "applied"


# Control groups


@pytest.fixture
def group() -> Iterator[Path]:
    root = cgroup.mount()
    folder = root / f"otel_ir-test-{os.getpid()}" if root else None
    try:
        assert folder
        folder.mkdir()
    except (AssertionError, OSError):
        pytest.skip("no control group (v2) can be made here")
    yield folder
    cgroup.freeze(folder, frozen=False)
    wait_for(lambda: not (folder / "cgroup.procs").read_text(), "its end")
    folder.rmdir()


def test_a_frozen_group_stops_also_what_the_process_started(server: Server, group: Path) -> None:
    with ExitStack() as stack:
        world = World(server, stack)
        child = world.child()
        (group / "cgroup.procs").write_text(str(child.pid))
        adapter = world.adapter(method="auto")
        request = stopped(adapter, asked())
        assert '"method":"cgroup"' in request.facts["processes"]
        assert run(adapter.check(request)).result == "in_force"
        assert cgroup.is_frozen(group)
        os.kill(child.pid, signal.SIGCONT)
        before = child.count()
        assert run(adapter.check(request)).result == "in_force"
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(0.2)
        assert child.count() == before
        again = Process(ProcessConfig(method="cgroup"), Surroundings())
        again.restore([request])
        assert run(again.check(request)).result == "in_force"
        cgroup.freeze(group, frozen=False)  # by somebody
        wait_for(lambda: run(again.check(request)).result == "not_in_force", "the end of it")
        assert run(again.apply(request, None)).result == "applied"
        assert run(again.release(request, None)).result == "applied"
        child.runs_on()
        with subprocess.Popen(["sleep", "100"]) as stranger:
            (group / "cgroup.procs").write_text(str(stranger.pid))
            outcome = run(world.adapter(method="cgroup").apply(asked(2), None))
            assert (outcome.result, "holds other processes too" in outcome.detail) == ("failed", True)
            request = stopped(world.adapter(method="auto"), asked(3))
            assert '"method":"signal"' in request.facts["processes"]
            stranger.kill()


def test_without_a_group_of_its_own(world: World, tmp_path: Path) -> None:
    assert "is in no group" in cgroup.why_not(7, None, tmp_path)
    assert cgroup.why_not(7, None, None) == "cgroup v2 is not mounted"
    assert "cannot be written" in cgroup.why_not(7, tmp_path / "g", tmp_path)
    assert not cgroup.is_frozen(tmp_path)
    assert not cgroup.holds(tmp_path / "none", 7)


# Where it can work


def test_elsewhere_than_on_linux_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="works on Linux only"):
        Process(ProcessConfig(), Surroundings())
    assert "only be proven on Linux" in procfs.prove(1, None, None, None, None).reason


def test_groups_that_are_asked_for_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "mount", lambda: None)
    with pytest.raises(ConfigError, match="cgroup v2 is not mounted"):
        Process(ProcessConfig(method="cgroup"), Surroundings())
    Process(ProcessConfig(method="auto"), Surroundings())


@pytest.mark.parametrize("changes", [{"timeout": 0}, {"timeout": 301}, {"concurrency": 0}])
def test_config_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        ProcessConfig(**changes)


def test_facts_that_cannot_be_read_stop_no_start(world: World) -> None:
    adapter = world.adapter()
    request = asked(facts={"boot_id": procfs.boot_id(), "pid_namespace": procfs.pid_namespace(), "processes": '[{"pid": 1, "sta…[900'})
    adapter.restore([request])
    assert run(adapter.check(request)).result == "unknown"
    assert run(adapter.release(request, None)).result == "failed", "what it stopped may stand still"
