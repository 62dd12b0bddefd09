"""Alerts and metrics to an OTLP endpoint, by the OpenTelemetry SDK's exporters, with the outcome known when the call returns."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ir.export.records import alert_log, alert_span
from otel_ir.model import Alert
from otel_ir.telemetry import own_resource

Signal = Literal["traces", "logs", "metrics"]

MAX_BATCH = 100
"""Alerts per request: with 128 links and three bounded texts each it stays under gRPC's default limit of 4 MiB for a message."""
_REMEMBERED = 10_000
"""Alerts of which it is remembered that one signal went through while the other did not."""


class ExportConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where otel_ir sends its own telemetry.

    ``endpoint``: ``http(s)://host:port``; with ``http/protobuf`` the signal's path (``/v1/traces`` ...) is appended to it, as the
    OTLP exporter specification says of a base endpoint. ``https`` is TLS, ``http`` is not. ``timeout`` in seconds bounds one export
    with the exporter's own retries. Secret headers belong into the environment variable ``OTEL_EXPORTER_OTLP_HEADERS``, which is
    used where ``headers`` is empty. ``interval`` (seconds) is that of metrics.
    """

    endpoint: str
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    headers: dict[str, str] = {}
    timeout: float = 10.0
    compression: Literal["none", "gzip"] = "gzip"
    certificate_file: str | None = None
    signals: tuple[Signal, ...] = ("traces", "logs", "metrics")
    interval: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("endpoint must be http://host:port or https://host:port")
        if self.timeout <= 0 or self.interval <= 0:
            raise ValueError("timeout and interval must be above 0 seconds")

    def __repr__(self) -> str:
        return f"ExportConfig(endpoint={self.endpoint!r}, protocol={self.protocol!r})"  # headers may hold a token


class Counter(Protocol):
    """The part of ``otel_ir.telemetry.Telemetry`` used here."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Raise a counter."""

    def record(self, name: str, value: float, **attributes: str) -> None:
        """Add a measurement to a histogram."""

    def set(self, name: str, value: float, **attributes: str) -> None:
        """Set a gauge."""


class AlertExporter:
    """Sends alerts as spans and log records. Not thread-safe: one caller at a time (``ExportLoop``)."""

    def __init__(self, config: ExportConfig, counter: Counter | None = None) -> None:
        self._counter = counter
        self._resource = own_resource()
        self._senders: dict[str, Callable[[Sequence[Alert], Mapping[str, int]], bool]] = {}
        self._clients: list[SpanExporter | LogRecordExporter] = []
        if "traces" in config.signals:
            spans: SpanExporter = _client("traces", config)
            self._clients.append(spans)
            self._senders["traces"] = lambda alerts, counts: (
                spans.export([alert_span(a, self._resource, count=counts.get(a.alert_id, 1)) for a in alerts]) is SpanExportResult.SUCCESS
            )
        if "logs" in config.signals:
            logs: LogRecordExporter = _client("logs", config)
            self._clients.append(logs)
            self._senders["logs"] = lambda alerts, counts: (
                logs.export([alert_log(a, self._resource, count=counts.get(a.alert_id, 1)) for a in alerts])
                is LogRecordExportResult.SUCCESS
            )
        self._sent: dict[str, OrderedDict[str, None]] = {signal: OrderedDict() for signal in self._senders}

    def export(self, alerts: Sequence[Alert], counts: Mapping[str, int] | None = None) -> list[str]:
        """Send alerts now. Returns the ids of those which *every* configured signal accepted; the others are to be sent again.

        ``counts``: alert id -> how often its condition was met so far. An alert whose span went through while its log record
        did not is not sent again as a span.
        """
        for start in range(0, len(alerts), MAX_BATCH):
            for signal, sender in self._senders.items():
                batch = [alert for alert in alerts[start : start + MAX_BATCH] if alert.alert_id not in self._sent[signal]]
                if batch and self._send(signal, sender, batch, counts or {}):
                    self._sent[signal].update((alert.alert_id, None) for alert in batch)
        delivered = [alert.alert_id for alert in alerts if all(alert.alert_id in sent for sent in self._sent.values())]
        self._forget(delivered)
        return delivered

    def close(self) -> None:
        """Abort a retry under way and close the connections."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.shutdown()

    def _send(self, signal: str, sender: Callable[..., bool], batch: Sequence[Alert], counts: Mapping[str, int]) -> bool:
        started = time.perf_counter()
        accepted = sender(batch, counts)
        outcome = "accepted" if accepted else "failed"
        if self._counter:
            self._counter.add("otel_ir.export.alerts", len(batch), signal=signal, outcome=outcome)
            self._counter.record("otel_ir.export.duration", time.perf_counter() - started, signal=signal, outcome=outcome)
            self._counter.set("otel_ir.export.failing", 0 if accepted else 1, signal=signal)
        return accepted

    def _forget(self, delivered: Sequence[str]) -> None:
        for sent in self._sent.values():
            for alert_id in delivered:
                sent.pop(alert_id, None)
            while len(sent) > _REMEMBERED:
                sent.popitem(last=False)


def metric_exporter(config: ExportConfig) -> MetricExporter | None:
    """The exporter for ``Telemetry``; ``None`` when metrics are not among the configured signals."""
    if "metrics" not in config.signals:
        return None
    exporter: MetricExporter = _client("metrics", config)
    return exporter


def _client(signal: Signal, config: ExportConfig) -> Any:
    # Imported here: each costs tens of milliseconds, and only one protocol is used.
    if config.protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        secure = config.endpoint.startswith("https://")
        classes: dict[str, Any] = {"traces": GrpcSpans, "logs": GrpcLogs, "metrics": GrpcMetrics}
        return classes[signal](
            endpoint=config.endpoint,
            insecure=not secure,
            credentials=grpc.ssl_channel_credentials(_read(config.certificate_file)) if secure and config.certificate_file else None,
            headers={key.lower(): value for key, value in config.headers.items()} or None,  # gRPC metadata keys are lower case
            timeout=config.timeout,
            compression=grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression,
        )
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans

    http_classes: dict[str, Any] = {"traces": HttpSpans, "logs": HttpLogs, "metrics": HttpMetrics}
    return http_classes[signal](
        endpoint=f"{config.endpoint.rstrip('/')}/v1/{signal}",
        certificate_file=config.certificate_file,
        session=_session(config.certificate_file) if config.certificate_file else None,
        headers=config.headers or None,
        timeout=config.timeout,
        compression=Compression.Gzip if config.compression == "gzip" else Compression.NoCompression,
    )


def _session(certificate_file: str) -> Any:
    """A session that trusts this file and nothing else.

    ``requests`` lets REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE of the environment override the certificates a session was given
    (psf/requests#3829), so they are given with each request.
    """
    import requests
    from requests.adapters import HTTPAdapter

    class Trusting(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            return super().send(request, *args, **(options | {"verify": certificate_file}))

    session = requests.Session()
    session.mount("https://", Trusting())
    return session


def _read(path: str | None) -> bytes | None:
    from pathlib import Path

    return Path(path).read_bytes() if path else None
