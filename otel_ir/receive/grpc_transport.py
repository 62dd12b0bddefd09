"""OTLP/gRPC: the three services on one ``grpc.aio`` server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from otel_ir.errors import ConfigError, OtelIrError
from otel_ir.receive.admission import Admission
from otel_ir.receive.refusal import CODES, Outcome, RefusedError
from otel_ir.receive.signals import SIGNALS, Signal

_TRANSPORT = "grpc"
_STATUS_DETAILS = "grpc-status-details-bin"
_PING_MILLISECONDS = 10_000
"""Keepalive pings as often as this are fine; by default, those more often than every five minutes are answered with GOAWAY."""

logger = logging.getLogger(__name__)


class GrpcTransport:
    """A server that is bound on construction and serves from ``start`` to ``stop``."""

    def __init__(self, admission: Admission, host: str, port: int) -> None:
        """Bind. Raises ``ConfigError``."""
        config = admission.config
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_request_bytes),  # holds before and after decompression (tested)
                ("grpc.max_concurrent_streams", config.max_concurrent_requests),
                ("grpc.so_reuseport", 0),  # or a second server would share the port, and the spans, without a word
                ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_MILLISECONDS),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        for signal in SIGNALS:
            handler = grpc.stream_unary_rpc_method_handler(_exporter(admission, signal))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(signal.service, {"Export": handler}),))
        try:
            self.port: int = self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise ConfigError(f"receive.grpc_endpoint: cannot listen on {host}:{port}: {error}") from None

    async def start(self) -> None:
        """Begin to serve."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no new requests, give those at work ``grace`` seconds, then cancel them."""
        await self._server.stop(grace)


def _exporter(admission: Admission, signal: Signal) -> Callable[[Any, Any], Awaitable[bytes]]:
    """The handler of one ``Export`` method.

    It is declared as client-streaming, which looks the same on the wire, because only then the message is read when we
    ask for it: a request that is unauthenticated or one too many is refused before its body takes memory.
    """

    async def export(_requests: object, context: Any) -> bytes:
        try:
            return await _export(admission, signal, context)
        except asyncio.CancelledError:
            admission.count(_TRANSPORT, signal, Outcome.CANCELLED)
            raise
        except (RefusedError, OtelIrError) as error:
            refusal = RefusedError.of(error)
        except Exception as error:
            logger.exception("a gRPC request failed")
            refusal = RefusedError.of(error)
        admission.count(_TRANSPORT, signal, refusal.outcome)
        details = ((_STATUS_DETAILS, refusal.status().SerializeToString()),)
        await context.abort(CODES[refusal.outcome].grpc, refusal.message, trailing_metadata=details)
        raise AssertionError("unreachable: abort raises")

    return export


async def _export(admission: Admission, signal: Signal, context: Any) -> bytes:
    headers = dict(context.invocation_metadata() or ())
    authorization = headers.get("authorization")
    sender = admission.authenticate(authorization if isinstance(authorization, str) else None)
    with admission.place() as place:
        try:
            async with asyncio.timeout(admission.config.request_seconds):
                content = await context.read()
        except TimeoutError:
            raise RefusedError(Outcome.TIMEOUT, "the request did not arrive in time") from None
        if not isinstance(content, bytes):
            # gRPC does not tell an empty call from one that it refused (RESOURCE_EXHAUSTED) as too large; clients send no empty ones.
            raise RefusedError(Outcome.TOO_LARGE, f"no message, or one larger than {admission.config.max_request_bytes} bytes")
        place.hold(len(content))
        response: bytes = (await admission.accept(_TRANSPORT, signal, sender, content, json=False)).SerializeToString()
        return response
