"""The slow, obvious decoder: protobuf's own runtime, span by span. The oracle of the property tests."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MAX = 2**63 - 1


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    found = getattr(value, kind)
    return str(found) if kind == "double_value" and not math.isfinite(found) else found


def text(value: Any) -> str | None:
    found = plain(value)
    if found is None or isinstance(found, str):
        return found
    return repr(found) if isinstance(found, float) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def pairs(attributes: Any) -> dict[str, str | None]:
    return {one.key: text(one.value) for one in attributes}


def hexed(data: bytes) -> str | None:
    return data.hex() or None


def spans(body: bytes) -> list[dict[str, Any]]:
    """Raises DecodeError."""
    rows = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                parent = hexed(span.parent_span_id)
                rows.append(
                    {
                        "position": len(rows),
                        "trace_id": hexed(span.trace_id),
                        "span_id": hexed(span.span_id),
                        "parent_span_id": None if parent == "0" * 16 else parent,
                        "name": span.name,
                        "kind": span.kind,
                        "start": min(span.start_time_unix_nano, MAX),
                        "end": min(span.end_time_unix_nano, MAX),
                        "status_code": span.status.code,
                        "status_message": span.status.message,
                        "dropped_attributes_count": span.dropped_attributes_count,
                        "attributes": pairs(span.attributes),
                        "resource": pairs(resource.resource.attributes),
                        "scope": (scope.scope.name, scope.scope.version),
                        "events": [(min(one.time_unix_nano, MAX), one.name, pairs(one.attributes)) for one in span.events],
                        "links": [(hexed(one.trace_id), hexed(one.span_id)) for one in span.links],
                    }
                )
    return rows


def logs(body: bytes) -> list[dict[str, Any]]:
    """Raises DecodeError."""
    rows = []
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                rows.append(
                    {
                        "position": len(rows),
                        "trace_id": hexed(record.trace_id),
                        "span_id": hexed(record.span_id),
                        "time": min(record.time_unix_nano, MAX),
                        "observed": min(record.observed_time_unix_nano, MAX),
                        "severity_number": record.severity_number,
                        "severity_text": record.severity_text,
                        "event_name": record.event_name,
                        "dropped_attributes_count": record.dropped_attributes_count,
                        "attributes": pairs(record.attributes),
                        "resource": pairs(resource.resource.attributes),
                        "scope": (scope.scope.name, scope.scope.version),
                        "body": text(record.body),
                    }
                )
    return rows
