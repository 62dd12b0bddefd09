"""Kept evidence as the fold saw it: events as they first became known, and what became known later, by journal record, a part at a time.

``read_events`` answers what is known now; this answers what was known when, which is what rules were judged by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
from deltalake import DeltaTable

from otel_ir.model import EPOCH, EVENT_COLUMNS, EVENT_SCHEMA, PATCH_SCHEMA
from otel_ir.store.columns import logical_name
from otel_ir.store.delta import read_table, storage_errors
from otel_ir.store.evidence import DATE

PART_ROWS = 65_536
PART_BYTES = 64 * 1024 * 1024
"""What a part holds at most, but for its last epoch or, in a large one, its last record."""
ROW_BYTES = 512
"""What a row takes in memory beside its long texts."""

_ORDINAL, _POSITION = "otel_ir.journal.ordinal", "otel_ir.journal.position"
_SIZES: Mapping[str, pl.Expr] = {
    "gen_ai.tool.call.arguments": pl.col("otel_ir.arguments.size"),
    "gen_ai.tool.call.result": pl.col("otel_ir.result.size"),
    **{
        name: pl.col(name).str.len_bytes()
        for name in ("gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages", "error.message")
    },
}
"""The long texts, and how long they are; known without reading them where the event says so itself."""


class Part(NamedTuple):
    """Events (``EVENT_SCHEMA`` and what rules brought, long texts that nobody asked for null) and patches (``PATCH_SCHEMA``) of
    consecutive journal records, in journal order. No part ends within a record.
    """

    events: pl.DataFrame
    patches: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Kept:
    """What is committed, as of the moment it was opened, with ``start`` <= event time < ``end`` (Unix nanoseconds)."""

    start: int
    end: int
    rows: int
    """Events there are."""
    brought: frozenset[str]
    """Columns beyond ``EVENT_SCHEMA`` that rules have brought."""
    _events: _Table
    _patches: _Table
    _bounds: list[int]
    """First journal record of each epoch, or part of one, in which there are events."""
    _loads: list[tuple[int, int]]
    """Rows and bytes from each bound on."""

    def parts(self, columns: frozenset[str]) -> Iterator[Part]:
        """Everything, in parts of bounded size. ``columns``: which of the long texts and of ``brought`` are wanted."""
        chosen = [name for name in EVENT_SCHEMA if name not in _SIZES or name in columns]
        chosen += sorted(columns & self.brought)
        first = self._bounds[0] if self._bounds else 0
        for at in self._cuts():
            yield self._part(first, at, chosen)
            first = at

    def _cuts(self) -> Iterator[int]:
        """Journal records before which a part ends."""
        rows = size = 0
        for bound, (more_rows, more_size) in zip(self._bounds, self._loads, strict=True):
            if rows and (rows + more_rows > PART_ROWS or size + more_size > PART_BYTES):
                yield bound
                rows = size = 0
            rows, size = rows + more_rows, size + more_size
        if self._bounds:
            yield self._bounds[-1] + EPOCH

    def _part(self, first: int, before: int, chosen: list[str]) -> Part:
        inside = pl.col(_ORDINAL).is_between(first, before, closed="left")
        timely = pl.col("event_time").is_between(self.start, self.end, closed="left")
        rows = self._events.scan(first, before).filter(inside, timely).select(chosen)
        rows = rows.sort(_ORDINAL, _POSITION, maintain_order=True)
        patches = self._patches.scan(first, before).filter(inside).sort(_ORDINAL, maintain_order=True)
        events, known = pl.collect_all([rows, patches.select(pl.col(name).cast(dtype) for name, dtype in PATCH_SCHEMA.items())])
        missing = [pl.lit(None, dtype).alias(name) for name, dtype in EVENT_SCHEMA.items() if name not in chosen]
        typed = [pl.col(name).cast(EVENT_SCHEMA[name]) for name in chosen if name in EVENT_SCHEMA]
        return Part(events.with_columns(typed).with_columns(missing), known)


@dataclass(frozen=True, slots=True)
class _Table:
    """One table as it was when it was opened: its files (``get_add_actions``), its columns under the names they have here."""

    url: str
    options: dict[str, str]
    files: pl.DataFrame
    schema: pl.Schema

    def scan(
        self, first: int | None = None, before: int | None = None, *, start: int | None = None, end: int | None = None
    ) -> pl.LazyFrame:
        """The files that may hold these journal records, these event times."""
        files = self._overlapping(self._overlapping(self.files, _ORDINAL, first, before), "event_time", start, end)
        names = {stored: logical_name(stored) for stored in self.schema}
        if files.is_empty():
            return self.schema.to_frame().lazy().rename(names)
        paths = [f"{self.url.rstrip('/')}/{path}" for path in files["path"]]
        rows = pl.scan_parquet(
            paths, storage_options=self.options or None, missing_columns="insert", schema=self.schema, hive_partitioning=False
        )
        return rows.rename(names)

    @staticmethod
    def _overlapping(files: pl.DataFrame, column: str, start: int | None, end: int | None) -> pl.DataFrame:
        low, high = f"min.{column}", f"max.{column}"
        if low not in files.columns or high not in files.columns:
            return files
        if start is not None:
            files = files.filter(pl.col(high).is_null() | (pl.col(high) >= start))
        return files if end is None else files.filter(pl.col(low).is_null() | (pl.col(low) < end))


def open_kept(url: str, start: int, end: int, columns: frozenset[str], *, storage_options: Mapping[str, str] | None = None) -> Kept:
    """The evidence at ``url`` with ``start`` <= event time < ``end``; ``columns`` as for ``Kept.parts``, so that parts fit into memory.

    Reading disturbs no running server. Raises ``StorageError`` when there is no evidence, or it is of another format.
    """
    options = dict(storage_options or {})
    events, patches = (_table(f"{url.rstrip('/')}/{name}", options) for name in ("events", "identity"))
    names = {logical_name(stored) for stored in events.schema}
    with storage_errors(url):
        bounds, loads = _plan(events, start, end, columns)
    rows = sum(count for count, _ in loads)
    return Kept(start, end, rows, frozenset(names - set(EVENT_COLUMNS)), events, patches, bounds, loads)


def _table(url: str, options: dict[str, str]) -> _Table:
    table: DeltaTable = read_table(url, options)
    with storage_errors(url):
        schema = pl.Schema(table.schema())
        files = pl.DataFrame(table.get_add_actions(flatten=True))
        return _Table(table.table_uri, options, files, pl.Schema({name: dtype for name, dtype in schema.items() if name != DATE}))


def _plan(events: _Table, start: int, end: int, columns: frozenset[str]) -> tuple[list[int], list[tuple[int, int]]]:
    """Where a part may begin, and how much comes from there on: at epochs, within one that is too large at every record."""
    timely = pl.col("event_time").is_between(start, end, closed="left")
    long = [size.fill_null(0).cast(pl.Int64) for name, size in _SIZES.items() if name in columns]
    size = pl.sum_horizontal(pl.lit(ROW_BYTES, pl.Int64), *long).sum()

    def loads(rows: pl.LazyFrame, by: pl.Expr) -> list[tuple[int, int, int]]:
        found = rows.filter(timely).group_by(by.alias("at")).agg(pl.len().alias("rows"), size.alias("bytes"))
        planned: Sequence[Any] = found.collect(engine="streaming").sort("at").rows()
        return [(int(at), int(count), int(weight)) for at, count, weight in planned]

    result: list[tuple[int, int, int]] = []
    for epoch, rows, weight in loads(events.scan(start=start, end=end), pl.col(_ORDINAL) // EPOCH * EPOCH):
        if rows <= PART_ROWS and weight <= PART_BYTES:
            result.append((epoch, rows, weight))
        else:
            inside = pl.col(_ORDINAL).is_between(epoch, epoch + EPOCH, closed="left")
            result += loads(events.scan(epoch, epoch + EPOCH).filter(inside), pl.col(_ORDINAL))
    return [at for at, _, _ in result], [(rows, weight) for _, rows, weight in result]
