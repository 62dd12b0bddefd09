"""Tools that an application calls by hand: each span is a trace of its own, and the model's is another."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.engine import Fold
from otel_ir.model import Record
from otel_ir.offline import NO_RULES, final_form

SECOND = 1_000_000_000
SHOWN = ("otel_ir.event.id", "otel_ir.journal.ordinal", "gen_ai.agent.name")


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


def told_by(kind: str, trace: str, **who: str) -> bytes:
    """A span that tells of the call: a model's, or an agent's, which repeats what its models said."""
    call = {"type": "tool_call", "id": "c-1", "name": "look_up", "arguments": {"n": 1}}
    said = {"gen_ai.operation.name": kind, "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}])}
    made = span(said | who, id=trace * 16, trace=trace * 32, start=NOW, end=NOW + 1000)
    return traces(made, scope="agent_framework")


def who_called(sent: list[bytes]) -> set[tuple[str | None, ...]]:
    events = final_form([Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)])
    found = events.filter((events["event.type"] == "tool_call") & events["otel_ir.duplicate_of"].is_null())
    return {*found.select("gen_ai.agent.name", "gen_ai.conversation.id", "otel_ir.agent.id_source").rows()}


WHOLE = {"gen_ai.tool.call.arguments": '{"n": 1}', "gen_ai.tool.call.result": "found"}


@pytest.mark.parametrize("content", [{}, WHOLE])
def test_who_called_is_who_tells_of_the_call(content: dict[str, str]) -> None:
    agent = told_by("invoke_agent", "3", **{"gen_ai.agent.name": "billing", "gen_ai.conversation.id": "s"})
    for sent in permutations([told_by("chat", "1"), runs(5000, **content), agent]):
        assert who_called([*sent]) == {("billing", "s", "ancestor")}
    for sent in permutations([told_by("chat", "1", **{"gen_ai.conversation.id": "s"}), runs(5000, **content)]):
        assert who_called([*sent]) == {(None, "s", "resource")}


@pytest.mark.parametrize("content", [{}, WHOLE])
def test_who_called_may_stand_above_who_tells(content: dict[str, str]) -> None:
    call = {"type": "tool_call", "id": "c-1", "name": "look_up", "arguments": {"n": 1}}
    said = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}])}
    model = traces(span(said, id="1" * 16, trace="1" * 32, parent="4" * 16, start=NOW, end=NOW + 1000))
    above = traces(span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, id="4" * 16, trace="1" * 32))
    for sent in permutations([model, runs(5000, **content), above]):
        assert who_called([*sent]) == {("a", None, "ancestor")}


def test_nobody_called_what_says_other_arguments() -> None:
    agent = told_by("invoke_agent", "3", **{"gen_ai.agent.name": "billing"})
    other = runs(5000, **{"gen_ai.tool.call.arguments": '{"n": 2}'})
    for sent in permutations([agent, other]):
        assert (None, None, "resource") in who_called([*sent])


@pytest.mark.parametrize("many", [1, 40])
def test_who_called_is_told_in_the_same_record_however_records_are_framed(many: int) -> None:
    """Few rows and many are asked in two ways."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look_up"} | WHOLE
    others = [traces(span(tool | {"gen_ai.tool.call.id": f"d-{at}"}, trace=f"{at:x}5".zfill(32))) for at in range(many)]
    agent = told_by("invoke_agent", "3", **{"gen_ai.agent.name": "billing"})
    sent = [Record(at, "traces", 2 * NOW, body) for at, body in enumerate([runs(5000, **WHOLE), *others, agent, runs(5000, "4")], start=1)]
    told = []
    for frames in ([sent], [[one] for one in sent]):
        fold = Fold(NO_RULES)
        outputs = [fold.fold(frame) for frame in frames]
        told.append(
            [
                sorted(pl.concat([getattr(output, name) for output in outputs]).select(SHOWN).rows(), key=str)
                for name in ("events", "patches")
            ]
        )
    assert told[0] == told[1]
    assert any(row[2] == "billing" for row in told[0][1])


def a_call(number: str, at: int, conversation: str | None, *, runs: bool = False, **arguments: Any) -> bytes:
    """A trace of its own: a model's span that ends, or a tool's span that begins, at ``at``."""
    of = {} if conversation is None else {"gen_ai.conversation.id": conversation}
    if runs:
        said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look_up", "gen_ai.tool.call.id": "call_1"}
        given = {"gen_ai.tool.call.arguments": json.dumps(arguments)} if arguments else {}
        return traces(span(said | of | given, id=number * 16, trace=number * 32, start=NOW + at, end=NOW + at + 10))
    part = {"type": "tool_call", "id": "call_1", "name": "look_up", "arguments": arguments}
    spoken = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [part]}])}
    return traces(span(spoken | of, id=number * 16, trace=number * 32, start=NOW + at - 10, end=NOW + at))


def test_a_span_takes_no_call_of_another_conversation() -> None:
    sent = [a_call("1", 0, "A", n=1), a_call("2", 1000, "B", n=1), a_call("3", 5000, "A", runs=True)]
    for order in permutations(range(3)):
        assert calls(sent, order) == [("2", '{"n": 1}', None), ("3", '{"n": 1}', None)]


def test_spans_of_two_conversations_with_counted_ids_each_have_their_call() -> None:
    sent = [a_call("1", 0, "A", n="A"), a_call("2", 1000, "B", n="B")]
    sent += [a_call("3", 5000, "A", runs=True), a_call("4", 6000, "B", runs=True)]
    for order in permutations(range(4)):
        assert calls(sent, order) == [("3", '{"n": "A"}', None), ("4", '{"n": "B"}', None)]


def test_spans_that_name_no_conversation_are_told_apart_by_their_arguments() -> None:
    sent = [a_call("1", 0, None, n="A"), a_call("2", 1000, None, n="B")]
    sent += [a_call("3", 5000, None, runs=True, n="A"), a_call("4", 6000, None, runs=True, n="B")]
    for order in permutations(range(4)):
        assert calls(sent, order) == [("3", '{"n": "A"}', None), ("4", '{"n": "B"}', None)]


def test_a_span_takes_one_of_two_calls_that_differ() -> None:
    sent = [a_call("1", 0, None, n="A"), a_call("2", 1000, None, n="B"), a_call("3", 5000, None, runs=True)]
    for order in permutations(range(3)):
        assert len(calls(sent, order)) == 2


def test_the_calls_of_many_conversations_are_met_in_any_order() -> None:
    asks = [a_call(f"{n:x}", n, f"C{n}", n=n) for n in range(1, 8)] + [a_call("f", 0, None, n=0)]
    ran = [a_call(f"{n + 7:x}", 1000 + n, f"C{n}", runs=True) for n in range(1, 8)]
    expected = sorted([(f"{n + 7:x}", f'{{"n": {n}}}', None) for n in range(1, 8)] + [("f", '{"n": 0}', None)])
    assert calls([*asks[::-1], *ran]) == calls([*ran, *asks]) == expected


def test_an_agents_span_may_name_the_conversation_that_its_models_does_not() -> None:
    sent = [a_call("1", 0, None, n=1), a_call("2", 1000, "A", n=1), a_call("3", 500, None, runs=True)]
    for order in permutations(range(3)):
        assert calls(sent, order) == [("3", '{"n": 1}', None)]
