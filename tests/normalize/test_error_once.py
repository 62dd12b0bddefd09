"""An error counts once, on the leaf, whatever the framing (DESIGN section 4)."""

from __future__ import annotations

from itertools import permutations

import polars as pl
import pytest
from reference.fold import Record
from reference.streams import frames

from otel_ir.normalize.messages import CALL_SCHEMA
from otel_ir.normalize.weave import Weaver


def _span(name: str, parent: str | None, kind: str | None, *, error: bool = True) -> dict:
    return {
        "trace": "1" * 32, "span": name * 16, "parent": parent and parent * 16, "service": "svc", "type": kind, "tool": None,
        "error": error,
        "agent": None, "conversation": None, "user": None, "position": 0, "time": 5, "lends": False,
    }  # fmt: skip


LEAF, STEP, AGENT, ROOT = (
    _span("a", "b", "tool_call"),
    _span("b", "c", None),
    _span("c", "d", "agent_invocation"),
    _span("d", None, "agent_invocation"),
)


def _errors(records: list[list[dict]], cut: list[int]) -> set[str]:
    stream = [
        Record(
            ordinal,
            ordinal,
            [span | {"position": i} for i, span in enumerate(spans)],
            [span | {"position": i} for i, span in enumerate(spans) if span["type"]],
        )
        for ordinal, spans in enumerate(records, start=1)
    ]  # fmt: skip
    weaver, found, at = Weaver(), set(), 0
    for end in cut:
        woven = weaver.fold(*frames(stream[at:end]), CALL_SCHEMA.to_frame())
        found |= {event.rpartition("/")[2][0] for event in woven.events.filter("error")["otel_ir.event.id"].to_list()}
        taken = woven.patches.filter(~pl.col("error"))["otel_ir.event.id"].to_list()
        assert all(event.rpartition("/")[2][0] in found for event in taken)
        found -= {event.rpartition("/")[2][0] for event in taken}
        at = end
    return found


@pytest.mark.parametrize("cut", [[4], [1, 4], [2, 4], [1, 2, 3, 4]])
def test_the_leaf_keeps_the_error_and_everything_above_it_passes_it_on(cut: list[int]) -> None:
    assert _errors([[LEAF], [STEP], [AGENT], [ROOT]], cut) == {"a"}


@pytest.mark.parametrize("cut", [[4], [1, 4], [2, 4], [1, 2, 3, 4]])
def test_a_gap_in_the_chain_is_closed_when_its_span_comes(cut: list[int]) -> None:
    assert _errors([[LEAF], [AGENT], [STEP], [ROOT]], cut) == {"a"}


@pytest.mark.parametrize("order", [*permutations((LEAF, STEP, AGENT, ROOT))])
@pytest.mark.parametrize("cut", [[4], [2, 4], [1, 2, 3, 4]])
def test_an_error_is_taken_back_from_what_came_before_its_failed_child(order: tuple[dict, ...], cut: list[int]) -> None:
    assert _errors([[one] for one in order], cut) == {"a"}


def test_within_one_request_the_order_of_spans_does_not_matter() -> None:
    assert _errors([[ROOT, AGENT, STEP, LEAF]], [1]) == {"a"}


def test_an_error_of_its_own_counts() -> None:
    assert _errors([[LEAF | {"error": False}], [STEP], [AGENT]], [3]) == {"c"}
