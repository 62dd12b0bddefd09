"""A real OTLP endpoint, gRPC and HTTP, that keeps what it gets and can be told to refuse."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from contain.hook import certificate
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Sink:
    """Requests by signal, in order. ``refuse``: signals answered with a permanent error."""

    def __init__(self, protocol: str) -> None:
        self.protocol, self.endpoint = protocol, ""
        self.refuse: set[str] = set()
        self.poison: bytes | None = None
        self.headers: list[dict[str, str]] = []
        self.requests: dict[str, list[Any]] = {"traces": [], "logs": [], "metrics": []}
        self.arrived = threading.Condition()

    def take(self, signal: str, request: Any, headers: dict[str, str]) -> bool:
        with self.arrived:
            self.headers.append(headers)
            if signal in self.refuse or (self.poison and self.poison in request.SerializeToString()):
                self.arrived.notify_all()
                return False
            self.requests[signal].append(request)
            self.arrived.notify_all()
            return True

    def wait(self, signal: str, count: int = 1, timeout: float = 20.0) -> list[Any]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests[signal]) >= count, timeout), f"no {signal} within {timeout} s"
            return list(self.requests[signal])

    def spans(self) -> list[Any]:
        return [s for r in self.requests["traces"] for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    def logs(self) -> list[Any]:
        return [x for r in self.requests["logs"] for rl in r.resource_logs for sl in rl.scope_logs for x in sl.log_records]


_RESPONSES = {
    "traces": trace_service_pb2.ExportTraceServiceResponse,
    "logs": logs_service_pb2.ExportLogsServiceResponse,
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
}
_REQUESTS = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}


def _grpc_server(sink: Sink, tls: tuple[Path, Path] | None = None, port: int = 0) -> grpc.Server:
    def servicer(signal: str, base: type) -> Any:
        def export(_self: Any, request: Any, context: grpc.ServicerContext) -> Any:
            headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            if not sink.take(signal, request, headers):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
            return _RESPONSES[signal]()

        return type(f"{signal}_servicer", (base,), {"Export": export})()

    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer("traces", trace_service_pb2_grpc.TraceServiceServicer), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(servicer("logs", logs_service_pb2_grpc.LogsServiceServicer), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
        servicer("metrics", metrics_service_pb2_grpc.MetricsServiceServicer), server
    )
    if tls:
        credentials = grpc.ssl_server_credentials([(tls[1].read_bytes(), tls[0].read_bytes())])
        sink.endpoint = f"https://127.0.0.1:{server.add_secure_port(f'127.0.0.1:{port}', credentials)}"
    else:
        sink.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    return server


def _http_server(sink: Sink, tls: tuple[Path, Path] | None = None, port: int = 0) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            signal = self.path.removeprefix("/v1/")
            accepted = sink.take(signal, _REQUESTS[signal].FromString(body), {k.lower(): v for k, v in self.headers.items()})
            self.send_response(200 if accepted else 400)
            answer = _RESPONSES[signal]().SerializeToString() if accepted else b""
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    sink.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@contextmanager
def serving(protocol: str, tls: tuple[Path, Path] | None = None, port: int = 0) -> Iterator[Sink]:
    sink = Sink(protocol)
    if sink.protocol == "grpc":
        server = _grpc_server(sink, tls, port)
        yield sink
        server.stop(None).wait()
    else:
        http = _http_server(sink, tls, port)
        yield sink
        http.shutdown()
        http.server_close()


@pytest.fixture(params=["grpc", "http/protobuf"])
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    with serving(request.param) as sink:
        yield sink


@pytest.fixture(params=["grpc", "http/protobuf"])
def tls_sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, Path]]:
    """An endpoint with TLS, and the certificate to trust."""
    tls = certificate(tmp_path)
    with serving(request.param, tls) as sink:
        yield sink, tls[0]
