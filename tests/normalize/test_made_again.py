"""A call that is made again in its trace: which of its spans has the result, and the id, in any order."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

AF = "agent_framework"
ORDERS = [*permutations(range(4))]
ASKED = {"type": "tool_call", "id": "c", "name": "wipe", "arguments": '{"path":"/data"}'}
BACK = {"type": "tool_call_response", "id": "c", "response": "gone"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "wipe", "gen_ai.tool.call.arguments": '{"path":"/data"}'}
NAMED = TOOL | {"gen_ai.tool.call.id": "c"}


def chat(inward: list[dict[str, Any]], outward: list[dict[str, Any]]) -> dict[str, str]:
    texts = [json.dumps([{"role": "x", "parts": parts}]) for parts in (inward, outward)]
    return {"gen_ai.operation.name": "chat", "gen_ai.input.messages": texts[0], "gen_ai.output.messages": texts[1]}


def calls(order: tuple[int, ...], first: dict[str, str], again: dict[str, str]) -> list[tuple[Any, ...]]:
    said = (chat([], [ASKED]), first, again, chat([ASKED, BACK], []))
    spans = [span(one, id=f"{at}" * 16, parent="9" * 16, start=NOW + 2 * at, end=NOW + 2 * at + 1) for at, one in enumerate(said, start=1)]
    events = final_form([Record(at, "traces", 2 * NOW, traces(spans[number], scope=AF)) for at, number in enumerate(order, start=1)])
    events = events.filter(pl.col("event.type") == "tool_call", pl.col("otel_ir.duplicate_of").is_null())
    return sorted(events.select("span_id", "gen_ai.tool.call.id", "gen_ai.tool.call.result").rows())


@pytest.mark.parametrize("order", ORDERS)
def test_the_result_is_that_of_the_span_that_says_it(order: tuple[int, ...]) -> None:
    assert calls(order, NAMED, NAMED | {"gen_ai.tool.call.result": "gone"}) == [("2" * 16, "c", None), ("3" * 16, "c", "gone")]


@pytest.mark.parametrize("order", ORDERS)
def test_a_span_without_an_id_is_of_the_only_call_that_says_the_same(order: tuple[int, ...]) -> None:
    assert calls(order, TOOL, NAMED | {"gen_ai.tool.call.result": "gone"}) == [("2" * 16, "c", None), ("3" * 16, "c", "gone")]


def test_of_two_spans_without_ids_the_one_that_began_first_has_the_result() -> None:
    assert calls((3, 2, 1, 0), TOOL, TOOL) == calls((0, 1, 2, 3), TOOL, TOOL) == [("2" * 16, "c", "gone"), ("3" * 16, "c", None)]
