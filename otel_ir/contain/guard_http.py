"""The guard protocol on the HTTP port: authenticate, read within bounds, ask the hub, answer (docs/guard-protocol.md).

A guard speaks for one service, and its token must allow that; it is shown what its own tenant and service are asked to enforce and
nothing else. Waiting polls take no thread, count in no budget of telemetry, and end when the server stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_ir.contain import procfs
from otel_ir.contain.guard_hub import GuardHub
from otel_ir.contain.guard_info import GuardKey
from otel_ir.contain.guard_wire import MAX_BODY, MAX_TEXT, MAX_WAIT, PATH, Register, Report
from otel_ir.errors import InputError, Overloaded
from otel_ir.receive import Authenticate, TokenConfig
from otel_ir.receive.refusal import CODES, Outcome, RefusedError

READ_SECONDS = 10.0
"""How long a request may take to arrive."""
MAX_AT_WORK = 128
"""Messages being read and worked on."""
MAX_POLLS = 2000
"""Polls waiting, of all guards together."""
_JSON = "application/json"

_log = logging.getLogger(__name__)
Message = TypeVar("Message", Register, Report)
_T = TypeVar("_T")
Endpoint = Callable[[Request], Awaitable[Response]]


class GuardPages:
    """The routes, for ``Receiver(pages=...)``."""

    def __init__(self, hub: GuardHub) -> None:
        self._hub = hub
        self._authenticate: Authenticate
        self._stopping = asyncio.Event()
        self._polls = self._at_work = 0
        self._proving = asyncio.Lock()

    def routes(self, authenticate: Authenticate) -> Sequence[Route]:
        """What is served; ``authenticate`` tells senders apart."""
        self._authenticate, self._stopping = authenticate, asyncio.Event()
        pages = (("register", "POST", self._register), ("state", "GET", self._state), ("report", "POST", self._report))
        return [Route(f"{PATH}/{name}", _answering(page), methods=[method]) for name, method, page in pages]

    def stop(self) -> None:
        """Waiting polls are answered now, later ones with 503."""
        self._stopping.set()

    async def _register(self, request: Request) -> Response:
        sender = self._sender(request)
        with self._place():
            who = await _message(request, Register)
            _allow(sender, who.service)
            client = (request.client.host, request.client.port) if request.client else None
            server = request.scope.get("server")
            async with self._proving:  # one at a time: a flood of registrations must not take all threads
                proof = await asyncio.to_thread(procfs.prove, who.pid, who.pid_start, who.boot_id, client, server)
            try:
                self._hub.register(sender.tenant, who, proof)
            except InputError as error:
                raise HTTPException(409, str(error)) from None
        return JSONResponse({"wait": int(MAX_WAIT)})

    async def _state(self, request: Request) -> Response:
        sender = self._sender(request)
        service, instance, wait = (request.query_params.get(name, "") for name in ("service", "instance", "wait"))
        if not (0 < len(service) <= MAX_TEXT and 0 < len(instance) <= MAX_TEXT):
            raise HTTPException(400, "service and instance must be given in the query")
        _allow(sender, service)
        if self._stopping.is_set() or self._polls >= MAX_POLLS:
            raise HTTPException(503, "the server stops" if self._stopping.is_set() else "too many polls are waiting", {"retry-after": "1"})
        etag = request.headers.get("if-none-match", "").strip().removeprefix("W/").strip('"')
        self._polls += 1
        try:
            changed = self._hub.changed(GuardKey(sender.tenant, service, instance), etag, _seconds(wait))
            found = await self._unless_over(request, changed)
        except KeyError:
            raise HTTPException(404, "unknown instance") from None
        finally:
            self._polls -= 1
        headers = {"cache-control": "no-store"}
        if found is None:
            return Response(status_code=304, headers=headers | {"etag": f'"{etag}"'})
        return Response(found.body, 200, headers | {"etag": f'"{found.etag}"'}, _JSON)

    async def _report(self, request: Request) -> Response:
        sender = self._sender(request)
        with self._place():
            said = await _message(request, Report)
        _allow(sender, said.service)
        try:
            self._hub.report(sender.tenant, said)
        except KeyError:
            raise HTTPException(404, "unknown instance") from None
        return Response(status_code=204)

    def _sender(self, request: Request) -> TokenConfig:
        return self._authenticate(request.headers.get("authorization"))

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._at_work >= MAX_AT_WORK:
            raise Overloaded(f"{self._at_work} messages are at work already")
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def _unless_over(self, request: Request, waiting: Awaitable[_T | None]) -> _T | None:
        """What ``waiting`` gives; ``None`` as soon as the server stops or the guard hangs up."""
        answer = asyncio.ensure_future(waiting)
        tasks: list[asyncio.Future[Any]] = [answer, asyncio.create_task(self._stopping.wait()), asyncio.create_task(_hung_up(request))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _answering(page: Endpoint) -> Endpoint:
    """The page, with every error as one line of JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await page(request)
        except HTTPException as error:
            return _error(error.status_code, error.detail, dict(error.headers or {}))
        except RefusedError as error:
            unknown = error.outcome is Outcome.UNAUTHENTICATED
            return _error(CODES[error.outcome].http, error.message, {"www-authenticate": "Bearer"} if unknown else {})
        except Overloaded as error:
            return _error(429, str(error), {"retry-after": str(max(1, math.ceil(error.retry_after)))})
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception:
            _log.exception("a guard's request failed")
            return _error(500, "internal error", {})

    return answer


def _error(status: int, what: str, headers: dict[str, str]) -> Response:
    line = "".join(c if c.isprintable() else " " for c in what)
    return JSONResponse({"error": line[:MAX_TEXT]}, status, headers)


def _allow(sender: TokenConfig, service: str) -> None:
    if sender.services and service not in sender.services:
        raise HTTPException(403, "the service is not one that this sender may speak for")


async def _message(request: Request, kind: type[Message]) -> Message:
    """The body as ``kind``. Raises ``HTTPException``."""
    # A page in a browser can send other content types to this port without being asked, but not this one.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"content-type {_JSON} is expected")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "content-encoding is not taken here")
    try:
        async with asyncio.timeout(READ_SECONDS):
            return msgspec.json.decode(await _body(request), type=kind)
    except TimeoutError:
        raise HTTPException(408, "the request did not arrive in time") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"{type(error).__name__}: {error}") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a request is larger than the {MAX_BODY} bytes that are taken", {"connection": "close"})
    return body


async def _hung_up(request: Request) -> None:
    """Returns when the connection broke, or brings a body without end."""
    size = 0
    while (message := await request.receive())["type"] != "http.disconnect":
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            return


def _seconds(wait: str) -> float:
    try:
        seconds = float(wait or 0)
    except ValueError:
        raise HTTPException(400, "wait must be a number of seconds") from None
    return min(max(seconds, 0.0), MAX_WAIT) if math.isfinite(seconds) else 0.0
