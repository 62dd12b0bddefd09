"""The exact fold of one correlation over the few groups that the vectorized filter could not prove silent.

Rows of a group are kept in the order in which its window runs (event time, or journal order for ``within-events``). When rows arrive,
only they and the rows that they may make true are judged; alerts fire on rising edges. docs/semantics.md states the same in words.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from otel_ir.detect.conditions import NEVER, Condition, hits, last_events, number_of, window
from otel_ir.detect.group import ORDER, TIME, Group, Mark, Row, insert, take_in, take_out
from otel_ir.model import MAX_CONTRIBUTING


@dataclass(slots=True)
class Firing:
    """A rising edge: the completing row, the number of its window (rows that matched a rule, distinct values, their sum), the newest rows
    of it that matched, and its mark (without an id).
    """

    row: Row
    number: float
    newest: list[Row]
    mark: Mark


def judge(condition: Condition, group: Group, new: Sequence[Row], threshold: float) -> tuple[list[Firing], list[tuple[Row, Mark]]]:
    """Judges the new rows and what they reach: -> (edges, in row order; rows that only raise the count of the alert of their mark).

    Edges are marked here; the caller turns them into alerts and gives their marks an id.
    """
    rows = group.rows
    judged = _reached(condition, rows, new, threshold)
    was = [rows[i].hit for i in judged]
    for i, hit in zip(judged, hits(condition, group, judged, threshold), strict=True):
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
                insort(group.marks, firings[-1].mark, key=ORDER)
                continue
        if not before:
            raised.append((row, last))
    return firings, raised


def _place(rows: list[Row], row: Row) -> int:
    at = bisect_left(rows, row.order, key=ORDER)
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
            stop = bisect_left(rows, one.time + condition.timespan, lo=start, key=TIME)
            if condition.kind == "event_count":
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
        inside = [one for one in last_events(condition, rows, i) if one.steps]
        return Firing(row, len(inside), inside[-MAX_CONTRIBUTING:], mark)
    first = window(condition, rows, i)
    return Firing(row, number_of(condition, rows[first : i + 1]), rows[max(first, i + 1 - MAX_CONTRIBUTING) : i + 1], mark)


def _armed(condition: Condition, rows: list[Row], i: int) -> bool:
    """Whether the condition was false just before row i, so that truth at i is an edge."""
    if i == 0 or not rows[i - 1].hit:
        return True
    return not condition.within_events and rows[i - 1].time <= rows[i].time - condition.timespan


def _is_marked(marks: list[Mark], row: Row) -> bool:
    at = bisect_left(marks, row.order, key=ORDER)
    while at < len(marks) and marks[at].order == row.order:
        if marks[at].uid == row.uid:
            return True
        at += 1
    return False


def _last_mark(marks: list[Mark], row: Row) -> Mark | None:
    at = bisect_right(marks, row.order, key=ORDER)
    return marks[at - 1] if at else None


class _Cover:
    """Finds the alert that already fired later in the same unbroken run, less than ``suppress`` after a row. Asked for ascending rows."""

    def __init__(self, condition: Condition, group: Group) -> None:
        self._condition, self._rows = condition, group.rows
        self._end = group.marks[-1].order if group.marks else (NEVER, 0)
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


__all__ = ["Condition", "Firing", "Group", "Mark", "Row", "insert", "judge", "take_in", "take_out"]
