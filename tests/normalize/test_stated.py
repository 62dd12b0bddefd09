"""Calls that spans named, found one by one as in a query over all."""

from __future__ import annotations

import json
import time
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import span, traces
from normalize.test_logs_join_spans import records

from otel_ir.engine import Fold
from otel_ir.normalize.span_keys import SPAN, SpanKeys
from otel_ir.normalize.stated import Places
from otel_ir.offline import NO_RULES

_CHAT = {"gen_ai.operation.name": "chat"}
_text = st.none() | st.text(max_size=3)


@given(st.tuples(*[_text] * 5))
def test_the_key_of_one_call_is_that_of_a_frame(said: tuple[str | None, ...]) -> None:
    keys = SpanKeys()
    frame = pl.DataFrame([said], schema=dict.fromkeys((*SPAN[:3], "call_id", "tool"), pl.String), orient="row")
    assert [keys.of_call(*said)] == keys.of_calls(frame, "call_id", "tool").tolist()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 9)), max_size=12), st.randoms(use_true_random=False))
def test_keys_are_found_in_a_column_that_grows(parts: list[tuple[int, int]], chance: Any) -> None:
    column, places = pl.Series([], dtype=pl.UInt64), Places()
    for times, size in parts:
        column = column.append(pl.Series([chance.randrange(1, size + 1) for _ in range(times * 3)], dtype=pl.UInt64))
        for key in (1, 5, 10):
            assert places.find(column, key) == [at for at, one in enumerate(column) if one == key]


def test_results_before_their_calls_take_no_query_each() -> None:
    def chat(number: int, side: str, part: dict[str, Any]) -> Any:
        said = _CHAT | {f"gen_ai.{side}.messages": json.dumps([{"role": "assistant", "parts": [part]}])}
        return span(said, id=f"{number:016x}", trace=f"{number:032x}")

    every = range(1, 1001)
    results = [chat(n, "input", {"type": "tool_call_response", "id": f"c{n}", "response": "ok"}) for n in every]
    calls = [chat(n + 2**30, "output", {"type": "tool_call", "id": f"c{n}", "name": "t", "arguments": {"n": n}}) for n in every]
    fold = Fold(NO_RULES)
    started = time.process_time()
    found = [fold.fold([one]).events for one in records([("traces", traces(*results)), ("traces", traces(*calls))])]
    assert time.process_time() - started < 1.5
    assert sum(len(events.filter(pl.col("event.type") == "tool_call", pl.col("otel_ir.executed") == "yes")) for events in found) == 1000
