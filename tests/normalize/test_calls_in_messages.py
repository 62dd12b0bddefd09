"""What LLM messages and spans say of one call, in any order: one event, which says all of it."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.model import Record
from otel_ir.normalize.calls import agree
from otel_ir.offline import final_form

CALL = {"type": "tool_call", "id": "c-1", "name": "lookup"}


def tool(arguments: str | None, *, span_id: str = "a" * 16, result: str | None = None, **more: Any) -> bytes:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "c-1"}
    said |= {f"gen_ai.tool.call.{name}": value for name, value in (("arguments", arguments), ("result", result)) if value is not None}
    return traces(span(said | more, id=span_id, parent="f" * 16))


def asks(arguments: Any, span_id: str = "b" * 16) -> bytes:
    messages = [{"role": "assistant", "parts": [CALL | {"arguments": arguments}]}]
    said = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps(messages)}
    return traces(span(said, id=span_id, parent="f" * 16))


def repeats(arguments: Any, result: str, span_id: str = "c" * 16) -> bytes:
    messages = [
        {"role": "assistant", "parts": [CALL | {"arguments": arguments}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c-1", "response": result}]},
    ]
    said = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(messages)}
    return traces(span(said, id=span_id, parent="f" * 16))


def calls(sent: list[bytes]) -> list[dict[str, Any]]:
    records = [Record(number, "traces", 2 * NOW, body) for number, body in enumerate(sent, start=1)]
    events = final_form(records)
    return [row for row in events.rows(named=True) if row["event.type"] == "tool_call" and row["otel_ir.duplicate_of"] is None]


def told(sent: list[bytes]) -> list[tuple[Any, ...]]:
    names = ("arguments", "result")
    return sorted((*(row[f"gen_ai.tool.call.{name}"] for name in names), row["otel_ir.executed"]) for row in calls(sent))


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_bare_argument_gets_its_name_from_the_message(order: tuple[int, ...]) -> None:
    sent = [tool("alice", result="found"), asks({"email": "alice"}), repeats({"email": "alice"}, "found")]
    assert told([sent[at] for at in order]) == [('{"email": "alice"}', "found", "yes")]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_arguments_that_a_person_changed_are_those_of_the_span(order: tuple[int, ...]) -> None:
    edited = '{"email": "bob"}'
    sent = [tool(edited, result="found"), asks({"email": "alice"}), repeats({"email": "bob"}, "found")]
    assert told([sent[at] for at in order]) == [(edited, "found", "yes")]


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_an_id_that_comes_again_with_other_arguments_is_of_another_call(order: tuple[int, ...]) -> None:
    sent = [
        tool('{"email": "alice"}', result="a"),
        tool('{"email": "bob"}', span_id="d" * 16, result="b"),
        repeats({"email": "alice"}, "a"),
        repeats({"email": "bob"}, "b", span_id="e" * 16),
    ]
    assert told([sent[at] for at in order]) == [('{"email": "alice"}', "a", "yes"), ('{"email": "bob"}', "b", "yes")]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_content_that_messages_tell_is_not_absent(order: tuple[int, ...]) -> None:
    sent = [tool(None), asks({"email": "alice"}), repeats({"email": "alice"}, "found")]
    assert [row["otel_ir.content"] for row in calls([sent[at] for at in order])] == [None]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, '{"a":1}', True),
        ('{"a":1}', '{"a":1,"added":2}', True),
        ('{"a":1}', '{"a":2}', False),
        ("text", '{"a":"text"}', True),
        ("text", '{"a":"other"}', False),
        ('{"a":"[REDACTED]"}', '{"a":"x"}', True),
        ('{"a":"a long text that is c', '{"a":"another"}', True),
        ("a long text that is c", '{"a":"a long text that is cut"}', True),
        ("{'a': 1}", '{"a":2}', True),
    ],
)
def test_two_descriptions_agree_unless_they_say_different_things(one: str | None, other: str, *, same: bool) -> None:
    assert agree(one, other) is same
    assert agree(other, one) is same


LANGCHAIN_JS = "@arizeai/openinference-instrumentation-langchain"
_ASKED = "llm.output_messages.0.message.tool_calls.0.tool_call.function"


def asked_without_id(arguments: str, span_id: str) -> bytes:
    said = {"openinference.span.kind": "LLM", f"{_ASKED}.name": "lookup", f"{_ASKED}.arguments": arguments}
    return traces(span(said, id=span_id, parent="f" * 16), scope=LANGCHAIN_JS)


def ran(given: str, span_id: str, call_id: str | None) -> bytes:
    output = {"output": {"lc": 1, "type": "constructor", "kwargs": {"content": given, "tool_call_id": call_id, "name": "lookup"}}}
    said = {"openinference.span.kind": "TOOL", "tool.name": "lookup", "input.value": given}
    said |= {"output.value": json.dumps(output)} if call_id else {}
    return traces(span(said, id=span_id, parent="f" * 16), scope=LANGCHAIN_JS)


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_a_call_that_messages_tell_of_without_its_id_is_that_of_the_span_with_one(order: tuple[int, ...]) -> None:
    sent = [
        asked_without_id('{"email": "alice"}', "1" * 16),
        ran("alice", "2" * 16, "c-1"),
        asked_without_id('{"email": "bob"}', "3" * 16),
        ran("bob", "4" * 16, None),
    ]
    found = [(row["gen_ai.tool.call.id"], row["gen_ai.tool.call.arguments"]) for row in calls([sent[at] for at in order])]
    assert sorted(found, key=str) == [("c-1", '{"email": "alice"}'), (None, '{"email": "bob"}')]
