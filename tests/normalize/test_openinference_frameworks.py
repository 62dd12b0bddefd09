"""OpenInference on frameworks whose spans have forms of their own: BeeAI, DSPy, Haystack."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import NOW, event, span, traces

from otel_ir.model import Record
from otel_ir.offline import final_form

SCOPE = "openinference.instrumentation."


def final(scope: str, *spans: dict[str, Any]) -> pl.DataFrame:
    return final_form(Record(at, "traces", 2 * NOW, traces(one, scope=SCOPE + scope)) for at, one in enumerate(spans, start=1))


@pytest.mark.parametrize("step", [1, -1])
def test_a_tool_of_beeai_that_fails_is_one_call_with_its_cause(step: int) -> None:
    cause = "ToolError(beeai_framework.tools.errors): Tool Error\n  RuntimeError(builtins): refused"
    tool = {"openinference.span.kind": "TOOL", "output.value": cause}
    named = {"tool.name": "send", "input.value": '{"input": {"to": "a"}, "options": null}'}
    asked = "llm.output_messages.0.message.tool_calls.0.tool_call."
    spans = [
        span(
            {
                "openinference.span.kind": "LLM",
                f"{asked}id": "c1",
                f"{asked}function.name": "send",
                f"{asked}function.arguments": '{"to":"a"}',
            },
            id=f"{1:016x}",
        ),
        span(tool | {"input.value": '{"error": "Tool Error"}'}, name="error", status=2, id=f"{2:016x}", parent=f"{3:016x}"),
        span(tool | named, status=2, id=f"{3:016x}"),
    ]
    found = final("beeai", *spans[::step])
    calls = found.filter(found["event.type"] == "tool_call")
    columns = ("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "error", "error.message")
    assert calls.select(columns).rows() == [("send", "c1", '{"to": "a"}', True, cause)]


@pytest.mark.parametrize(("name", "tool"), [("look.up.__call__", "look.up"), ("find.acall", "find"), ("find", "find")])
def test_a_tool_of_dspy_is_what_its_span_calls(name: str, tool: str) -> None:
    attributes = {"openinference.span.kind": "TOOL", "input.value": '{"kwargs": {"a": 1}}', "output.value": '"{\\"x\\": 1}"'}
    found = event(traces(span(attributes, name=name), scope=SCOPE + "dspy"))
    assert (found["gen_ai.tool.name"], found["gen_ai.tool.call.arguments"], found["gen_ai.tool.call.result"]) == (
        tool,
        '{"a": 1}',
        '{"x": 1}',
    )


def told(*messages: str) -> list[tuple[Any, ...]]:
    output = {"desk": {"messages": [f"ChatMessage(_role=<ChatRole.TOOL: 'tool'>, _content=[{one}], _name=None)" for one in messages]}}
    spans = [
        span({"openinference.span.kind": "CHAIN", "output.value": json.dumps(one)}, name=name, id=f"{number:016x}")
        for number, (name, one) in enumerate((("Agent.run", output["desk"]), ("Pipeline.run", output)), start=1)
    ]
    found = final("haystack", *spans)
    columns = (
        "gen_ai.tool.name",
        "gen_ai.tool.call.id",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "otel_ir.executed",
        "error",
    )
    return found.filter(found["event.type"] == "tool_call").select(columns).rows()


def made(call_id: str, arguments: str) -> str:
    return f"ToolCall(tool_name='send', arguments={arguments}, id={call_id!r}, extra=None)"


def test_what_an_agent_of_haystack_did_stands_in_the_repr_of_its_messages() -> None:
    one, other, open_ = made("c1", "{'to': \"it's (a\"}"), made("c2", "{'n': [1, (2,)]}"), made("c3", "{}")
    blocks = "[TextContent(text='x')]"
    found = told(
        one,
        f'ToolCallResult(result="can\'t (", origin={one}, error=True)',
        f"{other}, {open_}",
        f"ToolCallResult(result={blocks}, origin={other}, error=False)",
    )
    assert found == [
        ("send", "c1", '{"to":"it\'s (a"}', "can't (", "yes", True),
        ("send", "c2", '{"n":[1,[2]]}', '[{"text":"x"}]', "yes", False),
        ("send", "c3", "{}", None, "unknown", False),
    ]


@pytest.mark.parametrize(
    "text", ["ToolCall(tool_name='x'", "ToolCall(((", "ToolCall(a b)", "ToolCall(tool_name=__import__('os'))", "ToolCall()"]
)
def test_a_repr_that_is_none_is_no_call(text: str) -> None:
    assert told(text) == []


@pytest.mark.parametrize("step", [1, -1])
def test_autogen_and_openinference_around_it_describe_one_call(step: int) -> None:
    spans = [
        ("autogen-core", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.call.id": f"c{at}"}, at, at + 10)
        for at, name in ((1, "send"), (2, "transfer_to_billing"))
    ]
    spans += [
        (
            SCOPE + "autogen_agentchat",
            {"openinference.span.kind": "TOOL", "tool.name": name, "input.value": "{}", "output.value": "x"},
            at + 10,
            at + 20,
        )
        for at, name in ((1, "send"), (2, "transfer_to_billing"))
    ]
    sent = [traces(span(said, id=f"{own:016x}", parent=f"{above:016x}"), scope=scope) for scope, said, own, above in spans][::step]
    found = final_form(Record(at, "traces", 2 * NOW, one) for at, one in enumerate(sent, start=1))
    found = found.filter(pl.col("otel_ir.duplicate_of").is_null()).sort("gen_ai.tool.call.id")
    columns = ("event.type", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.result", "otel_ir.handoff.to")
    assert found.select(columns).rows() == [
        ("tool_call", "send", "c1", "x", None),
        ("handoff", "transfer_to_billing", "c2", None, "billing"),
    ]
