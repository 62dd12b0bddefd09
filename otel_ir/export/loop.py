"""Exports what the ledger holds and nobody has been sent yet, in a thread of its own, until it is accepted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence

from otel_ir.errors import OtelIrError
from otel_ir.export.otlp import MAX_BATCH, Item, OtlpExporter
from otel_ir.export.sources import Source

_log = logging.getLogger(__name__)

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
"""Seconds until a failed export is tried again; doubled each time."""
LOOK = 1.0
"""Seconds between two looks at the sources while nobody says that there is something new."""
_MAX_ASIDE = 100


class ExportLoop:
    """Drains its sources through an exporter. ``notify`` wakes it; neither detection nor response ever waits for it."""

    def __init__(self, sources: Iterable[Source], exporter: OtlpExporter) -> None:
        self._exporter = exporter
        self._lanes = [_Lane(source, exporter) for source in sources]
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel_ir-export", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier run left."""
        self._thread.start()

    def notify(self) -> None:
        """There is something new. Cheap; from any thread."""
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
            self._wake.clear()
            last = self._stop.is_set()
            drained = self._drained()
            if last:
                return
            if drained:
                delay = FIRST_DELAY
                self._wake.wait(LOOK)
            else:
                self._stop.wait(delay)
                delay = min(delay * 2, LONGEST_DELAY)

    def _drained(self) -> bool:
        """One batch of each source in turn, until none has more: a flood of one does not hold up the others. -> whether all went well."""
        going = self._lanes
        while going:
            going = [lane for lane in going if lane.send()]
        return not any(lane.failed for lane in self._lanes)


class _Lane:
    """One source on its way out, in order. What is refused while another is accepted is set aside: it must not stop all others."""

    def __init__(self, source: Source, exporter: OtlpExporter) -> None:
        self._source, self._exporter = source, exporter
        self._size, self._probe = MAX_BATCH, 0
        self._aside: dict[str, tuple[float, float]] = {}
        """Keys to when they are tried again (monotonic seconds), and how long they waited for it."""
        self.failed = False

    def send(self) -> bool:
        """Send one batch. -> whether to go on at once; ``failed`` says whether to go on later."""
        self.failed = False
        try:
            found = self._source.waiting(MAX_BATCH + len(self._aside))
            if fresh := [item for item in found if item.key not in self._aside]:
                return self._advance(fresh)
            self._try_again(found)
        except OtelIrError as error:
            _log.warning("the export waits for the ledger: %s", error)
            self.failed = True
        except Exception:
            _log.exception("the export failed")
            self.failed = True
        return False

    def _advance(self, fresh: Sequence[Item]) -> bool:
        batch = fresh[: self._size]
        if self._delivered(batch):
            self._size, self._probe = min(self._size * 4, MAX_BATCH), 0
            return True
        if len(batch) > 1:
            self._size = max(1, len(batch) // 4)
            return True
        # Is it this one, or the endpoint? Another one tells; not always the same, since that may be refused for its own sake.
        others = fresh[1:]
        if others and self._delivered([others[self._probe % len(others)]]):
            self._set_aside(batch[0].key, FIRST_DELAY)
            return True
        self._probe += 1
        self.failed = True
        return False

    def _try_again(self, found: Sequence[Item]) -> None:
        now = time.monotonic()
        for item in [item for item in found if self._aside[item.key][0] <= now][:1]:
            _, waited = self._aside.pop(item.key)
            if not self._delivered([item]):
                self._set_aside(item.key, min(waited * 2, LONGEST_DELAY))

    def _set_aside(self, key: str, wait: float) -> None:
        if len(self._aside) >= _MAX_ASIDE:
            del self._aside[next(iter(self._aside))]
        self._aside[key] = time.monotonic() + wait, wait

    def _delivered(self, batch: Sequence[Item]) -> bool:
        """Send and mark. -> whether all of it was accepted."""
        try:
            delivered = self._exporter.export(batch)
        except Exception:  # an item that cannot be drawn counts as one that is refused
            _log.exception("a batch could not be exported")
            return False
        if delivered:
            self._source.mark(delivered)
        return len(delivered) == len(batch)
