"""Carries what guards say of themselves into the ledger, for `otel-ir preflight` and for the next start."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from otel_ir.contain import GuardInfo
from otel_ir.errors import OtelIrError
from otel_ir.store import GuardRow, Ledger

_log = logging.getLogger(__name__)

GUARD_FACTS = (
    "pid", "pid_start", "boot_id", "proven", "proof", "host", "version", "fail", "frameworks", "agents", "self_test", "self_test_detail",
    "live", "blocked_total",
)  # fmt: skip
"""What the ledger keeps of a guard."""


def guard_info(row: GuardRow) -> GuardInfo:
    """A guard as the ledger remembers it."""
    facts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.facts.items() if name in GUARD_FACTS
    }
    return GuardInfo(tenant=row.tenant, service=row.service, instance=row.instance, last_seen=row.last_seen, **facts)


class GuardKeeper:
    """One write at a time, and of each guard what it said last: one that talks without end takes neither all threads nor all memory."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._waiting: dict[tuple[str, str, str], GuardRow] = {}
        self._writing = False

    def take(self, info: GuardInfo) -> None:
        """Write it down soon. From the event loop's thread; does not block. A guard works without it as well."""
        facts = {name: getattr(info, name) for name in GUARD_FACTS}
        row = GuardRow(tenant=info.tenant, service=info.service, instance=info.instance, facts=facts, last_seen=info.last_seen)
        with self._lock:
            self._waiting[info.key] = row
            if self._writing:
                return
            self._writing = True
        asyncio.get_running_loop().run_in_executor(None, self._write)

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writing = False
                    return
                row = self._waiting.pop(next(iter(self._waiting)))
            try:
                self._ledger.saw_guard(row)
            except OtelIrError as error:
                _log.warning("a guard was not written down: %s", error)
