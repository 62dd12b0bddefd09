"""The exact fold of one correlation over the few groups that the vectorized filter could not prove silent.

Rows of a group are kept in the order in which its window runs (event time, or journal order for ``within-events``). When rows arrive,
only they and the rows that they may make true are judged; alerts fire on rising edges. docs/semantics.md states the same in words.

Rows that come in time order cost the same however many a group holds; late ones at most one pass over the rows after them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from operator import attrgetter

from otel_ir.model import MAX_CONTRIBUTING


@dataclass(slots=True, eq=False)
class Row:
    """One matching event in a group. ``steps`` is a bit mask of the rules it matches; ``order`` sorts the group's window.

    ``chain``: by step, the latest time at which rows begin that match the steps up to that one in order, up to this row.
    """

    order: tuple[int, int]
    time: int
    uid: int
    steps: int
    hit: bool
    data: dict[str, object]
    """the stored row, carried along untouched"""
    chain: tuple[int, ...] = ()


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
    """A rising edge: the completing row, how many rows of its window matched a rule, the newest of these, and its mark (without an id)."""

    row: Row
    count: int
    newest: list[Row]
    mark: Mark


@dataclass(slots=True)
class Group:
    """One group's rows and marks, both sorted by ``order``. The first ``chained`` rows know their ``chain``."""

    rows: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    chained: int = 0


_ORDER, _TIME = attrgetter("order"), attrgetter("time")
_FEW = 8
_NEVER = -(2**63)


def insert(group: Group, rows: Sequence[Row]) -> None:
    """Puts rows into their places; after those of equal order."""
    if len(rows) > _FEW:
        group.rows.extend(rows)
        group.rows.sort(key=_ORDER)
    else:
        for row in rows:
            insort(group.rows, row, key=_ORDER)
    group.chained = min(group.chained, bisect_left(group.rows, min(row.order for row in rows), key=_ORDER))


def take_out(group: Group, rows: Sequence[Row]) -> list[Mark]:
    """Removes rows; returns the marks that go with them. Nobody else is judged again."""
    gone = {row.uid for row in rows}
    first = bisect_left(group.rows, min(row.order for row in rows), key=_ORDER)
    group.rows[first:] = [row for row in group.rows[first:] if row.uid not in gone]
    group.chained = min(group.chained, first)
    along = [mark for mark in group.marks if mark.uid in gone]
    if along:
        group.marks = [mark for mark in group.marks if mark.uid not in gone]
    return along


def take_in(group: Group, marks: Sequence[Mark]) -> None:
    """Adds the marks that came with rows."""
    group.marks = sorted([*group.marks, *marks], key=_ORDER)


def judge(condition: Condition, group: Group, new: Sequence[Row], threshold: float) -> tuple[list[Firing], list[tuple[Row, Mark]]]:
    """Judges the new rows and what they reach: -> (edges, in row order; rows that only raise the count of the alert of their mark).

    Edges are marked here; the caller turns them into alerts and gives their marks an id.
    """
    rows = group.rows
    judged = _reached(condition, rows, new, threshold)
    was = [rows[i].hit for i in judged]
    for i, hit in zip(judged, _hits(condition, group, judged, threshold), strict=True):
        rows[i].hit = hit
    cover = _Cover(condition, group)
    firings: list[Firing] = []
    raised: list[tuple[Row, Mark]] = []
    for i, before in zip(judged, was, strict=True):
        row = rows[i]
        if not row.hit or _is_marked(group.marks, row):
            continue
        last = _last_mark(group.marks, row)
        if last is None or row.time - last.time >= condition.suppress or _armed(condition, rows, i):
            last = cover.of(i)
            if last is None:
                firings.append(_fired(condition, rows, i))
                insort(group.marks, firings[-1].mark, key=_ORDER)
                continue
        if not before:
            raised.append((row, last))
    return firings, raised


def _place(rows: list[Row], row: Row) -> int:
    at = bisect_left(rows, row.order, key=_ORDER)
    while rows[at] is not row:
        at += 1
    return at


def _reached(condition: Condition, rows: list[Row], new: Sequence[Row], threshold: float) -> list[int]:
    """The new rows, and the later ones that they may make true: in a count of more than k, only the next k rows."""
    spans = []
    for one in new:
        start = _place(rows, one)
        if condition.within_events:
            stop = start + condition.within_events
        else:
            stop = bisect_left(rows, one.time + condition.timespan, lo=start, key=_TIME)
            if condition.steps == 0:
                stop = min(stop, start + floor(threshold) + 1)
        spans.append((start, min(stop, len(rows))))
    reached: list[int] = []
    done = 0
    for start, stop in sorted(spans):
        reached.extend(range(max(start, done), stop))
        done = max(done, stop)
    return reached


def _fired(condition: Condition, rows: list[Row], i: int) -> Firing:
    row = rows[i]
    mark = Mark(row.order, row.time, row.uid, "")
    if condition.within_events:
        inside = [one for one in _last_events(condition, rows, i) if one.steps]
        return Firing(row, len(inside), inside[-MAX_CONTRIBUTING:], mark)
    first = bisect_right(rows, row.time - condition.timespan, hi=i, key=_TIME)
    return Firing(row, i + 1 - first, rows[max(first, i + 1 - MAX_CONTRIBUTING) : i + 1], mark)


def _last_events(condition: Condition, rows: list[Row], i: int) -> list[Row]:
    horizon = rows[i].time - condition.timespan
    return [row for row in rows[max(0, i + 1 - (condition.within_events or 0)) : i + 1] if row.time > horizon]


def _hits(condition: Condition, group: Group, judged: list[int], threshold: float) -> list[bool]:
    rows = group.rows
    if condition.within_events:
        windows = (_last_events(condition, rows, i) for i in judged)
        return [_in_order(condition.steps, window) if condition.steps else len(window) > threshold for window in windows]
    if condition.steps == 0:
        # more than k rows up to and including this one <=> the k-th row before it still lies in the window
        k = floor(threshold)
        return [i >= k and rows[i].time - rows[i - k].time < condition.timespan for i in judged]
    _chain(condition, group, judged[-1] + 1)
    return [rows[i].chain[-1] > rows[i].time - condition.timespan for i in judged]


def _chain(condition: Condition, group: Group, end: int) -> None:
    """Makes the first ``end`` rows know their chains."""
    rows = group.rows
    latest = list(rows[group.chained - 1].chain) if group.chained else [_NEVER] * condition.steps
    for row in rows[group.chained : end]:
        for step in range(condition.steps - 1, -1, -1):
            if row.steps >> step & 1:
                latest[step] = row.time if step == 0 else max(latest[step], latest[step - 1])
        row.chain = tuple(latest)
    group.chained = max(group.chained, end)


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


def _is_marked(marks: list[Mark], row: Row) -> bool:
    at = bisect_left(marks, row.order, key=_ORDER)
    while at < len(marks) and marks[at].order == row.order:
        if marks[at].uid == row.uid:
            return True
        at += 1
    return False


def _last_mark(marks: list[Mark], row: Row) -> Mark | None:
    at = bisect_right(marks, row.order, key=_ORDER)
    return marks[at - 1] if at else None


class _Cover:
    """Finds the alert that already fired later in the same unbroken run, less than ``suppress`` after a row. Asked for ascending rows."""

    def __init__(self, condition: Condition, group: Group) -> None:
        self._condition, self._rows = condition, group.rows
        self._end = group.marks[-1].order if group.marks else (_NEVER, 0)
        self._marks = group.marks
        self._marked: dict[int, Mark] | None = None
        self._seen = 0
        """Rows below this and above the one asked for last are true and have no mark."""

    def of(self, i: int) -> Mark | None:
        rows, here = self._rows, self._rows[i].time
        if self._end <= rows[i].order:
            return None
        if self._marked is None:
            self._marked = {mark.uid: mark for mark in self._marks}
        # In journal order times do not ascend, so that what was near enough for one row may be too far for the next.
        at = i + 1 if self._condition.within_events else max(self._seen, i + 1)
        found = None
        while at < len(rows) and rows[at].hit and rows[at].time - here < self._condition.suppress:
            found = self._marked.get(rows[at].uid)
            if found:
                break
            at += 1
        self._seen = at
        return found
