"""Where the values of a batch are: sources -> positions in one pool of texts, so that priority is a matter of integers.

A column ``A, else B`` is two scatters of positions and one gather of texts; no join, no pivot, no row by row. Positions are numpy
integers, ``-1`` is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl

from otel_ir.decode import Attributes, Batch
from otel_ir.decode.values import Index
from otel_ir.normalize.few import FEW, Mask, contains_any, filled, is_among, is_null, matches
from otel_ir.normalize.table import Unwrap, condition
from otel_ir.normalize.unwrap import UNWRAPPERS, UNWRAPPERS_BESIDE


@lru_cache(maxsize=16)
def nulls(size: int, dtype: Any = pl.String) -> pl.Series:
    """A column of nothing."""
    return pl.Series([None], dtype=dtype).new_from_index(0, size)


def pick(series: pl.Series, index: np.ndarray[Any, Any]) -> pl.Series:
    """``series[index]``; indexing by an index series is the one way that does not go through the query engine (30 µs a call)."""
    if len(index) == 1:
        return series.new_from_index(int(index[0]), 1)
    return series[pl.Series(index.astype(np.uint32))]


def _shown(texts: pl.Series, mark: str, values: tuple[str, ...]) -> Mask:
    """Of which texts a condition holds that needs one."""
    if mark == "=":
        return is_among(texts, values)
    first = values[0]
    if mark == "*=":
        return contains_any(texts, (first,))
    return filled(texts.str.starts_with(first) if mark == "^=" else texts.str.ends_with(first))


def holds(text: str, value: str | None) -> bool:
    """The same for one value."""
    _, mark, values = condition(text)
    if mark in "?!" or value is None:
        return (value is None) == (mark == "!")
    if mark == "=":
        return value in values
    first = values[0]
    return value.startswith(first) if mark == "^=" else value.endswith(first) if mark == "$=" else first in value


_NOWHERE = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
_OWN = {"@name": "name", "@kind": "kind", "@status": "status_code", "@message": "status_message", "@event": "event_name"}
_EVENT = re.compile(r"event:([^/]+)/(.+)")


_WORD = re.compile(r"[\w.:/-]{1,128}")


def event_names(batch: Batch) -> pl.Series:
    """What a log record calls itself: its event name, else the attribute ``event.name``, else a body that is one word."""
    names = [name or None for name in batch.rows["event_name"].to_list()]
    if None in names:
        entries = batch.attributes.entries("event.name")
        for row, text in zip(batch.attributes.row[entries].tolist(), batch.attributes.texts(entries).to_list(), strict=True):
            names[row] = names[row] or text
        if None in names:
            names = [name or (body if body and _WORD.fullmatch(body) else None) for name, body in zip(names, batch.body_texts, strict=True)]
    return pl.Series(names, dtype=pl.String)


class Sources:
    """The texts of the sources that somebody needs, and which row has which."""

    def __init__(self, batch: Batch, needed: Iterable[str]) -> None:
        self.batch = batch
        self.size = batch.rows.height
        self._places: dict[str, tuple[Index, Index]] = {}
        self._chunks: list[pl.Series] = []
        self._length = 0
        self._load(frozenset(needed))

    @cached_property
    def pool(self) -> pl.Series:
        """Every text, and one null at the end; later additions drop the cached value."""
        return pl.concat([*self._chunks, pl.Series([None], dtype=pl.String)], rechunk=True)

    def places(self, source: str) -> tuple[Index, Index]:
        """``(rows, positions)`` of a source; rows ascending, each once or, for a repeated key, in order with the last one to count."""
        return self._places.get(source, _NOWHERE)

    def __contains__(self, source: str) -> bool:
        return source in self._places

    def matching(self, pattern: re.Pattern[str], begin: tuple[str, ...], where: Mask) -> Iterator[tuple[int, re.Match[str], str]]:
        """Attributes whose key is of the pattern, and begins with one of ``begin``, of spans in ``where``: row, match, text."""
        attributes = self.batch.attributes
        paths = [pattern.fullmatch(key) if key.startswith(begin) else None for key in attributes.keys]
        known = np.array([path is not None for path in paths], dtype=np.bool_)
        if not known.any() or not where.any():
            return
        take = np.flatnonzero(known[attributes.code] & where[attributes.row])
        rows, codes, texts = attributes.row[take].tolist(), attributes.code[take].tolist(), attributes.texts(take).to_list()
        for row, code, text in zip(rows, codes, texts, strict=True):
            path = paths[code]
            if path is not None and text is not None:
                yield row, path, text

    def gather(self, positions: Index) -> pl.Series:
        """The texts at these positions, null for -1."""
        size = len(positions)
        if size > FEW and positions[0] >= 0 and positions[-1] - positions[0] == size - 1 and (np.diff(positions) == 1).all():
            return self.pool.slice(int(positions[0]), size)
        return pick(self.pool, np.where(positions < 0, len(self.pool) - 1, positions))

    def unwrap(self, step: Unwrap, where: Mask) -> None:
        """Adds the sources ``source#member`` for the rows in ``where``; only values that match ``step.needs`` are looked at."""
        rows, positions = self.places(step.source)
        kept = where[rows]
        if step.unless:
            kept &= ~self.has(step.unless)[rows]
        rows, positions = rows[kept], positions[kept]
        values = self.gather(positions)
        if step.needs and len(rows):
            matching = matches(values, step.needs)
            rows, values = rows[matching], pick(values, np.flatnonzero(matching))
        if not len(rows):
            return
        if step.beside:
            others = pick(self.column(step.beside), rows)
            pairs = list(zip(values.to_list(), others.to_list(), strict=True))
            both = {pair: UNWRAPPERS_BESIDE[step.via](*pair) for pair in dict.fromkeys(pairs) if pair[0] is not None}
            found = [both.get(pair, {}) for pair in pairs]
        else:
            unwrapper = UNWRAPPERS[step.via]
            memo = {text: unwrapper(text) for text in dict.fromkeys(values.to_list()) if text is not None}
            found = [memo.get(text, {}) for text in values]
        for member in step.members:
            texts = [one.get(member) for one in found]
            has = np.array([text is not None for text in texts], dtype=np.bool_)
            if has.any():
                self.add(f"{step.source}#{member}", rows[has], pl.Series([text for text in texts if text is not None], dtype=pl.String))

    def column(self, *listed: str) -> pl.Series:
        """The text of the first of these sources that a row has, for all rows."""
        at = np.full(self.size, -1, dtype=np.int64)
        for source in reversed(listed):
            rows, positions = self.places(source)
            at[rows] = positions
        return self.gather(at) if (at >= 0).any() else nulls(self.size)

    def _few(self, source: str) -> list[str | None]:
        found: list[str | None] = [None] * self.size
        rows, positions = self.places(source)
        for row, text in zip(rows.tolist(), self.gather(positions).to_list() if len(rows) else (), strict=True):
            found[row] = text
        return found

    def masks(self, conditions: Iterable[str]) -> dict[str, Mask]:
        """Rows for which each condition holds (see ``table.py``)."""
        texts = list(dict.fromkeys(conditions))
        if not texts:
            return {}
        needed = dict.fromkeys(condition(text).source for text in texts)
        if self.size <= FEW:
            few = {source: self._few(source) for source in needed}
            return {text: np.array([holds(text, value) for value in few[condition(text).source]], dtype=np.bool_) for text in texts}
        found: dict[str, Mask] = {}
        for source in needed:
            rows, positions = self.places(source)
            said = self.gather(positions)
            for text in texts:
                of, mark, values = condition(text)
                if of == source:
                    found[text] = np.full(self.size, mark == "!")
                    found[text][rows] = _shown(said, mark, values) if values else is_null(said) == (mark == "!")
        return found

    def has(self, source: str) -> Mask:
        """Rows that have this source."""
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[self.places(source)[0]] = True
        return mask

    def add(self, source: str, rows: Index, texts: pl.Series) -> None:
        """Adds texts of a source for these rows; for a row that has the source already, the new one counts."""
        old_rows, old_positions = self.places(source)
        positions = np.arange(self._length, self._length + len(rows), dtype=np.int64)
        self._places[source] = (np.concatenate([old_rows, rows]), np.concatenate([old_positions, positions]))
        self._chunks.append(texts)
        self._length += len(rows)
        self.__dict__.pop("pool", None)

    def _load(self, needed: frozenset[str]) -> None:
        self._load_attributes(
            self.batch.attributes, {key: key for key in needed if not key.startswith(("@", "=", "resource:", "event:")) and "#" not in key}
        )
        self._load_resources({key.removeprefix("resource:"): key for key in needed if key.startswith("resource:")})
        self._load_events({key: found for key in needed if (found := _EVENT.fullmatch(key))})
        for key in needed:
            if key.startswith("@"):
                self._load_own(key)
            elif key.startswith("=") and self.size:
                self._places[key] = (np.arange(self.size), np.full(self.size, self._length))
                self._chunks.append(pl.Series([key[1:]], dtype=pl.String))
                self._length += 1

    def _load_attributes(self, attributes: Attributes, wanted: dict[str, str]) -> None:
        present = [key for key in attributes.keys if key in wanted]
        if not present:
            return
        stretches = [attributes.entries(key) for key in present]
        self._chunks.append(attributes.texts(np.concatenate(stretches)))
        for key, entries in zip(present, stretches, strict=True):
            self._places[wanted[key]] = (attributes.row[entries], np.arange(self._length, self._length + len(entries), dtype=np.int64))
            self._length += len(entries)

    def _load_resources(self, wanted: dict[str, str]) -> None:
        attributes = self.batch.resource_attributes
        owner = self.batch.rows["resource"].to_numpy()
        count = int(owner.max()) + 1 if len(owner) else 0
        present = [key for key in attributes.keys if key in wanted] if count else []
        if not present:
            return
        stretches = [attributes.entries(key) for key in present]
        self._chunks.append(attributes.texts(np.concatenate(stretches)))
        for key, entries in zip(present, stretches, strict=True):
            of_resource = np.full(max(count, int(attributes.row[entries].max()) + 1), -1, dtype=np.int64)
            of_resource[attributes.row[entries]] = np.arange(self._length, self._length + len(entries), dtype=np.int64)
            self._length += len(entries)
            positions = of_resource[owner]
            rows = np.flatnonzero(positions >= 0)
            self._places[wanted[key]] = (rows, positions[rows])

    def _load_events(self, wanted: dict[str, re.Match[str]]) -> None:
        events, attributes = self.batch.events, self.batch.event_attributes
        if not wanted or events.is_empty():
            return
        owner, names = events["row"].to_numpy().astype(np.int64), events["name"]
        for source, found in wanted.items():
            entries = attributes.entries(found.group(2))
            entries = entries[(names == found.group(1)).to_numpy()[attributes.row[entries]]] if len(entries) else entries
            if len(entries):
                self.add(source, owner[attributes.row[entries]], attributes.texts(entries))

    def _load_own(self, source: str) -> None:
        """``@`` sources: columns of the row itself; those that a reader adds later, and ``#`` members, are not here."""
        rows = self.batch.rows
        if source == "@body" and len(self.batch.bodies):
            texts = self.batch.body_texts
        elif source == "@event" and self.batch.signal == "logs":
            texts = event_names(self.batch)
        elif source == "@scope":
            texts = self.batch.scopes["name"][rows["scope"]]
        elif (column := _OWN.get(source)) in rows.columns:
            texts = rows[str(column)].cast(pl.String)
        else:
            return
        present = np.flatnonzero(~is_among(texts, ("",)) & ~is_null(texts))
        if len(present):
            self.add(source, present, texts if len(present) == self.size else pick(texts, present))
