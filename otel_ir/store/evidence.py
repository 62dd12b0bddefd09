"""Evidence: every canonical event, kept in Delta Lake tables that DuckDB, Spark, Trino and Polars read.

Two tables, both append-only. ``events`` holds each event once, as it was when it first became known; ``identity`` holds what
became known about it later (the patches of ``model.PATCH_SCHEMA``). ``read_events`` joins them: the newest patch wins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
import polars as pl
from deltalake import DeltaTable

from otel_ir.model import EVENT_COLUMNS, EVENT_SCHEMA, PATCH_COLUMNS, PATCH_SCHEMA, TOLD_COLUMNS, newest_patches
from otel_ir.normalize.settle import present
from otel_ir.store.columns import logical_name
from otel_ir.store.delta import AppendTable, TableSpec, open_table, read_table, storage_errors

DATE = "otel_ir.date"
"""Partition column of ``events``: the UTC date of the event time."""
ODD_DATE = date(1970, 1, 1)
"""Where events go whose time is far from the rest: a sender with a broken clock must not make thousands of partitions."""
MAX_DAYS = 31
"""An event this much older than the newest of its flush goes to ``ODD_DATE``."""

_ID, _ORDINAL, _POSITION = "otel_ir.event.id", "otel_ir.journal.ordinal", "otel_ir.journal.position"
_ARGUMENT = "otel_ir.arguments."
_KEYS = [name for name in (_ID, "otel_ir.tenant", "otel_ir.sender") if name in PATCH_SCHEMA]
"""What a patch and its event have in common."""
_SAME_EVENT = (_ID, "otel_ir.tenant", "otel_ir.sender")
_PATCHED = "otel_ir.patched"
_DAY_NS = 86_400_000_000_000

_FEW_VALUES = frozenset({
    "event.type", "otel_ir.span.name", "service.name", "service.instance.id", "otel_ir.tenant", "otel_ir.sender", "otel_ir.dialect",
    "otel_ir.agent.id", "otel_ir.agent.id_source", "gen_ai.agent.name", "gen_ai.agent.id", "user.id", "gen_ai.tool.name",
    "otel_ir.executed", "error.type", "otel_ir.content", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model",
    "otel_ir.handoff.from", "otel_ir.handoff.to", "otel_ir.guardrail.name", "otel_ir.approval.decision", "gen_ai.system_instructions",
})  # fmt: skip

EVENTS = TableSpec(
    columns=pl.Schema([(DATE, pl.Date()), *EVENT_SCHEMA.items()]),
    stats=("event_time", _ORDINAL),
    dictionary=_FEW_VALUES,
    partition=DATE,
    grows=True,
)
IDENTITY = TableSpec(columns=PATCH_SCHEMA, stats=(_ORDINAL,), dictionary=_FEW_VALUES)

Positive = Annotated[int, msgspec.Meta(ge=1)]


class EvidenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is held in memory before it is written. Larger writes cost less and wait longer."""

    flush_rows: Positive = 131_072
    flush_bytes: Positive = 128 * 1024 * 1024
    flush_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    storage_options: dict[str, str] = {}
    """For an object store: the keys of the Delta library (``AWS_REGION`` ...). Secrets belong into its environment variables."""


@dataclass(slots=True)
class _Buffer:
    events: list[pl.DataFrame] = field(default_factory=list)
    patches: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    since: float = 0.0
    """When the oldest row came, by the store's clock."""


class EvidenceStore:
    """Opened with ``open``. Thread-safe; one writer per place, which a second one finds out at its next flush.

    ``append`` is idempotent on the journal ordinal: what is contained is skipped, so a replay neither doubles nor loses.
    """

    def __init__(self, events: AppendTable, identity: AppendTable, config: EvidenceConfig, clock: Callable[[], float]) -> None:
        self._events, self._identity, self._config, self._clock = events, identity, config, clock
        self._buffer = _Buffer()
        self._seen = events.version
        """Ordinal through which rows are written or buffered."""
        self._lock = threading.Lock()

    @classmethod
    def open(cls, url: str, config: EvidenceConfig | None = None, *, clock: Callable[[], float] = time.monotonic) -> EvidenceStore:
        """``url``: a directory or an object-store URL; tables are created in it. ``clock`` in seconds. Raises ``StorageError``."""
        config = config or EvidenceConfig()
        place = url.rstrip("/")
        identity = open_table(f"{place}/identity", IDENTITY, config.storage_options)
        return cls(open_table(f"{place}/events", EVENTS, config.storage_options), identity, config, clock)

    @property
    def version(self) -> int:
        """Journal ordinal through which everything is durable. A checkpoint beyond it would lose evidence: ``flush`` first."""
        return self._events.version

    @property
    def due(self) -> bool:
        """Whether the buffer is full or old."""
        buffer, config = self._buffer, self._config
        full = buffer.rows >= config.flush_rows or buffer.size >= config.flush_bytes
        return full or (buffer.rows > 0 and self._clock() - buffer.since >= config.flush_seconds)

    def append(self, events: pl.DataFrame, patches: pl.DataFrame, through: int) -> None:
        """Take a fold's events (event frame, any further columns) and patches: all there are up to journal ordinal ``through``.

        Writes when the buffer is full or old. Raises ``StorageError`` when that fails: what was taken is kept and tried again,
        and nothing more is taken until it succeeds, so the buffer is bounded by its limits and one frame.
        """
        with self._lock:
            if self.due:
                self._flush()
            if through <= self._seen:
                return
            self._take(self._buffer.events, events)
            self._take(self._buffer.patches, patches)
            self._seen = through
            if self.due:
                self._flush()

    def flush(self) -> int:
        """Write what is buffered; afterwards ``version`` is the ``through`` of the last append. Gives it. Raises ``StorageError``."""
        with self._lock:
            self._flush()
            return self._events.version

    def maintain(self) -> None:
        """Join small files and remove files nothing refers to, at bounded cost; call it every few minutes. Raises ``StorageError``."""
        with self._lock:
            for table in (self._identity, self._events):
                table.maintain()

    def close(self) -> None:
        """Write what is buffered. Raises ``StorageError``; then the journal still has it."""
        self.flush()

    def events(self, start: int | None = None, end: int | None = None, agent: str | None = None) -> pl.LazyFrame:
        """What is written, as ``read_events`` gives it. What is buffered is not in it."""
        place = self._events.url.removesuffix("/events")
        return read_events(place, start, end, agent, storage_options=self._config.storage_options)

    def _take(self, into: list[pl.DataFrame], rows: pl.DataFrame) -> None:
        rows = _after(rows, self._seen)
        if rows.is_empty():
            return
        if not self._buffer.rows:
            self._buffer.since = self._clock()
        into.append(rows)
        self._buffer.rows += rows.height
        self._buffer.size += _size(rows)

    def _flush(self) -> None:
        # Not written again: what an append that failed has committed after all, and patches of a flush that was killed between the tables.
        identified, contained = self._identity.settle(), self._events.settle()
        buffer = self._buffer
        patches = [_after(rows, identified) for rows in buffer.patches]
        events = [_after(rows, contained) for rows in buffer.events]
        # Identity first: once ``events`` says "through N", the patches up to N are there as well.
        if any(rows.height for rows in patches):
            self._identity.append(_newest(pl.concat(patches)), self._seen)
        if self._seen > contained:
            self._events.append(_dated(events), self._seen)
        self._buffer = _Buffer()


def read_events(
    url: str,
    start: int | None = None,
    end: int | None = None,
    agent: str | None = None,
    *,
    where: pl.Expr | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> pl.LazyFrame:
    """The kept events with the best identity known, in journal order: the event frame, then the columns rules brought.

    ``start`` <= event time < ``end`` in Unix nanoseconds; ``agent``: an ``otel_ir.agent.id``; ``where``: a condition on columns as
    they were when the event first became known, which is checked while files are read. Each event once, also when it was received
    twice. ``(otel_ir.journal.ordinal, otel_ir.journal.position)`` is where its span stands in the journal.
    Raises ``StorageError`` when there is no evidence at ``url``.
    """
    options = dict(storage_options or {})
    tables = [read_table(f"{url.rstrip('/')}/{name}", options) for name in ("events", "identity")]
    wanted = [pl.col("event_time") >= start] if start is not None else []
    wanted += [pl.col("event_time") < end] if end is not None else []
    if start is not None or end is not None:
        # Files are skipped by their partition, rows within them by their time.
        wanted.append((pl.col(DATE) == ODD_DATE) | pl.col(DATE).is_between(_date(start, date.min), _date(end, date.max)))
    wanted += [where] if where is not None else []
    events = _scan(tables[0]).filter(*wanted).drop(DATE)
    patches = _scan(tables[1]).filter(pl.col(_ORDINAL) >= _oldest_ordinal(tables[0], start))
    newest = newest_patches(patches.rename({_ORDINAL: _PATCHED}), _KEYS, _PATCHED)
    joined = events.join(newest, on=_KEYS, how="left", suffix="\0")
    known = pl.col(_PATCHED).is_not_null()
    joined = joined.with_columns(pl.when(known).then(pl.col(f"{name}\0")).otherwise(pl.col(name)).alias(name) for name in PATCH_COLUMNS)
    joined = joined.with_columns(pl.coalesce(f"{name}\0", name).alias(name) for name in TOLD_COLUMNS).with_columns(present())
    if agent is not None:
        joined = joined.filter(pl.col("otel_ir.agent.id") == agent)
    extra = [name for name in events.collect_schema().names() if name not in EVENT_COLUMNS]
    return (
        joined.sort(_ORDINAL, _POSITION)
        .unique(_SAME_EVENT, keep="first", maintain_order=True)
        .select(*(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items()), *extra)
    )


def _newest(patches: pl.DataFrame) -> pl.DataFrame:
    """One row per event of a flush; the plain way where nothing was told of the events' content, that is nearly always."""
    if all(patches[name].null_count() == patches.height for name in TOLD_COLUMNS):
        return patches.unique(_KEYS, keep="last", maintain_order=True)
    return newest_patches(patches.lazy(), _KEYS, _ORDINAL).collect().select(PATCH_SCHEMA.names())


def _scan(table: DeltaTable) -> pl.LazyFrame:
    with storage_errors(table.table_uri):
        names = {column.name: logical_name(column.name) for column in table.schema().fields}
        return pl.scan_delta(table).rename({stored: name for stored, name in names.items() if stored != name})


def _oldest_ordinal(table: DeltaTable, start: int | None) -> int:
    """No event from ``start`` on came with an older journal record than this, by the statistics of the files."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    oldest, newest_time = f"min.{_ORDINAL}", "max.event_time"
    if start is None or oldest not in files.columns or newest_time not in files.columns:
        return 0
    late_enough = files.filter(pl.col(newest_time).is_null() | (pl.col(newest_time) >= start))
    ordinal = late_enough.select(pl.col(oldest).fill_null(0).min()).item()
    return int(ordinal or 0)


def _date(nanos: int | None, default: date) -> date:
    return default if nanos is None else datetime.fromtimestamp(nanos // 1_000_000_000, UTC).date()


def _dated(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """One frame of ``EVENTS.columns`` and what else rules brought, without ``otel_ir.arguments.<name>``: those are in the arguments."""
    rows = pl.concat([EVENTS.columns.to_frame().drop(DATE), *frames], how="diagonal_relaxed")
    derived = [name for name in rows.columns if name.startswith(_ARGUMENT) and name not in EVENT_COLUMNS]
    day = pl.from_epoch(pl.col("event_time") // _DAY_NS, "d")
    recent = day.is_between(day.max() - timedelta(days=MAX_DAYS), day.max())
    return rows.drop(derived).with_columns(pl.when(recent).then(day).otherwise(pl.lit(ODD_DATE)).alias(DATE))


def _after(rows: pl.DataFrame, ordinal: int) -> pl.DataFrame:
    """Rows that came with a later journal record; without a copy where that is all of them."""
    oldest: Any = rows[_ORDINAL].min()
    return rows if oldest is not None and oldest > ordinal else rows.filter(pl.col(_ORDINAL) > ordinal)


def _size(rows: pl.DataFrame) -> int:
    """Bytes of the values. Not ``estimated_size``: a filtered frame would be charged for the whole buffers it shares."""
    total: Any = rows.select(pl.col(pl.String).str.len_bytes().sum()).sum_horizontal().sum()
    return int(total or 0) + 8 * rows.height * rows.width
