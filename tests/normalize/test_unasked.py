"""Runs that go on in another trace after a person decided: whose result is it, where spans name no call?"""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, span, traces
from normalize.test_logs_join_spans import Request
from normalize.test_one_call_of_several_emitters import calls

from otel_ir.normalize import unasked
from otel_ir.normalize.calls import Call, canonical

FIRST, SECOND, THIRD = "a" * 32, "b" * 32, "c" * 32
REFUSED = "Tool execution was not approved."
_ASKS = {"type": "tool_call", "id": "c-1", "name": "remove", "arguments": {"path": "/a"}}
_SAID = ("gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")


def one(number: int, trace: str, attributes: dict[str, Any], at: int = 0) -> Request:
    made = span(attributes, id=f"{number:016x}", trace=trace, parent="f" * 16, start=NOW + at, end=NOW + at)
    return "traces", traces(made, scope="opentelemetry.instrumentation.openai_agents")


def tool(number: int, trace: str, arguments: str | None = None, at: int = 0, **said: str) -> Request:
    attributes = {"traceloop.span.kind": "tool", "gen_ai.tool.name": "remove", "gen_ai.operation.name": "execute_tool"} | said
    return one(number, trace, attributes if arguments is None else attributes | {"gen_ai.tool.call.arguments": arguments}, at)


def model(number: int, trace: str, answer: str | None, *, asks: bool = False, call: dict[str, Any] = _ASKS) -> Request:
    """A model call whose request brings ``answer`` back; of its own answer it says what it asks for, or nothing."""
    said: dict[str, Any] = {"gen_ai.operation.name": "chat"}
    if answer is not None:
        brought = {"type": "tool_call_response", "id": call["id"], "response": answer}
        said["gen_ai.input.messages"] = json.dumps([{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [brought]}])
    if asks:
        said["gen_ai.output.messages"] = json.dumps([{"role": "assistant", "parts": [call]}])
    return one(number, trace, said, at=number)


def said(sent: list[Request]) -> list[tuple[Any, ...]]:
    return calls(sent).sort("trace_id", "span_id").select(_SAID).rows()


@pytest.mark.parametrize("arguments", [None, '{"path": "/a"}'])
@pytest.mark.parametrize(("answer", "executed"), [(REFUSED, "rejected"), ("removed", "yes")])
def test_what_was_decided_about_is_the_span_that_waited(arguments: str | None, answer: str, executed: str) -> None:
    for sent in permutations([model(1, FIRST, None), tool(2, FIRST, arguments), model(3, SECOND, answer)]):
        ((call, given, result, far),) = said([*sent])
        assert (call, json.loads(given), result, far) == ("c-1", {"path": "/a"}, answer, executed)


def test_of_two_spans_the_one_beside_the_result_ran() -> None:
    for sent in permutations([tool(2, FIRST), tool(3, SECOND), model(4, SECOND, "removed")]):
        assert [(call, result) for call, _, result, _ in said([*sent])] == [("c-1", None), ("c-1", "removed")]


@pytest.mark.parametrize("other", [tool(5, THIRD), model(5, THIRD, "gone", call=_ASKS | {"id": "c-2"})])
def test_nothing_is_told_where_it_may_be_of_two(other: Request) -> None:
    for sent in permutations([tool(2, FIRST), model(3, SECOND, "removed"), other]):
        assert {(call, result) for call, _, result, _ in said([*sent])} == {(None, None)}


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (tool(2, FIRST, '{"path": "/b"}'), ('{"path": "/b"}', None, "unknown")),
        (tool(2, FIRST, **{"gen_ai.tool.call.result": "other"}), (None, "other", "yes")),
        (tool(2, FIRST, at=9), (None, None, "unknown")),
    ],
)
def test_no_span_is_told_what_contradicts_it(span: Request, expected: tuple[str | None, ...]) -> None:
    for sent in permutations([span, model(3, SECOND, "removed")]):
        assert said([*sent]) == [(None, *expected)]


def test_a_call_that_was_asked_for_in_one_trace_and_ran_in_another_is_one() -> None:
    who = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "gen_ai.conversation.id": "s"}
    agents = [("traces", traces(*(span(who, id="f" * 16, trace=trace) for trace in (FIRST, SECOND)), scope="test"))]
    ran = tool(3, SECOND, '{"path": "/a"}', **{"gen_ai.tool.call.result": "removed"})
    for sent in permutations([model(1, FIRST, None, asks=True), ran, model(4, SECOND, "removed")]):
        found = calls([*agents, *sent])
        assert found.select("span_id", *_SAID).rows() == [(f"{3:016x}", "c-1", '{"path": "/a"}', "removed", "yes")]


def test_a_refusal_of_which_messages_tell_makes_no_second_call() -> None:
    found = calls([model(1, FIRST, None, asks=True), model(3, SECOND, REFUSED)])
    assert found.filter(pl.col("otel_ir.executed") == "rejected").height == found.height == 1


def test_results_that_wait_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unasked, "MAX_HELD", 50_000)
    waiting = unasked.Unasked()
    scope = {
        "tenant": None,
        "conversation": None,
        "sender": None,
        "service.name": None,
        "tool": "t",
        "trace": "t",
        "time": 1,
        "error": None,
    }
    for number in range(400):
        row = scope | {"call_id": f"c{number}", "ordinal": number, "arguments": f'{{"n":{number},"x":"{"x" * 100_000}"}}', "result": "ok"}
        waiting.add(row, told=False)
    assert len(waiting.state()) < 200_000
    assert 30 < len(waiting.results) < 200
    again = unasked.Unasked()
    again.restore(waiting.state())
    assert again.state() == waiting.state()
    call = Call(row | {"call_id": "c399"}, 1, canonical(row["arguments"]))
    assert (again.take(call.row, call) or {})["result"] == "ok"
    call = Call(row | {"call_id": "c0"}, 1, canonical(row["arguments"]))
    assert again.take(call.row, call) is None
