"""Calls of LangChain.js that wait for a person: they are asked for in one trace, and run or are refused in another one."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

OPENINFERENCE, TRACELOOP = "@arizeai/openinference-instrumentation-langchain", "@traceloop/instrumentation-langchain"
ASKED = {"name": "delete_file", "args": {"path": "/x"}, "type": "tool_call", "id": "c1"}
OUTPUTS = ((OPENINFERENCE, {"openinference.span.kind": "CHAIN"}, "output.value"),)
OUTPUTS += ((TRACELOOP, {"gen_ai.operation.name": "workflow", "traceloop.span.kind": "workflow"}, "traceloop.entity.output"),)


def message(**said: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "X"], "kwargs": said}


def model(number: int) -> dict[str, Any]:
    asked = "llm.output_messages.0.message.tool_calls.0.tool_call.function."
    said = {"openinference.span.kind": "LLM", f"{asked}name": "delete_file", f"{asked}arguments": '{"path": "/x"}'}
    return span(said, id=f"{number:016x}", trace=f"{number:032x}")


def tool(number: int, call_id: str, **other: Any) -> dict[str, Any]:
    answer = json.dumps(message(content="deleted", tool_call_id=call_id, name="delete_file", status="success"))
    said = {"openinference.span.kind": "TOOL", "tool.name": "delete_file", "input.value": "/x", "output.value": answer} | other
    return span(said, id=f"{number:016x}", trace=f"{number:032x}")


def middleware(attributes: dict[str, str], source: str, *answers: dict[str, Any], back: bool = True) -> dict[str, Any]:
    said = message(content="", name="desk", tool_calls=[ASKED, ASKED | {"id": "c2"}])
    output = {"messages": [message(content="x"), said, *answers]} | ({"jumpTo": "model"} if back else {})
    return span(attributes | {source: json.dumps(output, separators=(",", ":"))}, id=f"{9:016x}", trace=f"{9:032x}")


def final(scope: str, *spans: dict[str, Any]) -> pl.DataFrame:
    records = [Record(at, "traces", 2 * NOW, traces(one, scope=scope)) for at, one in enumerate(spans, start=1)]
    return final_form(records).filter(pl.col("otel_ir.duplicate_of").is_null())


REFUSED = message(content="no way", tool_call_id="c1", name="delete_file", status="error")


@pytest.mark.parametrize(("scope", "attributes", "source"), OUTPUTS)
def test_a_refusal_is_told_by_the_way_back_to_the_model(scope: str, attributes: dict[str, str], source: str) -> None:
    found = final(scope, middleware(attributes, source, REFUSED))
    approvals = found.filter(found["event.type"] == "approval")
    assert approvals.select("gen_ai.tool.call.id", "otel_ir.approval.decision", "gen_ai.agent.name").rows() == [("c1", "rejected", "desk")]
    for answers, back in (((REFUSED,), False), ((REFUSED, message(content="x")), True), ((), True)):
        assert final(scope, middleware(attributes, source, *answers, back=back)).is_empty()


def test_a_refused_call_of_which_no_model_tells_is_an_event() -> None:
    scope, attributes, source = OUTPUTS[1]
    found = final(scope, middleware(attributes, source, REFUSED))
    calls = found.filter(found["event.type"] == "tool_call")
    columns = ("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "otel_ir.executed", "gen_ai.agent.name")
    assert calls.select(columns).rows() == [("delete_file", "c1", '{"path":"/x"}', "rejected", "desk")]


@pytest.mark.parametrize("order", [*permutations(range(2))])
def test_a_call_without_an_id_that_was_refused_in_another_trace(order: tuple[int, ...]) -> None:
    scope, attributes, source = OUTPUTS[0]
    spans = [model(1), middleware(attributes, source, REFUSED)]
    found = final(scope, *(spans[at] for at in order))
    calls = found.filter(found["event.type"] == "tool_call")
    assert calls.select("gen_ai.tool.name", "otel_ir.executed").rows() == [("delete_file", "rejected")]


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_a_call_without_an_id_that_ran_in_another_trace(order: tuple[int, ...]) -> None:
    spans = [model(1), tool(2, "c1"), model(3), tool(4, "c2", **{"input.value": "/y"})]
    found = final(OPENINFERENCE, *(spans[at] for at in order))
    calls = found.filter(found["event.type"] == "tool_call").sort("gen_ai.tool.call.id", nulls_last=True)
    columns = ("gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "otel_ir.executed")
    assert calls.select(columns).rows() == [("c1", '{"path": "/x"}', "yes"), ("c2", "/y", "yes"), (None, '{"path": "/x"}', "unknown")]
