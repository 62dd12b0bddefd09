"""The exact fold of one correlation over the few groups that the vectorized filter could not prove silent.

Rows of a group are kept in the order in which its window runs (event time, or journal order for ``within-events``). When rows arrive,
only they and the rows whose window they reach are judged; alerts fire on rising edges. docs/semantics.md states the same in words.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from operator import attrgetter


@dataclass(slots=True, eq=False)
class Row:
    """One matching event in a group. ``steps`` is a bit mask of the rules it matches; ``order`` sorts the group's window."""

    order: tuple[int, int]
    time: int
    uid: int
    steps: int
    hit: bool
    data: dict[str, object]
    """the stored row, carried along untouched"""


@dataclass(slots=True, eq=False)
class Mark:
    """An alert that fired at a row. It outlives the row by ``suppress``."""

    order: tuple[int, int]
    time: int
    uid: int
    alert_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What makes a window true. Times in nanoseconds.

    ``event_count``: more than ``threshold`` rows in ``(t - timespan, t]``. ``steps`` > 0: steps 0..steps-1 occur in that order there.
    """

    timespan: int
    suppress: int
    steps: int = 0
    within_events: int | None = None


@dataclass(slots=True)
class Firing:
    """A rising edge: the completing row, and the rows in its window that matched a rule."""

    row: Row
    window: list[Row]


@dataclass(slots=True)
class Group:
    """One group's rows and marks, both sorted by ``order``."""

    rows: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


_ORDER = attrgetter("order")


def insert(group: Group, rows: Sequence[Row]) -> None:
    """Puts rows into their places."""
    for row in rows:
        insort(group.rows, row, key=_ORDER)


def take_out(group: Group, row: Row) -> list[Mark]:
    """Removes the row; returns the marks that go with it. Nobody else is judged again."""
    group.rows.remove(row)
    gone = [mark for mark in group.marks if mark.uid == row.uid]
    for mark in gone:
        group.marks.remove(mark)
    return gone


def judge(condition: Condition, group: Group, new: Sequence[Row], threshold: float) -> tuple[list[Firing], list[tuple[Row, Mark]]]:
    """Judges what the new rows reach: -> (edges, in row order; rows that only raise the count of the alert of their mark).

    The caller adds a ``Mark`` for each edge it turns into an alert through ``fire``; edges are marked here already, without an id.
    """
    judged = _reached(condition, group.rows, new)
    was = [group.rows[i].hit for i in judged]
    for i, hit in zip(judged, _hits(condition, group.rows, judged, threshold), strict=True):
        group.rows[i].hit = hit
    firings: list[Firing] = []
    raised: list[tuple[Row, Mark]] = []
    for i, before in zip(judged, was, strict=True):
        row = group.rows[i]
        if not row.hit or _mark_at(group.marks, row):
            continue
        last = _last_mark(group.marks, row)
        if last is None or row.time - last.time >= condition.suppress or _armed(condition, group.rows, i):
            last = _covered(condition, group, i)
            if last is None:
                firings.append(Firing(row, [one for one in _window(condition, group.rows, i) if one.steps]))
                insort(group.marks, Mark(row.order, row.time, row.uid, ""), key=_ORDER)
                continue
        if not before:
            raised.append((row, last))
    return firings, raised


def _reached(condition: Condition, rows: list[Row], new: Sequence[Row]) -> list[int]:
    reached: set[int] = set()
    for one in new:
        start = bisect_left(rows, one.order, key=_ORDER)
        while rows[start] is not one:
            start += 1
        if condition.within_events:
            reached.update(range(start, min(len(rows), start + condition.within_events)))
            continue
        stop = start
        while stop < len(rows) and rows[stop].time < one.time + condition.timespan:
            if stop in reached:
                stop += 1
                continue
            reached.add(stop)
            stop += 1
    return sorted(reached)


def _window(condition: Condition, rows: list[Row], i: int) -> list[Row]:
    horizon = rows[i].time - condition.timespan
    if condition.within_events:
        return [row for row in rows[max(0, i + 1 - condition.within_events) : i + 1] if row.time > horizon]
    first = i
    while first and rows[first - 1].time > horizon:
        first -= 1
    return rows[first : i + 1]


def _hits(condition: Condition, rows: list[Row], judged: list[int], threshold: float) -> list[bool]:
    if condition.steps == 0:
        # more than k rows up to and including this one <=> the k-th row before it still lies in the window
        k = floor(threshold)
        if condition.within_events:
            return [len(_window(condition, rows, i)) > k for i in judged]
        return [i >= k and rows[i].time - rows[i - k].time < condition.timespan for i in judged]
    if condition.within_events:
        return [_in_order(condition.steps, _window(condition, rows, i)) for i in judged]
    return _ordered_hits(condition, rows, judged)


def _ordered_hits(condition: Condition, rows: list[Row], judged: list[int]) -> list[bool]:
    """One pass: ``latest[s]`` is the latest start of a chain of rows matching steps 0..s so far; true where the last starts inside."""
    if not judged:
        return []
    first = judged[0]
    while first and rows[first - 1].time > rows[judged[0]].time - condition.timespan:
        first -= 1
    never = rows[first].time - condition.timespan
    latest = [never] * condition.steps
    wanted, hits = iter(judged), []
    i = next(wanted, None)
    for at in range(first, judged[-1] + 1):
        for step in range(condition.steps - 1, -1, -1):
            if rows[at].steps >> step & 1:
                latest[step] = rows[at].time if step == 0 else max(latest[step], latest[step - 1])
        if at == i:
            hits.append(latest[-1] > rows[at].time - condition.timespan)
            i = next(wanted, None)
    return hits


def _in_order(steps: int, window: list[Row]) -> bool:
    step = 0
    for row in window:
        if row.steps >> step & 1:
            step += 1
            if step == steps:
                return True
    return False


def _armed(condition: Condition, rows: list[Row], i: int) -> bool:
    """Whether the condition was false just before row i, so that truth at i is an edge."""
    if i == 0 or not rows[i - 1].hit:
        return True
    return not condition.within_events and rows[i - 1].time <= rows[i].time - condition.timespan


def _mark_at(marks: list[Mark], row: Row) -> bool:
    at = bisect_left(marks, row.order, key=_ORDER)
    return any(mark.uid == row.uid for mark in marks[at:] if mark.order == row.order)


def _last_mark(marks: list[Mark], row: Row) -> Mark | None:
    at = bisect_left(marks, (row.order[0], row.order[1] + 1), key=_ORDER)
    return marks[at - 1] if at else None


def _covered(condition: Condition, group: Group, i: int) -> Mark | None:
    """The alert that already fired later in the same unbroken run, less than ``suppress`` after row i."""
    if not group.marks or group.marks[-1].order <= group.rows[i].order:
        return None
    here = group.rows[i].time
    for later in group.rows[i + 1 :]:
        if later.time - here >= condition.suppress or not later.hit:
            return None
        for mark in group.marks:
            if mark.uid == later.uid:
                return mark
    return None
