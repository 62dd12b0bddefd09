"""Calls that no answer tells of, and that a later request repeats."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from normalize.otlp_maker import NOW, span, traces

from otel_ir.model import Record
from otel_ir.normalize import echoes
from otel_ir.normalize.echoes import SEPARATOR, Echoes
from otel_ir.normalize.joins import Joins
from otel_ir.offline import final_form

SCOPE, AGENT = "opentelemetry.instrumentation.anthropic", "f" * 16
ASKED = {"role": "user", "content": "help alice"}
ORDERS = [*permutations(range(3))]


def call(number: int = 1, tool: str = "look_up") -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": f"c-{number}", "name": tool, "input": {"n": number}}
    return [
        {"role": "assistant", "content": json.dumps([block])},
        {"role": "user", "content": json.dumps([{"type": "tool_result", "tool_use_id": f"c-{number}", "content": "found"}])},
    ]


def model(at: int, messages: list[dict[str, Any]], answer: dict[str, str] | None = None) -> bytes:
    said = {"llm.request.type": "chat", "gen_ai.system": "Anthropic", "gen_ai.request.model": "m"}
    said |= {f"gen_ai.prompt.{number}.{name}": text for number, one in enumerate(messages) for name, text in one.items()}
    said |= {f"gen_ai.completion.0.{name}": text for name, text in (answer or {}).items()}
    return traces(span(said, id=f"{at:016x}", parent=AGENT, start=NOW + at - 1, end=NOW + at), scope=SCOPE)


def tool(at: int = 15, **said: str) -> bytes:
    named = {"traceloop.span.kind": "tool", "traceloop.entity.name": "look_up"} | said
    return traces(span(named, id=f"{at:016x}", parent=AGENT, start=NOW + at, end=NOW + at + 1), scope="traceloop.agents")


def calls(sent: list[bytes], order: tuple[int, ...] | None = None) -> list[tuple[Any, ...]]:
    sent = [sent[at] for at in order or range(len(sent))]
    events = final_form([Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)])
    return sorted(
        (row["gen_ai.tool.name"], row["gen_ai.tool.call.id"], row["gen_ai.tool.call.arguments"], row["gen_ai.tool.call.result"])
        for row in events.rows(named=True)
        if row["event.type"] == "tool_call" and row["otel_ir.duplicate_of"] is None
    )


FIRST = ("look_up", "c-1", '{"n":1}', "found")
SILENT = {"role": "assistant", "finish_reason": "tool_use"}


@pytest.mark.parametrize("order", ORDERS)
def test_a_call_of_a_silent_answer_is_known_from_the_next_request(order: tuple[int, ...]) -> None:
    sent = [model(10, [ASKED], SILENT), model(20, [ASKED, *call()], SILENT), model(30, [ASKED, *call(), *call(2)], {"content": "Done."})]
    assert [one[1:2] + one[3:] for one in calls(sent, order)] == [("c-1", "found"), ("c-2", "found")]


@pytest.mark.parametrize("order", ORDERS)
def test_its_tool_span_is_the_event_and_gets_what_it_lacks(order: tuple[int, ...]) -> None:
    assert [one[:2] + one[3:] for one in calls([model(10, [ASKED]), tool(), model(20, [ASKED, *call()])], order)] == [
        ("look_up", "c-1", "found")
    ]


def test_what_stands_in_the_first_request_of_a_trace_was_said_before() -> None:
    assert calls([model(10, [ASKED, *call()], SILENT), model(20, [ASKED, *call()], {"content": "Done."})]) == []


def test_another_conversation_says_nothing_of_this_one() -> None:
    other = {"role": "user", "content": "is this safe?"}
    assert calls([model(10, [other]), model(20, [ASKED, *call()], {"content": "Done."})]) == []


def test_an_answer_that_tells_which_calls_it_has_is_not_silent() -> None:
    told = {"content": "Let me see.", "finish_reason": "stop"}
    assert calls([model(10, [ASKED], told), model(20, [ASKED, *call()], {"content": "Done."})]) == []


@pytest.mark.parametrize("order", ORDERS)
def test_who_takes_over_repeats_the_hand_off_but_did_not_make_it(order: tuple[int, ...]) -> None:
    handed = call(tool="transfer_to_billing")
    assert calls([model(10, [ASKED]), model(20, [ASKED, *handed]), model(30, [ASKED, *handed], {"content": "Done."})], order) == []


@pytest.mark.parametrize("order", ORDERS)
def test_an_answer_that_tells_of_it_counts_for_more(order: tuple[int, ...]) -> None:
    told = {"tool_calls.0.id": "c-1", "tool_calls.0.name": "look_up", "tool_calls.0.arguments": '{"n":1}'}
    sent = [model(5, [ASKED]), model(10, [ASKED], told), model(20, [ASKED, *call()], {"content": "Done."})]
    assert calls(sent, order) == [FIRST]


@pytest.mark.parametrize("order", ORDERS)
def test_messages_as_json_are_silent_where_there_is_no_answer(order: tuple[int, ...]) -> None:
    def asked(at: int, *parts: dict[str, Any]) -> bytes:
        first = {"role": "user", "parts": [{"type": "text", "content": "help alice"}]}
        system = {"role": "system", "parts": [{"type": "text", "content": f"answer {at}"}]}
        said = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps([system, first, *({"parts": [one]} for one in parts)])}
        return traces(span(said, id=f"{at:016x}", parent=AGENT, start=NOW + at - 1, end=NOW + at), scope="traceloop.agents")

    made = {"type": "tool_call", "id": "c-1", "name": "look_up", "arguments": {"n": 1}}
    ran = tool(**{"gen_ai.tool.call.arguments": '{"n":1}', "gen_ai.tool.call.result": "found"})
    sent = [asked(10), ran, asked(20, made, {"type": "tool_call_response", "id": "c-1", "response": "found"})]
    assert calls(sent, order) == [FIRST]


def test_what_waits_survives_a_restart() -> None:
    before, after = Joins(), Joins()
    said = {"begins": "b", "trace": "t", "ordinal": 1, "time": 1, "arguments": "c-1", "call_id": "c-1", "tool": "look_up"}
    for side in ("silent", "result"):
        before.echoes.fold(said | {"side": side})
    scope = {"tenant": None, "sender": None, "service.name": "svc", "call_id": "c-2", "conversation": "s"}
    before.alone.add(scope | {"id": "e", "trace": "t", "tool": "look_up", "ordinal": 2, "arguments": None, "start": 5})
    after.restore(before.state())
    assert after.state() == before.state()
    assert (after.echoes.conversations, after.alone.spans) == (before.echoes.conversations, before.alone.spans)
    assert after.echoes.conversations["tb"].waiting
    assert after.alone.spans


def silent(number: int, ids: list[str], **more: Any) -> dict[str, Any]:
    said = {"trace": "t", "begins": "b", "ordinal": number, "time": number, "arguments": SEPARATOR.join(ids), "call_id": None, "tool": None}
    return said | {"side": "silent"} | more


@given(st.lists(st.text("ab", min_size=1, max_size=3), max_size=60), st.text("ab", min_size=1, max_size=3))
def test_a_call_is_new_where_the_request_before_does_not_repeat_its_id(ids: list[str], call: str) -> None:
    said = Echoes()
    said.fold(silent(1, ids))
    found = said.fold(silent(2, [], side="result", call_id=call, tool="look_up", arguments=None))
    assert bool(found) == (call not in ids)


def test_long_ids_and_many_of_them_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Echoes()
    for number in range(50):
        said.fold(silent(number, [f"{number}" * 100_000 for _ in range(4)], begins=str(number)))
    assert len(said.state()) < 50 * 200
    monkeypatch.setattr(echoes, "MAX_HELD", 10_000)
    for number in range(50, 100):
        said.fold(silent(number, [f"{number} {one}" for one in range(100)], begins=str(number)))
    assert [*said.conversations] == [f"t{number}" for number in range(88, 100)]
    for number in range(100, 200):
        said.fold(silent(number, [], begins=str(number), side="result", call_id="c" * 1000, tool="t", arguments=None))
    assert len(said.state()) < 20_000
    again = Echoes()
    again.restore(said.state())
    assert (again.held, again.conversations) == (said.held, said.conversations)
    again.end_epoch(190)
    assert [*again.conversations] == [key for key, one in said.conversations.items() if one.ordinal >= 190]
    assert again.held == sum(one.size for one in again.conversations.values()) > 0
