"""Spans, logs and metrics to an OTLP endpoint, by the OpenTelemetry SDK's exporters, with the outcome known when the call returns."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ir.telemetry import own_resource

Signal = Literal["traces", "logs", "metrics"]

MAX_BATCH = 100
"""Items per request: with 128 links or 32 steps, and three bounded texts each, it stays under gRPC's default limit of 4 MiB."""
_REMEMBERED = 10_000
"""Items of which it is remembered that one signal went through while the other did not."""


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


class Item(NamedTuple):
    """One thing to export: its kind and key, and for each signal that carries it, how it looks (drawn when it is sent)."""

    kind: Literal["alert", "action", "incident"]
    key: str
    draw: Mapping[str, Callable[[Resource], Any]]


class OtlpExporter:
    """Sends items as spans and log records. Not thread-safe: one caller at a time (``ExportLoop``)."""

    def __init__(self, config: ExportConfig, counter: Counter | None = None) -> None:
        self._counter = counter
        self._resource = own_resource()
        self._clients: dict[str, SpanExporter | LogRecordExporter] = {
            signal: _client(signal, config) for signal in ("traces", "logs") if signal in config.signals
        }
        self._sent: dict[str, OrderedDict[tuple[str, str], None]] = {signal: OrderedDict() for signal in self._clients}

    def export(self, items: Sequence[Item]) -> list[str]:
        """Send items now. -> the keys of those which *every* configured signal that carries them accepted; send the others again.

        An item whose span went through while its log record did not is not sent again as a span.
        """
        for start in range(0, len(items), MAX_BATCH):
            for signal, sent in self._sent.items():
                batch = [item for item in items[start : start + MAX_BATCH] if signal in item.draw and item[:2] not in sent]
                if batch and self._send(signal, batch):
                    sent.update((item[:2], None) for item in batch)
        delivered = [item for item in items if all(item[:2] in sent for signal, sent in self._sent.items() if signal in item.draw)]
        self._forget(delivered)
        return [item.key for item in delivered]

    def close(self) -> None:
        """Abort a retry under way and close the connections."""
        for client in self._clients.values():
            client.shutdown()

    def _send(self, signal: str, batch: Sequence[Item]) -> bool:
        drawn = [item.draw[signal](self._resource) for item in batch]
        started = time.perf_counter()
        accepted = self._clients[signal].export(drawn) in (SpanExportResult.SUCCESS, LogRecordExportResult.SUCCESS)
        outcome = "accepted" if accepted else "failed"
        if self._counter:
            for kind, count in Tally(item.kind for item in batch).items():
                self._counter.add("otel_ir.export.items", count, kind=kind, signal=signal, outcome=outcome)
            self._counter.record("otel_ir.export.duration", time.perf_counter() - started, signal=signal, outcome=outcome)
            self._counter.set("otel_ir.export.failing", 0 if accepted else 1, signal=signal)
        return accepted

    def _forget(self, delivered: Sequence[Item]) -> None:
        for sent in self._sent.values():
            for item in delivered:
                sent.pop(item[:2], None)
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
