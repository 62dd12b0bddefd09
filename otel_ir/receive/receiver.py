"""Both transports, from start to drain."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable

from otel_ir.receive.admission import Admission
from otel_ir.receive.config import NO_COUNTER, AppendFn, Counter, Pages, ReceiveConfig, parse_endpoint
from otel_ir.receive.grpc_transport import GrpcTransport
from otel_ir.receive.http_transport import HttpTransport, bind

logger = logging.getLogger(__name__)


def _healthy() -> str | None:
    return None


class Receiver:
    """OTLP over gRPC and HTTP into ``append``; a sender is answered when ``append`` returned.

    ``fault`` says why the journal takes no writes at present (``None``: it does); ``/healthz`` asks it. ``metrics`` renders
    the metrics in the Prometheus text format for ``GET /metrics``. ``pages`` are served on the HTTP port too.
    ``stop`` is safe without ``start`` and twice.
    """

    def __init__(
        self,
        config: ReceiveConfig,
        append: AppendFn,
        counters: Counter = NO_COUNTER,
        *,
        fault: Callable[[], str | None] = _healthy,
        metrics: Callable[[], str] | None = None,
        pages: Pages | None = None,
    ) -> None:
        self._config, self._append, self._counters, self._fault, self._metrics = config, append, counters, fault, metrics
        self._pages = pages
        self._admission: Admission | None = None
        self._transports: list[GrpcTransport | HttpTransport] = []
        self.grpc_port = 0
        """Port of OTLP/gRPC, once started."""
        self.http_port = 0
        """Port of OTLP/HTTP, once started."""

    async def start(self) -> None:
        """Bind both ports, then serve. Raises ``ConfigError`` when one cannot be had; then neither is held."""
        grpc_host, grpc_port = parse_endpoint(self._config.grpc_endpoint, "receive.grpc_endpoint")
        http_host, http_port = parse_endpoint(self._config.http_endpoint, "receive.http_endpoint")
        if not self._config.tokens and not (_loopback(grpc_host) and _loopback(http_host)):
            logger.warning("receiving beyond this machine without tokens: whoever can connect may send as anybody")
        # gRPC does not say why it cannot bind; a plain socket does.
        bind(grpc_host, grpc_port, "receive.grpc_endpoint").close()
        self._admission = Admission(self._config, self._append, self._counters)
        try:
            http = HttpTransport(self._admission, self._fault, http_host, http_port, self._metrics, self._pages)
            self._transports.append(http)
            grpc = GrpcTransport(self._admission, grpc_host, grpc_port)
            self._transports.append(grpc)
            for transport in self._transports:
                await transport.start()
        except BaseException:
            await self.stop(0)
            raise
        self.grpc_port, self.http_port = grpc.port, http.port

    async def stop(self, grace: float) -> None:
        """Drain: take no new requests, give those at work ``grace`` seconds to be answered, then cancel them."""
        transports, self._transports = self._transports, []
        await asyncio.gather(*(transport.stop(grace) for transport in transports))
        if self._admission is not None:
            self._admission.close()
            self._admission = None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
