"""From outside in: the OpenTelemetry SDK's own exporters send, the journal has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_ir.model import SCOPE_NAME

Serve = Any
WAYS = ["grpc", "grpc+gzip", "http", "http+gzip"]


def exporter(served: Any, way: str, signal: str, headers: dict[str, str] | None = None) -> Any:
    gzip = way.endswith("gzip")
    if way.startswith("grpc"):
        kind: Callable[..., Any] = {"traces": GrpcSpans, "logs": GrpcLogs, "metrics": GrpcMetrics}[signal]
        compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        return kind(endpoint=served.grpc, insecure=True, compression=compression, headers=headers)
    kind = {"traces": HttpSpans, "logs": HttpLogs, "metrics": HttpMetrics}[signal]
    compression = HttpCompression.Gzip if gzip else HttpCompression.NoCompression
    return kind(endpoint=f"{served.http}/v1/{signal}", compression=compression, headers=headers)


@pytest.mark.parametrize("way", WAYS)
def test_spans_of_the_sdk_arrive(serve: Serve, way: str) -> None:
    served = serve()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter(served, way, "traces"), max_export_batch_size=50))
    tracer = provider.get_tracer("app")
    sent = []
    for number in range(120):
        with tracer.start_as_current_span(f"execute_tool {number}") as span:
            span.set_attribute("gen_ai.tool.call.arguments", '{"to": "größer@example.com"}' * 20)
            sent.append(span.get_span_context())
    assert provider.force_flush()
    provider.shutdown()
    found = served.spans()
    assert [int.from_bytes(span.span_id) for span in found] == [context.span_id for context in sent]
    assert found[7].name == "execute_tool 7"
    transport = way.split("+", maxsplit=1)[0]
    assert served.counts.values[("requests", transport, "traces", "accepted")] == len(served.records()) >= 3
    assert served.counts.values[("bytes", transport, "traces")] == sum(len(record.body) for record in served.records())


@pytest.mark.parametrize("way", WAYS)
def test_logs_of_the_sdk_arrive(serve: Serve, way: str) -> None:
    served = serve()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter(served, way, "logs")))
    logger = provider.get_logger("app")
    for number in range(5):
        logger.emit(LogRecord(event_name="app.login", body=f"failed {number}", severity_number=SeverityNumber.WARN))
    assert provider.force_flush()
    provider.shutdown()
    assert [log.body.string_value for log in served.logs()] == [f"failed {number}" for number in range(5)]
    assert {record.kind for record in served.records()} == {"logs"}


@pytest.mark.parametrize("way", WAYS)
def test_metrics_are_answered_and_not_stored(serve: Serve, way: str) -> None:
    served = serve()
    reader = PeriodicExportingMetricReader(exporter(served, way, "metrics"), export_interval_millis=60_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("app").create_counter("calls").add(3)
    assert provider.force_flush()
    provider.shutdown()
    assert served.counts.values[("requests", way.split("+", maxsplit=1)[0], "metrics", "accepted")] >= 1
    assert served.records() == []


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_our_own_telemetry_is_dropped_on_the_way_in(serve: Serve, way: str) -> None:
    served = serve()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter(served, way, "traces")))
    with provider.get_tracer(SCOPE_NAME).start_as_current_span("alert"):
        pass
    assert provider.force_flush()
    assert served.records() == []
    with provider.get_tracer(SCOPE_NAME).start_as_current_span("alert"), provider.get_tracer("app").start_as_current_span("work"):
        pass
    assert provider.force_flush()
    provider.shutdown()
    assert [span.name for span in served.spans()] == ["work"]
    assert served.counts.values[("own_dropped", "traces")] == 2


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_span_is_durable_when_the_exporter_is_told_so(serve: Serve, way: str) -> None:
    served = serve()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter(served, way, "traces")))
    for number in range(1, 6):
        with provider.get_tracer("app").start_as_current_span("work"):
            pass
        assert served.journal.last == number
    provider.shutdown()


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_an_exporter_that_is_put_off_comes_back(serve: Serve, way: str) -> None:
    from otel_ir.errors import Overloaded

    bodies: list[bytes] = []
    attempts = 0

    async def append(kind: str, body: bytes, *, tenant: str = "", sender: str = "") -> int:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise Overloaded("full", retry_after=0.2)
        bodies.append(body)
        return 1

    served = serve(append=append)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter(served, way, "traces")))
    with provider.get_tracer("app").start_as_current_span("work"):
        pass
    provider.shutdown()
    assert attempts == 3
    assert len(bodies) == 1


def test_health(serve: Serve) -> None:
    fault: list[str] = []
    served = serve(fault=lambda: fault[0] if fault else None)
    answer = httpx.get(f"{served.http}/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    fault.append("no space for the journal")
    answer = httpx.get(f"{served.http}/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "reason": "no space for the journal"})


def test_metrics_page(serve: Serve) -> None:
    served = serve(metrics=lambda: "otel_ir_alerts_total 1\n")
    answer = httpx.get(f"{served.http}/metrics")
    assert (answer.status_code, answer.text) == (200, "otel_ir_alerts_total 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
