"""Calls that only messages know: hand-offs by the name of the tool, approvals, calls that ran in another trace."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, TRACE, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

AF = "agent_framework"
OTHER = "1" * 32
ASKED = {"type": "tool_call", "id": "c", "name": "wipe", "arguments": '{"path": "/data"}'}
OF = {"type": "function_call", "call_id": "c", "name": "wipe", "arguments": '{"path": "/data"}'}


def said(operation: str, inward: list[dict[str, Any]], outward: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    texts = [json.dumps([{"role": "x", "parts": parts}]) for parts in (inward, outward)]
    attributes = {"gen_ai.operation.name": operation, "gen_ai.input.messages": texts[0], "gen_ai.output.messages": texts[1]}
    return span(attributes | ({"gen_ai.agent.name": "a"} if operation == "invoke_agent" else {}), **other)


def final(*requests: bytes) -> pl.DataFrame:
    events = final_form(Record(at, "traces", 2 * NOW, body) for at, body in enumerate(requests, start=1))
    return events.filter(pl.col("otel_ir.duplicate_of").is_null())


def asked() -> bytes:
    pending = {"type": "function_approval_request", "function_call": OF}
    chat, agent = said("chat", [], [ASKED], id="1" * 16, parent="2" * 16), said("invoke_agent", [], [ASKED, pending], id="2" * 16)
    return traces(chat, agent, scope=AF)


def decided(*, approved: bool, result: str, ran: bool) -> list[bytes]:
    response = {"type": "function_approval_response", "function_call": OF, "approved": approved}
    back = {"type": "tool_call_response", "id": "c", "response": result}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "wipe", "gen_ai.tool.call.id": "c"}
    spans = [span(tool | {"gen_ai.tool.call.result": result}, id="3" * 16, parent="5" * 16, trace=OTHER)] if ran else []
    spans += [
        said("chat", [ASKED, back], [], id="4" * 16, parent="5" * 16, trace=OTHER),
        said("invoke_agent", [response], [back], id="5" * 16, trace=OTHER),
    ]
    return [traces(one, scope=AF) for one in spans]


def calls(events: pl.DataFrame) -> list[tuple[Any, ...]]:
    columns = ("gen_ai.tool.name", "gen_ai.agent.name", "otel_ir.executed", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result")
    return events.filter(pl.col("event.type") == "tool_call").select(columns).rows()


def decisions(events: pl.DataFrame) -> list[tuple[Any, ...]]:
    found = events.filter(pl.col("event.type") == "approval")
    return found.select("gen_ai.tool.name", "gen_ai.agent.name", "otel_ir.approval.decision").rows()


def test_a_call_that_nobody_decided_about_is_pending() -> None:
    events = final(asked())
    assert calls(events) == [("wipe", "a", "pending_approval", '{"path": "/data"}', None)]
    assert decisions(events) == [("wipe", "a", "pending")]


def test_a_refused_call_is_one_event() -> None:
    told = "Error: Tool call invocation was rejected by user."
    events = final(asked(), *decided(approved=False, result=told, ran=False))
    assert calls(events) == [("wipe", "a", "rejected", '{"path": "/data"}', told)]
    assert decisions(events) == [("wipe", "a", "pending"), ("wipe", "a", "rejected")]


def test_an_approved_call_runs_in_another_trace_and_is_one_event() -> None:
    first, ran = asked(), decided(approved=True, result="gone", ran=True)
    for order in (ran, [ran[1], ran[0], ran[2]]):
        events = final(first, *order)
        assert calls(events) == [("wipe", "a", "yes", '{"path": "/data"}', "gone")]
        assert decisions(events) == [("wipe", "a", "pending"), ("wipe", "a", "accepted")]


def test_messages_that_are_sent_again_decide_nothing_again() -> None:
    requests = [asked(), *decided(approved=False, result="rejected by user", ran=False)]
    again = said("invoke_agent", [{"type": "function_approval_request", "function_call": OF}], [], id="6" * 16)
    assert decisions(final(*requests, traces(again, scope=AF))) == decisions(final(*requests))


def test_a_tool_named_for_who_takes_over_is_a_hand_off_even_without_a_span() -> None:
    over = {"type": "tool_call", "id": "h", "name": "handoff_to_billing", "arguments": "{}"}
    chat = said("chat", [], [over], id="1" * 16, parent="2" * 16)
    agent = said("invoke_agent", [], [over, {"type": "tool_call_response", "id": "h", "response": "ok"}], id="2" * 16)
    tool = span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "handoff_to_billing"}, id="7" * 16, parent="2" * 16)
    columns = ("otel_ir.handoff.from", "otel_ir.handoff.to")
    for spans in ([chat, agent], [tool, agent]):
        events = final(traces(*spans, scope=AF))
        assert events.filter(pl.col("event.type") == "handoff").select(columns).rows() == [("a", "billing")]
        assert TRACE in events["trace_id"]
        assert not calls(events)


def test_a_pydantic_agent_says_which_calls_wait_for_approval() -> None:
    final_result = json.dumps({"calls": [], "approvals": [{"tool_name": "wipe", "args": '{"path": "/data"}', "tool_call_id": "c"}]})
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "final_result": final_result}
    assert decisions(final(traces(span(agent), scope="pydantic-ai"))) == [("wipe", "a", "pending")]


def test_a_pydantic_agent_without_content_whose_run_ends_with_calls_asks_for_them() -> None:
    asks = {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "wipe"}], "finish_reason": "tool_call"}
    back = {"role": "user", "parts": [{"type": "tool_call_response", "id": "c", "name": "wipe"}]}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    ran = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "wipe", "gen_ai.tool.call.id": "c", "gen_ai.agent.name": "a"}

    def told(*messages: dict[str, Any]) -> bytes:
        text = json.dumps(messages, separators=(",", ":"))
        return traces(span(agent | {"pydantic_ai.all_messages": text}, id="2" * 16), scope="pydantic-ai")

    tool = traces(span(ran, id="3" * 16, parent="2" * 16), scope="pydantic-ai")
    assert calls(final(told(asks))) == [("wipe", "a", "unknown", None, None)]
    for sent in ([told(asks), tool], [tool, told(asks)]):
        assert calls(final(*sent)) == [("wipe", "a", "yes", None, None)]
    answered = {"role": "assistant", "parts": [{"type": "text"}], "finish_reason": "stop"}
    assert not calls(final(told(asks, back, answered)))


def test_where_every_call_that_runs_has_a_span_a_result_alone_is_no_proof() -> None:
    """Strands: a hook canceled the call."""
    asked = [{"toolUse": {"toolUseId": "c", "name": "wipe", "input": {"n": 1}}}]
    for text, executed in (("not today", "unknown"), ("tool cancelled by user", "rejected")):
        back = [{"toolResult": {"toolUseId": "c", "status": "error", "content": [{"text": text}]}}]
        chat = {"gen_ai.operation.name": "chat"}
        first = span(chat, id="1" * 16, events=[("gen_ai.choice", {"message": json.dumps(asked)})])
        then = span(chat, id="2" * 16, events=[("gen_ai.tool.message", {"content": json.dumps(back)})])
        events = final(traces(first, scope="strands.telemetry.tracer"), traces(then, scope="strands.telemetry.tracer"))
        assert [(one[0], one[2]) for one in calls(events)] == [("wipe", executed)]


LITELLM = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": '[{"role": "assistant", "parts": []}]'}


def nameless(at: int, asks: list[int], told: dict[str, tuple[int, str]]) -> bytes:
    """LiteLLM: each model call is a trace, an answer gives its calls no ids, and the next request has them; results are text parts."""
    answer = {
        f"gen_ai.completion.{number}.function_call.{key}": value
        for number, n in enumerate(asks)
        for key, value in (("name", "wipe"), ("arguments", f'{{"n": {n}}}'))
    }
    asked = [{"id": key, "type": "function", "function": {"name": "wipe", "arguments": f'{{"n":{n}}}'}} for key, (n, _) in told.items()]
    back = [{"role": "tool", "parts": [{"type": "text", "content": text}], "tool_call_id": key} for key, (_, text) in told.items()]
    said = json.dumps([{"role": "assistant", "parts": [], "tool_calls": asked}, *back])
    request = {"gen_ai.input.messages": said} if told else {}
    one = span(LITELLM | answer | request, name="litellm_request", id=f"{at:016x}", trace=f"{at:032x}", start=NOW + at, end=NOW + at + 1)
    return traces(one, scope="litellm")


def of_models(requests: list[bytes]) -> list[tuple[Any, ...]]:
    events = final(*requests)
    columns = ("trace_id", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")
    return sorted((int(row[0], 16), *row[1:]) for row in events.filter(pl.col("event.type") == "tool_call").select(columns).rows())


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_result_finds_a_call_without_an_id_by_what_it_says(order: tuple[int, ...]) -> None:
    told = {f"c{n}": (n, f"gone {n}") for n in (0, 1)}
    sent = [nameless(10, [0, 1], {}), nameless(20, [], told), nameless(30, [], told)]
    assert of_models([sent[at] for at in order]) == [(10, f"c{n}", f'{{"n": {n}}}', f"gone {n}", "yes") for n in (0, 1)]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_calls_without_ids_that_say_the_same_have_the_results_in_the_order_of_time(order: tuple[int, ...]) -> None:
    first, second = {"c0": (7, "failed")}, {"c1": (7, "gone")}
    sent = [nameless(10, [7], {}), nameless(20, [7], first), nameless(30, [], first | second)]
    found = of_models([sent[at] for at in order])
    assert found == [(10, "c0", '{"n": 7}', "failed", "yes"), (20, "c1", '{"n": 7}', "gone", "yes")]


def edited(*, answered: bool) -> list[bytes]:
    """A person had the tool called with other arguments than the model asked for."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "wipe", "gen_ai.tool.call.id": "c"}
    tool |= {"gen_ai.tool.call.arguments": '{"path": "/tmp/x"}', "gen_ai.tool.call.result": "gone"}
    back = {"type": "tool_call_response", "id": "c", "response": "A person changed this call."}
    spans = [
        said("chat", [], [ASKED], id="1" * 16, parent="5" * 16, start=NOW + 1, end=NOW + 2),
        span(tool, id="3" * 16, parent="5" * 16, start=NOW + 3, end=NOW + 4),
        said("chat", [ASKED, back] if answered else [], [], id="4" * 16, parent="5" * 16, start=NOW + 5, end=NOW + 6),
    ]
    return [traces(one, scope=AF) for one in spans]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_call_made_with_other_arguments_than_the_model_asked_for_is_not_that_one(order: tuple[int, ...]) -> None:
    ran = ("wipe", None, "yes", '{"path": "/tmp/x"}', "gone")
    for answered in (False, True):
        sent = edited(answered=answered)
        assert calls(final(*(sent[at] for at in order))) == [ran]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_call_has_the_arguments_of_whichever_answer_gives_them(order: tuple[int, ...]) -> None:
    bare = {name: ASKED[name] for name in ("type", "id", "name")}
    back = {"type": "tool_call_response", "id": "c", "response": "gone"}
    told = ([], [bare]), ([], [ASKED]), ([bare, back], [])
    spans = [said("chat", *parts, id=f"{at}" * 16, start=NOW + at, end=NOW + at) for at, parts in enumerate(told, start=1)]
    sent = [traces(one, scope=AF) for one in spans]
    assert calls(final(*(sent[at] for at in order))) == [("wipe", None, "yes", '{"path": "/data"}', "gone")]
