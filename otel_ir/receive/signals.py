"""The three signals of OTLP as a table: their messages, names and what makes one item of them unusable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_COLLECTOR = "opentelemetry.proto.collector"

ID_FAULT = "trace_id or span_id is not of 16 and 8 bytes, or all zero"
ATTRIBUTES_FAULT = "more attributes than max_attributes"


def faulty_spans(spans: Iterable[Any], limit: int) -> list[int]:
    """Positions of spans without valid ids (W3C trace context: 16 and 8 bytes, not all zero) or with too many attributes.

    The only Python-level loop over the spans of a request; a wrong ``parent_span_id`` is no reason to lose a span.
    """
    return [
        position
        for position, span in enumerate(spans)
        if len(trace_id := span.trace_id) != 16
        or len(span_id := span.span_id) != 8
        or trace_id == _NO_TRACE
        or span_id == _NO_SPAN
        or len(span.attributes) > limit
    ]


def faulty_logs(records: Iterable[Any], limit: int) -> list[int]:
    """The same for log records, which may be outside any span: absent ids are fine, and so are all-zero ones, which mean absent."""
    return [
        position
        for position, record in enumerate(records)
        if len(record.trace_id) not in (0, 16) or len(record.span_id) not in (0, 8) or len(record.attributes) > limit
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal: where it arrives, its messages, and the names of its three levels (resources, scopes, items)."""

    name: Literal["traces", "logs", "metrics"]
    service: str
    request: Callable[[], Message]
    response: Callable[[], Message]
    resources: str
    scopes: str
    items: str
    item: type[Message]
    rejected: str
    faulty: Callable[[Iterable[Any], int], list[int]] | None
    """``None``: the signal is answered, but not stored."""

    @property
    def path(self) -> str:
        """Path of OTLP/HTTP."""
        return f"/v1/{self.name}"

    @property
    def keys(self) -> tuple[str, str]:
        """What the resources of a request are called in JSON, and as some write it."""
        return f"resource{self.resources.removeprefix('resource_').title()}", self.resources


SIGNALS: tuple[Signal, ...] = (
    Signal(
        name="traces",
        service=f"{_COLLECTOR}.trace.v1.TraceService",
        request=ExportTraceServiceRequest,
        response=ExportTraceServiceResponse,
        resources="resource_spans",
        scopes="scope_spans",
        items="spans",
        item=Span,
        rejected="rejected_spans",
        faulty=faulty_spans,
    ),
    Signal(
        name="logs",
        service=f"{_COLLECTOR}.logs.v1.LogsService",
        request=ExportLogsServiceRequest,
        response=ExportLogsServiceResponse,
        resources="resource_logs",
        scopes="scope_logs",
        items="log_records",
        item=LogRecord,
        rejected="rejected_log_records",
        faulty=faulty_logs,
    ),
    Signal(
        name="metrics",
        service=f"{_COLLECTOR}.metrics.v1.MetricsService",
        request=ExportMetricsServiceRequest,
        response=ExportMetricsServiceResponse,
        resources="resource_metrics",
        scopes="scope_metrics",
        items="metrics",
        item=Metric,
        rejected="rejected_data_points",
        faulty=None,
    ),
)
