"""Exports what the ledger holds and nobody has been sent yet, in a thread of its own, until it is accepted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from otel_ir.errors import OtelIrError
from otel_ir.export.otlp import MAX_BATCH, AlertExporter
from otel_ir.model import Alert

_log = logging.getLogger(__name__)

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
"""Seconds until a failed export is tried again; doubled each time."""
_MAX_SKIPPED = 100


class AlertSource(Protocol):
    """The part of the ledger used here."""

    def unexported(self, limit: int) -> Sequence[Alert]:
        """Oldest alerts that were not exported, at most ``limit``."""

    def counts(self, alert_ids: Sequence[str]) -> Mapping[str, int]:
        """How often the condition of each was met so far."""

    def mark_exported(self, alert_ids: Sequence[str]) -> None:
        """Never give these again."""


class ExportLoop:
    """Drains an ``AlertSource`` through an ``AlertExporter``. ``notify`` wakes it; detection never waits for it."""

    def __init__(self, source: AlertSource, exporter: AlertExporter) -> None:
        self._source, self._exporter = source, exporter
        self._size, self._skipped = MAX_BATCH, set[str]()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel_ir-export", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier run left."""
        self._wake.set()
        self._thread.start()

    def notify(self) -> None:
        """There are new alerts. Cheap; from any thread."""
        self._wake.set()

    def close(self, timeout: float = 5.0) -> None:
        """Try what is left once, for at most ``timeout`` seconds, then stop. What is not accepted stays in the ledger."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._exporter.close()
        if self._thread.ident:
            self._thread.join(timeout)

    def _run(self) -> None:
        delay = FIRST_DELAY
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._drained() and not self._stop.wait(delay):
                delay = min(delay * 2, LONGEST_DELAY)
            delay = FIRST_DELAY
            if self._stop.is_set():
                return

    def _drained(self) -> bool:
        """Whether everything there was is exported."""
        try:
            while batch := self._next():
                ids = [alert.alert_id for alert in batch]
                delivered = self._exporter.export(batch, self._source.counts(ids))
                if delivered:
                    self._source.mark_exported(delivered)
                if len(delivered) < len(batch):
                    self._narrow(ids)
                    return False
                self._size = min(self._size * 4, MAX_BATCH)
            again, self._skipped = bool(self._skipped), set()
            return not again
        except OtelIrError as error:
            _log.warning("alerts were not exported: %s", error)
        except Exception:
            _log.exception("alerts were not exported")
        return False

    def _next(self) -> list[Alert]:
        found = self._source.unexported(self._size + len(self._skipped))
        return [alert for alert in found if alert.alert_id not in self._skipped][: self._size]

    def _narrow(self, refused: Sequence[str]) -> None:
        """Smaller requests next time, and one that is refused alone waits for its next turn: it must not stop all others."""
        if len(refused) == 1:
            self._skipped = self._skipped | set(refused) if len(self._skipped) < _MAX_SKIPPED else set()
        self._size = max(1, self._size // 4)
