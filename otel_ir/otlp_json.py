"""OTLP/JSON -> OTLP protobuf. Used by the HTTP receiver and by the file reader.

OTLP/JSON is protobuf's JSON mapping with these differences (OTLP specification, "JSON Protobuf Encoding"): trace and span ids are hex
instead of base64, enums are integers, unknown fields are ignored. 64-bit integers come as strings, from JavaScript exporters as numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.errors import InputError

Signal = Literal["traces", "logs"]
_MEMBERS: dict[str, Signal] = {"resourceSpans": "traces", "resource_spans": "traces", "resourceLogs": "logs", "resource_logs": "logs"}
_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_METRICS = ("resourceMetrics", "resource_metrics")
_MAX_DEPTH = 200
"""Protobuf's parsers stop at 100 nested messages; each ``AnyValue`` level is two of them, plus the envelope."""


def to_protobuf(signal: Signal, text: bytes | str) -> bytes:
    """One OTLP/JSON request as protobuf bytes. Raises ``InputError``, with the path of the offending member where that is known."""
    return dict_to_protobuf(signal, parse(text))


def parse(text: bytes | str) -> Any:
    """JSON text as data. Raises ``InputError`` when it is malformed or nested too deeply."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(f"not JSON: {error}") from None
    except RecursionError:
        raise InputError("not JSON: nested too deeply") from None


def requests(data: Any) -> Iterator[tuple[Signal, bytes]]:
    """The requests in parsed JSON: one object or a list of them, each with ``resourceSpans`` and/or ``resourceLogs``.

    Metrics are passed over. Raises ``InputError`` for anything else.
    """
    for item in data if isinstance(data, list) else [data]:
        if not isinstance(item, dict):
            raise InputError(f"not OTLP: a JSON {type(item).__name__} where a request should be")
        signals = dict.fromkeys(_MEMBERS[name] for name in item if name in _MEMBERS)
        if item and not signals and not any(name in item for name in _METRICS):
            raise InputError("not OTLP: neither resourceSpans nor resourceLogs")
        for signal in signals:
            yield signal, dict_to_protobuf(signal, {name: value for name, value in item.items() if _MEMBERS.get(name) == signal})


def dict_to_protobuf(signal: Signal, data: Any) -> bytes:
    """As ``to_protobuf``, from parsed JSON."""
    request = ExportTraceServiceRequest() if signal == "traces" else ExportLogsServiceRequest()
    if not isinstance(data, dict):
        raise InputError(f"not OTLP: a JSON {type(data).__name__} where a request should be")
    try:
        ParseDict(data, request, ignore_unknown_fields=True, max_recursion_depth=_MAX_DEPTH)
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"not OTLP: {error}") from None
    for message in _with_ids(signal, request):
        for name, width in _IDS.items():
            if value := getattr(message, name, b""):
                setattr(message, name, _unhex(name, value, width))
    return bytes(request.SerializeToString())


def _with_ids(signal: Signal, request: Any) -> Iterator[Any]:
    if signal == "logs":
        yield from (record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records)
        return
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield span
                yield from span.links


def _unhex(name: str, value: bytes, width: int) -> bytes:
    """The parser took the id for base64; its text, and from that the hex, is still there."""
    text = base64.b64encode(value).decode("ascii")
    try:
        if len(text) == 2 * width:
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise InputError(f"not OTLP: {name} is not {2 * width} hex digits")
