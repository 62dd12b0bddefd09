"""Stops the process in which an agent runs: freezes its control group, or sends SIGSTOP. Linux only.

Which process that is, its guard says when it registers, and the kernel must confirm it (``procfs.prove``); telemetry is never asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from otel_ir.contain import cgroup, procfs
from otel_ir.contain.around import Surroundings
from otel_ir.contain.guard_info import GuardInfo
from otel_ir.contain.held import Held, decoded, elsewhere, facts_of, look, tell
from otel_ir.errors import ConfigError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import About, Finding, Outcome, Readiness, RetryConfig
from otel_ir.respond.target import AGENT, is_known

_LOOK_SECONDS = 0.01
"""How often is looked whether a process stands still: the kernel tells nobody."""


class ProcessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section of response.yaml with ``type: process``.

    ``method``: ``cgroup`` freezes the control group (v2) of the process, ``signal`` sends SIGSTOP, ``auto`` takes the first that
    can be used. ``cgroup_root`` is where cgroup v2 is mounted, if that cannot be found out. ``shared: true`` allows to stop a
    process although other agents live in it, or which ones do is not known. ``timeout`` (seconds) bounds one attempt.
    """

    type: Literal["process"] = "process"
    verbs: tuple[Literal["pause_agent"], ...] = ("pause_agent",)
    method: Literal["auto", "cgroup", "signal"] = "auto"
    cgroup_root: str | None = None
    shared: bool = False
    timeout: float = 5.0
    concurrency: int = 4
    retry: RetryConfig = RetryConfig()

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= 300 or not 1 <= self.concurrency <= 64:
            raise ValueError("timeout must be above 0 and at most 300 seconds, concurrency 1 to 64")


ABOUT = About(
    name="process",
    summary="stops the process in which the agent runs: freezes its control group or sends SIGSTOP",
    verbs=("pause_agent",),
    needs=("service.name",),
    permissions="to signal the agent's processes (the same user, or CAP_KILL) and to read /proc/PID/fd of them (the same user, or "
    "CAP_SYS_PTRACE); for method cgroup, to write cgroup.freeze of their group. Linux, the same machine and PID namespace",
    reversible=True,
    check="/proc says that every thread of the process is stopped (or its group frozen), and no other process of the agent is registered",
    example="""\
adapters:
  process:
    type: process
    method: auto
    shared: false
""",
    last=True,
)


class Process:
    """The adapter. Raises ``ConfigError`` where it cannot work."""

    about = ABOUT

    def __init__(self, config: ProcessConfig, around: Surroundings) -> None:
        if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
            raise ConfigError("type process works on Linux only, with a Python that has os.pidfd_open")
        self._config, self._hub, self._stopped = config, around.hub, around.stopped
        self._root = Path(config.cgroup_root) if config.cgroup_root else cgroup.mount()
        if config.method == "cgroup" and self._root is None:
            raise ConfigError("method: cgroup v2 is not mounted here: set cgroup_root, or method signal")
        self._held: dict[str, dict[tuple[int, int], Held]] = {}

    @property
    def verbs(self) -> Sequence[str]:
        """As configured."""
        return self._config.verbs

    @property
    def concurrency(self) -> int:
        """As configured."""
        return self._config.concurrency

    @property
    def time_limit(self) -> float:
        """A little more than it waits by itself, so that it can say for what."""
        return self._config.timeout + 1.0

    @property
    def retry(self) -> RetryConfig:
        """As configured."""
        return self._config.retry

    def preview(self, request: ActionRequest, alert: Alert | None) -> Mapping[str, Any]:  # noqa: ARG002  # the request says whom
        """The processes it would stop now, and why it would not."""
        meant = [
            {"instance": info.instance, "pid": info.pid, "refused": self._refusal(info, request.target)} for info in self._meant(request)
        ]
        return {"verb": request.verb, "target": dict(request.target), "method": self._config.method, "processes": meant}

    async def apply(self, request: ActionRequest, alert: Alert | None) -> Outcome:  # noqa: ARG002  # the request says whom
        """Stops all processes of the agent, or none: where one of them must not be stopped, nothing is."""
        held = self._remembered(request)
        meant = [info for info in self._meant(request) if (info.pid, info.pid_start) not in held]
        if not meant and not held:
            return Outcome("retry", self._nobody(request))
        for info in meant:
            if reason := self._refusal(info, request.target):
                return Outcome("failed", reason)
        began: list[Held] = []
        try:
            for one in [*held.values(), *map(self._how, meant)]:
                began.append(one)
                self._hold(one, request.action_id)
                tell(one, stop=True)
        except OSError as error:
            self._undo([one for one in began if one.process not in held], request.action_id)
            return Outcome("failed", f"{began[-1] if began else 'it'} cannot be stopped: {error.strerror}")
        facts = facts_of(began)
        if running := await self._wait(began, "running"):
            return Outcome("retry", f"{running[0]} was told to stop and runs on", facts=facts)
        return Outcome("applied", "; ".join(f"{one} is {look(one)} ({one.method})" for one in began), facts=facts)

    async def check(self, request: ActionRequest) -> Finding:
        """Reads back from /proc: every process that was stopped, and whether the agent goes on in another."""
        if elsewhere(request.facts):
            return Finding("unknown", "it was stopped in another boot, container or machine: nothing can be read there")
        held = self._remembered(request)
        if not held:
            return Finding("unknown", "which process was stopped is not known")
        states = {one: look(one) for one in held.values()}
        if running := [one for one, state in states.items() if state == "running"]:
            return Finding("not_in_force", f"{running[0]} of {running[0].instance} runs: somebody continued it")
        for info in self._meant(request):
            process = (info.pid, info.pid_start or 0)
            if process not in held and process not in self._stopped:
                return Finding("not_in_force", f"the agent is in another process too: {info.pid} of {info.instance}")
        said = []
        for one, state in states.items():
            going = len(procfs.children(one.pid)) if one.method == "signal" and state == "stopped" else 0
            said.append(f"{one} is {state}" + (f" (its {going} child processes are not)" if going else ""))
        return Finding("in_force", "; ".join(said))

    async def release(self, request: ActionRequest, alert: Alert | None) -> Outcome:  # noqa: ARG002  # the facts say what
        """Continues what no other action holds."""
        if elsewhere(request.facts):
            return Outcome("failed", "it was stopped in another boot, container or machine: if it is still there, continue it there")
        if not self._remembered(request) and request.facts.get("processes"):
            return Outcome("failed", "what was stopped cannot be read any more: it may still stand")
        held = self._remembered(request) or {one.process: one for one in self._found_stopped(request)}
        free: list[Held] = []
        try:
            for one in held.values():
                if self._let_go(one, request.action_id):
                    free.append(one)
        except OSError as error:
            self._hold(one, request.action_id)
            return Outcome("failed", f"{one} cannot be continued: {error.strerror}")
        if stopped := await self._wait(free, "stopped"):
            return Outcome("retry", f"{stopped[0]} was told to go on and stands still")
        self._held.pop(request.action_id, None)
        kept = [str(one) for one in held.values() if one not in free]
        parts = (f"continued: {', '.join(map(str, free))}" if free else "", f"held by other actions: {', '.join(kept)}" if kept else "")
        return Outcome("applied", "; ".join(part for part in parts if part) or "nothing was stopped")

    async def preflight(self) -> Readiness:
        """Whether there is a process that could be stopped, and why others could not."""
        live = [info for info in self._hub.guards() if info.live]
        if not live:
            return Readiness(False, "no guard is registered: a process is known only from its guard")
        faults = {info.key: self._refusal(info, None) or self._unreachable(info) for info in live}
        able = [info for info in live if not faults[info.key]]
        first = next((fault for fault in faults.values() if fault), "")
        detail = f"{len(able)} of {len(live)} guarded processes can be stopped" + (f"; {first}" if first else "")
        return Readiness(bool(able), detail)

    def restore(self, held: Sequence[ActionRequest]) -> None:
        """Takes over what an earlier run stopped."""
        for request in held:
            if not elsewhere(request.facts):
                for one in self._remembered(request).values():
                    self._hold(one, request.action_id)

    async def close(self) -> None:
        """Nothing to close: what is stopped stays so."""

    # Whom

    def _meant(self, request: ActionRequest) -> list[GuardInfo]:
        """Registrations in whose processes the agent lives: of that instance if it is known, else all that say so."""
        target = request.target
        found = self._hub.guards(target.get("otel_ir.tenant", ""), target.get("service.name", ""))
        there = [info for info in found if info.runs_here or (info.live and not info.proven)]
        if instance := target.get("service.instance.id"):
            return [info for info in there if info.instance == instance]
        if not is_known(target):
            return []
        return [info for info in there if _names(target) & set(info.agents)]

    def _nobody(self, request: ActionRequest) -> str:
        if not is_known(request.target) and "service.instance.id" not in request.target:
            return "neither the agent nor its instance is known yet"
        return f"no guard of {request.target.get('service.name', 'a service without name')} that is there says that it has this agent"

    def _refusal(self, info: GuardInfo, target: Mapping[str, str] | None) -> str:
        """Why that process must not be stopped; empty when it may. ``target`` is ``None`` when only asked in general."""
        who = f"process {info.pid} of {info.instance}"
        one = procfs.stat(info.pid)
        if not info.proven:
            return f"{who} is not proven to be the agent's: {info.proof}"
        if one is None or one.start != info.pid_start:
            return f"{who} is gone"
        if info.pid == 1 or info.pid in procfs.ancestors(os.getpid()) or one.kernel:
            return f"{who} must never be stopped: it is this server, what runs it, or the kernel's"
        if self._config.shared:
            return ""
        here = [other for other in self._hub.guards() if (other.pid, other.pid_start) == (info.pid, info.pid_start)]
        agents = {(other.tenant, other.service, name) for other in here for name in other.agents}
        if not agents:
            return f"{who}: its guard does not say which agents it has (shared: true would stop them all)"
        names = _names(target) if target and is_known(target) else set[str]()
        others = sorted(name for tenant, service, name in agents if (tenant, service) != info.key[:2] or name not in names)
        if len(others) > (0 if names else 1):
            return f"{who} has other agents too: {', '.join(others[:3])} (shared: true would stop them all)"
        return ""

    def _unreachable(self, info: GuardInfo) -> str:
        """Why it could not be signalled; sends nothing."""
        try:
            descriptor = os.pidfd_open(info.pid)
            try:
                signal.pidfd_send_signal(descriptor, 0)
            finally:
                os.close(descriptor)
            self._how(info)
        except OSError as error:
            return f"process {info.pid} of {info.instance}: {error.strerror}"
        return ""

    def _found_stopped(self, request: ActionRequest) -> list[Held]:
        """Where nothing is known of what an attempt did (a kill in the middle of it): what stands still and nobody else holds."""
        here = [info for info in self._meant(request) if info.runs_here]
        try:
            found = [self._how(info) for info in here]
        except OSError:
            return []
        return [one for one in found if one.process not in self._stopped and look(one) == "stopped"]

    # How

    def _how(self, info: GuardInfo) -> Held:
        """How to stop that process. Raises ``OSError`` when it cannot be done as configured."""
        group = cgroup.of(info.pid, self._root) if self._root else None
        reason = "not asked for" if self._config.method == "signal" else cgroup.why_not(info.pid, group, self._root)
        if self._config.method == "cgroup" and reason:
            raise OSError(0, reason)
        return Held(
            tenant=info.tenant,
            service=info.service,
            instance=info.instance,
            pid=info.pid,
            start=info.pid_start or 0,
            method="signal" if reason else "cgroup",
            group="" if reason else str(group),
        )

    def _remembered(self, request: ActionRequest) -> dict[tuple[int, int], Held]:
        """What this action stopped, by the ledger and by what happened since."""
        given = request.facts.get("processes")
        stored = [] if not given or elsewhere(request.facts) else decoded(given)
        return {one.process: one for one in stored} | self._held.get(request.action_id, {})

    def _hold(self, one: Held, action_id: str) -> None:
        self._held.setdefault(action_id, {})[one.process] = one
        self._stopped.setdefault(one.process, set()).add(action_id)
        self._hub.mark_stopped(one.key, action_id, lambda: look(one) == "stopped")

    def _let_go(self, one: Held, action_id: str) -> bool:
        """Continue it, unless another action holds it. -> whether it was continued. Raises ``OSError`` when it cannot be."""
        holders = self._stopped.get(one.process, set())
        holders.discard(action_id)
        self._hub.mark_running(one.key, action_id)
        if holders:
            return False
        self._stopped.pop(one.process, None)
        tell(one, stop=False)
        return True

    def _undo(self, some: Sequence[Held], action_id: str) -> None:
        for one in some:
            with contextlib.suppress(OSError):
                self._let_go(one, action_id)
        self._held[action_id] = {process: one for process, one in self._held.get(action_id, {}).items() if one not in some}

    async def _wait(self, some: Sequence[Held], state: str) -> list[Held]:
        """Those that are still in that state when the time is over."""
        end = time.monotonic() + self._config.timeout
        while (left := [one for one in some if look(one) == state]) and time.monotonic() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        return left


def _names(target: Mapping[str, str]) -> set[str]:
    """What a guard may call the agent: ids of agents are ``service/id or name``."""
    agent = target.get(AGENT, "")
    names = {agent, agent.removeprefix(target.get("service.name", "") + "/"), target.get("gen_ai.agent.name", "")}
    return names - {""}
