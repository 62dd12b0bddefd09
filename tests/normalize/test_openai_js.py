"""What the instrumentations of OpenAI's client for JavaScript write of tool calls."""

from __future__ import annotations

import json
import time
from itertools import permutations
from typing import Any

import pytest
from normalize.otlp_maker import NOW, normalized, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

OPENINFERENCE, TRACELOOP = "@arizeai/openinference-instrumentation-openai", "@traceloop/instrumentation-openai"
CALL = "llm.output_messages.0.message.tool_calls.0.tool_call."
Calls = list[tuple[str | None, ...]]


def streamed(tools: tuple[str, ...], call_id: str, name: str, arguments: str) -> Calls:
    schemas = (json.dumps({"type": "function", "function": {"name": tool}}) for tool in tools)
    said = {f"llm.tools.{at}.tool.json_schema": schema for at, schema in enumerate(schemas)}
    said |= {f"{CALL}id": call_id, f"{CALL}function.name": name, f"{CALL}function.arguments": arguments}
    found = normalized(traces(span({"openinference.span.kind": "LLM"} | said), scope=OPENINFERENCE)).calls
    return found.select("call_id", "tool", "arguments").rows()


@pytest.mark.parametrize(
    ("tools", "call_id", "name", "arguments", "expected"),
    [
        (("find", "send"), "call_1", "find", '{"a":1}', [("call_1", "find", '{"a":1}')]),
        (("find", "send"), "call_1call_2", "findsend", '{"a":"}{"}{}', [("call_1", "find", '{"a":"}{"}'), ("call_2", "send", "{}")]),
        (("find",), "call_1call_22", "findfind", "{}{}", [(None, "find", "{}"), (None, "find", "{}")]),
        (("a", "aa", "aaa"), "c1c2", "aaaa", "{}{}", [("c1c2", "aaaa", "{}{}")]),
        (("find",), "c1c2", "findlose", "{}{}", [("c1c2", "findlose", "{}{}")]),
        (("find",), "c1c2", "findfind", '{}{"cut', [("c1c2", "findfind", '{}{"cut')]),
    ],
)
def test_calls_of_a_stream_come_apart_where_they_can(
    tools: tuple[str, ...], call_id: str, name: str, arguments: str, expected: Calls
) -> None:
    assert streamed(tools, call_id, name, arguments) == expected


def test_names_that_can_be_read_in_very_many_ways_are_left_as_they_are() -> None:
    tools, count = tuple("a" * size for size in range(1, 64)), 200
    said = ("c", "a" * 4096, "{}" * count)
    assert streamed(tools, *said) == [said]


@pytest.mark.parametrize("tools", [("find", *(f"z{n}" for n in range(2000))), ("find", *("find" * n for n in range(8, 200)))])
def test_tools_that_the_answer_does_not_name_cost_next_to_nothing(tools: tuple[str, ...]) -> None:
    started = time.process_time()
    found = streamed(tools, "c" * 250, "find" * 250, "{}" * 250)
    assert found[:1] in ([("c", "find", "{}")], [("c" * 250, "find" * 250, "{}" * 250)])
    assert time.process_time() - started < 1


def test_of_the_calls_of_one_answer_a_few_are_taken_apart() -> None:
    said: dict[str, Any] = {"openinference.span.kind": "LLM", "llm.tools.0.tool.json_schema": '{"name": "find"}'}
    for at in range(6):
        call = f"llm.output_messages.0.message.tool_calls.{at}.tool_call."
        said |= {f"{call}id": "c1c2", f"{call}function.name": "findfind", f"{call}function.arguments": "{}{}"}
    found = normalized(traces(span(said), scope=OPENINFERENCE)).calls
    assert found["tool"].to_list() == ["find"] * 8 + ["findfind"] * 2


def asking(number: int, items: list[dict[str, Any]]) -> dict[str, Any]:
    said = [{"role": "user", "parts": [{"type": "text", "content": json.dumps(items)}]}]
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(said)}
    return span(attributes, id=f"{number:016x}", trace=f"{number:032x}", start=NOW + number, end=NOW + number)


def item(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": "find", "arguments": f'{{"a":"{call_id}"}}'}


def output(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": f"found {call_id}"}


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_calls_of_the_responses_api_are_read_where_they_are_brought_back_and_once(order: tuple[int, ...]) -> None:
    said: list[dict[str, Any]] = [{"role": "user", "content": "x"}, item("c1"), output("c1")]
    more = [*said, {"type": "reasoning", "summary": []}, item("c2"), item("c3"), output("c3"), output("c2")]
    said.append({"role": "user", "content": [{"type": "input_image"}]})
    answered = [{"type": "message", "role": "assistant", "content": "done"}, {"role": "user", "content": "y"}]
    sent = [asking(1, said), asking(2, more), asking(3, [*more, *answered])]
    records = [Record(at, "traces", 2 * NOW, traces(sent[n], scope=TRACELOOP)) for at, n in enumerate(order, start=1)]
    found = final_form(records)
    calls = found.filter(found["event.type"] == "tool_call").sort("gen_ai.tool.call.id")
    columns = ("gen_ai.tool.call.id", "gen_ai.tool.name", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")
    assert calls.select(columns).rows() == [(c, "find", f'{{"a":"{c}"}}', f"found {c}", "yes") for c in ("c1", "c2", "c3")]
