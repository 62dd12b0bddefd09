"""Calls without an id, and spans of another trace that may be of them."""

from __future__ import annotations

import json
from itertools import permutations
from time import process_time
from typing import Any

import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.engine import Fold
from otel_ir.model import Record
from otel_ir.offline import NO_RULES, final_form

SCOPE, SECOND = "@arizeai/openinference-instrumentation-langchain", 1_000_000_000
CALL = "llm.output_messages.0.message.tool_calls.0.tool_call.function"


def asks(number: int, arguments: dict[str, Any], service: str = "a", of: str | None = None) -> bytes:
    said = {"openinference.span.kind": "LLM", "llm.output_messages.0.message.role": "assistant", f"{CALL}.name": "pay"}
    said |= {f"{CALL}.arguments": json.dumps(arguments)} | ({"session.id": of} if of else {})
    place = {"id": f"{number:016x}", "trace": f"{number:032x}", "parent": "e" * 16}
    return traces(span(said, **place, start=NOW - 5, end=NOW), service=service, scope=SCOPE)


def runs(number: int, arguments: dict[str, Any] | None, at: int, service: str = "a", of: str | None = None) -> bytes:
    said = {"openinference.span.kind": "TOOL", "tool.name": "pay", "gen_ai.tool.call.id": f"x{number}"} | ({"session.id": of} if of else {})
    said |= {"input.value": json.dumps(arguments)} if arguments is not None else {}
    place = {"id": f"{number:016x}", "trace": f"{number:032x}", "parent": "3" * 16}
    return traces(span(said, name="pay", **place, start=NOW + at, end=NOW + at + 1), service=service, scope=SCOPE)


def records(sent: list[bytes]) -> list[Record]:
    return [Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)]


@pytest.mark.parametrize(
    ("span_of_it", "count"),
    [
        (runs(2, {"n": 1}, SECOND), 1),
        (runs(2, {"n": 1}, 3600 * SECOND, of="A"), 1),
        (runs(2, None, SECOND, of="A"), 1),
        (runs(2, {"n": 1}, SECOND, service="b"), 2),
        (runs(2, {"n": 1}, SECOND, of="B"), 2),
        (runs(2, {"n": 2}, SECOND, of="A"), 2),
        (runs(2, {"n": 1}, 3600 * SECOND), 2),
        (runs(2, None, SECOND), 2),
    ],
)
def test_a_span_of_another_trace_is_of_a_call_only_if_nothing_contradicts(span_of_it: bytes, count: int) -> None:
    for sent in permutations([asks(1, {"n": 1}, of="A"), span_of_it]):
        rows = final_form(records([*sent])).rows(named=True)
        assert sum(row["event.type"] == "tool_call" and row["otel_ir.duplicate_of"] is None for row in rows) == count


def test_the_end_costs_no_more_than_in_proportion() -> None:
    def cost(count: int) -> float:
        fold = Fold(NO_RULES)
        sent = [asks(n + 1, {"n": n}) for n in range(count)] + [runs(n + 9000, {"m": n}, SECOND) for n in range(count)]
        for frame in fold.frames(records(sent)):
            fold.fold(frame)
        before = process_time()
        fold.finish()
        return process_time() - before

    assert cost(1600) < 10 * cost(400) + 0.1
