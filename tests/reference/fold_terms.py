"""The reference of ``new_terms``: what a group had is a list of (value, time, place in the journal). Slow and obvious, as fold.py.

A row is judged once: when it comes, or when it becomes known. One that was judged and moves tells its new group its value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reference.fold import Limits
from reference.fold_values import UNKNOWN, Kind, ReferenceKinds

Event = dict[str, Any]
HOUR = 3600 * 10**9


@dataclass
class Terms(Kind):
    """``terms``: how many a group has to have before one is new."""

    terms: int = 1

    def start(self, limits: Limits) -> Any:
        return ReferenceTerms(self, limits)


@dataclass(eq=False)
class Row:
    event: Event
    steps: list[bool]
    read: tuple[str, ...]
    group: tuple[Any, ...]
    value: Any

    @property
    def seq(self) -> tuple[int, int]:
        return self.event["ordinal"], self.event["position"]

    @property
    def bits(self) -> int:
        return sum(1 << step for step, matched in enumerate(self.steps) if matched)


class ReferenceTerms:
    def __init__(self, window: Terms, limits: Limits) -> None:
        self.window, self.limits = window, limits
        self.reading = ReferenceKinds(window, limits)
        self.rows: list[Row] = []
        self.had: dict[Any, dict[Any, tuple[int, tuple[int, int]]]] = {}
        self.marks: dict[Any, tuple[Row, int, str]] = {}
        self.counts: dict[str, int] = {}

    def fold(self, events: list[Event], patches: list[Event], fired: dict[str, list[Event]]) -> list[Any]:
        """-> alerts: (group, new event, its span). ``fired``: the alerts of other correlations in this record."""
        inner, columns, came = self.window.inner, self.window.columns, list[Row]()
        for read in dict.fromkeys(columns[step] for step in range(len(columns)) if step not in inner):
            for event in events:
                steps = [columns[i] == read and i not in inner and bool(step(event)) for i, step in enumerate(self.window.steps)]
                self._come(event, steps, read, came)
        for name in dict.fromkeys(inner.values()):
            steps = [inner.get(step) == name for step in range(len(columns))]
            for event in fired.get(name, []):
                self._come(event, steps, columns[steps.index(True)], came)
        alerts = []
        told = [(row, patch) for patch in patches for row in self.rows if _same(row.event, patch)]
        for row, patch in sorted(told, key=lambda one: (one[0].seq, one[0].bits)):
            alerts += self._patch(row, patch)
        for row in sorted(came, key=lambda one: (one.seq, one.bits)):
            if row.value is not UNKNOWN:
                alerts += self._judge(row)
        self.rows += came
        return alerts

    def _come(self, event: Event, steps: list[bool], read: tuple[str, ...], came: list[Row]) -> None:
        group, value = self.reading._group(event, read), self._value(event)
        if any(steps) and None not in group and value is not None:
            came.append(Row(event, steps, read, group, value))

    def _value(self, event: Event) -> Any:
        agent = any("otel_ir.agent.id" in read for read in self.window.columns)
        value = self.reading._value(event)
        return UNKNOWN if agent and value is not None and event["source"] == "none" else value

    def _patch(self, row: Row, patch: Event) -> list[Any]:
        before = (row.group, row.value)
        row.event = row.event | patch
        row.group, row.value = self.reading._group(row.event, row.read), self._value(row.event)
        if row.value is UNKNOWN or (row.group, row.value) == before:
            return []
        if row.group != before[0] and self.marks.get(before[0], (None,))[0] is row:
            self.marks.setdefault(row.group, self.marks.pop(before[0]))
        if before[1] is UNKNOWN:
            return self._judge(row)
        self._note(row)
        return []

    def _note(self, row: Row) -> None:
        had = self.had.setdefault(row.group, {})
        now = (row.event["time"], row.seq)
        had[row.value] = max(now, had.get(row.value, now))

    def _judge(self, row: Row) -> list[Any]:
        time = row.event["time"]
        recent = [value for value, (last, _) in self.had.get(row.group, {}).items() if last > time - self.window.timespan]
        self._note(row)
        if row.value in recent or len(recent) < self.window.terms:
            return []
        mark = self.marks.get(row.group)
        if mark and abs(time - mark[1]) < self.window.suppress:
            self.counts[mark[2]] = self.counts.get(mark[2], 1) + 1
            return []
        own = "" if self.window.group_by == ("otel_ir.agent.id",) else "@" + ",".join(map(str, row.group))
        alert = f"{self.window.name}/{row.event['trace']}/{row.event['span']}{own}"
        self.marks[row.group] = (row, time, alert)
        self.counts[alert] = self.counts.get(alert, 0) + 1
        event = row.event | dict(zip(self.window.group_by, row.group, strict=True))
        return [(row.group, event, [(event["trace"], event["span"])])] if self.counts[alert] == 1 else []

    def end_epoch(self, received: int) -> None:
        horizon, most, span = received - self.limits.lateness, self.limits.max_rows, self.window.timespan
        for group, had in list(self.had.items()):
            kept = sorted((seen, value) for value, seen in had.items() if seen[0] > horizon - span)[-most:]
            self.had[group] = {value: seen for seen, value in kept}
        self.rows = [row for row in self.rows if row.event["time"] > horizon - min(span, HOUR)]
        for group in {row.group for row in self.rows}:
            mine = sorted((row for row in self.rows if row.group == group), key=lambda row: (row.event["time"], row.seq, row.bits))
            gone = set(map(id, mine[:-most]))
            self.rows = [row for row in self.rows if id(row) not in gone]
        reach = horizon - max(min(span, HOUR), self.window.suppress)
        self.marks = {group: mark for group, mark in self.marks.items() if mark[1] > reach}
        alive = {alert for _, _, alert in self.marks.values()}
        self.counts = {alert: count for alert, count in self.counts.items() if alert in alive}


def _same(event: Event, patch: Event) -> bool:
    return all(event[name] == patch[name] for name in ("trace", "span", "ordinal"))
