"""Calls that only messages know: hand-offs by the name of the tool, approvals, calls that ran in another trace."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
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


def test_a_result_finds_a_call_without_an_id_by_what_it_says() -> None:
    """LiteLLM: each model call is a trace, an answer gives its calls no ids, and the next request has them; results are text parts."""
    base = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": '[{"role": "assistant", "parts": []}]'}
    answer = {
        f"gen_ai.completion.{at}.function_call.{key}": value
        for at in (0, 1)
        for key, value in (("name", "wipe"), ("arguments", f'{{"n": {at}}}'))
    }
    asked = [{"id": f"c{at}", "type": "function", "function": {"name": "wipe", "arguments": f'{{"n":{at}}}'}} for at in (0, 1)]
    back = [{"role": "tool", "parts": [{"type": "text", "content": f"gone {at}"}], "tool_call_id": f"c{at}"} for at in (0, 1)]
    told = json.dumps([{"role": "assistant", "parts": [], "tool_calls": asked}, *back])
    later = [span(base | {"gen_ai.input.messages": told}, id=f"{at}" * 16, trace=f"{at}" * 32) for at in (2, 3)]
    events = final(*(traces(one, scope="litellm") for one in (span(base | answer, name="litellm_request"), *later)))
    found = events.filter(pl.col("event.type") == "tool_call")
    columns = ("gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed")
    assert found.select(columns).rows() == [(f"c{at}", f'{{"n": {at}}}', f"gone {at}", "yes") for at in (0, 1)]
