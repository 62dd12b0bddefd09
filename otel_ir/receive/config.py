"""What an operator may set about receiving, and what the receiver is given by whoever composes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import msgspec
from starlette.routing import BaseRoute

from otel_ir.errors import ConfigError
from otel_ir.model import RecordKind

_MIB = 1024 * 1024

Positive = Annotated[int, msgspec.Meta(ge=1)]


class AppendFn(Protocol):
    """``Journal.append``: the ordinal once the record is durable; ``Overloaded``, ``StorageError`` or ``InputError``."""

    async def __call__(self, kind: RecordKind, body: bytes, *, tenant: str = "", sender: str = "") -> int:
        """Make one record durable."""
        ...


class Counter(Protocol):
    """What the receiver counts with; it must not raise. ``otel_ir.telemetry.Telemetry`` is one."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Raise the counter ``name``."""
        ...


class _NoCounter:
    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Do nothing."""


NO_COUNTER: Counter = _NoCounter()
"""Counts nothing."""


Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=64)]
"""Of a tenant or sender: it becomes a part of ids, so no character that separates them."""


class TokenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bearer token and what it stands for."""

    token: str
    tenant: Name = ""
    sender: Name = ""
    services: tuple[str, ...] = ()
    """``service.name``s this sender may speak for; empty means any."""

    def __repr__(self) -> str:
        """Without the token, which is a secret."""
        return f"TokenConfig(tenant={self.tenant!r}, sender={self.sender!r}, services={self.services!r})"


Authenticate = Callable[[str | None], TokenConfig]
"""Who sends, by the ``authorization`` header. Raises ``RefusedError``."""


class Pages(Protocol):
    """Something else that the HTTP port serves. It does not count in the limits of telemetry, so it must have its own."""

    def routes(self, authenticate: Authenticate) -> Sequence[BaseRoute]:
        """What is served from now on; called when the server starts."""
        ...

    def stop(self) -> None:
        """The server is about to stop: no answer is to be held back any longer."""
        ...


class ReceiveConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where to listen, and limits in bytes, requests and seconds."""

    grpc_endpoint: str = "127.0.0.1:4317"
    """``host:port`` of OTLP/gRPC; port 0 takes any free one."""
    http_endpoint: str = "127.0.0.1:4318"
    """``host:port`` of OTLP/HTTP and ``/healthz``."""
    max_request_bytes: Positive = 16 * _MIB
    """Largest request, uncompressed; larger ones are refused for good (413, RESOURCE_EXHAUSTED)."""
    max_json_bytes: Positive = 8 * _MIB
    """The same for JSON, which costs about fifteen times as much time per attribute as protobuf."""
    max_in_flight_bytes: Positive = 128 * _MIB
    """Bytes read but not yet durable, of all requests together; beyond it requests are put off (429, UNAVAILABLE)."""
    max_concurrent_requests: Positive = 256
    """Requests at work at the same time, of both transports; beyond it requests are put off."""
    max_attributes: Positive = 10_000
    """Attributes of one span or log record; one with more is refused by partial success."""
    request_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """How long a request may take to arrive, and then to become durable."""
    tokens: tuple[TokenConfig, ...] = ()
    """Senders that may send; without any, everybody who can connect may, as nobody in particular."""


def parse_endpoint(endpoint: str, key: str) -> tuple[str, int]:
    """``"127.0.0.1:4317"`` or ``"[::1]:4317"`` -> host and port. Raises ``ConfigError`` naming ``key``."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{key}: {endpoint!r} is not host:port, such as 127.0.0.1:4317 or [::1]:4317")
    return host.removeprefix("[").removesuffix("]"), int(port)
