"""OTLP requests out of plain dicts, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ir.decode import decode_logs, decode_traces
from otel_ir.model import Record
from otel_ir.normalize.extract import Extract, extract
from otel_ir.otlp_files import read_otlp

CAPTURES = Path(__file__).parent.parent / "captures"
NOW = 1_800_000_000_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"


def any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, dict):
        found = AnyValue()
        found.kvlist_value.values.extend(pairs(value))
        return found
    return AnyValue(string_value=value)


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def span(attributes: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    return {"attributes": attributes or {}, **other}


def traces(*spans: dict[str, Any], scope: str = "test", service: str | None = "svc", resource: dict[str, Any] | None = None) -> bytes:
    """``span``: attributes, and optionally id, parent, trace, name, kind, start, end, status, message, dropped, events."""
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add()
    one.resource.attributes.extend(pairs(({"service.name": service} if service else {}) | (resource or {})))
    held = one.scope_spans.add()
    held.scope.name = scope
    for number, given in enumerate(spans, start=1):
        made = held.spans.add()
        made.trace_id = bytes.fromhex(given.get("trace", TRACE))
        made.span_id = bytes.fromhex(given.get("id", f"{number:016x}"))
        made.parent_span_id = bytes.fromhex(given.get("parent", ""))
        made.name, made.kind = given.get("name", "span"), given.get("kind", 1)
        made.start_time_unix_nano, made.end_time_unix_nano = given.get("start", NOW - 1000), given.get("end", NOW)
        made.status.code, made.status.message = given.get("status", 0), given.get("message", "")
        made.dropped_attributes_count = given.get("dropped", 0)
        made.attributes.extend(pairs(given["attributes"]))
        for name, attributes in given.get("events", []):
            event = made.events.add()
            event.name = name
            event.attributes.extend(pairs(attributes))
    return request.SerializeToString()


def logs(*records: dict[str, Any], scope: str = "test", service: str = "svc") -> bytes:
    """``record``: attributes, and optionally event, body, time, observed, trace, span."""
    request = ExportLogsServiceRequest()
    one = request.resource_logs.add()
    one.resource.attributes.extend(pairs({"service.name": service}))
    held = one.scope_logs.add()
    held.scope.name = scope
    for given in records:
        made = held.log_records.add()
        made.time_unix_nano, made.observed_time_unix_nano = given.get("time", NOW), given.get("observed", 0)
        made.event_name = given.get("event", "")
        made.trace_id, made.span_id = bytes.fromhex(given.get("trace", "")), bytes.fromhex(given.get("span", ""))
        made.attributes.extend(pairs(given["attributes"]))
        if "body" in given:
            made.body.CopyFrom(any_value(given["body"]))
    return request.SerializeToString()


def normalized(body: bytes, *fields: str, received: int = NOW, kind: str = "traces") -> Extract:
    record = Record(1, kind, received, body, tenant="t", sender="s")  # type: ignore[arg-type]
    return extract(decode_traces([record]) if kind == "traces" else decode_logs([record]), frozenset(fields))


def event(body: bytes, *fields: str, **options: Any) -> dict[str, Any]:
    """The one event of a request."""
    found = normalized(body, *fields, **options).events
    assert found.height == 1, found
    return found.row(0, named=True)


def capture_records(stem: str) -> list[Record]:
    paths = [path for path in (CAPTURES / f"{stem}.json", CAPTURES / f"{stem}.logs.json") if path.exists()]
    return [Record(number, one.signal, 2 * NOW, one.body) for number, one in enumerate(read_otlp(paths), start=1)]


def stems() -> list[str]:
    return sorted(path.stem for path in (CAPTURES / "expected").glob("*.json"))
