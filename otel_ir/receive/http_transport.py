"""OTLP/HTTP on uvicorn and Starlette: protobuf and JSON, plain and gzip, and ``/healthz``."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from otel_ir.errors import ConfigError, OtelIrError
from otel_ir.receive.admission import Admission, Place, too_large
from otel_ir.receive.config import Pages
from otel_ir.receive.refusal import CODES, Outcome, RefusedError
from otel_ir.receive.signals import SIGNALS, Signal

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_TRANSPORT = "http"
_KEEP_ALIVE_SECONDS = 75
"""Longer than the intervals at which exporters and Collectors send, so that they need not connect anew each time."""
_BACKLOG = 512
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus text exposition format."""

logger = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


class _Server(uvicorn.Server):
    """A uvicorn server within a program that handles signals itself."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpTransport:
    """A server that is bound on construction and serves from ``start`` to ``stop``."""

    def __init__(
        self,
        admission: Admission,
        fault: Callable[[], str | None],
        host: str,
        port: int,
        metrics: Callable[[], str] | None = None,
        pages: Pages | None = None,
    ) -> None:
        """Bind. Raises ``ConfigError``."""
        self._pages = pages
        self._socket = bind(host, port, "receive.http_endpoint")
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                application(admission, fault, metrics, pages),
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Who connects is what the kernel says: a header that can be written by anybody must not change it.
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                backlog=_BACKLOG,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve; returns when connections are taken."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="receive-http")
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.005)
        if self._serving.done():
            await self._serving

    async def stop(self, grace: float) -> None:
        """Take no new requests, give those at work ``grace`` seconds, then cancel them."""
        if self._serving is None:
            self._socket.close()
        else:
            if self._pages:
                self._pages.stop()
            self._server.config.timeout_graceful_shutdown = grace  # type: ignore[assignment]
            self._server.should_exit = True
            await self._serving


def bind(host: str, port: int, key: str) -> socket.socket:
    """A listening address. Raises ``ConfigError`` that names the setting and says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only where the protocol is named; with it, every second answer waits for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{key}: cannot listen on {host}:{port}: {error.strerror or error}; stop what listens there (another otel_ir, "
            f"a Collector?) or set {key} to another port, 0 for any free one"
        ) from None
    return listener


def application(
    admission: Admission, fault: Callable[[], str | None], metrics: Callable[[], str] | None = None, others: Pages | None = None
) -> Starlette:
    """The ASGI application."""

    async def health(_request: Request) -> Response:
        reason = fault()
        if reason is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable", "reason": reason}, 503)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        body = RefusedError(Outcome.INVALID, f"{error.detail}: {request.method} {request.url.path}").status()
        return _respond(body, _wants_json(request), error.status_code, dict(error.headers or {}))

    async def rendered(_request: Request) -> Response:
        return Response(await asyncio.to_thread(metrics) if metrics else "", media_type=_PROMETHEUS)

    pages: list[BaseRoute] = [Route("/healthz", health, methods=["GET"])]
    if metrics:
        pages.append(Route("/metrics", rendered, methods=["GET"]))
    if others:
        pages += others.routes(admission.authenticate)
    routes = [Route(signal.path, _endpoint(admission, signal), methods=["POST"]) for signal in SIGNALS]
    return Starlette(routes=[*routes, *pages], exception_handlers={HTTPException: http_error})


def _endpoint(admission: Admission, signal: Signal) -> Endpoint:
    async def export(request: Request) -> Response:
        try:
            return await _export(admission, signal, request)
        except (asyncio.CancelledError, ClientDisconnect) as error:
            admission.count(_TRANSPORT, signal, Outcome.CANCELLED)
            if isinstance(error, asyncio.CancelledError):
                raise
            return Response(status_code=CODES[Outcome.INVALID].http)  # nobody is there to read it
        except (RefusedError, OtelIrError) as error:
            refusal = RefusedError.of(error)
        except Exception as error:
            logger.exception("an HTTP request failed")
            refusal = RefusedError.of(error)
        admission.count(_TRANSPORT, signal, refusal.outcome)
        headers = {} if refusal.retry_seconds is None else {"retry-after": refusal.retry_seconds}
        if refusal.outcome is Outcome.UNAUTHENTICATED:
            headers["www-authenticate"] = "Bearer"
        return _respond(refusal.status(), _wants_json(request), CODES[refusal.outcome].http, headers)

    return export


async def _export(admission: Admission, signal: Signal, request: Request) -> Response:
    sender = admission.authenticate(request.headers.get("authorization"))
    content_type = _content_type(request)
    if content_type not in (PROTOBUF, JSON):
        raise RefusedError(Outcome.UNSUPPORTED, f"content-type {content_type or '(none)'} is not {PROTOBUF} or {JSON}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "none", "", "gzip"):
        raise RefusedError(Outcome.UNSUPPORTED, f"content-encoding {coding[:100]} is not gzip or identity")
    is_json = content_type == JSON
    with admission.place() as place:
        try:
            async with asyncio.timeout(admission.config.request_seconds):
                content = await _read(request, place, admission.config.max_json_bytes if is_json else admission.config.max_request_bytes)
        except TimeoutError:
            raise RefusedError(Outcome.TIMEOUT, "the request did not arrive in time") from None
        if coding == "gzip":
            content = await admission.uncompress(content, json=is_json, place=place)
        response = await admission.accept(_TRANSPORT, signal, sender, content, json=is_json)
    return _respond(response, is_json, 200, {})


async def _read(request: Request, place: Place, limit: int) -> bytes:
    """The body as it comes. Raises ``RefusedError`` as soon as it is too large, ``Overloaded`` when there is no room for it."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        if int(declared) > limit:
            raise too_large(declared[:20], limit)
        place.hold(int(declared))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large("more", limit)
        if size > place.size:
            place.hold(size)
        chunks.append(chunk)
    return b"".join(chunks)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()[:100]


def _wants_json(request: Request) -> bool:
    """Errors are answered in the request's encoding; where that is neither, in the one a person can read."""
    return _content_type(request) != PROTOBUF


def _respond(message: Message, as_json: bool, status: int, headers: dict[str, str]) -> Response:
    if as_json:
        return Response(json.dumps(json_format.MessageToDict(message)), status, headers, JSON)
    return Response(message.SerializeToString(), status, headers, PROTOBUF)
