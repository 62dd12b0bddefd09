"""Calls that waited for a person in one trace and went on in another one, in any order."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, TRACE, logs, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

OTHER = "1" * 32
ORDERS = [*permutations(range(4))]
ASKED = {"type": "tool_call", "id": "c", "name": "wipe", "arguments": '{"path":"/data"}'}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "wipe", "gen_ai.tool.call.id": "c"}
ADK = "gcp.vertex.agent"
ADK_TOOL = TOOL | {"gcp.vertex.agent.tool_call_args": '{"path": "/data"}', "gen_ai.conversation.id": "7"}


def calls(sent: list[tuple[str, bytes]], order: tuple[int, ...]) -> list[tuple[Any, ...]]:
    records = [Record(at, sent[number][0], 2 * NOW, sent[number][1]) for at, number in enumerate(order, start=1)]  # type: ignore[arg-type]
    events = final_form(records).filter(pl.col("event.type") == "tool_call", pl.col("otel_ir.duplicate_of").is_null())
    columns = ("trace_id", "otel_ir.executed", "error", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result")
    return sorted(events.select(columns).rows(), key=repr)


def chat(inward: list[dict[str, Any]], outward: list[dict[str, Any]], **other: Any) -> bytes:
    texts = [json.dumps([{"role": "x", "parts": parts}]) for parts in (inward, outward)]
    said = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": texts[0], "gen_ai.output.messages": texts[1]}
    return traces(span(said, parent="9" * 16, **other), scope="agent_framework")


def tool(scope: str, said: dict[str, Any], **other: Any) -> bytes:
    return traces(span(said, parent="9" * 16, **other), scope=scope)


@pytest.mark.parametrize("order", ORDERS)
def test_a_call_that_ran_in_both_is_two_and_the_result_is_the_second_ones(order: tuple[int, ...]) -> None:
    arguments = {"gen_ai.tool.call.arguments": '{"path":"/data"}'}
    back = {"type": "tool_call_response", "id": "c", "response": "gone"}
    interrupted = TOOL | arguments | {"error.type": "Interrupt"}
    sent = [
        chat([], [ASKED], id="1" * 16, end=NOW + 1),
        tool("agent_framework", interrupted, id="2" * 16, start=NOW + 2, end=NOW + 3, status=2, message="ok?"),
        tool("agent_framework", TOOL | arguments, id="3" * 16, trace=OTHER, start=NOW + 4, end=NOW + 5),
        chat([ASKED, back], [], id="4" * 16, trace=OTHER, start=NOW + 6, end=NOW + 7),
    ]
    assert calls([("traces", one) for one in sent], order) == [
        (TRACE, "yes", True, '{"path":"/data"}', None),
        (OTHER, "yes", False, '{"path":"/data"}', "gone"),
    ]


@pytest.mark.parametrize("order", ORDERS)
def test_what_came_of_a_refused_call_is_the_refusal(order: tuple[int, ...]) -> None:
    call = {"content": {"parts": [{"function_call": {"id": "c", "name": "wipe", "args": {"path": "/data"}}}]}}
    waits, refused = (
        '{"error": "This tool call requires confirmation, please approve or reject."}',
        '{"error": "This tool call is rejected."}',
    )
    back = {"content": {"parts": [{"function_response": {"id": "c", "name": "wipe", "response": json.loads(refused)}}]}}
    sent = [
        ("logs", logs(span({}, event="gen_ai.choice", body=json.dumps(call), trace=TRACE, span="1" * 16, time=NOW + 1), scope=ADK)),
        ("traces", tool(ADK, ADK_TOOL | {"gcp.vertex.agent.tool_response": waits}, id="2" * 16, start=NOW + 2, end=NOW + 3)),
        ("traces", tool(ADK, ADK_TOOL | {"gcp.vertex.agent.tool_response": refused}, id="3" * 16, trace=OTHER, start=NOW + 4, end=NOW + 5)),
        ("logs", logs(span({}, event="gen_ai.user.message", body=json.dumps(back), trace=OTHER, span="4" * 16, time=NOW + 6), scope=ADK)),
    ]
    assert calls(sent, order) == [(TRACE, "rejected", False, '{"path": "/data"}', refused)]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_two_calls_that_both_ran_stay_two_whoever_else_names_them(order: tuple[int, ...]) -> None:
    said = ADK_TOOL | {"gen_ai.tool.call.arguments": '{"path": "/data"}'}
    ran = said | {"gen_ai.tool.call.result": "gone"}
    scope = "opentelemetry.instrumentation.genai.langchain"
    sent = [
        ("traces", tool(scope, words, id=digit * 16, trace=digit * 32, start=NOW + int(digit), end=NOW + int(digit)))
        for digit, words in (("1", ran), ("2", ran), ("3", said))
    ]
    assert [row[1] for row in calls(sent, order)].count("yes") == 2
