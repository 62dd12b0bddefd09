"""Correlations over any events: ``otel-ir rules eval``.

A file has an end, so each correlation is judged once, when all rows are there, in the order of event time and of the lines. What is true
where is the engine's (truth.py), with all events on time. Correlations over correlations are judged after those they refer to: each
alert is an event at the time of the row that completed it, with the fields of its event, and the values of ``group-by`` over them.
"""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from otel_ir.detect import gathered
from otel_ir.detect.gathered import Aside, Sorted, Taken, reader
from otel_ir.detect.rows import ABSENCE
from otel_ir.detect.truth import Arrays, Truth, rising, truth
from otel_ir.model import MAX_CONTRIBUTING
from otel_ir.sigma.evaluate import Read, look_up
from otel_ir.sigma.event_time import TIME_FIELDS, read_time
from otel_ir.sigma.ruleset import Baseline, Correlation, NewTerms


class Match(NamedTuple):
    """A correlation that became true. ``line``: the event that completed it; ``lines``: those that it rests on, in their order, at most
    ``MAX_CONTRIBUTING``; ``group``: the values of ``group-by``, as text.
    """

    rule_id: str
    line: str
    lines: list[str]
    group: dict[str, str]


@dataclass(slots=True)
class _Judged:
    """The rows of one correlation, and at which of them it fires."""

    taken: Taken
    rows: Sorted
    found: Truth
    fired: NDArray[np.int64]

    def lines(self, i: int) -> list[int]:
        """Where the lines begin that a firing rests on: the newest of its window, or of a window that begins at the row the first."""
        first, stop, within = int(self.found.first[i]), int(self.found.stop[i]), self.taken.correlation.within_events
        inside = first + np.flatnonzero(self.rows.arrays.steps[first:stop] & np.uint32(ABSENCE - 1))
        if within:
            inside = inside[self.rows.arrays.time[inside] > self.rows.arrays.time[i] - self.taken.correlation.timespan]
        some = list(dict.fromkeys(self.rows.at[inside].tolist()))
        return some[:MAX_CONTRIBUTING] if first == i else some[-MAX_CONTRIBUTING:]


class OverEvents:
    """Takes batches of events and what matched in them (``hear``), and gives the matches of correlations at the end (``matches``).

    ``loud``: ids of the correlations whose matches are given. ``time_field``: where the time of an event stands; None: the first of
    ``TIME_FIELDS`` that holds one. ``untimed`` counts events that rules of a correlation matched and that have no time, ``cut``
    events that were left out because too much was kept already. To be used in a ``with``.
    """

    def __init__(self, correlations: Sequence[Correlation], loud: set[str], time_field: str | None = None) -> None:
        self.order = {item.id: place for place, item in enumerate(correlations)}
        self.taken = {item.id: Taken(item) for item in correlations}
        self.loud, self.time_fields = loud, TIME_FIELDS if time_field is None else (time_field,)
        self.untimed = self.cut = self.rows = 0
        self._aside = Aside()
        self._by_rule: defaultdict[str, list[Taken]] = defaultdict(list)
        self._of_all = [taken for taken in self.taken.values() if taken.correlation.within_events]
        for taken in self.taken.values():
            for rule in dict.fromkeys(rule for part in taken.parts for rule in part.bits):
                self._by_rule[rule].append(taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._aside.close()

    def hear(self, read: list[Read], found: list[tuple[int, str]]) -> None:
        """Takes the rows of a batch. ``found``: (index of the event, rule id) of every match."""
        matched: defaultdict[int, list[str]] = defaultdict(list)
        for row, rule in found:
            if rule in self._by_rule:
                matched[row].append(rule)
        for row in range(len(read)) if self._of_all else sorted(matched):
            self._take(read[row], matched.get(row, []))

    def _take(self, one: Read, rules: list[str]) -> None:
        time = next((time for name in self.time_fields if (time := _time(one.event, name)) is not None), None)
        if time is None:
            self.untimed += bool(rules)
            return
        wanted = {taken.correlation.id: taken for taken in self._of_all}
        wanted |= {taken.correlation.id: taken for rule in rules for taken in self._by_rule[rule]}
        fields, fits = reader(one.event), True
        for taken in wanted.values():
            before = len(taken)
            fits &= self.rows < gathered.MAX_ROWS and taken.take(
                fields, rules, time, one.number, lambda: self._aside.keep(one.number, one.line)
            )
            self.rows += len(taken) - before
        self.cut += not fits

    def matches(self) -> Iterator[Match]:
        """By the time and the line of the completing event, then in the order of the rules, then of the groups' first events."""
        judged = {item.id: self._judge(item) for item in self._inner_first()}
        loud = [one for name, one in judged.items() if name in self.loud and len(one.fired)]
        if not loud:
            return
        columns = [
            (one.rows.arrays.time[one.fired], one.rows.number[one.fired], np.full(len(one.fired), self.order[one.taken.correlation.id]),
             one.rows.arrays.key[one.fired].astype(np.int64), one.fired, np.full(len(one.fired), place))
            for place, one in enumerate(loud)
        ]  # fmt: skip
        time, number, order, key, fired, place = (np.concatenate(column) for column in zip(*columns, strict=True))
        names = {one.taken.correlation.id: list(one.taken.groups) for one in loud}
        for at in np.lexsort((fired, key, order, number, time)).tolist():
            one = loud[int(place[at])]
            correlation, i = one.taken.correlation, int(fired[at])
            group = dict(zip(correlation.group_by, names[correlation.id][int(key[at])], strict=True))
            yield Match(correlation.id, self._line(one, i), [self._aside.line(begin) for begin in one.lines(i)], group)

    def _line(self, one: _Judged, i: int) -> str:
        return self._aside.line(int(one.rows.at[i]))

    def _inner_first(self) -> Iterator[Correlation]:
        waiting = [taken.correlation for taken in self.taken.values()]
        done = set[str]()
        while waiting:
            ready = [item for item in waiting if not item.inner - done]
            yield from ready
            done |= {item.id for item in ready}
            waiting = [item for item in waiting if item.id not in done]

    def _judge(self, item: Correlation) -> _Judged:
        taken = self.taken[item.id]
        rows = taken.sorted()
        found, owner = _alerts(item, rows.arrays)
        # With within-events a row may be an event that no rule matched, of which there is no line.
        fired = np.flatnonzero((owner == np.arange(len(owner))) & (rows.at >= 0))
        judged = _Judged(taken, rows, found, fired)
        if item.id in self._by_rule:
            self._pass_on(judged)
        return judged

    def _pass_on(self, judged: _Judged) -> None:
        """Its alerts are events of the correlations over it."""
        item, groups = judged.taken.correlation, list(judged.taken.groups)
        rows = judged.rows
        for i in judged.fired[np.lexsort((rows.number[judged.fired], rows.arrays.time[judged.fired]))].tolist():
            event, at = json.loads(self._line(judged, i)), int(rows.at[i])
            fields = reader(event, dict(zip(item.group_by, groups[int(rows.arrays.key[i])], strict=True)))
            for outer in self._by_rule[item.id]:
                if self.rows >= gathered.MAX_ROWS:
                    self.cut += 1
                    continue
                before = len(outer)
                outer.take(fields, (item.id,), int(rows.arrays.time[i]), int(rows.number[i]), lambda at=at: at)  # type: ignore[misc]
                self.rows += len(outer) - before


def _time(event: dict[str, Any], name: str) -> int | None:
    return next((time for value in look_up(event, name) if (time := read_time(value)) is not None), None)


def _alerts(item: Correlation, rows: Arrays) -> tuple[Truth, NDArray[np.int64]]:
    """Where it is true, and per row the row whose alert it belongs to."""
    if item.new_terms:
        return _new_terms(item, item.new_terms, rows)
    limits = _learnt(item, item.baseline, rows) if item.baseline else None
    found = truth(item, rows, limits)
    return found, rising(rows, found, item.timespan, item.suppress, journal_order=item.within_events is not None)


def _learnt(item: Correlation, baseline: Baseline, rows: Arrays) -> NDArray[np.float64]:
    """Per row the threshold of its group: from the windows, side by side, that ended before it, had a row and were not above it."""
    limits = np.empty(len(rows.time))
    window = rows.time // item.timespan
    starts = np.flatnonzero(np.append(True, (rows.key[1:] != rows.key[:-1]) | (window[1:] != window[:-1])))[: len(limits)]
    key, windows, total = -1, 0, 0
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(limits)], strict=True):
        if rows.key[start] != key:
            key, windows, total = int(rows.key[start]), 0, 0
        limit = baseline.multiple * total / windows if windows >= baseline.learn else item.threshold
        limits[start:stop] = limit
        if stop - start <= limit:
            windows, total = windows + 1, total + stop - start
    return limits


def _new_terms(item: Correlation, terms: NewTerms, rows: Arrays) -> tuple[Truth, NDArray[np.int64]]:
    """A term that its group did not have in ``(t - timespan, t)``, where it had ``learn`` terms then. One by one."""
    index = np.arange(len(rows.time))
    owner = np.full(len(index), -1, dtype=np.int64)
    group, known, alert = -1, OrderedDict[int, int](), -1
    for at, (key, time, value) in enumerate(zip(rows.key.tolist(), rows.time.tolist(), rows.value.tolist(), strict=True)):
        if key != group:
            group, known, alert = key, OrderedDict(), -1
        while known and next(iter(known.values())) <= time - item.timespan:
            known.popitem(last=False)
        if value not in known and len(known) >= terms.learn:
            silent = alert >= 0 and time - int(rows.time[alert]) < item.suppress
            alert = alert if silent else at
            owner[at] = alert
        known[value] = time
        known.move_to_end(value)
    return Truth(owner >= 0, np.ones(len(index), dtype=np.bool_), index, index + 1), owner


__all__ = ["Match", "OverEvents"]
