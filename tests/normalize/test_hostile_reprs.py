"""Reprs and JSON with what Python reads and no frame takes, and quotes that nobody closes: each value costs only itself."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import time
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import span, traces
from normalize.test_hostile_text import rows, tasks

import otel_ir.decode
import otel_ir.normalize
from otel_ir.decode import decode_traces
from otel_ir.model import Record
from otel_ir.normalize.arguments import argument_columns, mend
from otel_ir.normalize.crew import crew_calls
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.extract import extract
from otel_ir.normalize.few import compiled
from otel_ir.normalize.reprs import calls_in
from otel_ir.normalize.unwrap import UNWRAPPERS

_HAYSTACK, _CREW = "openinference.instrumentation.haystack", "opentelemetry.instrumentation.crewai"
_CALL = "ToolCall(tool_name={}, arguments={}, id={})"


def agents(*messages: str) -> dict[str, Any]:
    return {"openinference.span.kind": "AGENT", "output.value": json.dumps({"messages": [*messages]})}


def test_a_lone_surrogate_in_a_message_of_haystack_stops_nothing() -> None:
    call = _CALL.format(r"'a\ud800'", r"{'x': 'y\ud800'}", r"'i\ud800'")
    (found,) = rows(span(agents(call)), scope=_HAYSTACK)
    assert (found["gen_ai.tool.name"], found["gen_ai.tool.call.id"]) == ("a?", "i?")
    assert found["gen_ai.tool.call.arguments"] == r'{"x":"y\ud800"}'
    result = f"ToolCallResult(result='r\\ud800', origin={call}, error=False)"
    (found,) = rows(span(agents(call, result)), scope=_HAYSTACK)
    assert found["gen_ai.tool.call.result"] == "r?"


_SURROGATES = [
    json.dumps(dict.fromkeys(("a", "id", "name", "kwargs", "input", "content", "tool_call_id", "message"), "\ud800")),
    json.dumps({"\ud800": 1, "input_str": "{'a': '\ud800'}", "inputs": {"\ud800": "\ud800"}}),
    json.dumps({"input": r"{'a': '\ud800'}", "args": ["\ud800"], "output": {"tool_call_id": "\ud800", "content": "\ud800"}}),
    json.dumps([{"role": "\ud800", "tool_call_id": "\ud800", "content": "\ud800", "parts": [{"type": "tool_call", "id": "\ud800"}]}]),
    json.dumps([{"role": "tool", "tool_call_id": "i\ud800", "content": "\ud800", "name": "\ud800"}]),
    json.dumps([{"toolUse": {"name": "\ud800", "toolUseId": "\ud800", "input": "\ud800"}, "type": "tool_use", "id": "\ud800"}]),
    json.dumps("\ud800"),
    json.dumps(json.dumps("\ud800")),
    r"{'a': '\ud800', '\udfff': ['\ud800']}",
    r"'\ud800'",
    tasks(content="\ud800").replace("lookup", r"\ud800").replace("c-1", r"\ud800").replace("Finder", r"\ud800"),
    json.dumps([_CALL.format(r"'\ud800'", r"{'\ud800': '\ud800'}", r"'\ud800'")]),
]


def _keys() -> dict[str, list[str]]:
    """Scope -> keys that some dialect of it reads, as far as the tables name them."""
    found: dict[str, set[str]] = {}
    for dialect in DIALECTS:
        named = re.findall(r"['\"]([a-zA-Z_@][\w.:/@-]{2,80})['\"]", repr(dialect))
        for scope in dialect.scopes or ("test",):
            found.setdefault(scope.rstrip("*"), set()).update(one for one in named if "." in one or "_" in one)
    return {scope: sorted(keys) for scope, keys in found.items()}


@pytest.mark.parametrize("text", _SURROGATES)
def test_no_lone_surrogate_reaches_a_frame_whatever_attribute_it_stands_in(text: str) -> None:
    ops = ({"gen_ai.operation.name": "chat"}, {"gen_ai.operation.name": "execute_tool"}, {"traceloop.span.kind": "tool"})
    for scope, keys in _keys().items():
        said = [op | dict.fromkeys(keys, text) | op for op in ops] + [op | {key: text} for key in keys for op in ops[:2]]
        body = traces(*(span(one, events=[("gen_ai.choice", {"message": text})]) for one in said), scope=scope)
        found = extract(decode_traces([Record(1, "traces", 1, body)]), frozenset({"otel_ir.arguments.a"}))
        for frame in (found.events, found.calls):
            frame.write_json()


@pytest.mark.parametrize("text", _SURROGATES)
def test_no_unwrapper_gives_a_lone_surrogate(text: str) -> None:
    for name, unwrap in UNWRAPPERS.items():
        for member, said in unwrap(text).items():
            assert said is None or said.encode(), (name, member)


@pytest.mark.parametrize("value", ["{(1, 2): 3}", "[0x" + "f" * 9000 + "]", r"'\ud800'", r"['\ud800']", "b'x'", "...", "{1, 2}"])
def test_arguments_without_a_form_in_json_stop_no_rule(value: str) -> None:
    (found,) = argument_columns(pl.Series([f"{{'a': {value}}}"] * 20), ["otel_ir.arguments.a"])
    assert len(found) == 20


@pytest.mark.parametrize("origin", ["'text'", "[1]", "None", "5", "{'id': 'x'}", "f(id=5, tool_name=[], arguments=-'x')", "*a"])
def test_a_result_whose_origin_is_no_call_hides_no_other(origin: str) -> None:
    result = f"ToolCallResult(result='r', origin={origin}, error=False)"
    assert [call.tool for call in calls_in(json.dumps([result, _CALL.format("'a'", "{}", "'i'")]))][-1] == "a"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_what_a_message_of_haystack_quotes_is_no_call(quote: str) -> None:
    fake = _CALL.replace("{}", '"x"' if quote == "'" else "'x'")
    real = _CALL.format("'a'", "{'n': ')'}", "'i'")
    text = f"ChatMessage(_content=[TextContent(text={quote}{fake}{quote}), {real}])"
    assert [call.tool for call in calls_in(json.dumps([text]))] == ["a"]


@pytest.mark.parametrize("size", [70_000, 200_000])
def test_a_long_text_hides_no_call_of_haystack(size: int) -> None:
    call = _CALL.format("'a'", repr({"text": "x\n" * size}), "'i'")
    result = f"ToolCallResult(result={'y' * size!r}, origin={call}, error=False)"
    assert [(one.side, one.call_id) for one in calls_in(json.dumps([call, result]))] == [("call", "i"), ("result", "i")]


_READERS: dict[str, Callable[[str], Any]] = {
    "crew": lambda text: [*crew_calls(text)],
    "crew, in tasks": lambda text: [*crew_calls("[TaskOutput(messages=[{" + text)],
    "reprs": lambda text: [*calls_in(json.dumps([text]))],
    "arguments": mend,
}
_PARTS = [
    "\\'",
    '\\"',
    "'",
    '"',
    "\\",
    "ToolCall(",
    "ToolCall('",
    "ToolFailure(",
    "ToolFailure('\\'",
    "agent='\\'",
    "tool_call_id='\\'",
    "\n ",
    "{[",
    "-  ",
]
_BEFORE = ["", "'", '"', "tool_call '", 'ToolCall("', "ToolFailure('", "[ -"]


def _least(work: Callable[[str], Any], text: str) -> float:
    times = []
    for _ in range(2):
        started = time.process_time()
        work(text)
        times.append(time.process_time() - started)
    return min(times)


def _assert_linear(work: Callable[[str], Any], what: object) -> None:
    """Four times the text, far less than sixteen times the time."""
    for before in _BEFORE:
        for part in _PARTS:
            few, many = (_least(work, before + part * (size // len(part))) for size in (8_000, 32_000))
            assert many < 8 * few + 0.05, (what, before, part)


@pytest.mark.parametrize("name", _READERS)
def test_quotes_that_nobody_closes_take_linear_time(name: str) -> None:
    _assert_linear(_READERS[name], name)


def _patterns() -> list[Any]:
    found = []
    for package in (otel_ir.normalize, otel_ir.decode):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            values = vars(importlib.import_module(module.name)).items()
            found += [pytest.param(one, id=f"{module.name}.{name}") for name, one in values if isinstance(one, re.Pattern)]
    needed = sorted({step.needs for dialect in DIALECTS for step in dialect.unwrap if step.needs})
    return [*found, *(pytest.param(compiled(pattern), id=pattern) for pattern in needed)]


@pytest.mark.parametrize("pattern", _patterns())
def test_every_pattern_takes_linear_time(pattern: Any) -> None:
    def work(text: str) -> None:
        for _ in pattern.finditer(text if isinstance(pattern.pattern, str) else text.encode()):
            pass

    _assert_linear(work, pattern)
