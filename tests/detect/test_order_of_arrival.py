"""What docs/semantics.md says of late spans: the order of arrival does not decide whether a group alerts.

Asked of the reference fold, to which other tests hold the engine.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from reference.fold import Limits, ReferenceWindows, Window
from reference.fold_values import Kind


def _arrive(events: list[dict[str, Any]], window: Window) -> ReferenceWindows:
    """The events in this order, a record each."""
    windows = window.start(Limits())
    for ordinal, event in enumerate(events, start=1):
        windows.fold([event | {"ordinal": ordinal}], [])
    return windows


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abx")), min_size=1, max_size=24).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows))))
    ),
    st.integers(1, 30),
    st.integers(0, 60),
    st.booleans(),
)
def test_arrival_order_does_not_change_whether_a_group_alerts(
    arrivals: tuple[list[tuple[int, str]], list[int]], timespan: int, suppress: int, ordered: bool
) -> None:
    rows, order = arrivals
    # No two events at one time: between such the journal order decides, by definition.
    rows = [(time * 100 + number, tool) for number, (time, tool) in enumerate(rows)]
    events = [
        {"trace": "t", "span": str(number), "time": time, "position": 0, "agent": "a", "tool": tool}
        for number, (time, tool) in enumerate(rows)
    ]
    steps = [lambda event: event["tool"] == "a", lambda event: event["tool"] == "b"] if ordered else [lambda _event: True]
    window = Window("w", steps, timespan * 100, suppress * 100, threshold=3, ordered=ordered)
    in_time = _arrive(sorted(events, key=lambda event: event["time"]), window)
    shuffled = _arrive([events[number] for number in order], window)
    assert bool(shuffled.counts) == bool(in_time.counts)


KINDS: dict[str, dict[str, Any]] = {
    "value_count": {"fields": ("gen_ai.tool.name",), "threshold": 2},
    "value_sum": {"fields": ("otel_ir.result.size",), "threshold": 7},
    "temporal": {"clauses": [(0, 1), (1, 2)]},
    "temporal_ordered": {"clauses": [(0, 1), (2, 1)]},
}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abx"), st.integers(0, 4)), min_size=1, max_size=20).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows))))
    ),
    st.integers(1, 30),
    st.integers(0, 60),
    st.sampled_from(sorted(KINDS)),
)
def test_nor_does_it_for_values_sums_and_rules_together(
    arrivals: tuple[list[tuple[int, str, int]], list[int]], timespan: int, suppress: int, kind: str
) -> None:
    rows, order = arrivals
    events = [
        {"trace": "t", "span": str(number), "time": time * 100 + number, "position": 0, "agent": "a", "tool": tool, "size": size}
        for number, (time, tool, size) in enumerate(rows)
    ]
    steps = [lambda _: True] if kind.startswith("value") else [lambda event, tool=tool: event["tool"] == tool for tool in "abx"]
    window = Kind("w", steps, timespan * 100, suppress * 100, kind=kind, columns=[("otel_ir.agent.id",)] * len(steps), **KINDS[kind])
    in_time = _arrive(sorted(events, key=lambda event: event["time"]), window)
    shuffled = _arrive([events[number] for number in order], window)
    assert bool(shuffled.counts) == bool(in_time.counts)
