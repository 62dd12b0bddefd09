"""Models that count their calls: one id is that of many calls, in one trace, and in every conversation."""

from __future__ import annotations

import json
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
