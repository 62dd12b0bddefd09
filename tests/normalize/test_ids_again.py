"""Models that count their calls: one id is that of many calls, in one trace, and in every conversation."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.engine import Fold
from otel_ir.model import Record
from otel_ir.offline import NO_RULES, final_form

SECOND = 1_000_000_000
Body = bytes


def asked(call: str | None, tool: str = "t", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "name": tool, "arguments": arguments} | ({} if call is None else {"id": call})


def answered(call: str, response: str) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call, "response": response}


def chat(
    number: int, at: int, out: list[dict[str, Any]] | None = None, said: list[dict[str, Any]] | None = None, trace: int = 1, of: str = ""
) -> Body:
    """A model's span. ``said``: what its request repeats; ``of``: the conversation; ``at``: when it ends, ns."""
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat"} | ({"gen_ai.conversation.id": of} if of else {})
    for name, parts in (("output", out), ("input", said)):
        if parts is not None:
            attributes[f"gen_ai.{name}.messages"] = json.dumps([{"role": "assistant", "parts": parts}])
    return traces(span(attributes, id=f"{number:016x}", trace=f"{trace:032x}", start=NOW + at - 5, end=NOW + at))


def records(sent: list[Body]) -> list[Record]:
    return [Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)]


def calls(sent: list[Body]) -> list[dict[str, Any]]:
    """The calls of the final form."""
    rows = final_form(records(sent)).rows(named=True)
    return [row for row in rows if row["event.type"] == "tool_call" and row["otel_ir.duplicate_of"] is None]


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("gen_ai.conversation.id", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")
    return sorted((tuple(row[name] for name in names) for row in rows), key=str)


@pytest.mark.parametrize("backwards", [False, True])
def test_none_of_many_calls_with_one_id_is_lost(backwards: bool) -> None:
    sent = []
    for number in range(40):
        said = [asked("call_0", n=number - 1), answered("call_0", f"r{number - 1}")] if number else None
        sent.append(chat(number + 1, 10 * number, [asked("call_0", n=number)], said))
    sent = sent[::-1] if backwards else sent
    assert sorted(json.loads(row["gen_ai.tool.call.arguments"])["n"] for row in calls(sent)) == [*range(40)]
    assert [row["gen_ai.tool.call.result"] for row in calls(sent) if row["otel_ir.executed"] == "unknown"] == [None]
    fold = Fold(NO_RULES)
    live = [row for frame in fold.frames(records(sent)) for row in fold.fold(frame).events.rows(named=True)]
    assert sum(row["event.type"] == "tool_call" for row in live) == 39


def test_ids_of_equal_calls_of_one_answer_do_not_grow() -> None:
    rows = calls([chat(1, 0, [asked(None, "n" * 500, i=number) for number in range(100)])])
    assert len({row["otel_ir.event.id"] for row in rows}) == 100
    assert max(len(row["otel_ir.event.id"]) for row in rows) < 100


def test_a_call_is_no_other_one_though_an_earlier_one_with_its_id_was_never_seen() -> None:
    first = chat(1, 0, [asked("call_0", n=1)], [asked("call_0", n=0), answered("call_0", "r0")])
    second = chat(2, 10, None, [asked("call_0", n=1), answered("call_0", "r1")])
    for sent in ([first, second], [second, first]):
        assert told(calls(sent)) == [(None, '{"n": 1}', "r1", "yes")]


def test_of_a_call_in_each_of_many_conversations_the_result_is_known() -> None:
    ask = [chat(n + 1, n, [asked("call_1", c=n)], trace=n + 1, of=f"C{n}") for n in range(100)]
    result = [chat(n + 201, 1000 + n, None, [answered("call_1", f"r{n}")], n + 201, f"C{n}") for n in range(100)]
    expected = sorted(((f"C{n}", f'{{"c": {n}}}', f"r{n}", "yes") for n in range(100)), key=str)
    assert told(calls([*ask, *result])) == expected
    assert told(calls([*result, *ask])) == expected


def test_the_calls_of_many_runs_without_a_conversation_are_told_apart_by_their_arguments() -> None:
    ask = [chat(n + 1, n, [asked("call_1", c=n)], trace=n + 1) for n in range(40)]
    result = [chat(n + 201, 1000 + n, None, [asked("call_1", c=n), answered("call_1", f"r{n}")], n + 201) for n in range(40)]
    expected = sorted(((None, f'{{"c": {n}}}', f"r{n}", "yes") for n in range(40)), key=str)
    assert told(calls([*ask, *result])) == expected
    assert told(calls([*result, *ask])) == expected


def test_a_result_is_that_of_its_own_conversations_call_in_any_order() -> None:
    sent = [
        chat(1, 0, [asked("call_1", who="A")], trace=1, of="A"),
        chat(2, 10, [asked("call_1", who="B")], trace=2, of="B"),
        chat(3, 20, None, [answered("call_1", "of A")], 1, "A"),
        chat(4, 30, None, [answered("call_1", "of B")], 2, "B"),
    ]
    for order in permutations(sent):
        assert told(calls([*order])) == [("A", '{"who": "A"}', "of A", "yes"), ("B", '{"who": "B"}', "of B", "yes")]


def refusal(call: dict[str, Any]) -> list[dict[str, Any]]:
    named = {"type": "function_call", "call_id": call["id"], "name": call["name"], "arguments": call["arguments"]}
    asks = {"type": "function_approval_request", "id": "r", "function_call": named}
    return [asks, {"type": "function_approval_response", "id": "r", "approved": False, "function_call": named}]


@pytest.mark.parametrize(
    ("other", "at", "of", "executed"),
    [
        (asked("call_1", "wire", z=9), 5, "B", "unknown"),
        (asked("call_1", "pay", n=1), 5, "B", "unknown"),
        (asked("call_1", "pay", n=1), 5, "A", "rejected"),
        (asked("call_1", "pay", n=2), 5, "", "unknown"),
        (asked("call_1", "wire", n=1), 5, "", "unknown"),
        (asked("call_1", "pay", n=1), 5, "", "unknown"),
    ],
)
def test_a_refusal_is_of_the_call_that_it_names(other: dict[str, Any], at: int, of: str, executed: str) -> None:
    call = asked("call_1", "pay", n=1)
    sent = [chat(1, 0, [call], trace=1, of="A"), chat(2, 10, None, refusal(call), 1, "A"), chat(3, at, [other], trace=3, of=of)]
    for order in permutations(sent):
        found = {row["span_id"][-1]: row["otel_ir.executed"] for row in calls([*order])}
        assert found == ({"1": "rejected"} if of == "A" else {"1": "rejected", "3": executed})


def test_a_refusal_in_a_later_trace_is_of_the_only_call_that_it_may_be_of() -> None:
    call = asked("call_1", "pay", n=1)
    for of in ("A", ""):
        sent = [chat(1, 0, [call], trace=1, of=of), chat(2, 10, None, refusal(call), 2, of)]
        for order in permutations(sent):
            assert [row["otel_ir.executed"] for row in calls([*order])] == ["rejected"]
