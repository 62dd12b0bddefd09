"""The kernel of all kinds equals the definition, window by window, on random rows of several groups."""

from __future__ import annotations

import operator
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.both import correlation
from thorough import examples

from otel_ir.detect.truth import Arrays, rising, truth
from otel_ir.sigma.ruleset import Absence, Clause, Correlation

Rows = list[tuple[int, int, int, float]]
"""(group, time, steps, value), sorted."""

ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 7), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7, 1.0, 2.0, -1.0, 1e308])),
    max_size=30,
).map(sorted)
OPS = ("gt", "gte", "lt", "lte", "eq", "neq")


def _arrays(rows: Rows) -> Arrays:
    key, time, steps, value = ([row[at] for row in rows] for at in range(4))
    return Arrays(
        np.array(key, dtype=np.uint32),
        np.array(time, dtype=np.int64),
        np.array(steps, dtype=np.uint32),
        np.array(value, dtype=np.float64).view(np.uint64),
    )


def _window(one: Correlation, rows: Rows, i: int) -> Rows:
    group, time = rows[i][:2]
    if one.deferred and one.kind in ("event_count", "value_count", "value_sum"):
        return [row for row in rows[i:] if row[0] == group and row[1] < time + one.timespan]
    return [row for row in rows[: i + 1] if row[0] == group and row[1] > time - one.timespan]


def _number(kind: str, percentile: int, window: Rows) -> Any:
    values = [row[3] for row in window]
    if kind == "event_count":
        return len(values)
    if kind == "value_count":
        return len(set(values))
    if kind == "value_percentile":
        return next(v for v in sorted(values) if 100 * sum(w <= v for w in values) >= percentile * len(values))
    if kind == "value_median":
        middle = statistics.median(map(Fraction, values))
        return float(middle)
    exact = sum(map(Fraction, values), Fraction(0))
    if kind == "value_sum":
        return float(exact) if abs(exact) < Fraction(2) ** 1024 else float("inf") * (1 if exact > 0 else -1)
    return float(exact / len(values))


@pytest.mark.parametrize("kind", ["event_count", "value_count", "value_sum", "value_avg", "value_percentile", "value_median"])
@settings(max_examples=examples(150), deadline=None)
@given(
    rows=ROWS,
    op=st.sampled_from(OPS),
    span=st.integers(1, 12),
    limit=st.sampled_from([0, 0.3, 0.5, 1, 2, 3]),
    percentile=st.integers(1, 100),
)
def test_numbers(kind: str, rows: Rows, op: str, span: int, limit: float, percentile: int) -> None:
    one = correlation("x", ("any",), kind=kind, op=op, threshold=limit, timespan=span, percentile=percentile)
    want = [
        bool(
            getattr(operator, {"gte": "ge", "lte": "le", "neq": "ne"}.get(op, op))(_number(kind, percentile, _window(one, rows, i)), limit)
        )
        for i in range(len(rows))
    ]
    assert truth(one, _arrays(rows)).hit.tolist() == want


def _in_order(steps: tuple[int, ...], window: Rows) -> bool:
    at = 0
    for row in window:
        if at < len(steps) and row[2] >> steps[at] & 1:
            at += 1
    return at == len(steps)


CLAUSES = st.lists(
    st.sampled_from([Clause((0, 1)), Clause((0,), (2,)), Clause((2, 0)), Clause((0, 1, 2)), Clause((1,), (0, 2)), Clause((1, 1))]),
    min_size=1,
    max_size=2,
)


@settings(max_examples=examples(300), deadline=None)
@given(rows=ROWS, clauses=CLAUSES, ordered=st.booleans(), span=st.integers(1, 12))
def test_steps(rows: Rows, clauses: list[Clause], ordered: bool, span: int) -> None:
    kind = "temporal_ordered" if ordered else "temporal"
    one = correlation("x", ("a", "b", "c"), kind=kind, clauses=tuple(clauses), timespan=span)

    def holds(clause: Clause, window: Rows) -> bool:
        there = [any(row[2] >> step & 1 for row in window) for step in range(3)]
        found = _in_order(clause.required, window) if ordered else all(there[step] for step in clause.required)
        return found and not any(there[step] for step in clause.absent)

    want = [any(holds(clause, _window(one, rows, i)) for clause in clauses) for i in range(len(rows))]
    assert truth(one, _arrays(rows)).hit.tolist() == want


@settings(max_examples=examples(200), deadline=None)
@given(rows=ROWS, span=st.integers(1, 40), within=st.integers(2, 6), last=st.sampled_from([(0, 1), (0, 1, 2), (1, 1)]))
def test_steps_within_events(rows: Rows, span: int, within: int, last: tuple[int, ...]) -> None:
    rows = sorted(rows, key=lambda row: row[0])  # journal order is whatever the order was
    one = correlation("x", ("a", "b", "c"), kind="temporal_ordered", clauses=(Clause(last),), timespan=span, within_events=within)
    want = []
    for i, (group, time, *_) in enumerate(rows):
        window = [row for row in rows[: i + 1] if row[0] == group][-within:]
        want.append(_in_order(last, [row for row in window if row[1] > time - span]))
    assert truth(one, _arrays(rows)).hit.tolist() == want


@settings(max_examples=examples(300), deadline=None)
@given(rows=ROWS, where=st.sampled_from(["between", "after"]), steps=st.sampled_from([(0, 1), (0, 0), (1, 0)]), span=st.integers(1, 12))
def test_absence(rows: Rows, where: str, steps: tuple[int, ...], span: int) -> None:
    rules = ("a", "b")
    one = correlation("x", rules, kind="temporal_ordered", clauses=(Clause(steps),), timespan=span, absence=Absence("c", where))
    arrays = _arrays(rows)
    arrays.steps[:] |= (arrays.steps & 4) << 29  # the third rule is the one of which there must be no match
    for i, (hit, counts) in enumerate(zip(*truth(one, arrays)[:2], strict=True)):
        inside = [j for j in range(i) if rows[j][0] == rows[i][0] and rows[j][1] > rows[i][1] - span and rows[j][2] >> steps[0] & 1]
        done = bool(rows[i][2] >> steps[1] & 1 and inside)
        assert counts == bool(rows[i][2] >> steps[1] & 1)
        if where == "between":
            clear = done and not any(rows[j][2] & 4 for j in range(inside[-1] + 1, i))
        else:
            clear = done and not any(row[0] == rows[i][0] and rows[i][1] < row[1] < rows[i][1] + span and row[2] & 4 for row in rows)
        assert hit == clear


@pytest.mark.parametrize("far", [10**9, 2**61])
def test_times_may_lie_far_apart(far: int) -> None:
    # Files may say anything of their events; groups and times are then too far apart for one number.
    rows: Rows = [(group, time, 1, 0.0) for group in range(3) for time in (0, 1, 2, far, far + 1)]
    one = correlation("x", ("any",), threshold=1, timespan=2)
    assert truth(one, _arrays(rows)).hit.tolist() == [False, True, True, False, True] * 3


@settings(max_examples=examples(200), deadline=None)
@given(rows=ROWS, span=st.integers(1, 12), suppress=st.integers(0, 20), limit=st.integers(0, 3))
def test_rising_edges(rows: Rows, span: int, suppress: int, limit: int) -> None:
    one = correlation("x", ("any",), threshold=limit, timespan=span, suppress=suppress)
    arrays = _arrays(rows)
    found = truth(one, arrays)
    want, last = [], -1
    for i, hit in enumerate(found.hit):
        fresh = i == 0 or rows[i - 1][0] != rows[i][0]
        armed = fresh or not found.hit[i - 1] or rows[i - 1][1] <= rows[i][1] - span
        if hit and (armed or rows[i][1] - rows[last][1] >= suppress):
            last = i
        want.append(last if hit else -1)
    assert rising(arrays, found, span, suppress).tolist() == want
