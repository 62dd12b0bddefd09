"""Spans that mean harm: whatever is in them, the agent goes on, nothing is hidden, and the same is seen as an exporter would send."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from sdk.conftest import Agents, alerts_on
from thorough import examples

from otel_ir.decode import decode_traces
from otel_ir.model import Record
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.extract import extract
from otel_ir.sdk.encode import CUT, MAX_BYTES, encode
from otel_ir.sdk.sieve import may_be_event

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_SCALAR = st.one_of(_TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.binary(max_size=8))
_VALUE = st.one_of(_SCALAR, st.lists(_SCALAR, max_size=4), st.dictionaries(_TEXT, _SCALAR, max_size=3))
_ATTRIBUTES = st.dictionaries(_TEXT, _VALUE, max_size=5)
_CONTEXT = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(TraceFlags.SAMPLED)),
)
_SPAN = st.builds(
    ReadableSpan,
    name=_TEXT,
    context=_CONTEXT,
    parent=st.none() | _CONTEXT,
    resource=st.builds(Resource, _ATTRIBUTES),
    attributes=_ATTRIBUTES,
    events=st.lists(st.builds(Event, _TEXT, _ATTRIBUTES, st.integers(1, 2**62)), max_size=2),
    links=st.lists(st.builds(Link, _CONTEXT), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "no")]),
    start_time=st.integers(1, 2**62),
    end_time=st.integers(1, 2**62),
    instrumentation_scope=st.none() | st.builds(InstrumentationScope, _TEXT, _TEXT),
)


def _seen(message: ExportTraceServiceRequest) -> Any:
    """What the decoder reads of it: everything but states, flags, schema URLs and what was dropped of events and links."""
    found = MessageToDict(message)
    for resource in found.get("resourceSpans", []):
        resource.pop("schemaUrl", None)
        for scope in resource.get("scopeSpans", []):
            scope.pop("schemaUrl", None)
            if not scope.get("scope"):
                scope.pop("scope", None)
            for span in scope["spans"]:
                for one in (span, *span.get("links", ())):
                    for name in ("flags", "traceState"):
                        one.pop(name, None)
    return found


@settings(max_examples=examples(150))
@given(_SPAN)
def test_it_says_what_the_exporter_says(span: ReadableSpan) -> None:
    assert _seen(ExportTraceServiceRequest.FromString(encode(span))) == _seen(encode_spans([span]))


def _span(attributes: Mapping[str, Any], **more: Any) -> ReadableSpan:
    values = {"name": "x", "context": SpanContext(1, 2, False), "start_time": 1, "end_time": 2, "resource": Resource({})}
    return ReadableSpan(**{**values, "attributes": attributes, **more})  # type: ignore[arg-type]


class _Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "\ud800 half a pair",
        10**400,
        -(10**6000),
        float("nan"),
        _nested(500),
        {"a": {"b": [1, None, object()]}},
        _Rude(),
        b"\xff\x00",
        ["\udfff", 2**70],
        None,
    ],
    ids=["surrogate", "large", "huge", "nan", "deep", "objects", "rude", "bytes", "list", "none"],
)
def test_any_value_can_be_encoded(value: Any) -> None:
    odd: Any = {"gen_ai.tool.name": "send_email", "odd": value, 7: value}
    span = _span(odd, name="\ud800", instrumentation_scope=InstrumentationScope("\ud800"))
    (resource,) = ExportTraceServiceRequest.FromString(encode(span)).resource_spans
    assert {pair.key for pair in resource.scope_spans[0].spans[0].attributes} == {"gen_ai.tool.name", "odd", "7"}


def test_a_span_that_is_too_large_is_cut_and_shows_it() -> None:
    body = json.dumps({"body": "x" * (MAX_BYTES + 10)})
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "send_email", "gen_ai.tool.call.arguments": body}
    encoded = encode(_span(attributes))
    assert len(encoded) < 2 * CUT
    events = extract(decode_traces([Record(1, "traces", 1, encoded)]), frozenset({"otel_ir.arguments.body.length"})).events
    assert events["otel_ir.content"].to_list() == ["truncated"]
    assert events["otel_ir.arguments.body.length"][0] > 10_000


def test_hidden_arguments_are_seen(agents: Callable[..., Agents]) -> None:
    """A lone surrogate makes an exporter leave the attribute out, and with it what the rule looks at."""
    made = agents()
    with made.run() as run:
        arguments = '{"to": "audit@collector.example", "subject": "\ud83d", "body": "' + "x" * 20_000 + '"}'
        made.call("send_email", run, **{"gen_ai.tool.call.arguments": arguments})
        assert len(alerts_on(run)) == 1


def test_hostile_spans_harm_neither_the_agent_nor_the_next_alert(agents: Callable[..., Agents]) -> None:
    made = agents()
    with made.run() as run:
        made.call("send_email", run, **{"gen_ai.tool.call.arguments": "{" * 100_000, "gen_ai.agent.name": "\x00", "user.id": "\x1f" * 1000})
        made.call("\x1b[2J", run, **{f"k{n}": "v" for n in range(500)})
        made.start("x" * 100_000, run, **{"otel_ir.event.type": "tool_call", "otel_ir.agent.id": "desk/someone-else"}).end()
        made.start("log", run, **{"gen_ai.operation.name": "chat", "gen_ai.output.messages": '[{"parts": [' * 5_000}).end()
        made.exfiltrate(run)
        assert len(alerts_on(run)) == 1
    assert made.processor.counts.get("failed", 0) == 0


_MARKS = sorted({marker for dialect in DIALECTS for marker in dialect.markers} | {"http.response.status_code", "otel_ir.event.type"})
_WORDS = ["tool_call", "execute_tool", "chat", "TOOL", "AGENT", "none", "nonsense", 401, 403, 200, "401", True, "openai"]


@settings(max_examples=examples(150))
@given(
    st.sampled_from(
        ["", "pydantic-ai", "openinference.instrumentation.langchain", "my.http.client", "opentelemetry.instrumentation.genai.x"]
    ),
    st.dictionaries(st.sampled_from(_MARKS), st.sampled_from(_WORDS), max_size=4),
    st.sampled_from(["running tool", "GET", "agent run"]),
    st.sampled_from(SpanKind),
)
def test_the_sieve_never_holds_back_an_event(scope: str, attributes: dict[str, Any], name: str, kind: SpanKind) -> None:
    attributes |= {"gen_ai.agent.name": "a"} if "gen_ai.agent.name" in attributes else {}
    span = _span(MappingProxyType(attributes), name=name, kind=kind, instrumentation_scope=InstrumentationScope(scope))
    if extract(decode_traces([Record(1, "traces", 1, encode(span))])).events.height:
        assert may_be_event(span)


def test_the_sieve_lets_plain_spans_wait() -> None:
    scope = InstrumentationScope("opentelemetry.instrumentation.httpx")
    assert not may_be_event(_span({"http.response.status_code": 200}, kind=SpanKind.CLIENT, instrumentation_scope=scope))
    assert may_be_event(_span({"http.response.status_code": 401}, kind=SpanKind.CLIENT, instrumentation_scope=scope))
    assert not may_be_event(_span({"db.system": "postgresql", "error.type": "x"}))
    assert not may_be_event(_span({}))
