"""``otel-ir serve``: the stages joined.

The engine folds in a thread of its own; everything outside the fold is idempotent on what it gives.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from otel_ir.config import Config
from otel_ir.contain import build_adapters
from otel_ir.engine import CODE, RULESET_ACTIVATED, Fold
from otel_ir.errors import ConfigError, OtelIrError, StorageError
from otel_ir.export import AlertExporter, ExportLoop, metric_exporter
from otel_ir.journal import FileJournal
from otel_ir.model import FoldOutput, Record
from otel_ir.receive import Receiver
from otel_ir.respond import Responder, load_policy
from otel_ir.rules_path import shipped_rules
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet
from otel_ir.store import CheckpointStore, EvidenceStore, Ledger
from otel_ir.store.rulesets import RuleSetArchive, rule_files
from otel_ir.telemetry import Telemetry

_log = logging.getLogger(__name__)

READ_RECORDS = 256
READ_BYTES = 32 * 1024 * 1024
"""What is folded at once at most: large frames cost less per span, and a full one folds in well under a second."""
IDLE_SECONDS = 0.5
RETRY_SECONDS = 1.0
RELOAD_SECONDS = 2.0
MAINTAIN_SECONDS = 300.0


class Engine:
    """The fold's loop: journal -> fold -> ledger, response, evidence, checkpoint. One thread."""

    def __init__(
        self, fold: Callable[[], Fold], journal: FileJournal, ledger: Ledger, evidence: EvidenceStore, checkpoints: CheckpointStore,
        responder: Responder, telemetry: Telemetry, *, notify: Callable[[], None], checkpoint_seconds: float, skipped: Path,
    ) -> None:  # fmt: skip
        self._new_fold, self._journal, self._ledger, self._evidence = fold, journal, ledger, evidence
        self._checkpoints, self._responder, self._telemetry, self._notify = checkpoints, responder, telemetry, notify
        self._checkpoint_seconds, self._skipped_file = checkpoint_seconds, skipped
        self._skipped = frozenset(json.loads(skipped.read_text())) if skipped.exists() else frozenset()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel_ir-engine")
        self._checkpointed = self._maintained = time.monotonic()
        self._evicted = self._careful_until = 0
        self.fold = self._restored()
        self.failed: str | None = None
        telemetry.observe("otel_ir.journal.lag", lambda: journal.last - self.fold.ordinal)
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
        except Exception as error:  # the last line: /healthz turns to 503, and the operator is told why
            self.failed = f"detection stopped: {error}"
            _log.exception("detection stopped; received spans stay in the journal")

    def _step(self) -> None:
        if not self._journal.wait(self.fold.ordinal, IDLE_SECONDS):
            if self._evidence.due:
                self._durably(self._evidence.flush)
            self._maintain()
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
        self.fold = self._restored()

    def _deliver(self, frame: list[Record], output: FoldOutput) -> None:
        now = time.time_ns()
        new = self._durably(lambda: self._ledger.record_alerts(output.alerts, now)) if output.alerts else []
        if output.updates:
            self._durably(lambda: self._ledger.apply_updates(output.updates))
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

    def _end_epoch(self) -> None:
        evicted = self.fold.detector.evicted
        if evicted > self._evicted:
            self._telemetry.add("otel_ir.state.evicted", evicted - self._evicted, table="windows")
        self._evicted = evicted
        if time.monotonic() - self._checkpointed < self._checkpoint_seconds or not self._responder.flush(RETRY_SECONDS):
            return
        # A checkpoint never runs ahead of evidence, nor of what was decided about its alerts.
        self._durably(self._evidence.flush)
        self._durably(lambda: self._checkpoints.save(self.fold.ordinal, self.fold.state()))
        self._journal.retain(self._checkpoints.floor)
        self._checkpointed = time.monotonic()
        self._maintain()

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


class Service:
    """Everything ``otel-ir serve`` runs, from open to drain."""

    def __init__(self, config: Config) -> None:
        """Opens the stores and loads rules and policy; binds nothing yet. Raises ``ConfigError`` or ``StorageError``."""
        self.config, self.data = config, Path(config.data)
        self.data.mkdir(parents=True, exist_ok=True)
        self.sources = [Path(config.rules)] if config.rules else [shipped_rules()]
        self.policy, document = load_policy(Path(config.response) if config.response else None)
        self.telemetry = Telemetry(metric_exporter(config.export) if config.export else None)
        self.archive = RuleSetArchive(self.data / "rulesets")
        self.journal = FileJournal.open(self.data / "journal", config.journal, meter=self.telemetry)
        self.ruleset = self._first_rules()
        self.ledger = Ledger.open(config.ledger or f"sqlite:///{self.data / 'ledger.db'}")
        self.evidence = EvidenceStore.open(config.evidence_url or str(self.data / "evidence"), config.evidence)
        adapters = build_adapters(self.policy, document)
        self.responder = Responder(self.ledger, adapters, self.policy, enforce=config.enforce, counter=self.telemetry)
        self.exporter = ExportLoop(self.ledger, AlertExporter(config.export, self.telemetry)) if config.export else None
        self.engine = Engine(
            lambda: Fold(self.ruleset, self.archive.find), self.journal, self.ledger, self.evidence,
            CheckpointStore(self.data / "checkpoints", code=CODE), self.responder, self.telemetry,
            notify=self.exporter.notify if self.exporter else lambda: None,
            checkpoint_seconds=config.checkpoint_seconds, skipped=self.data / "skipped.json",
        )  # fmt: skip
        self.receiver = Receiver(
            config.receive,
            self.journal.append,
            self.telemetry,
            fault=lambda: self.journal.fault or self.engine.failed,
            metrics=self.telemetry.render,
        )
        self._seen_rules = self._rules_stamp()
        self.telemetry.observe("otel_ir.journal.size", lambda: self.journal.size)

    def _first_rules(self) -> RuleSet:
        """The rules as they are on disk, else the last good set."""
        ruleset, errors = load_rules(self.sources)
        self._tell_rules(ruleset, errors)
        if not errors:
            self.archive.keep(ruleset, self.sources)
            return ruleset
        last = self.data / "ruleset.active"
        if not last.exists():
            raise ConfigError("\n".join(str(error) for error in errors))
        _log.error("the rules cannot be used, the last good set stays active: %s", "; ".join(str(error) for error in errors))
        return self.archive.find(last.read_text().strip())

    def _tell_rules(self, ruleset: RuleSet, errors: list[Any]) -> None:
        self.telemetry.set("otel_ir.rules.errors", len(errors))
        if not errors:
            self.telemetry.set("otel_ir.rules.loaded", len(ruleset.rules) + len(ruleset.correlations))

    def _rules_stamp(self) -> list[tuple[str, int, int]]:
        try:
            return [(str(path), (stat := path.stat()).st_mtime_ns, stat.st_size) for path in rule_files(self.sources)]
        except OSError:
            return []

    async def start(self) -> None:
        """Restore, bind, announce in ``serve.json``. Raises ``ConfigError`` when a port cannot be had; then nothing is left running."""
        try:
            await self._start()
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> None:
        await self._activate(self.ruleset)
        self.responder.start()
        if self.exporter:
            self.exporter.start()
        self.engine.start()
        await self.receiver.start()
        host = self.config.receive.grpc_endpoint.rpartition(":")[0], self.config.receive.http_endpoint.rpartition(":")[0]
        where = {"grpc": f"{host[0]}:{self.receiver.grpc_port}", "http": f"{host[1]}:{self.receiver.http_port}", "pid": os.getpid()}
        draft = self.data / "serve.json.tmp"
        draft.write_text(json.dumps(where))
        draft.replace(self.data / "serve.json")

    async def _activate(self, ruleset: RuleSet) -> None:
        """Tells the fold, through the journal: from that record on the new set holds, in this life and in every replay."""
        body = msgspec.json.encode({"type": RULESET_ACTIVATED, "digest": ruleset.digest})
        await self.journal.append("control", body)
        (self.data / "ruleset.active").write_text(ruleset.digest)
        self.ruleset = ruleset

    async def watch_rules(self) -> None:
        """Reloads rules when their files change; a broken file is reported and the last good set stays. Runs until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            stamp = await asyncio.to_thread(self._rules_stamp)
            if stamp == self._seen_rules:
                continue
            self._seen_rules = stamp
            ruleset, errors = await asyncio.to_thread(load_rules, self.sources)
            self._tell_rules(ruleset, errors)
            if errors:
                _log.error("rules not reloaded, the last good set stays active:\n%s", "\n".join(str(error) for error in errors))
            elif ruleset.digest != self.ruleset.digest:
                await asyncio.to_thread(self.archive.keep, ruleset, self.sources)
                await self._activate(ruleset)
                _log.warning("rules reloaded: %d rules, %d correlations", len(ruleset.rules), len(ruleset.correlations))

    async def stop(self, grace: float) -> bool:
        """Drain within ``grace`` seconds: answer what was taken, fold it, respond, export. -> whether all of it was done."""
        await self.receiver.stop(grace / 4)
        drained = await asyncio.to_thread(self.engine.drain, grace / 2)
        await asyncio.to_thread(self.responder.close, grace / 4)
        if self.exporter:
            await asyncio.to_thread(self.exporter.close, grace / 4)
        self.telemetry.close()
        await self.journal.close()
        self.ledger.close()
        (self.data / "serve.json").unlink(missing_ok=True)
        return drained
