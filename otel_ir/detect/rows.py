"""The rows a correlation remembers: one numeric frame, found by group in a sorted base and a short tail.

A row is an event that matched, in about 80 bytes: strings (group, identity, tool) stand in interners as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

ROW_SCHEMA = pl.Schema(
    {
        "key": pl.UInt32,  # interned group
        "time": pl.Int64,  # event time, ns
        "seq": pl.Int64,  # journal order: ordinal << 24 | position
        "uid": pl.UInt64,  # the event
        "steps": pl.UInt32,  # bit mask of the rules it matches, and ABSENCE
        "value": pl.UInt64,  # bits of a Float64, or a number that stands for a value (values.py); 0 and unused elsewhere
        "hit": pl.Boolean,  # whether the condition was true at this row when it was last judged
        "who": pl.UInt32,  # interned identity
        "tool": pl.UInt32,  # interned tool name
        "trace_high": pl.UInt64,
        "trace_low": pl.UInt64,
        "span": pl.UInt64,
    }
)

NO_VALUE = 0x7FF8_0000_0000_0000
"""``value`` of a row of which it is not known yet (the bits of a NaN, which is no number): such a row waits for its value."""
ABSENCE = 1 << 31
"""The bit in ``steps`` of a match of the rule of which there must be none."""


class Interner:
    """Tuples of strings as small numbers, in order of first appearance."""

    def __init__(self, values: Iterable[tuple[Any, ...]] = ()) -> None:
        self.restore(values)

    def restore(self, values: Iterable[tuple[Any, ...]]) -> None:
        """Forgets what it held and holds these."""
        self.values: list[tuple[Any, ...]] = list(values)
        self.numbers: dict[tuple[Any, ...], int] = {value: number for number, value in enumerate(self.values)}

    def number(self, value: tuple[Any, ...]) -> int:
        """The number of a value, given to it now if it is new."""
        number = self.numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def column(self, frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
        """One number (``UInt32``) per row of the frame for the tuple of these columns."""
        names = list(columns)
        if frame.is_empty():
            return pl.Series(dtype=pl.UInt32)
        if len({*names}) < len(names):
            frame = frame.select(pl.col(name).alias(str(at)) for at, name in enumerate(names))
            names = frame.columns
        if frame.height <= FEW:
            return pl.Series([self.number(value) for value in frame[names].iter_rows()], dtype=pl.UInt32)
        distinct = frame.select(names).unique(maintain_order=True)
        numbers = pl.Series("__number", [self.number(value) for value in distinct.iter_rows()], dtype=pl.UInt32)
        if distinct.height == 1:
            return pl.Series(np.full(frame.height, numbers[0], dtype=np.uint32))
        return frame.select(names).join(distinct.with_columns(numbers), on=names, how="left", nulls_equal=True, maintain_order="left")[
            "__number"
        ]

    def keep(self, used: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Forgets all but the used numbers; -> old number -> new number (0 where forgotten)."""
        new = np.zeros(len(self.values), dtype=np.uint32)
        new[used] = np.arange(len(used), dtype=np.uint32)
        self.values = [self.values[number] for number in used.tolist()]
        self.numbers = {value: number for number, value in enumerate(self.values)}
        return new


_MAX_CHUNKS = 64
FEW = 16
"""Up to so many rows, one by one is quicker than a query."""


class RowStore:
    """Retained rows of one correlation: a base sorted by group, and a tail of what came since the last epoch."""

    def __init__(self, rows: pl.DataFrame | None = None) -> None:
        self.replace(ROW_SCHEMA.to_frame() if rows is None else rows)

    def replace(self, rows: pl.DataFrame) -> None:
        """Forgets what it held and holds these."""
        self._base = rows.sort("key", maintain_order=True)
        self._keys, self._uids = self._base["key"].to_numpy(), self._base["uid"].to_numpy()
        self._alive = np.ones(self._base.height, dtype=bool)
        self._tail = ROW_SCHEMA.to_frame()

    def append(self, rows: pl.DataFrame) -> None:
        """Adds rows (``ROW_SCHEMA``)."""
        if rows.height:
            self._tail = self._tail.vstack(rows)
            if self._tail.n_chunks() > _MAX_CHUNKS:
                self._tail = self._tail.rechunk()

    def fetch(self, keys: pl.Series, since: int | None = None) -> pl.DataFrame:
        """The rows of these groups, unordered; only those with ``time > since`` where it is given."""
        wanted = pl.col("key").is_in(keys.implode())
        found = self._tail.filter(wanted if since is None else wanted & (pl.col("time") > since))
        if not self._base.height:
            return found
        base = self._base[self._base_index(keys)]
        return base.filter(pl.col("time") > since).vstack(found) if since is not None else base.vstack(found)

    def by_uid(self, uids: pl.Series) -> pl.DataFrame:
        """The rows of these events."""
        found = self._tail.filter(pl.col("uid").is_in(uids.implode()))
        if not self._base.height:
            return found
        return self._base.filter(pl.Series(self._alive) & self._base["uid"].is_in(uids.implode())).vstack(found)

    def few(self, uids: list[int]) -> dict[int, dict[str, Any]]:
        """The rows of a few events, by event."""
        wanted, found = np.array(uids, dtype=np.uint64), [self._tail] if self._tail.height else []
        if self._base.height:
            index = np.flatnonzero(np.isin(self._uids, wanted) & self._alive)
            found += [self._base[pl.Series(index.astype(np.uint32))]] if len(index) else []
        some = set(uids)
        return {row["uid"]: row for part in found for row in part.iter_rows(named=True) if row["uid"] in some}

    def take(self, keys: pl.Series) -> pl.DataFrame:
        """Removes the rows of these groups; -> those rows, unordered."""
        found = self._tail
        if found.height:
            inside = pl.col("key").is_in(keys.implode())
            found, self._tail = self._tail.filter(inside), self._tail.filter(~inside)
        if not self._base.height:
            return found
        index = self._base_index(keys)
        self._alive[index] = False
        return self._base[pl.Series(index.astype(np.uint32))].vstack(found)

    def remove(self, uids: pl.Series) -> None:
        """Drops the rows of these events."""
        if uids.is_empty():
            return
        if self._base.height:
            self._alive &= ~self._base["uid"].is_in(uids.implode()).to_numpy()
        self._tail = self._tail.filter(~pl.col("uid").is_in(uids.implode()))

    def where(self, condition: pl.Expr) -> pl.DataFrame:
        """The rows of which this holds, unordered."""
        found = self._tail.filter(condition)
        return self._base.filter(condition & pl.lit(pl.Series(self._alive))).vstack(found) if self._base.height else found

    def all(self) -> pl.DataFrame:
        """Every row, unordered."""
        return self._base.filter(pl.Series(self._alive, dtype=pl.Boolean)).vstack(self._tail)

    def _base_index(self, keys: pl.Series) -> np.ndarray[Any, Any]:
        wanted = np.unique(keys.to_numpy())
        start, stop = np.searchsorted(self._keys, wanted, "left"), np.searchsorted(self._keys, wanted, "right")
        lengths = stop - start
        index = np.repeat(start - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths) + np.arange(lengths.sum())
        return index[self._alive[index]]
