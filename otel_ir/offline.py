"""The fold over files: what ``replay`` and ``events`` run. The same fold as in production; only the records come from files."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.engine import Fold
from otel_ir.model import EVENT_SCHEMA, PATCH_COLUMNS, TOLD_COLUMNS, Alert, FoldOutput, Record, newest_patches
from otel_ir.normalize.linked import linked
from otel_ir.normalize.refused import with_refused
from otel_ir.normalize.settle import present, settled
from otel_ir.normalize.tried import tried
from otel_ir.otlp_files import FileRequest, otlp_files, read_otlp
from otel_ir.sigma.ruleset import RuleSet

FRAME_RECORDS = 64
FRAME_BYTES = 16 * 1024 * 1024
_FUTURE = 300_000_000_000
"""A span from further ahead than this (ns) does not move the clock of a replay (DESIGN: event time is clamped to received + 5 minutes)."""

NO_RULES = RuleSet(rules=(), correlations=(), digest="", fields=frozenset())


def read_records(paths: Iterable[Path], on_bytes: Callable[[int], None] | None = None) -> Iterator[Record]:
    """The requests of the files as journal records: merged by event time, received = the running maximum of event times.

    ``on_bytes`` is told the size of each request. Raises ``InputError`` as ``read_otlp`` does.
    """
    files = [file for path in paths for file in otlp_files(path)]
    merged = heapq.merge(*(_timed(file) for file in files), key=lambda one: one[0])
    received = 0
    for ordinal, (at, request) in enumerate(merged, start=1):
        received = max(received, at)
        if on_bytes:
            on_bytes(len(request.body))
        yield Record(ordinal=ordinal, kind=request.signal, received=received, body=request.body)


def _timed(file: Path) -> Iterator[tuple[int, FileRequest]]:
    for request in read_otlp([file]):
        yield _event_time(request), request


def _event_time(request: FileRequest) -> int:
    latest = time.time_ns() + _FUTURE
    if request.signal == "traces":
        spans = ExportTraceServiceRequest.FromString(request.body).resource_spans
        times = [span.end_time_unix_nano for resource in spans for scope in resource.scope_spans for span in scope.spans]
    else:
        logs = ExportLogsServiceRequest.FromString(request.body).resource_logs
        records = [record for resource in logs for scope in resource.scope_logs for record in scope.log_records]
        times = [record.time_unix_nano or record.observed_time_unix_nano for record in records]
    return max((at for at in times if at <= latest), default=0)


def fold_records(fold: Fold, records: Iterable[Record]) -> Iterator[FoldOutput]:
    """Folds a stream of records in frames of a good size."""
    waiting: list[Record] = []
    size = 0
    for record in records:
        waiting.append(record)
        size += len(record.body)
        if len(waiting) >= FRAME_RECORDS or size >= FRAME_BYTES:
            yield from (fold.fold(frame) for frame in fold.frames(waiting))
            waiting, size = [], 0
    yield from (fold.fold(frame) for frame in fold.frames(waiting))


def _to_the_end(fold: Fold, records: Iterable[Record]) -> Iterator[FoldOutput]:
    """``fold_records``, and what can be said once nothing more comes."""
    yield from fold_records(fold, records)
    yield fold.finish()


def final_events(paths: Iterable[Path], ruleset: RuleSet = NO_RULES) -> pl.DataFrame:
    """Every event of the files in its final form (event frame, in journal order): with all that later spans told about it."""
    return final_form(read_records(paths), ruleset)


def final_form(records: Iterable[Record], ruleset: RuleSet = NO_RULES) -> pl.DataFrame:
    """``final_events`` of journal records."""
    fold = Fold(ruleset, final=True)
    outputs = list(_to_the_end(fold, records))
    if not fold.ordinal:
        return EVENT_SCHEMA.to_frame()
    events = pl.concat([output.events for output in outputs], how="diagonal")
    patches = pl.concat([output.patches for output in outputs]).lazy()
    last = newest_patches(patches, ["otel_ir.event.id"], "otel_ir.journal.ordinal").drop("otel_ir.journal.ordinal").collect()
    known = events["otel_ir.event.id"].is_in(last["otel_ir.event.id"].implode())
    patched = events.join(last, on="otel_ir.event.id", how="left", suffix=" now", maintain_order="left")
    now = {name: pl.when(known).then(pl.col(f"{name} now")).otherwise(pl.col(name)) for name in PATCH_COLUMNS}
    now |= {name: pl.coalesce(f"{name} now", name) for name in TOLD_COLUMNS}
    told = tried(patched.with_columns(**now).select(events.columns), patched)
    final = with_refused(linked(settled(told), fold.weaver.calls.links())).with_columns(present())
    nobody = pl.col("otel_ir.agent.id_source") == "none"
    final = final.with_columns(
        # Who hands over is the agent that called; its name may have come later.
        pl.when(pl.col("event.type") == "handoff")
        .then(pl.coalesce("otel_ir.handoff.from", "gen_ai.agent.name"))
        .otherwise(pl.col("otel_ir.handoff.from"))
        .alias("otel_ir.handoff.from"),
        pl.when(nobody).then(pl.col("service.name") + "/-").otherwise(pl.col("otel_ir.agent.id")).alias("otel_ir.agent.id"),
        pl.when(nobody & pl.col("service.name").is_not_null())
        .then(pl.lit("resource"))
        .otherwise(pl.col("otel_ir.agent.id_source"))
        .alias("otel_ir.agent.id_source"),
    )
    return final.sort("otel_ir.journal.ordinal", "otel_ir.journal.position", maintain_order=True)


@dataclass(slots=True)
class Replay:
    """What a replay found: alerts in firing order with the best identity known at the end, and how much was read."""

    alerts: list[Alert] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    records: int = 0
    events: int = 0
    evicted: int = 0


def replay(paths: Iterable[Path], ruleset: RuleSet, on_bytes: Callable[[int], None] | None = None) -> Replay:
    """The engine over files."""
    fold, found = Fold(ruleset), Replay()
    identity: dict[str, dict[str, Any]] = {}
    for output in _to_the_end(fold, read_records(paths, on_bytes)):
        found.alerts += output.alerts
        found.events += output.events.height
        for update in output.updates:
            if update.count is not None:
                found.counts[update.alert_id] = update.count
            if update.agent_id is not None:
                names = ("agent_id", "agent_id_source", "agent_name", "conversation_id", "user_id")
                identity[update.alert_id] = {name: getattr(update, name) for name in names}
    found.records, found.evicted = fold.ordinal, fold.detector.evicted
    found.alerts = [replace(alert, **identity[alert.alert_id]) if alert.alert_id in identity else alert for alert in found.alerts]
    return found
