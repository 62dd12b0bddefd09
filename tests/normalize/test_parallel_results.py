"""Results of many calls in one request: all that are new are taken, whichever way the messages are written, and of old ones a few."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from normalize.otlp_maker import NOW, logs, normalized, span, traces
from normalize.test_logs_join_spans import records

from otel_ir.engine import Fold
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.messages import MAX_CALLS, MAX_RESULTS, Call, taken, with_calls
from otel_ir.offline import NO_RULES, final_form

Steps = list[list[str]]
"""The ids of the calls of each step; the results of all stand in the request."""
OLD: Steps = [[f"o{number}"] for number in range(40)]
NEW = [f"n{number}" for number in range(20)]


def _parts(steps: Steps) -> dict[str, Any]:
    said = []
    for ids in steps:
        asked = [{"type": "tool_call", "id": one, "name": "t", "arguments": {}} for one in ids]
        back = [{"type": "tool_call_response", "id": one, "response": "ok"} for one in ids]
        said += [{"role": "assistant", "parts": asked}, {"role": "tool", "parts": back}]
    return {"gen_ai.input.messages": json.dumps(said)}


def _in_one_message(steps: Steps) -> dict[str, Any]:
    said = []
    for ids in steps:
        parts = []
        for one in ids:
            parts += [{"type": "tool_call", "id": one, "name": "t"}, {"type": "tool_call_response", "id": one, "response": "ok"}]
        said.append({"role": "assistant", "parts": parts})
    return {"gen_ai.input.messages": json.dumps(said)}


def _chat(steps: Steps) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = [{"role": "user", "content": "do it"}]
    for ids in steps:
        said.append({"role": "assistant", "tool_calls": [{"id": one, "function": {"name": "t", "arguments": "{}"}} for one in ids]})
        said += [{"role": "tool", "tool_call_id": one, "content": "ok"} for one in ids]
    return said


def _chat_form(steps: Steps) -> dict[str, Any]:
    return {"gen_ai.input.messages": json.dumps(_chat(steps))}


def _without_calls(steps: Steps) -> dict[str, Any]:
    return {"gen_ai.input.messages": json.dumps([{k: v for k, v in said.items() if k != "tool_calls"} for said in _chat(steps)])}


def _keyed(steps: Steps, before: str, after: str, inside: str, function: str) -> dict[str, Any]:
    """Each member of a message as an attribute: ``before``, its number, ``after``; those of a call with ``inside`` and ``function``."""
    said: dict[str, Any] = {}
    for at, message in enumerate(_chat(steps)):
        said |= {f"{before}{at}{after}{name}": value for name, value in message.items() if name != "tool_calls"}
        for number, call in enumerate(message.get("tool_calls", ())):
            one = f"{before}{at}{after}tool_calls.{number}.{inside}"
            said |= {f"{one}id": call["id"], f"{one}{function}name": "t", f"{one}{function}arguments": "{}"}
    return said


def _flattened(steps: Steps) -> dict[str, Any]:
    return {"openinference.span.kind": "LLM"} | _keyed(steps, "llm.input_messages.", ".message.", "tool_call.", "function.")


def _numbered(steps: Steps) -> dict[str, Any]:
    return _keyed(steps, "gen_ai.prompt.", ".", "", "")


def _langchain(steps: Steps) -> dict[str, Any]:
    said: list[Any] = []
    for ids in steps:
        said.append({"kwargs": {"type": "ai", "tool_calls": [{"id": one, "name": "t", "args": {}} for one in ids]}})
        said += [{"kwargs": {"type": "tool", "tool_call_id": one, "content": "ok"}} for one in ids]
    return {"langsmith.span.kind": "llm", "gen_ai.prompt": json.dumps({"messages": [said]})}


def _events(steps: Steps) -> dict[str, Any]:
    said: list[Any] = []
    for ids in steps:
        asked = [{"id": one, "function": {"name": "t", "arguments": "{}"}} for one in ids]
        said.append({"event.name": "gen_ai.assistant.message", "tool_calls": asked})
        said += [{"event.name": "gen_ai.tool.message", "id": one, "content": "ok"} for one in ids]
    return {"events": json.dumps([*said, {"event.name": "gen_ai.choice", "message": {"content": "x"}}])}


def _vercel(steps: Steps) -> dict[str, Any]:
    said: list[Any] = []
    for ids in steps:
        said.append(
            {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": one, "toolName": "t", "input": {}} for one in ids]}
        )
        back = [{"type": "tool-result", "toolCallId": one, "toolName": "t", "output": {"type": "text", "value": "ok"}} for one in ids]
        said.append({"role": "tool", "content": back})
    return {"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": json.dumps(said)}


def _haystack(steps: Steps) -> dict[str, Any]:
    said: list[Any] = []
    for ids in steps:
        asked = [{"id": one, "tool_name": "t", "arguments": {}} for one in ids]
        said.append({"role": "assistant", "content": [{"tool_call": one} for one in asked]})
        said += [{"role": "tool", "content": [{"tool_call_result": {"result": "ok", "origin": one}}]} for one in asked]
    return {"haystack.agent.step.llm.input": json.dumps({"messages": said})}


def _logfire(steps: Steps) -> dict[str, Any]:
    return {"request_data": json.dumps({"messages": _chat(steps)}), "response_data": '{"message": {"role": "assistant", "content": "x"}}'}


def _pydantic(steps: Steps) -> dict[str, Any]:
    return {"pydantic_ai.all_messages": _parts(steps)["gen_ai.input.messages"]}


def _pydantic_events(steps: Steps) -> dict[str, Any]:
    said = [{"role": one["role"]} | ({"id": one["tool_call_id"], "content": "ok"} if one["role"] == "tool" else {}) for one in _chat(steps)]
    return {"all_messages_events": json.dumps(said)}


_FORMS: list[tuple[str, Callable[[Steps], dict[str, Any]]]] = [
    ("genai", _parts),
    ("genai", _in_one_message),
    ("genai", _chat_form),
    ("genai", _without_calls),
    ("openinference", _flattened),
    ("flat or genai", _numbered),
    ("flat or genai", _chat_form),
    ("langchain", _langchain),
    ("events", _events),
    ("vercel", _vercel),
    ("haystack", _haystack),
    ("logfire", _logfire),
    ("logfire", _events),
    ("pydantic", _pydantic),
    ("pydantic", _pydantic_events),
]


def results(reader: str, said: dict[str, Any]) -> list[str | None]:
    """The ids of the results that are taken."""
    scope = next(scope.rstrip("*") for one in DIALECTS if one.messages == reader for scope in one.scopes)
    operation = "invoke_agent" if reader == "pydantic" else "chat"
    name = "haystack.agent.step.llm" if reader == "haystack" else operation
    found = normalized(traces(span({"gen_ai.operation.name": operation} | said, name=name), scope=scope)).calls
    return list(dict.fromkeys(found.filter(found["side"] == "result")["call_id"]))


@pytest.mark.parametrize(("reader", "form"), _FORMS, ids=[f"{reader}{form.__name__}" for reader, form in _FORMS])
@pytest.mark.parametrize("before", [[], OLD])
def test_every_new_result_is_taken_and_of_old_ones_the_newest(reader: str, form: Callable[[Steps], dict[str, Any]], before: Steps) -> None:
    assert results(reader, form([*before, NEW])) == NEW
    few = NEW[:3]
    repeated = [one for ids in before[3 - MAX_RESULTS :] for one in ids]
    assert results(reader, form([*before, few])) == [*repeated, *few]


@pytest.mark.parametrize("kind", ["parts", "responses"])
def test_every_result_in_the_log_record_of_one_message_is_taken(kind: str) -> None:
    parts: list[Any] = [{"type": "tool_call_response", "id": one, "response": "ok"} for one in NEW]
    body: dict[str, Any] = {"parts": parts}
    if kind == "responses":
        body = {"content": {"parts": [{"function_response": {"id": one, "name": "t", "response": {}}} for one in NEW]}}
    record = {"attributes": {}, "event": "gen_ai.user.message", "body": json.dumps(body), "trace": "1" * 32, "span": "1" * 16}
    found = normalized(logs(record, scope="opentelemetry.instrumentation.vertexai"), kind="logs").calls
    assert found["call_id"].to_list() == NEW


@pytest.mark.parametrize("bad", [0, 8, 16])
def test_what_happens_first_among_many_calls_is_seen(bad: int) -> None:
    asked = [{"type": "tool_call", "id": f"c{one}", "name": "t", "arguments": {"n": one}} for one in range(17)]
    back = [{"type": "tool_call_response", "id": f"c{one}", "response": "secret" if one == bad else "ok"} for one in range(17)]
    chat = {"gen_ai.operation.name": "chat"}
    first = chat | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": asked}])}
    again = chat | {"gen_ai.input.messages": json.dumps([{"role": "assistant", "parts": asked}, {"role": "tool", "parts": back}])}
    sent = [("traces", traces(span(said, id=f"{at}" * 16, start=NOW + at, end=NOW + at))) for at, said in ((1, first), (2, again))]
    fold = Fold(NO_RULES)
    live = [row for frame in fold.frames(records(sent)) for row in fold.fold(frame).events.rows(named=True)]
    for found in (live, final_form(records(sent)).rows(named=True)):
        calls = {row["gen_ai.tool.call.id"]: row["gen_ai.tool.call.result"] for row in found if row["event.type"] == "tool_call"}
        assert len(calls) == 17
        assert calls[f"c{bad}"] == "secret"


def _calls(side: str, *ids: str) -> list[Call]:
    return [Call(side, one, "t") for one in ids]


def test_results_are_bounded_however_many_there_are() -> None:
    ids = [f"c{number}" for number in range(3 * MAX_CALLS)]
    for messages in (
        [_calls("result", *ids)],
        [_calls("call", *ids[:200]), _calls("result", *ids)],
        [_calls("result", one) for one in ids],
    ):
        told = [call.call_id for call in taken(messages) if call.side == "result"]
        assert told == ids[: len(told)]
        assert len(told) == MAX_CALLS


def test_an_answer_between_them_ends_what_is_new() -> None:
    messages = [_calls("result", *(f"o{one}" for one in range(40))), [], _calls("result", "a"), _calls("result", "b"), []]
    told = [call.call_id for call in taken(messages)]
    assert told == [*(f"o{one}" for one in range(40 - MAX_RESULTS + 2, 40)), "a", "b"]


def test_calls_and_results_that_do_not_know_each_other_take_linear_time() -> None:
    def least(size: int) -> float:
        messages = [_calls("call", *(f"fc_{at}-{one}" for one in range(size // 256))) for at in range(256)]
        messages += [_calls("result", *(f"b{at}-{one}" for one in range(size // 256))) for at in range(256)]
        times = []
        for _ in range(3):
            started = time.process_time()
            assert len([*with_calls(messages)]) > size
            times.append(time.process_time() - started)
        return min(times)

    assert least(80_000) < 8 * least(20_000) + 0.1


def test_the_parts_of_one_message_are_bounded() -> None:
    parts = [{"type": "tool_call", "id": f"a{one}"} for one in range(5000)] + [{"type": "tool_call_response", "id": "b"}] * 5000
    found = results("genai", {"gen_ai.input.messages": json.dumps([{"role": "x", "parts": parts}])})
    assert len(found) <= MAX_CALLS
