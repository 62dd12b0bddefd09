"""The reference of what counts values, sums them, asks for rules together, reads aliases, or stands over other correlations.

A row has a value beside its group. One that is not known yet makes the row wait: nobody sees it. When what an event says of itself changes,
its row leaves, and comes as it is now; where neither group nor value changed, it stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from reference.fold import Limits, Mark, ReferenceWindows, Row, Window

COLUMNS = {
    "otel_ir.agent.id": "agent",
    "gen_ai.conversation.id": "conversation",
    "user.id": "user",
    "gen_ai.tool.name": "tool",
    "service.name": "service",
    "otel_ir.result.size": "size",
    "error.message": "amount",
}
"""A column of the event frame -> what the streams call it. Other names are aliases, and stand for themselves."""
LATE = ("agent", "conversation", "user")
UNKNOWN = object()


@dataclass
class Kind(Window):
    """``kind``, ``op``, ``fields``, ``clauses`` as a rule says them; ``columns``: of each step, what the group is read from.

    ``inner``: step -> the name of the correlation whose alerts match it.
    """

    kind: str = "event_count"
    op: str = "gt"
    fields: tuple[str, ...] = ()
    clauses: list[tuple[int, ...]] = field(default_factory=list)
    group_by: tuple[str, ...] = ("otel_ir.agent.id",)
    columns: list[tuple[str, ...]] = field(default_factory=list)
    inner: dict[int, str] = field(default_factory=dict)

    def start(self, limits: Limits) -> ReferenceWindows:
        return ReferenceKinds(self, limits)


@dataclass(eq=False)
class ValueRow(Row):
    read: tuple[str, ...] = ()
    value: Any = None


class ReferenceKinds(ReferenceWindows):
    window: Kind

    def fold(self, events: list[dict[str, Any]], patches: list[dict[str, Any]], fired: Any = None) -> list[Any]:
        """``fired``: name of a correlation -> the events that completed its alerts in this record."""
        touched: dict[Any, list[Row]] = {}
        for patch in patches:
            for group, rows in list(self.groups.items()):
                for row in [row for row in rows if _same(row.event, patch)]:
                    self._patch(group, rows, row, patch, touched)
        for read in dict.fromkeys(self.window.columns):
            for event in events:
                of_these = [columns == read and step not in self.window.inner for step, columns in enumerate(self.window.columns)]
                steps = [mine and bool(step(event)) for mine, step in zip(of_these, self.window.steps, strict=True)]
                if any(of_these) and (any(steps) or (self.window.within_events and self.window.service(event))):
                    self._come(event, steps, read, touched)
        for name in dict.fromkeys(self.window.inner.values()):
            steps = [self.window.inner.get(step) == name for step in range(len(self.window.steps))]
            for event in (fired or {}).get(name, []):
                self._come(event, steps, self.window.columns[steps.index(True)], touched)
        alerts = []
        for group in sorted(touched):
            rows = self.groups.setdefault(group, [])
            rows.extend(touched[group])
            rows.sort(key=self._order)
            seen = [row for row in rows if row.value is not UNKNOWN]
            found = self._judge(group, seen, [row for row in touched[group] if row.value is not UNKNOWN])
            alerts += [(group, event | dict(zip(self.window.group_by, group, strict=True)), inside) for group, event, inside in found]
        return alerts

    def _come(self, event: dict[str, Any], steps: list[bool], read: tuple[str, ...], touched: dict[Any, list[Row]]) -> None:
        group, value = self._group(event, read), self._value(event)
        if None not in group and value is not None:
            touched.setdefault(group, []).append(ValueRow(event, steps, read=read, value=value))

    def _patch(self, group: Any, rows: list[Row], row: Any, patch: dict[str, Any], touched: dict[Any, list[Row]]) -> None:
        now = row.event | patch
        to, value = self._group(now, row.read), self._value(now)
        if (to, value) == (group, row.value):
            row.event = now
            return
        rows.remove(row)
        moved = ValueRow(now, row.steps, row.hit, row.read, value)
        for mark in [mark for mark in self.fired.get(group, []) if mark.row is row]:
            self.fired[group].remove(mark)
            mark.row = moved
            self.fired.setdefault(to, []).append(mark)
        touched.setdefault(to, []).append(moved)

    def _group(self, event: dict[str, Any], read: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(event[COLUMNS.get(name, name)] for name in read)

    def _value(self, event: dict[str, Any]) -> Any:
        """None: no row. ``UNKNOWN``: not yet."""
        values = {COLUMNS.get(name, name): event[COLUMNS.get(name, name)] for name in self.window.fields}
        if self.window.kind not in ("event_count", "value_count", "temporal", "temporal_ordered"):
            return _number(*values.values())
        if any(value is None and name not in LATE for name, value in values.items()):
            return None
        unknown = None in values.values() or ("agent" in values and event["source"] == "none")
        return UNKNOWN if unknown else tuple(values.values())

    def _order(self, row: Row) -> tuple[int, ...]:
        """One event may be several rows: those that match earlier rules come first."""
        return *super()._order(row), sum(1 << step for step, matched in enumerate(row.steps) if matched)

    def _reaches(self, group: Any, rows: list[Row], i: int, new: Row) -> bool:
        j = next(at for at, row in enumerate(rows) if row is new)
        if self.window.within_events:
            return j <= i < j + self.window.within_events
        few = self.window.kind != "event_count" or i <= j + self.window.threshold
        return j <= i and few and rows[i].event["time"] < new.event["time"] + self.window.timespan

    def _true(self, group: Any, rows: list[Row], i: int) -> bool:
        inside, threshold = self._window(rows, i), self.window.threshold
        if self.window.kind == "event_count":
            return len(inside) > threshold
        if self.window.kind == "value_count":
            return len({row.value for row in inside}) > threshold
        if self.window.kind == "value_sum":
            total = _sum([row.value for row in inside])
            return total >= threshold if self.window.op == "gte" else total > threshold
        if self.window.kind == "temporal":
            return any(all(any(row.steps[step] for row in inside) for step in clause) for clause in self.window.clauses)
        return any(_in_order(inside, clause) for clause in self.window.clauses)

    def _alert(self, group: Any, row: Row) -> str:
        own = "" if self.window.group_by == ("otel_ir.agent.id",) else "@" + ",".join(map(str, group))
        return super()._alert(group, row) + own


def _same(event: dict[str, Any], patch: dict[str, Any]) -> bool:
    return all(event[name] == patch[name] for name in ("trace", "span", "ordinal"))


def _number(written: Any) -> float | None:
    try:
        number = float(written)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _sum(values: list[float]) -> float:
    """As ``math.fsum``, which gives up where only a part of the sum is too large."""
    exact = sum(map(Fraction, values), Fraction(0))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _in_order(rows: list[Row], clause: tuple[int, ...]) -> bool:
    step = 0
    for row in rows:
        if row.steps[clause[step]]:
            step += 1
            if step == len(clause):
                return True
    return False


__all__ = ["COLUMNS", "Kind", "Mark", "ReferenceKinds"]
