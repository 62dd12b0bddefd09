"""At which rows a correlation is true: every kind, over all groups at once, when all rows are there. Pure.

Deferred windows (deferred.py) ask it about what is due, ``rules eval`` about whole files. Windows are slices of the sorted rows, so that
every kind is a few cumulative passes; only sums and medians that come too near to the threshold for these are computed one by one.
docs/semantics.md states the same in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_ir.detect.rows import ABSENCE
from otel_ir.sigma.ruleset import Clause, Correlation

Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

_COMPARE: dict[str, Callable[..., Any]] = {
    "gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal, "eq": np.equal, "neq": np.not_equal,
}  # fmt: skip
_FORWARD = ("event_count", "value_count", "value_sum")
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Arrays:
    """Rows sorted by (``key``, time, journal order), with ``within_events`` by (``key``, journal order).

    ``key``: a number per group. ``time``: ns. ``steps``: bit mask of the rules a row matches, ``ABSENCE`` among them. ``value``: bits
    of a Float64, for ``value_count`` a number that stands for the value. Rows whose value is not known are left out by the caller.
    """

    key: NDArray[Any]
    time: NDArray[np.int64]
    steps: NDArray[np.uint32]
    value: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Windows (slices ``first`` to ``stop`` of ``rows``) and what their number is compared with: one limit, or one per row."""

    rows: Arrays
    first: Index
    stop: Index
    limit: NDArray[np.float64]
    percentile: int

    @property
    def size(self) -> Index:
        return self.stop - self.first

    @property
    def values(self) -> NDArray[np.float64]:
        return self.rows.value.view(np.float64)

    def one_by_one(self, sign: NDArray[Any], doubtful: Bools, number: Callable[[list[float]], float]) -> NDArray[Any]:
        """Fills in the side on which the number of the doubtful windows lies."""
        limits = np.broadcast_to(self.limit, sign.shape)
        for at in np.flatnonzero(doubtful).tolist():
            found = number(self.values[self.first[at] : self.stop[at]].tolist())
            sign[at] = int(found > limits[at]) - int(found < limits[at])
        return sign


class Truth(NamedTuple):
    """Per row: whether it is true there; whether rising edges look at the row at all (with an absence, only at those of a last step);
    its window, as a slice ``first`` to ``stop``.
    """

    hit: Bools
    counts: Bools
    first: Index
    stop: Index


def forward(correlation: Correlation) -> bool:
    """Whether windows begin at their row, ``[t, t + timespan)``, and do not end at it."""
    return correlation.deferred and correlation.kind in _FORWARD


def reach(correlation: Correlation) -> int:
    """How long after a row (ns) something may still come that decides about it."""
    after = correlation.absence is not None and correlation.absence.where == "after"
    return correlation.timespan - 1 if forward(correlation) or after else 0


def truth(correlation: Correlation, rows: Arrays, threshold: float | NDArray[np.float64] | None = None) -> Truth:
    """Where it is true. ``threshold``: a number, or one per row (a learnt one); that of the correlation where it is not given."""
    index = np.arange(len(rows.time))
    if correlation.within_events:
        begin = np.searchsorted(rows.key, rows.key, "left")
        first, stop = np.maximum(begin, index - correlation.within_events + 1), index + 1
    elif forward(correlation):
        first, stop = index, _place(rows, rows.time + correlation.timespan)
    else:
        first, stop = _place(rows, rows.time - correlation.timespan + 1), index + 1
    every = np.ones(len(index), dtype=np.bool_)
    if correlation.absence:
        hit, ends = ~every, ~every
        for clause in correlation.clauses:
            last, start = _completed(clause, rows)
            hit |= last & (start >= first) & _unanswered(correlation, rows, start)
            ends |= last
        return Truth(hit, ends, first, stop)
    if correlation.clauses:
        ordered = correlation.kind == "temporal_ordered"
        hit = ~every
        for clause in correlation.clauses:
            hit |= _clause(clause, rows, first, ordered=ordered, timespan=correlation.timespan if correlation.within_events else None)
        return Truth(hit, every, first, stop)
    limit = np.asarray(correlation.threshold if threshold is None else threshold, dtype=np.float64)
    sign = _MEASURES[correlation.kind](_Asked(rows, first, stop, limit, correlation.percentile))
    return Truth(_COMPARE[correlation.op](sign, 0), every, first, stop)


def rising(rows: Arrays, found: Truth, timespan: int, suppress: int, *, journal_order: bool = False) -> Index:
    """Per row the index of the row whose alert it belongs to: its own where one fires, -1 where the condition is false.

    An alert fires where the condition is true and was not at the row before (or there is none of the group in the timespan), or when
    ``suppress`` has passed since the group's last alert. ``journal_order``: rows of ``within_events``, whose times do not ascend.
    """
    owner = np.full(len(found.hit), -1, dtype=np.int64)
    seen = np.flatnonzero(found.counts)
    hit, key, time = found.hit[seen], rows.key[seen], rows.time[seen]
    armed = np.ones(len(seen), dtype=np.bool_)
    armed[1:] = ~hit[:-1] | (key[1:] != key[:-1])
    if not journal_order:
        armed[1:] |= time[:-1] <= time[1:] - timespan
    starts = np.flatnonzero(hit & armed)
    ends = np.searchsorted(bounds := np.flatnonzero(armed | ~hit), starts, "right")
    bounds = np.append(bounds, len(seen))
    for start, end in zip(starts.tolist(), bounds[ends].tolist(), strict=True):
        at = start
        while at < end:
            if journal_order:
                later = np.flatnonzero(time[at:end] >= time[at] + suppress)
                after = int(later[0]) if len(later) else end - at
            else:
                after = int(np.searchsorted(time[at:end], time[at] + suppress))
            after = at + max(1, after)
            owner[seen[at:after]] = seen[at]
            at = after
    return owner


def number_of(correlation: Correlation, value: NDArray[np.uint64]) -> float:
    """What is compared with the threshold, of one window: for a text. Where nothing is compared, how many rows."""
    if correlation.kind == "value_count":
        return len(np.unique(value))
    numbers = value.view(np.float64).tolist()
    if correlation.kind == "value_percentile":
        return float(sorted(numbers)[-(-correlation.percentile * len(numbers) // 100) - 1])
    known = {"value_sum": total, "value_avg": mean, "value_median": median}.get(correlation.kind)
    return known(numbers) if known else len(numbers)


def total(values: list[float]) -> float:
    """The sum, rounded once, whatever the order; infinite where it is too large for a number."""
    try:
        return math.fsum(values)
    except OverflowError:
        exact = sum(map(Fraction, values), Fraction(0))
        return _rounded(exact)


def mean(values: list[float]) -> float:
    """The sum over the number of values."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return _rounded(sum(map(Fraction, values), Fraction(0)) / len(values))


def median(values: list[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else mean(ordered[half - 1 : half + 1])


def _rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _place(rows: Arrays, times: NDArray[np.int64]) -> Index:
    """For each row, the first of its group at ``times`` or later (the end of the group where there is none)."""
    if not len(times):
        return np.zeros(0, dtype=np.int64)
    group = np.append(0, np.cumsum(rows.key[1:] != rows.key[:-1]))
    start, width = int(rows.time.min()), int(rows.time.max()) - int(rows.time.min()) + 2
    if width * (int(group[-1]) + 1) < 2**62:
        # One ascending number for group and time.
        line, asked = group * width, np.clip(times - start, 0, width - 1)
        return np.searchsorted(line + (rows.time - start), line + asked)
    both, groups = np.concatenate((rows.time, times)), np.concatenate((group, group))
    held = np.repeat(np.array([1, 0], dtype=np.int8), len(times))
    order = np.lexsort((held, both, groups))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(held[order])
    return rank[len(times) :]


def _count(asked: _Asked) -> NDArray[Any]:
    return np.sign(asked.size - asked.limit)


def _distinct(asked: _Asked) -> NDArray[Any]:
    """A row counts in the windows that hold it and not the row before it with the same value: a run of windows, as both ends ascend."""
    key, value, index = asked.rows.key, asked.rows.value, np.arange(len(asked.first))
    order = np.lexsort((index, value, key))
    same = np.zeros(len(order), dtype=np.bool_)
    same[1:] = (key[order][1:] == key[order][:-1]) & (value[order][1:] == value[order][:-1])
    before = np.searchsorted(key, key, "left") - 1
    before[order[1:][same[1:]]] = order[:-1][same[1:]]
    begin = np.maximum(np.searchsorted(asked.first, before, "right"), np.searchsorted(asked.stop, index, "right"))
    end = np.maximum(np.searchsorted(asked.first, index, "right"), begin)
    change = np.bincount(begin, minlength=len(index) + 1) - np.bincount(end, minlength=len(index) + 1)
    return np.sign(np.cumsum(change)[: len(index)] - asked.limit)


def _sum(asked: _Asked) -> NDArray[Any]:
    return _summed(asked, np.ones(len(asked.first)), total)


def _average(asked: _Asked) -> NDArray[Any]:
    return _summed(asked, asked.size.astype(np.float64), mean)


def _summed(asked: _Asked, parts: NDArray[np.float64], number: Callable[[list[float]], float]) -> NDArray[Any]:
    """Sums over ``parts`` against the limit: differences of running sums, and where these may be wrong by as much, the exact ones."""
    values = asked.values
    with np.errstate(over="ignore", invalid="ignore"):
        running, sizes = np.append(0.0, np.cumsum(values)), np.append(0.0, np.cumsum(np.abs(values)))
        about = (running[asked.stop] - running[asked.first]) / parts
        sign: NDArray[Any] = np.sign(about - asked.limit)
        if sizes[-1] < 2**53 and (values == np.floor(values)).all():
            return sign
        wrong = 4 * _EPSILON * ((len(values) + 1) * sizes[asked.stop] / parts + np.abs(asked.limit))
        doubtful = ~(np.abs(about - asked.limit) > wrong)
    return asked.one_by_one(sign, doubtful, number)


def _percentile(asked: _Asked) -> NDArray[Any]:
    """Nearest rank: the smallest value with at least so many percent of the values at or below it."""
    rank = -(-asked.percentile * asked.size // 100)
    return _side(rank, rank, *_ranks(asked))


def _median(asked: _Asked) -> NDArray[Any]:
    sign = _side((asked.size + 1) // 2, asked.size // 2 + 1, *_ranks(asked))
    return asked.one_by_one(sign, np.isnan(sign), median)


def _ranks(asked: _Asked) -> tuple[Index, Index]:
    """How many values of each window are below the limit, and how many at or below it. One limit for all rows."""
    below, within = (np.append(0, np.cumsum(mask)) for mask in (asked.values < asked.limit, asked.values <= asked.limit))
    return below[asked.stop] - below[asked.first], within[asked.stop] - within[asked.first]


def _side(low: Index, high: Index, below: Index, within: Index) -> NDArray[np.float64]:
    """Where the values of rank ``low`` and ``high`` lie: both above (1), both below (-1), both at the limit (0), else not a number."""
    found = np.full(len(low), np.nan)
    found[(below < low) & (within >= high)] = 0
    found[within < low] = 1
    found[below >= high] = -1
    return found


_MEASURES: dict[str, Callable[[_Asked], NDArray[Any]]] = {
    "event_count": _count,
    "value_count": _distinct,
    "value_sum": _sum,
    "value_avg": _average,
    "value_percentile": _percentile,
    "value_median": _median,
}
"""What is compared with the threshold: -1, 0, 1 per row where it is below, at, above."""


def _latest(mask: Bools) -> Index:
    """The index of the newest row of the mask up to each row, -1 where there is none. Indices of earlier groups lie before any window."""
    index = np.arange(len(mask))
    return np.maximum.accumulate(np.where(mask, index, -1)) if len(mask) else index


def _has(rows: Arrays, step: int) -> Bools:
    return (rows.steps >> np.uint32(step) & np.uint32(1)).astype(np.bool_)


def _chain(steps: tuple[int, ...], rows: Arrays) -> Index:
    """Where the latest rows begin that match these steps in order, up to each row; -1 where there are none."""
    latest = _latest(_has(rows, steps[0]))
    for step in steps[1:]:
        before = np.append(-1, latest[:-1])[: len(latest)]
        latest = np.maximum.accumulate(np.where(_has(rows, step), before, -1)) if len(latest) else latest
    return latest


def _clause(clause: Clause, rows: Arrays, first: Index, *, ordered: bool, timespan: int | None) -> Bools:
    """``timespan`` where times do not ascend, so that it does not follow from ``first``."""
    if ordered:
        found = _chain(clause.required, rows) >= first
        if timespan is not None:
            found[found] = _in_order(clause.required, rows, first, np.flatnonzero(found), timespan)
    else:
        found = np.logical_and.reduce([_latest(_has(rows, step)) >= first for step in clause.required])
    for step in clause.absent:
        found &= _latest(_has(rows, step)) < first
    return found


def _in_order(steps: tuple[int, ...], rows: Arrays, first: Index, at: Index, timespan: int) -> Bools:
    """Whether the steps occur in that order among the rows from ``first`` to each of ``at`` that lie in its timespan."""
    reached = np.zeros(len(at), dtype=np.int64)
    wanted = np.array([1 << step for step in steps] + [0], dtype=np.uint32)
    for back in range(int((at - first[at]).max(initial=-1)), -1, -1):
        row = np.maximum(at - back, first[at])
        inside = (at - back >= first[at]) & (rows.time[row] > rows.time[at] - timespan)
        reached += inside & (rows.steps[row] & wanted[reached] != 0)
    found: Bools = reached == len(steps)
    return found


def _completed(clause: Clause, rows: Arrays) -> tuple[Bools, Index]:
    """Which rows match the last step, and where the latest sequence begins that each completes; before its group where there is none."""
    *before, last = clause.required
    start = np.arange(len(rows.time))
    if before:
        chain = _chain(tuple(before), rows)
        start = np.append(-1, chain[:-1])[: len(chain)]
    return _has(rows, last), start


def _unanswered(correlation: Correlation, rows: Arrays, start: Index) -> Bools:
    """Whether no match of the absence's rule lies between the beginning of a sequence and the row, or after it within the timespan."""
    absent = (rows.steps & np.uint32(ABSENCE)).astype(np.bool_)
    if correlation.absence is not None and correlation.absence.where == "between":
        latest = _latest(absent)
        return np.append(-1, latest[:-1])[: len(start)] <= start
    seen = np.append(0, np.cumsum(absent))
    clear: Bools = seen[_place(rows, rows.time + correlation.timespan)] == seen[_place(rows, rows.time + 1)]
    return clear


__all__ = ["ABSENCE", "Arrays", "Truth", "forward", "mean", "median", "number_of", "reach", "rising", "total", "truth"]
