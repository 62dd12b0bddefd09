"""Hypothesis strategies for OTLP requests, with everything the wire allows and senders forget."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status


def built(kind: type[Message], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """As ``st.builds``, with a short name: Hypothesis refuses to print what the nested builds would be called."""

    @st.composite
    def message(draw: st.DrawFn) -> Any:
        return kind(**{name: draw(field) for name, field in fields.items()})

    return message()


KEYS = ("gen_ai.tool.name", "gen_ai.operation.name", "a", "", "ключ", "service.name")
text = st.one_of(st.text(max_size=8), st.sampled_from(["x" * 126, "x" * 127, "x" * 128, "é" * 64, "y" * 16383, "y" * 16384]))
int64 = st.integers(-(2**63), 2**63 - 1)
times = st.one_of(st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]), st.integers(0, 2**61))


def _leaf() -> st.SearchStrategy[AnyValue]:
    return st.one_of(
        st.just(AnyValue()),
        text.map(lambda value: AnyValue(string_value=value)),
        st.booleans().map(lambda value: AnyValue(bool_value=value)),
        int64.map(lambda value: AnyValue(int_value=value)),
        st.floats().map(lambda value: AnyValue(double_value=value)),
        st.binary(max_size=6).map(lambda value: AnyValue(bytes_value=value)),
    )


def _nested(inner: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    pairs = st.lists(built(KeyValue, key=st.sampled_from(KEYS), value=inner), max_size=3)
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda values: AnyValue(array_value=ArrayValue(values=values))),
        pairs.map(lambda values: AnyValue(kvlist_value=KeyValueList(values=values))),
    )


any_values = st.recursive(_leaf(), _nested, max_leaves=5)
key_values = built(KeyValue, key=st.sampled_from(KEYS), value=st.one_of(st.none(), any_values))
attributes = st.lists(key_values, max_size=6)
ids16 = st.one_of(st.binary(min_size=16, max_size=16), st.sampled_from([b"", b"\0" * 16, b"short"]))
ids8 = st.one_of(st.binary(min_size=8, max_size=8), st.sampled_from([b"", b"\0" * 8]))
events = built(Span.Event, time_unix_nano=times, name=st.sampled_from(["exception", "e", ""]), attributes=attributes)
links = built(Span.Link, trace_id=ids16, span_id=ids8)
status = st.one_of(st.none(), built(Status, message=text, code=st.integers(0, 3)))
spans = built(
    Span,
    trace_id=ids16,
    span_id=ids8,
    parent_span_id=ids8,
    name=text,
    kind=st.integers(0, 6),
    start_time_unix_nano=times,
    end_time_unix_nano=times,
    attributes=attributes,
    dropped_attributes_count=st.integers(0, 2**32 - 1),
    events=st.lists(events, max_size=2),
    links=st.lists(links, max_size=2),
    status=status,
)
scopes = st.one_of(st.none(), built(InstrumentationScope, name=text, version=text))
resources = st.one_of(st.none(), built(Resource, attributes=attributes))
records = built(
    LogRecord,
    time_unix_nano=times,
    observed_time_unix_nano=times,
    severity_number=st.integers(0, 24),
    severity_text=text,
    body=st.one_of(st.none(), any_values),
    attributes=attributes,
    dropped_attributes_count=st.integers(0, 2**32 - 1),
    trace_id=ids16,
    span_id=ids8,
    event_name=text,
)


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())


_scope_spans = built(ScopeSpans, scope=scopes, spans=st.lists(spans, max_size=3))
_scope_logs = built(ScopeLogs, scope=scopes, log_records=st.lists(records, max_size=3))
_resource_spans = built(ResourceSpans, resource=resources, scope_spans=st.lists(_scope_spans, max_size=2))
_resource_logs = built(ResourceLogs, resource=resources, scope_logs=st.lists(_scope_logs, max_size=2))
trace_bodies = built(ExportTraceServiceRequest, resource_spans=st.lists(_resource_spans, max_size=2)).map(_serialized)
log_bodies = built(ExportLogsServiceRequest, resource_logs=st.lists(_resource_logs, max_size=2)).map(_serialized)
