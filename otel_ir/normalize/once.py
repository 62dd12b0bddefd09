"""An error counts once, on the leaf: a span under which an error is known is no error itself.

Children end, and so arrive, before their parents. Where a parent comes first, it counts until its failed child is there, and is told then
that it is no error. What it says of the failure stays in ``error.type`` and ``error.message``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from otel_ir.normalize.calls import Extra
from otel_ir.normalize.hashes import Keys
from otel_ir.normalize.identity import Node

Above = Callable[[Sequence[int]], Iterable[Node | None]]


class Erring(NamedTuple):
    """An event that says it failed: its id, the keys of its span and of the one above (0: none), its journal record."""

    event: str
    key: int
    parent: int
    ordinal: int


class Once:
    """State, by key of a span."""

    def __init__(self) -> None:
        self.failed: dict[int, int] = {}
        """first journal record from which on an error below the span is known"""
        self.counting: dict[int, tuple[str, int]] = {}
        """of spans that count as an error until one below is known: event, journal record"""

    def passed(self, arrived: Keys) -> list[int]:
        """Those of the spans that came just now under which an error is known already: it is one for the spans above them, too."""
        if not self.failed:
            return []
        came = pl.Series(arrived, dtype=pl.UInt64)
        return came.filter(came.is_in(pl.Series([*self.failed], dtype=pl.UInt64).implode())).to_list()

    def fold(self, rows: Sequence[Erring], passed: Sequence[int], above: Above) -> tuple[list[str], list[Extra]]:
        """-> the events of these that only pass an error on, and those, of these or earlier frames, of which that becomes known later."""
        marks = [(row.parent, row.ordinal) for row in rows] + [(node.parent, node.ordinal) for node in above(passed) if node]
        new = self._mark(marks, above)
        again = []
        for row in rows:
            if row.key and self.failed.get(row.key, row.ordinal + 1) <= row.ordinal:
                again.append(row.event)
            elif row.key:
                self.counting[row.key] = (row.event, row.ordinal)
                new.add(row.key)
        late = sorted((self.failed[key], *self.counting.pop(key)) for key in new if key in self.failed and key in self.counting)
        return again, [Extra(event, ordinal, "error", value=False) for ordinal, event, _ in late]

    def _mark(self, marks: list[tuple[int, int]], above: Above) -> set[int]:
        """Notes spans under which an error is known, and since when; -> those of which that is new."""
        new = set()
        while marks:
            # An error is known above a span from the moment on at which both are there.
            better = [(key, ordinal) for key, ordinal in marks if key and self.failed.get(key, ordinal + 1) > ordinal]
            for key, ordinal in better:
                self.failed[key] = min(ordinal, self.failed.get(key, ordinal))
                new.add(key)
            nodes = above([key for key, _ in better])
            marks = [(node.parent, max(ordinal, node.ordinal)) for (_, ordinal), node in zip(better, nodes, strict=True) if node]
        return new

    def forget(self, first: int) -> None:
        """Forgets what is from before journal record ``first``."""
        self.failed = {key: ordinal for key, ordinal in self.failed.items() if ordinal >= first}
        self.counting = {key: event for key, event in self.counting.items() if event[1] >= first}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode((self.failed, self.counting))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.failed, self.counting = msgspec.msgpack.decode(state, type=tuple[dict[int, int], dict[int, tuple[str, int]]])
