"""What makes the window of a row true, by kind of correlation.

Rows that come in time order cost the same however many a group holds; a late one at most a pass over its window and the rows after it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor, inf
from operator import ge, gt

from otel_ir.detect.group import TIME, Group, Row, Tally

NEVER = -(2**63)
_COMPARE = {"gt": gt, "gte": ge}


@dataclass(slots=True, kw_only=True)
class Condition:
    """What makes a window true. Times in nanoseconds.

    ``event_count``: more than ``threshold`` rows in ``(t - timespan, t]``; ``value_count``: so many distinct values; ``value_sum``: their
    sum. ``temporal``: all steps of one of ``clauses`` occur there; ``temporal_ordered``: in that order.
    """

    timespan: int
    suppress: int
    kind: str = "event_count"
    op: str = "gt"
    clauses: tuple[tuple[int, ...], ...] = ()
    within_events: int | None = None
    links: tuple[tuple[int, int, int], ...] = field(init=False)
    """(slot, bit of its step, slot of the step before or -1), of an ordered clause the last step first"""
    ends: tuple[tuple[int, ...], ...] = field(init=False)
    """for each clause the slots that have to lie in the window"""
    masks: tuple[int, ...] = field(init=False)
    """for each clause the bits of its steps"""

    def __post_init__(self) -> None:
        self.masks = tuple(sum(1 << step for step in clause) for clause in self.clauses)
        if self.kind == "temporal":
            steps = sorted({step for clause in self.clauses for step in clause})
            self.links = tuple((slot, 1 << step, -1) for slot, step in enumerate(steps))
            self.ends = tuple(tuple(steps.index(step) for step in clause) for clause in self.clauses)
            return
        links, ends, base = list[tuple[int, int, int]](), list[tuple[int, ...]](), 0
        for clause in self.clauses:
            links += ((base + at, 1 << clause[at], base + at - 1 if at else -1) for at in range(len(clause) - 1, -1, -1))
            base += len(clause)
            ends.append((base - 1,))
        self.links, self.ends = tuple(links), tuple(ends)


def hits(condition: Condition, group: Group, judged: list[int], threshold: float) -> list[bool]:
    """Whether the condition is true at each of these rows (ascending)."""
    if condition.within_events:
        windows = (last_events(condition, group.rows, i) for i in judged)
        return [_in_order(condition, window) if condition.clauses else len(window) > threshold for window in windows]
    return _HITS[condition.kind](condition, group, judged, threshold)


def window(condition: Condition, rows: list[Row], i: int) -> int:
    """The first row of the window of row ``i``, by time."""
    return bisect_right(rows, rows[i].time - condition.timespan, hi=i, key=TIME)


def last_events(condition: Condition, rows: list[Row], i: int) -> list[Row]:
    """The window of row ``i`` with ``within-events``."""
    horizon = rows[i].time - condition.timespan
    return [row for row in rows[max(0, i + 1 - (condition.within_events or 0)) : i + 1] if row.time > horizon]


def number_of(condition: Condition, rows: Sequence[Row]) -> float:
    """What the rows of a window come to: the distinct values, their sum, or how many rows there are."""
    made = TALLIES.get(condition.kind)
    if made is None:
        return len(rows)
    tally = made()
    for row in rows:
        tally.add(row)
    return tally.number()


def _counted(condition: Condition, group: Group, judged: list[int], threshold: float) -> list[bool]:
    # more than k rows up to and including this one <=> the k-th row before it still lies in the window
    rows, k = group.rows, floor(threshold)
    return [i >= k and rows[i].time - rows[i - k].time < condition.timespan for i in judged]


def _tallied(condition: Condition, group: Group, judged: list[int], threshold: float) -> list[bool]:
    compare = _COMPARE[condition.op]
    return [compare(_tally(condition, group, i).number(), threshold) for i in judged]


def _tally(condition: Condition, group: Group, i: int) -> Tally:
    """The tally of the window of row ``i``: goes on from an earlier row where it can."""
    rows = group.rows
    if group.tally is None or group.at > i:
        group.tally, group.first = TALLIES[condition.kind](), window(condition, rows, i)
        group.at = group.first - 1
    tally, horizon = group.tally, rows[i].time - condition.timespan
    for row in rows[group.at + 1 : i + 1]:
        tally.add(row)
    group.at = i
    while rows[group.first].time <= horizon:
        tally.drop(rows[group.first])
        group.first += 1
    return tally


def _chained(condition: Condition, group: Group, judged: list[int], threshold: float) -> list[bool]:  # noqa: ARG001 - one face
    _chain(condition, group, judged[-1] + 1)
    rows, ends = group.rows, condition.ends
    if len(ends) == 1 and len(ends[0]) == 1:
        return [rows[i].chain[-1] > rows[i].time - condition.timespan for i in judged]
    found = []
    for i in judged:
        chain, horizon = rows[i].chain, rows[i].time - condition.timespan
        found.append(any(all(chain[slot] > horizon for slot in end) for end in ends))
    return found


def _chain(condition: Condition, group: Group, end: int) -> None:
    """Makes the first ``end`` rows know their chains."""
    rows, links = group.rows, condition.links
    latest = list(rows[group.chained - 1].chain) if group.chained else [NEVER] * len(links)
    for row in rows[group.chained : end]:
        steps = row.steps
        for slot, bit, before in links:
            if steps & bit:
                latest[slot] = row.time if before < 0 else max(latest[slot], latest[before])
        row.chain = tuple(latest)
    group.chained = max(group.chained, end)


def _in_order(condition: Condition, rows: list[Row]) -> bool:
    for clause in condition.clauses:
        at = 0
        for row in rows:
            if row.steps >> clause[at] & 1:
                at += 1
                if at == len(clause):
                    return True
    return False


class _Distinct:
    """How many distinct values there are."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, row: Row) -> None:
        self._counts[row.value] = self._counts.get(row.value, 0) + 1

    def drop(self, row: Row) -> None:
        left = self._counts.pop(row.value) - 1
        if left:
            self._counts[row.value] = left

    def number(self) -> float:
        return len(self._counts)


_SCALE = 1 << 1074
"""Every Float64 is a whole multiple of 2**-1074."""


class _Sum:
    """The exact sum, rounded once: the same in whatever order rows come and go, and what ``math.fsum`` gives."""

    def __init__(self) -> None:
        self._total = 0

    def add(self, row: Row) -> None:
        self._total += scaled(row.value)

    def drop(self, row: Row) -> None:
        self._total -= scaled(row.value)

    def number(self) -> float:
        try:
            return self._total / _SCALE
        except OverflowError:
            return inf if self._total > 0 else -inf


def as_float(value: int) -> float:
    """The number of which these are the bits."""
    number: float = struct.unpack("<d", value.to_bytes(8, "little"))[0]
    return number


def scaled(value: int) -> int:
    """The number of which these are the bits, times 2**1074."""
    numerator, denominator = as_float(value).as_integer_ratio()
    return numerator * (_SCALE // denominator)


TALLIES: dict[str, Callable[[], Tally]] = {"value_count": _Distinct, "value_sum": _Sum}
_HITS = {
    "event_count": _counted,
    "value_count": _tallied,
    "value_sum": _tallied,
    "temporal": _chained,
    "temporal_ordered": _chained,
}

__all__ = ["NEVER", "Condition", "as_float", "hits", "last_events", "number_of", "window"]
