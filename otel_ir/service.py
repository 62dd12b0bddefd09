"""``otel-ir serve``: the stages joined, from open to drain."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from otel_ir.config import Config
from otel_ir.contain import GuardHub, Surroundings, build_adapters
from otel_ir.contain.guard_http import GuardPages
from otel_ir.engine import CODE, RULESET_ACTIVATED, Fold
from otel_ir.errors import ConfigError, StorageError
from otel_ir.export import ExportLoop, OtlpExporter, ledger_sources, metric_exporter
from otel_ir.guard_keeper import GuardKeeper, guard_info
from otel_ir.journal import FileJournal
from otel_ir.loop import Engine
from otel_ir.model import Alert
from otel_ir.receive import Receiver
from otel_ir.respond import Responder, load_policy
from otel_ir.rules_path import shipped_rules
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet
from otel_ir.store import CheckpointStore, EvidenceStore, Ledger, SnapshotStore, ledger_levels
from otel_ir.store.rulesets import RuleSetArchive, rule_files
from otel_ir.telemetry import Telemetry

_log = logging.getLogger(__name__)

RELOAD_SECONDS = 2.0
RECALL_NANOS = 30 * 86_400 * 1_000_000_000
"""Guards that were heard of so long ago are remembered at a start."""


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
        self.snapshots = SnapshotStore(self.data / "snapshots")
        self._main: asyncio.AbstractEventLoop | None = None
        self.hub = GuardHub(
            on_change=GuardKeeper(self.ledger).take,
            on_blocked=lambda _guard, calls: self.telemetry.add("otel_ir.guard.blocked", len(calls)),
        )
        self.exporter = ExportLoop(ledger_sources(self.ledger), OtlpExporter(config.export, self.telemetry)) if config.export else None
        notify = self.exporter.notify if self.exporter else lambda: None
        self.responder = Responder(
            self.ledger, build_adapters(self.policy, document, Surroundings(hub=self.hub)), self.policy, enforce=config.enforce,
            counter=self.telemetry, announce=self._announce, snapshot=self._snapshot, observer=lambda *_: notify(),
        )  # fmt: skip
        self.engine = Engine(
            lambda: Fold(self.ruleset, self.archive.find), self.journal, self.ledger, self.evidence,
            CheckpointStore(self.data / "checkpoints", code=CODE), self.responder, self.telemetry,
            notify=notify,
            checkpoint_seconds=config.checkpoint_seconds, skipped=self.data / "skipped.json", announce=self._announce,
        )  # fmt: skip
        self.receiver = Receiver(
            config.receive,
            self.journal.append,
            self.telemetry,
            fault=lambda: self.journal.fault or self.engine.failed,
            metrics=self.telemetry.render,
            pages=GuardPages(self.hub),
        )
        self._seen_rules = self._rules_stamp()
        self.telemetry.observe("otel_ir.journal.size", lambda: self.journal.size)
        self.telemetry.observe("otel_ir.actions.waiting", lambda: self.responder.waiting)
        self.telemetry.observe("otel_ir.guards.live", lambda: sum(guard.live for guard in self.hub.guards()))
        for name, level in ledger_levels(self.ledger).items():
            self.telemetry.observe(name, level)

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
        self._main = asyncio.get_running_loop()
        await self._activate(self.ruleset)
        # Guards of processes that stand still cannot register again; only through these can they be let go of.
        self.hub.recall(guard_info(row) for row in self.ledger.guards(since=time.time_ns() - RECALL_NANOS))
        await asyncio.to_thread(self.responder.start)
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

    def _announce(self, record: dict[str, Any]) -> Future[int]:
        """A control record (what is in force, that time passes), for this life and every replay. From other threads."""
        if self._main is None or self._main.is_closed():
            raise StorageError("the journal is not open")
        return asyncio.run_coroutine_threadsafe(self.journal.append("control", msgspec.json.encode(record)), self._main)

    def _snapshot(self, alert: Alert, incident_id: str) -> str:
        try:
            found = self.journal.read(alert.ordinal - 1, max_records=1, max_bytes=1) if alert.ordinal else []
        except StorageError:  # dropped by retention
            found = []
        return self.snapshots.keep(alert, incident_id, found[0] if found else None, time.time_ns())

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
