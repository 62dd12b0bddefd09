"""What a guard and its server tell each other: who this is, what shall be forbidden, what is, whom it stopped."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_ir import __version__
from otel_ir.errors import StorageError
from otel_ir.guard.cache import Cache
from otel_ir.guard.client import Client
from otel_ir.guard.decide import AGENT, CONVERSATION, TRACE, Call, Refusal
from otel_ir.guard.restriction import CANARY, Probe, Restriction, Wanted
from otel_ir.guard.settings import Settings

if TYPE_CHECKING:
    from otel_ir.guard.guard import Guard

MAX_BLOCKED = 100
MAX_AGENTS = 100
MAX_PROBED_TOOLS = 100

_log = logging.getLogger("otel_ir.guard")


class Link:
    """The server's side of a guard: the state it gave, kept on disk, and what it is told. Thread-safe; no method raises."""

    def __init__(self, guard: Guard) -> None:
        settings = guard.settings
        self._guard = guard
        self._cache = Cache(settings.cache, settings.service) if settings.cache and settings.endpoint else None
        self._client: Client | None = None
        self._etag = ""
        self._known = False
        self._contact = 0.0
        self._blocked: deque[dict[str, Any]] = deque(maxlen=MAX_BLOCKED)
        self._blocked_total = 0
        self._answers: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self.restrictions: tuple[Restriction, ...] = ()

    # --- from here on it talks -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Puts the cached state into force and begins to talk, where there is a server."""
        self._contact = time.monotonic()
        if self._cache:
            try:
                kept = self._cache.load()
            except StorageError as error:
                _log.warning("otel_ir guard: the cached state is not used: %s", error)
                kept = None
            if kept is not None:
                self._known, self.restrictions = True, kept.restrictions
                self._guard.rebuild()
        self.connect()

    def connect(self) -> None:
        """Begins to talk."""
        if self._guard.settings.endpoint:
            self._client = Client(self._guard.settings, self)
            self._client.start()

    def close(self) -> None:
        """Ends the line. What is forbidden stays so."""
        client, self._client = self._client, None
        if client:
            client.close()

    def forked(self, parent: Link) -> None:
        """In a child process: what was forbidden stays so, the talk begins anew."""
        self._known, self._contact, self.restrictions = parent._known, parent._contact, parent.restrictions
        if parent._client:
            self.connect()

    def changed(self) -> None:
        """Something that a registration says."""
        if self._client:
            self._client.changed()

    def blind(self) -> str:
        """Why nothing is known about what is forbidden; empty while it is."""
        settings = self._guard.settings
        if not settings.endpoint:
            return "the guard fails closed and has no otel_ir server"
        age = time.monotonic() - self._contact
        if self._known and age <= settings.stale_after:
            return ""
        return "the guard fails closed and " + (f"heard nothing of otel_ir for {age:.0f} s" if self._known else "has no state yet")

    def blocked(self, call: Call, refusal: Refusal, span_id: str) -> None:
        """A call was stopped."""
        with self._lock:
            self._blocked_total += 1
            if refusal.id:
                self._blocked.append({
                    "id": refusal.id, "verb": refusal.verb, "tool": call.tool[:256], "agent": call.first(AGENT)[:256],
                    "conversation": call.first(CONVERSATION)[:256], "trace_id": call.first(TRACE), "span_id": span_id, "at": time.time_ns(),
                })  # fmt: skip
        if self._client:
            self._client.blocked()

    # --- what the client asks for (client.Enforcer) --------------------------------------------------------------------------

    def registration(self) -> dict[str, Any]:
        """The body of a registration: which process this is and what it guards."""
        settings = self._guard.settings
        return {
            "service": settings.service, "instance": settings.instance, "pid": os.getpid(), "pid_start": _pid_start(),
            "boot_id": _boot_id(), "host": socket.gethostname()[:256], "version": __version__, "fail": settings.fail,
            "frameworks": self._guard.frameworks, "agents": self._agents(), "self_test": self._guard.self_test,
        }  # fmt: skip

    def accept(self, wanted: Wanted, etag: str) -> bool:
        """A state from the server: in force, then on disk, then its probes are answered."""
        changed = wanted.restrictions != self.restrictions or not self._known
        with self._lock:
            self.restrictions, self._etag, self._known = wanted.restrictions, etag, True
        if changed:
            self._guard.rebuild()
        answers = [self._probed(probe) for probe in wanted.probes]
        with self._lock:
            self._answers = answers
        if changed and self._cache:
            try:
                self._cache.save(wanted.restrictions)
            except StorageError as error:
                _log.warning("otel_ir guard: the state is not kept over a restart: %s", error)
        return True

    def in_touch(self) -> None:
        """The server answered."""
        self._contact = time.monotonic()

    def renamed(self) -> Settings:
        """From now on another instance."""
        self._guard.settings = self._guard.settings.forked()
        self._guard.rebuild()
        return self._guard.settings

    def _probed(self, probe: Probe) -> dict[str, Any]:
        why = self._lets_through(probe.id)
        return {"nonce": probe.nonce, "id": probe.id, "blocked": not why, "detail": why}

    def _lets_through(self, action_id: str) -> str:
        """Why a call that this restriction forbids would run; empty when each would be stopped."""
        guard = self._guard
        if not guard.frameworks:
            return "no hook is attached to this guard"
        if guard.self_test["outcome"] == "failed":
            return f"self-test failed: {guard.self_test['detail']}"
        held = next((one for one in guard.restrictions if one.id == action_id), None)
        if held is None:
            return "not in force here"
        for selector in held.selectors:
            who = tuple(selector.items())
            for tool in (CANARY, *(held.tools or ())[:MAX_PROBED_TOOLS]):
                if guard.decide(Call(tool, who)) is None or not guard.stopped_by(Call(tool, who), action_id):
                    return f"{tool} would run"
        return ""

    def report(self) -> dict[str, Any]:
        """What the server is told: what is in force, answers to probes, the newest blocked calls."""
        now, settings = time.time_ns(), self._guard.settings
        with self._lock:
            return {
                "service": settings.service, "instance": settings.instance, "etag": self._etag,
                "applied": [one.id for one in self.restrictions if one.expires is None or now < one.expires],
                "probes": list(self._answers), "blocked": list(self._blocked), "blocked_total": self._blocked_total,
                "agents": self._agents(), "self_test": self._guard.self_test,
            }  # fmt: skip

    def reported(self, report: dict[str, Any]) -> None:
        """The server has that report: what was in it is not sent again."""
        with self._lock:
            self._answers = [one for one in self._answers if one not in report["probes"]]
            for one in report["blocked"]:
                if self._blocked and self._blocked[0] is one:
                    self._blocked.popleft()

    def _agents(self) -> list[str]:
        return [name[:256] for name in self._guard.agents][:MAX_AGENTS]


def _pid_start() -> int | None:
    """Field 22 of /proc/PID/stat: clock ticks since boot. The name in field 2 may hold spaces and parentheses."""
    try:
        return int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
