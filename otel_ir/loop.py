"""The fold's loop: journal -> fold -> ledger, response, evidence, checkpoint, in a thread of its own.

Everything outside the fold is idempotent on what it gives.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from otel_ir.engine import TICK, Fold
from otel_ir.errors import OtelIrError, StorageError
from otel_ir.journal import FileJournal
from otel_ir.model import FoldOutput, Record
from otel_ir.respond import Responder
from otel_ir.roster_keeper import RosterKeeper
from otel_ir.store import CheckpointStore, EvidenceStore, Ledger
from otel_ir.telemetry import Telemetry

_log = logging.getLogger(__name__)

READ_RECORDS = 256
READ_BYTES = 32 * 1024 * 1024
"""What is folded at once at most: large frames cost less per span, and a full one folds in well under a second."""
IDLE_SECONDS = 0.5
RETRY_SECONDS = 1.0
MAINTAIN_SECONDS = 300.0
TICK_SECONDS = 10.0
"""Between two records that tell the fold only that time passes, at least."""


class Engine:
    """The fold's loop: journal -> fold -> ledger, response, evidence, checkpoint. One thread."""

    def __init__(
        self, fold: Callable[[], Fold], journal: FileJournal, ledger: Ledger, evidence: EvidenceStore, checkpoints: CheckpointStore,
        responder: Responder, telemetry: Telemetry, *, notify: Callable[[], None], checkpoint_seconds: float, skipped: Path,
        announce: Callable[[dict[str, Any]], Future[int]],
    ) -> None:  # fmt: skip
        self._new_fold, self._journal, self._ledger, self._evidence = fold, journal, ledger, evidence
        self._checkpoints, self._responder, self._telemetry, self._notify = checkpoints, responder, telemetry, notify
        self._checkpoint_seconds, self._skipped_file, self._announce = checkpoint_seconds, skipped, announce
        self._skipped = frozenset(json.loads(skipped.read_text())) if skipped.exists() else frozenset()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel_ir-engine")
        self._checkpointed = self._maintained = self._begun = time.monotonic()
        # Beside the fold: to write a large state takes seconds, in which no alert would be raised.
        self._saver = ThreadPoolExecutor(1, "otel_ir-checkpoint")
        self._saving: Future[None] | None = None
        self._tick: Future[int] | None = None
        self._ticked = -TICK_SECONDS
        self._evicted = self._careful_until = 0
        self._roster = RosterKeeper(ledger)
        self.fold = self._restored()
        self.failed: str | None = None
        telemetry.observe("otel_ir.journal.lag", lambda: journal.last - self.fold.ordinal)
        telemetry.observe("otel_ir.events.unnamed", lambda: self._roster.unnamed_events)
        telemetry.observe("otel_ir.services.unnamed", lambda: self._roster.unnamed_services)
        telemetry.observe("otel_ir.checkpoint.age", lambda: time.monotonic() - self._checkpointed)

    def start(self) -> None:
        """Begin with what the journal holds after the newest checkpoint."""
        self._thread.start()

    def drain(self, timeout: float) -> bool:
        """Fold what the journal holds, write evidence, stop. ``False`` when ``timeout`` (seconds) passed first; nothing is lost then."""
        end = time.monotonic() + timeout
        while self.fold.ordinal < self._journal.last and self.failed is None and time.monotonic() < end:
            time.sleep(0.01)
        self._stop.set()
        self._thread.join(max(0.0, end - time.monotonic()) + IDLE_SECONDS)
        return not self._thread.is_alive() and self.fold.ordinal >= self._journal.last

    def _restored(self) -> Fold:
        fold = self._new_fold()
        restored = self._checkpoints.load()
        for reason in restored.skipped:
            _log.warning("checkpoint not used: %s", reason)
        if restored.checkpoint and restored.checkpoint.ordinal <= min(self._evidence.version, self._journal.last):
            fold.restore(restored.checkpoint.state)
        elif self._journal.first > 1:
            _log.warning("no checkpoint can be used: replaying from journal record %d, older ones are gone", self._journal.first)
            fold.ordinal = self._journal.first - 1
        return fold

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
            self._durably(self._evidence.flush)
            self._saver.shutdown()
        except Exception as error:  # the last line: /healthz turns to 503, and the operator is told why
            self.failed = f"detection stopped: {error}"
            _log.exception("detection stopped; received spans stay in the journal")

    def _step(self) -> None:
        self._settle()
        if not self._journal.wait(self.fold.ordinal, IDLE_SECONDS):
            if self._evidence.due:
                self._durably(self._evidence.flush)
            self._see(None)
            self._maintain()
            self._keep_time()
            return
        most = 1 if self.fold.ordinal < self._careful_until else READ_RECORDS
        records = self._journal.read(self.fold.ordinal, max_records=most, max_bytes=READ_BYTES)
        kept = [record for record in records if record.ordinal not in self._skipped]
        if not kept and records:
            self.fold.ordinal = records[-1].ordinal
        for frame in self.fold.frames(kept):
            if self._stop.is_set():
                return
            try:
                began = time.perf_counter()
                output = self.fold.fold(frame)
            except OtelIrError:
                raise
            except Exception:
                self._survive(frame)
                return
            self._telemetry.record("otel_ir.fold.duration", time.perf_counter() - began, stage="all")
            self._deliver(frame, output)

    def _keep_time(self) -> None:
        """Nobody sends anything: where something waits for time to pass, a control record says that it did."""
        busy = self._tick is not None and not self._tick.done()
        if busy or self._stop.is_set() or time.monotonic() < self._ticked + TICK_SECONDS or not self.fold.detector.waits(time.time_ns()):
            return
        self._ticked = time.monotonic()
        try:
            self._tick = self._announce({"type": TICK})
        except StorageError as error:
            _log.warning("what waits for time to pass waits on: %s", error)

    def _survive(self, frame: list[Record]) -> None:
        """A record that the fold cannot take must cost nobody else anything: find it, set it aside, and go on from the checkpoint."""
        if len(frame) > 1:
            self._careful_until = frame[-1].ordinal
            _log.exception("journal records %d to %d cannot be folded together; one by one now", frame[0].ordinal, frame[-1].ordinal)
        else:
            bad = frame[0].ordinal
            _log.exception("journal record %d cannot be folded; it is set aside (%s)", bad, self._skipped_file)
            self._skipped |= {bad}
            draft = self._skipped_file.with_suffix(".tmp")
            draft.write_text(json.dumps(sorted(self._skipped)))
            draft.replace(self._skipped_file)
            self._telemetry.add("otel_ir.decode.rejected")
        self._settle(wait=True)
        self.fold = self._restored()

    def _deliver(self, frame: list[Record], output: FoldOutput) -> None:
        now = time.time_ns()
        new = self._durably(lambda: self._ledger.record_alerts(output.alerts, now)) if output.alerts else []
        if output.updates:
            readdressed = self._durably(lambda: self._ledger.apply_updates(output.updates))
            self._responder.readdress(readdressed)
        self._see(output)
        if output.alerts:
            # All of them, also those a replay brought again: the durable latch decides what is still to be done.
            self._responder.handle(output.alerts)
            self._notify()
        self._durably(lambda: self._evidence.append(output.events, output.patches, frame[-1].ordinal))
        for alert in new:
            self._telemetry.add("otel_ir.alerts", severity=alert.severity, stage=alert.stage, rule_id=alert.rule_id, signal=alert.signal)
            self._telemetry.record("otel_ir.alert.latency", (time.time_ns() - alert.received) / 1e9, severity=alert.severity)
        self._telemetry.add("otel_ir.fold.records", len(frame))
        self._telemetry.add("otel_ir.store.events", output.events.height)
        for kind, count in output.events["event.type"].value_counts().iter_rows():
            self._telemetry.add("otel_ir.events", count, type=kind)
        if self.fold.rejected:
            self._telemetry.add("otel_ir.decode.rejected", len(self.fold.rejected))
            self.fold.rejected.clear()
        if self.fold.at_epoch:
            self._end_epoch()

    def _see(self, output: FoldOutput | None) -> None:
        """Before the response: how many agents there are bounds how many may be held. ``None``: nothing new came."""
        try:
            if output is None:
                self._roster.idle()
            else:
                self._roster.take(output)
        except StorageError as error:  # it comes again with the agents' next calls
            _log.warning("the roster was not written: %s", error)

    def _end_epoch(self) -> None:
        evicted = self.fold.detector.evicted
        if evicted > self._evicted:
            self._telemetry.add("otel_ir.state.evicted", evicted - self._evicted, table="windows")
        self._evicted = evicted
        due = self._saving is None and time.monotonic() - self._begun >= self._checkpoint_seconds
        if not due or not self._responder.flush(RETRY_SECONDS):
            return
        # A checkpoint never runs ahead of evidence, nor of what was decided about its alerts.
        self._durably(self._evidence.flush)
        self._begun = time.monotonic()
        self._saving = self._saver.submit(self._checkpoints.save, self.fold.ordinal, self.fold.state())
        self._maintain()

    def _settle(self, *, wait: bool = False) -> None:
        """What became of the checkpoint that is being written. One that failed is followed by the next one; the journal has it all."""
        saving = self._saving
        if saving is None or not (wait or saving.done()):
            return
        self._saving = None
        try:
            saving.result()
        except StorageError as error:
            _log.error("%s; the next one is tried in %g s", error, self._checkpoint_seconds)
        else:
            self._journal.retain(self._checkpoints.floor)
            self._checkpointed = self._begun

    def _maintain(self) -> None:
        if time.monotonic() - self._maintained >= MAINTAIN_SECONDS:
            self._maintained = time.monotonic()
            try:
                self._evidence.maintain()
            except StorageError as error:  # upkeep may fail without harm: what is written stays as it is
                _log.warning("evidence was not tidied up: %s", error)

    def _durably(self, write: Callable[[], Any]) -> Any:
        """A full disk delays; it loses nothing: tries until it is written, or the process stops (the journal has it then)."""
        while True:
            try:
                return write()
            except StorageError as error:
                _log.error("%s; trying again", error)
                if self._stop.wait(RETRY_SECONDS):
                    raise
