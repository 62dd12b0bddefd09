"""The order of arrival does not matter at all to what waits, within the lateness: the same alerts, at the same rows, counted as often.

Asked of the reference fold, to which other tests hold the engine.
"""

from __future__ import annotations

from typing import Any

import pytest
from detect.test_deferred_reference import NUMBERS, STEPS
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.both import Case
from reference.fold import Limits
from thorough import examples

LATENESS = 1215
ROWS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abcx"), st.sampled_from([1, 2, 5, "0.1"])), min_size=1, max_size=16)


def _counts(case: Case, events: list[dict[str, Any]]) -> tuple[set[Any], dict[str, int]]:
    """Alerts (with what contributed), and counts, of the events in this order, a record each."""
    window = case[1].start(Limits(lateness=LATENESS))
    found, newest = [], 0
    for ordinal, event in enumerate(events, start=1):
        newest = max(newest, event["time"])
        found += window.fold([event | {"ordinal": ordinal}], [], {}, newest)
    found += window.finish()
    return {(event["span"], tuple(inside)) for _, event, inside in found}, window.counts


@pytest.mark.parametrize("case", [*NUMBERS, *STEPS], ids=lambda case: case[0].id)
@settings(max_examples=examples(15), deadline=None)
@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows))))))
def test_arrival_order_changes_nothing(case: Case, arrivals: tuple[list[tuple[int, str, Any]], list[int]]) -> None:
    rows, order = arrivals
    # No two events at one time: between such the journal order decides, by definition.
    events = [
        {
            "trace": "t", "span": str(number), "time": time * 20 + number, "position": 0, "agent": "a", "source": "own",
            "conversation": "c",
            "user": "a", "service": "s", "type": "tool_call", "tool": tool, "size": value, "amount": value,
        }
        for number, (time, tool, value) in enumerate(rows)
    ]  # fmt: skip
    in_time = sorted(events, key=lambda event: event["time"])
    assert _counts(case, [events[number] for number in order]) == _counts(case, in_time)
