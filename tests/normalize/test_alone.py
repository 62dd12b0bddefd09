"""Tools that an application calls by hand: each span is a trace of its own, and the model's is another."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

SECOND = 1_000_000_000


def asks(at: int, arguments: dict[str, Any], trace: str = "1") -> bytes:
    call = {"type": "tool_call", "id": "c-1", "name": "look_up", "arguments": arguments}
    said = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}])}
    return traces(span(said, id=trace * 16, trace=trace * 32, start=NOW + at - 1000, end=NOW + at))


def answers(at: int, arguments: dict[str, Any], trace: str = "3") -> bytes:
    call = {"type": "tool_call", "id": "c-1", "name": "look_up", "arguments": arguments}
    result = {"type": "tool_call_response", "id": "c-1", "response": "found"}
    said = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps([{"parts": [call]}, {"role": "tool", "parts": [result]}])}
    return traces(span(said, id=trace * 16, trace=trace * 32, start=NOW + at - 1000, end=NOW + at))


def runs(at: int, trace: str = "2", **more: str) -> bytes:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look_up", "gen_ai.tool.call.id": "c-1"}
    return traces(span(said | more, id=trace * 16, trace=trace * 32, start=NOW + at, end=NOW + at + 1000))


def calls(sent: list[bytes], order: tuple[int, ...] | None = None) -> list[tuple[Any, ...]]:
    sent = [sent[at] for at in order or range(len(sent))]
    events = final_form([Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)])
    found = [row for row in events.rows(named=True) if row["event.type"] == "tool_call" and row["otel_ir.duplicate_of"] is None]
    return sorted((row["span_id"][0], row["gen_ai.tool.call.arguments"], row["gen_ai.tool.call.result"]) for row in found)


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_the_span_is_the_event_and_learns_the_rest_from_messages(order: tuple[int, ...]) -> None:
    sent = [asks(0, {"n": 1}), runs(5000), answers(9000, {"n": 1})]
    assert calls(sent, order) == [("2", '{"n": 1}', "found")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_other_arguments_are_of_another_call(order: tuple[int, ...]) -> None:
    said = {"gen_ai.tool.call.arguments": '{"n": 2}'}
    assert [one[0] for one in calls([asks(0, {"n": 1}), runs(5000, **said)], order)] == ["1", "2"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_id_that_comes_again_much_later_is_of_another_call(order: tuple[int, ...]) -> None:
    assert [one[0] for one in calls([asks(0, {"n": 1}), runs(100 * SECOND)], order)] == ["1", "2"]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_an_agents_span_may_repeat_the_call(order: tuple[int, ...]) -> None:
    sent = [asks(0, {"n": 1}), asks(9000, {"n": 1}, trace="4"), runs(5000)]
    assert calls(sent, order) == [("2", '{"n": 1}', None)]
