"""A process that an action stopped: how it is told to stop and to go on, what the kernel says of it, what the ledger keeps.

A process is always named by id and start, and signalled through a pidfd, so that one that came later under the same id is never hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from otel_ir.contain import cgroup, procfs
from otel_ir.contain.guard_info import GuardKey

Method = Literal["cgroup", "signal"]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A process that an action stopped, as the ledger keeps it in ``facts``."""

    tenant: str
    service: str
    instance: str
    pid: int
    start: int
    method: Method
    group: str = ""

    @property
    def process(self) -> tuple[int, int]:
        """What names it for good."""
        return self.pid, self.start

    @property
    def key(self) -> GuardKey:
        """Its guard."""
        return GuardKey(self.tenant, self.service, self.instance)

    def __str__(self) -> str:
        return f"process {self.pid}"


def decoded(given: str) -> list[Held]:
    """What was stopped; empty where it cannot be read."""
    try:
        return msgspec.json.decode(given, type=list[Held])
    except msgspec.DecodeError:  # of another version: nothing is known, and nothing is touched
        return []


def tell(one: Held, *, stop: bool) -> None:
    """Ask the kernel to stop or continue that very process; nothing when it is gone. Raises ``OSError``."""
    if one.method == "cgroup" and not stop:
        # Also when the process is gone: what it started may be in the group still.
        with contextlib.suppress(FileNotFoundError):
            cgroup.freeze(Path(one.group), frozen=False)
        return
    try:
        descriptor = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return
    try:
        # The descriptor stays with the process it was opened for. If that one started when ours did, it is ours.
        found = procfs.stat(one.pid)
        if found is None or found.start != one.start:
            return
        if one.method == "cgroup":
            cgroup.freeze(Path(one.group), frozen=True)
        else:
            signal.pidfd_send_signal(descriptor, signal.SIGSTOP if stop else signal.SIGCONT)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def look(one: Held) -> Literal["stopped", "running", "gone"]:
    """What the kernel says of it now."""
    if not procfs.alive(one.pid, one.start):
        return "gone"
    if one.method == "cgroup":
        stopped = cgroup.is_frozen(Path(one.group)) and cgroup.holds(Path(one.group), one.pid)
    else:
        stopped = all(thread.stopped or thread.exited for thread in procfs.threads(one.pid))
    return "stopped" if stopped else "running"


def facts_of(some: Iterable[Held]) -> dict[str, str]:
    """What the ledger keeps of them; ``decoded`` reads its ``processes``."""
    return {
        "boot_id": procfs.boot_id(),
        "pid_namespace": procfs.pid_namespace(),
        "processes": msgspec.json.encode(list(some)).decode(),
    }


def elsewhere(facts: Mapping[str, str]) -> bool:
    """Whether these facts are about process ids that mean something else here."""
    here = {"boot_id": procfs.boot_id(), "pid_namespace": procfs.pid_namespace()}
    return any(facts.get(name, value) != value for name, value in here.items())
