"""What is known of guards, and how it stands with what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_ir.contain import procfs
from otel_ir.contain.guard_wire import ProbeAnswer, Register, Report


class GuardKey(NamedTuple):
    """Which guard. A service is known only within its tenant."""

    tenant: str
    service: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardInfo:
    """What is known of a guard. ``last_seen`` is in Unix nanoseconds.

    ``proven``: the process id is that of the process which registered, of this machine; ``proof`` says why not. Everything else is
    what the guard says of itself.
    """

    tenant: str
    service: str
    instance: str
    pid: int
    pid_start: int | None = None
    boot_id: str = ""
    proven: bool = False
    proof: str = ""
    host: str = ""
    version: str = ""
    fail: str = "open"
    frameworks: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    self_test: str = "not_run"
    self_test_detail: str = ""
    live: bool = False
    last_seen: int = 0
    blocked_total: int = 0

    @property
    def key(self) -> GuardKey:
        """Which guard."""
        return GuardKey(self.tenant, self.service, self.instance)

    @property
    def runs_here(self) -> bool:
        """Whether its process is proven, and alive on this machine at this moment."""
        return self.proven and self.pid_start is not None and procfs.alive(self.pid, self.pid_start)


class State(NamedTuple):
    """What a guard must enforce, as it is sent."""

    etag: str
    body: bytes


class Standing(NamedTuple):
    """How it stands with one restriction: instances of its service."""

    live: tuple[str, ...]
    """Those that can say something."""
    enforcing: tuple[str, ...]
    """Those of them that said they enforce it, in its present form."""
    holding: tuple[str, ...]
    """Those of them that did not say yet that they enforce a state without it, and those that must come back after a restart first."""
    stopped: tuple[str, ...]
    """Those whose process is known to be stopped."""


@dataclass(slots=True)
class Round:
    """One question to every live guard of a service, and what came back."""

    asked: tuple[str, ...] = ()
    """Instances that can answer."""
    stopped: tuple[str, ...] = ()
    """Instances whose process is known to be stopped: they cannot act, nor answer."""
    answers: dict[str, ProbeAnswer] = field(default_factory=dict)

    @property
    def silent(self) -> tuple[str, ...]:
        """Those that were asked and did not answer."""
        return tuple(instance for instance in self.asked if instance not in self.answers)


def info_of(tenant: str, who: Register, proof: procfs.Proof, now: int) -> GuardInfo:
    """What a registration says, and whether that is proven."""
    return GuardInfo(
        tenant=tenant,
        service=who.service,
        instance=who.instance,
        pid=who.pid,
        pid_start=proof.start,
        boot_id=who.boot_id or (procfs.boot_id() if not proof.reason else ""),
        proven=not proof.reason,
        proof=proof.reason,
        host=who.host,
        version=who.version,
        fail=who.fail,
        frameworks=tuple(who.frameworks),
        agents=tuple(who.agents),
        self_test=who.self_test.outcome,
        self_test_detail=who.self_test.detail,
        last_seen=now,
    )


def changes_of(said: Report) -> dict[str, Any]:
    """What a report says anew of its guard."""
    changes: dict[str, Any] = {}
    if said.agents is not None:
        changes["agents"] = tuple(said.agents)
    if said.self_test is not None:
        changes |= {"self_test": said.self_test.outcome, "self_test_detail": said.self_test.detail}
    return changes
