"""The OTLP messages as a descriptor that Arrow can hold, and bytes -> Arrow through it.

``AnyValue`` is recursive, which an Arrow schema cannot be. On the wire a nested message and ``bytes`` look the same (both are
length-delimited), so the value of a key is declared ``bytes`` here: nothing is lost, only the few values that somebody asks for
are decoded (``values.py``), and the decoder is twice as fast as with one Arrow column per kind of value (measured).
Field numbers: opentelemetry-proto v1 (``trace.proto``, ``logs.proto``, ``common.proto``, ``resource.proto``).
A field left out of the table is skipped by the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import ptars
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool

_FIELD = descriptor_pb2.FieldDescriptorProto
_STRING, _BYTES, _INT32, _UINT32, _FIXED64 = (
    _FIELD.TYPE_STRING,
    _FIELD.TYPE_BYTES,
    _FIELD.TYPE_INT32,
    _FIELD.TYPE_UINT32,
    _FIELD.TYPE_FIXED64,
)

Signal = Literal["traces", "logs"]

# message -> (field, number, type): a name is another message of the table, a list means repeated.
_MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "KeyValue": [("key", 1, _STRING), ("value", 2, _BYTES)],
    "Resource": [("attributes", 1, ["KeyValue"])],
    "Scope": [("name", 1, _STRING), ("version", 2, _STRING)],
    "Status": [("message", 2, _STRING), ("code", 3, _INT32)],
    "Event": [("time_unix_nano", 1, _FIXED64), ("name", 2, _STRING), ("attributes", 3, ["KeyValue"])],
    "Link": [("trace_id", 1, _BYTES), ("span_id", 2, _BYTES)],
    "Span": [
        ("trace_id", 1, _BYTES),
        ("span_id", 2, _BYTES),
        ("parent_span_id", 4, _BYTES),
        ("name", 5, _STRING),
        ("kind", 6, _INT32),
        ("start_time_unix_nano", 7, _FIXED64),
        ("end_time_unix_nano", 8, _FIXED64),
        ("attributes", 9, ["KeyValue"]),
        ("dropped_attributes_count", 10, _UINT32),
        ("events", 11, ["Event"]),
        ("links", 13, ["Link"]),
        ("status", 15, "Status"),
    ],
    "ScopeSpans": [("scope", 1, "Scope"), ("rows", 2, ["Span"])],
    "ResourceSpans": [("resource", 1, "Resource"), ("scopes", 2, ["ScopeSpans"])],
    "Traces": [("resources", 1, ["ResourceSpans"])],
    "LogRecord": [
        ("time_unix_nano", 1, _FIXED64),
        ("severity_number", 2, _INT32),
        ("severity_text", 3, _STRING),
        ("body", 5, _BYTES),
        ("attributes", 6, ["KeyValue"]),
        ("dropped_attributes_count", 7, _UINT32),
        ("trace_id", 9, _BYTES),
        ("span_id", 10, _BYTES),
        ("observed_time_unix_nano", 11, _FIXED64),
        ("event_name", 12, _STRING),
    ],
    "ScopeLogs": [("scope", 1, "Scope"), ("rows", 2, ["LogRecord"])],
    "ResourceLogs": [("resource", 1, "Resource"), ("scopes", 2, ["ScopeLogs"])],
    "Logs": [("resources", 1, ["ResourceLogs"])],
}
_ROOTS: dict[Signal, str] = {"traces": "Traces", "logs": "Logs"}


@cache
def _handler(signal: Signal) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="otel_ir_wire.proto", package="otel_ir.wire", syntax="proto3")
    for name, members in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for member, number, kind in members:
            label = _FIELD.LABEL_REPEATED if isinstance(kind, list) else _FIELD.LABEL_OPTIONAL
            field = message.field.add(name=member, number=number, label=label)
            inner = kind[0] if isinstance(kind, list) else kind
            if isinstance(inner, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".otel_ir.wire.{inner}"
            else:
                field.type = inner
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    root = pool.FindMessageTypeByName(f"otel_ir.wire.{_ROOTS[signal]}")
    return ptars.HandlerPool([root.file]).get_for_message(root)


def to_arrow(signal: Signal, bodies: Sequence[bytes]) -> tuple[pa.ListArray, list[tuple[int, str]]]:
    """Requests -> one list of resources per request, and ``(index, reason)`` of the requests that are not OTLP.

    A rejected request is an empty list, so that list ``i`` is always request ``i``. One bad request fails the whole list that
    is given to the decoder; only then they are tried one by one. All bodies together must stay under 2 GiB (Arrow offsets).
    """
    handler = _handler(signal)
    try:
        return handler.array_to_record_batch(pa.array(bodies, type=pa.binary())).column(0), []
    except ValueError:
        rejected = [(index, reason) for index, body in enumerate(bodies) if (reason := _reason(handler, body))]
    bad = {index for index, _ in rejected}
    good = [b"" if index in bad else body for index, body in enumerate(bodies)]
    return handler.array_to_record_batch(pa.array(good, type=pa.binary())).column(0), rejected


def _reason(handler: Any, body: bytes) -> str | None:
    try:
        handler.array_to_record_batch(pa.array([body], type=pa.binary()))
    except ValueError as error:
        return str(error)
    return None
