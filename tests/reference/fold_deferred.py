"""The reference fold of what waits: averages, "fewer than", clauses with absent rules, absences. Slow and obvious, as fold.py.

A row is judged once, in the first record at which the watermark has moved and is later than all that decides about the row. The watermark
is the newest receive time less the lateness, rounded down to a step. Nobody is judged again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from reference.fold import Limits
from reference.fold_values import UNKNOWN, Kind, ReferenceKinds

Event = dict[str, Any]
FORWARD = ("event_count", "value_count", "value_sum")


@dataclass
class Waiting(Kind):
    """``ways``: clauses as (steps that occur, steps that do not). ``absence``: the predicate of which there must be no match."""

    percentile: int = 50
    ways: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    absence: Callable[[Event], bool] | None = None
    where: str = "between"

    def start(self, limits: Limits) -> Any:
        return ReferenceDeferred(self, limits)


@dataclass(eq=False)
class Row:
    event: Event
    steps: list[bool]
    absent: bool
    read: tuple[str, ...]
    group: tuple[Any, ...]
    value: Any
    judged: bool = False
    hit: bool = False

    @property
    def time(self) -> int:
        return int(self.event["time"])

    @property
    def order(self) -> tuple[int, ...]:
        steps = sum(1 << step for step, matched in enumerate(self.steps) if matched) + (self.absent << 31)
        return (self.event["time"], self.event["ordinal"], self.event["position"], steps)


@dataclass
class Mark:
    row: Row
    alert: str


class ReferenceDeferred:
    def __init__(self, window: Waiting, limits: Limits) -> None:
        self.window, self.limits = window, limits
        self.reading = ReferenceKinds(window, limits)
        self.rows: list[Row] = []
        self.marks: list[Mark] = []
        self.counts: dict[str, int] = {}
        self.watermark = -(2**62)
        self.behind = 0
        """how long after the watermark alerts of inner correlations may still come"""

    def fold(self, events: list[Event], patches: list[Event], fired: dict[str, list[Event]], received: int) -> list[Any]:
        """-> alerts: (group, completing event, contributing spans). ``fired``: the alerts of other correlations in this record."""
        for patch in patches:
            for row in self.rows:
                if all(row.event[name] == patch[name] for name in ("trace", "span", "ordinal")):
                    row.event = row.event | patch
                    row.group, row.value = self.reading._group(row.event, row.read), self.reading._value(row.event)
        inner, columns = self.window.inner, self.window.columns
        for read in dict.fromkeys([*(columns[step] for step in range(len(columns)) if step not in inner), self.window.group_by]):
            for event in events:
                steps = [columns[i] == read and i not in inner and bool(step(event)) for i, step in enumerate(self.window.steps)]
                self._come(event, steps, read, absent=bool(self.window.absence and self.window.absence(event)))
        for name in dict.fromkeys(inner.values()):
            steps = [inner.get(step) == name for step in range(len(columns))]
            for event in fired.get(name, []):
                self._come(event, steps, columns[steps.index(True)])
        watermark = (received - self.limits.lateness) // self.limits.step * self.limits.step
        if watermark <= self.watermark:
            return []
        self.watermark = watermark
        return self._due(watermark)

    def finish(self) -> list[Any]:
        return self._due(math.inf)

    def _come(self, event: Event, steps: list[bool], read: tuple[str, ...], *, absent: bool = False) -> None:
        if not any(steps) and not absent:
            return
        group, value = self.reading._group(event, read), self.reading._value(event) if self.window.fields else 0
        if None not in group and value is not None:
            self.rows.append(Row(event, steps, absent, read, group, value))

    def _reach(self) -> int:
        ahead = self.window.kind in FORWARD or (self.window.absence and self.window.where == "after")
        return self.behind + (self.window.timespan - 1 if ahead else 0)

    def _waits(self, row: Row) -> bool:
        return not row.judged and row.value is not UNKNOWN

    def _due(self, watermark: float) -> list[Any]:
        due = [row for row in self.rows if self._waits(row) and row.time + self._reach() < watermark]
        due.sort(key=lambda row: row.order)
        for row in due:
            row.judged, row.hit = True, self._true(row)
        return [alert for row in due if row.hit for alert in self._edge(row)]

    def _group(self, row: Row) -> list[Row]:
        return sorted((one for one in self.rows if one.value is not UNKNOWN and one.group == row.group), key=lambda one: one.order)

    def _window(self, row: Row) -> list[Row]:
        group, span = self._group(row), self.window.timespan
        at = group.index(row)
        if self.window.kind in FORWARD:
            return [one for one in group[at:] if one.time < row.time + span]
        return [one for one in group[: at + 1] if one.time > row.time - span]

    def _true(self, row: Row) -> bool:
        inside = self._window(row)
        if self.window.absence:
            return any(self._unanswered(row, inside, required) for required, _ in self.window.ways)
        if self.window.ways:
            return any(self._holds(inside, *way) for way in self.window.ways)
        number, limit = self._number([row.value for row in inside]), self.window.threshold
        return {
            "gt": number > limit, "gte": number >= limit, "lt": number < limit, "lte": number <= limit, "eq": number == limit,
            "neq": number != limit,
        }[self.window.op]  # fmt: skip

    def _number(self, values: list[Any]) -> float:
        if self.window.kind == "event_count":
            return len(values)
        if self.window.kind == "value_count":
            return len(set(values))
        exact = sorted(map(Fraction, values))
        if self.window.kind == "value_sum":
            return _float(sum(exact, Fraction(0)))
        if self.window.kind == "value_avg":
            return _mean(values)
        if self.window.kind == "value_median":
            return statistics.median_low(values) if len(values) % 2 else _mean(sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1])
        return float(next(v for v in exact if 100 * sum(w <= v for w in exact) >= self.window.percentile * len(exact)))

    def _holds(self, inside: list[Row], required: tuple[int, ...], absent: tuple[int, ...]) -> bool:
        if any(row.steps[step] for row in inside for step in absent):
            return False
        if self.window.kind == "temporal":
            return all(any(row.steps[step] for row in inside) for step in required)
        at = 0
        for row in inside:
            at += at < len(required) and row.steps[required[at]]
        return at == len(required)

    def _unanswered(self, row: Row, inside: list[Row], required: tuple[int, ...]) -> bool:
        if not row.steps[required[-1]]:
            return False
        # The latest beginning: walk back from the row, taking each step as late as it occurs.
        left = list(required[:-1])
        begin = len(inside) - 1
        for at in range(len(inside) - 2, -1, -1):
            if left and inside[at].steps[left[-1]]:
                left.pop()
                begin = at
        if left:
            return False
        if self.window.where == "between":
            return not any(one.absent for one in inside[begin + 1 : -1])
        return not any(one.absent and row.time < one.time < row.time + self.window.timespan for one in self._group(row))

    def _looked_at(self, group: list[Row]) -> list[Row]:
        """The rows that rising edges look at: with an absence those of a last step."""
        lasts = [required[-1] for required, _ in self.window.ways]
        return [row for row in group if not self.window.absence or any(row.steps[last] for last in lasts)]

    def _edge(self, row: Row) -> list[Any]:
        group, marks = self._looked_at(self._group(row)), [mark for mark in self.marks if mark.row.group == row.group]
        at = group.index(row)
        armed = at == 0 or not group[at - 1].hit or group[at - 1].time <= row.time - self.window.timespan
        before = [mark for mark in marks if mark.row.order <= row.order]
        last = max(before, key=lambda mark: mark.row.order) if before else None
        if last is None or armed or row.time - last.row.time >= self.window.suppress:
            last = self._covered(group[at + 1 :], row, marks)
            if last is None:
                return self._fire(row)
        self.counts[last.alert] += 1
        return []

    def _covered(self, later: list[Row], row: Row, marks: list[Mark]) -> Mark | None:
        for one in later:
            if not one.hit or one.time - row.time >= self.window.suppress:
                return None
            for mark in marks:
                if mark.row is one:
                    return mark
        return None

    def _fire(self, row: Row) -> list[Any]:
        own = "" if self.window.group_by == ("otel_ir.agent.id",) else "@" + ",".join(map(str, row.group))
        alert = f"{self.window.name}/{row.event['trace']}/{row.event['span']}{own}"
        self.marks.append(Mark(row, alert))
        if alert in self.counts:
            return []
        self.counts[alert] = 1
        inside = [one.event for one in self._window(row) if any(one.steps)]
        event = row.event | dict(zip(self.window.group_by, row.group, strict=True))
        return [(row.group, event, [(one["trace"], one["span"]) for one in inside])]

    def end_epoch(self, received: int) -> None:
        """Forgets what no window can reach any more, by the watermark."""
        assert received >= self.watermark
        horizon = self.watermark - self.window.timespan - self._reach()
        groups: dict[Any, list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: row.order):
            if row.time > horizon or self._waits(row):
                groups.setdefault(row.group, []).append(row)
        self.rows = [row for rows in groups.values() for row in rows[-self.limits.max_rows :]]
        reach = self.watermark - self._reach() - max(self.window.timespan, self.window.suppress)
        self.marks = [mark for mark in self.marks if mark.row.time > reach]
        marked = {mark.alert for mark in self.marks}
        self.counts = {alert: count for alert, count in self.counts.items() if alert in marked}


def _float(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _mean(values: list[Any]) -> float:
    """Of the sum, rounded; where that is too large, of the exact one."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return float(sum(map(Fraction, values), Fraction(0)) / len(values))
