"""One group of a correlation, unpacked: its rows in the order in which its window runs, and the alerts that fired at them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol

from otel_ir.detect.rows import NO_VALUE


@dataclass(slots=True, eq=False)
class Row:
    """One matching event in a group. ``steps`` is a bit mask of the rules it matches; ``order`` sorts the group's window: (time, seq), or
    (seq, 0) with ``within-events``; where one event may be several rows, the steps follow.

    ``chain``: by slot of the condition, the latest time at which rows begin that match the steps up to that one, up to this row.
    """

    order: tuple[int, ...]
    time: int
    uid: int
    steps: int
    hit: bool
    data: dict[str, Any]
    """the stored row, carried along untouched"""
    chain: tuple[int, ...] = ()
    value: int = 0


@dataclass(slots=True, eq=False)
class Mark:
    """An alert that fired at a row. It outlives the row by ``suppress``."""

    order: tuple[int, ...]
    time: int
    uid: int
    alert_id: str


class Tally(Protocol):
    """What the rows of a sliding window come to."""

    def add(self, row: Row) -> None: ...
    def drop(self, row: Row) -> None: ...
    def number(self) -> float: ...


@dataclass(slots=True)
class Group:
    """One group's rows and marks, both sorted by ``order``. The first ``chained`` rows know their ``chain``.

    ``aside``: rows of which the value is not known yet. ``tally``: of ``rows[first : at + 1]``.
    """

    rows: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    chained: int = 0
    aside: list[Row] = field(default_factory=list)
    tally: Tally | None = None
    first: int = 0
    at: int = -1

    def disturbed(self, place: int) -> None:
        """Something changed at this place, so that what is known of the rows from there on no longer holds."""
        self.chained = min(self.chained, place)
        if place <= self.at:
            self.tally = None


ORDER, TIME = attrgetter("order"), attrgetter("time")
_FEW = 8


def insert(group: Group, rows: Sequence[Row]) -> None:
    """Puts rows into their places; after those of equal order."""
    if len(rows) > _FEW:
        group.rows.extend(rows)
        group.rows.sort(key=ORDER)
    else:
        for row in rows:
            insort(group.rows, row, key=ORDER)
    group.disturbed(bisect_left(group.rows, min(row.order for row in rows), key=ORDER))


def split(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Rows that have what they are judged by, and those that wait for it."""
    known, waiting = list[Row](), list[Row]()
    for row in rows:
        (waiting if row.value == NO_VALUE else known).append(row)
    return known, waiting


def take_out(group: Group, rows: Sequence[Row]) -> list[Mark]:
    """Removes rows; returns the marks that go with them. Nobody else is judged again."""
    gone = {row.uid for row in rows}
    first = bisect_left(group.rows, min(row.order for row in rows), key=ORDER)
    group.rows[first:] = [row for row in group.rows[first:] if row.uid not in gone]
    if group.aside:
        group.aside = [row for row in group.aside if row.uid not in gone]
    group.disturbed(first)
    along = [mark for mark in group.marks if mark.uid in gone]
    if along:
        group.marks = [mark for mark in group.marks if mark.uid not in gone]
    return along


def take_in(group: Group, marks: Sequence[Mark]) -> None:
    """Adds the marks that came with rows."""
    group.marks = sorted([*group.marks, *marks], key=ORDER)


__all__ = ["ORDER", "TIME", "Group", "Mark", "Row", "Tally", "insert", "split", "take_in", "take_out"]
