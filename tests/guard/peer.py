"""A server that speaks the guard protocol from a script, and a guard that talks to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import otel_ir.guard
from otel_ir.guard import Guard, Restriction

T = TypeVar("T")
SERVICE = "desk"
AGENT = {"otel_ir.agent.id": f"{SERVICE}/hijacked"}


def until(condition: Callable[[], T], *, seconds: float = 20, what: str = "it") -> T:
    """The first true value of ``condition()``; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.005)
    return value


def revoked(*tools: str, action: str = "a-1", selector: dict[str, str] | None = None, **more: Any) -> Restriction:
    """These tools (none: all) are taken away from the hijacked agent."""
    return Restriction(
        action, "revoke_tools", (selector or AGENT,), tools or None, reason="it mailed customer data", incident="INC-1", **more
    )


def paused(*, action: str = "a-2", selector: dict[str, str] | None = None, **more: Any) -> Restriction:
    """The hijacked agent is paused."""
    return Restriction(action, "pause_agent", (selector or AGENT,), incident="INC-1", **more)


class Server:
    """Answers as the protocol says with what ``forbid`` put in; ``script`` may answer in its place.

    ``script``: (method, path) -> list of functions handler -> None, each used once.
    """

    def __init__(self, port: int = 0, *, wait: float = 0.5) -> None:
        self.requests: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
        self.script: dict[tuple[str, str], list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.registered: dict[str, dict[str, Any]] = {}
        self.reports: list[dict[str, Any]] = []
        self.wait = wait
        self._body, self._number = {"restrictions": [], "probes": []}, 0
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server._connections.add(self.connection)

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

            def do_GET(self) -> None:
                server.handle(self)

            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        class Listening(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass

        self._http = Listening(("127.0.0.1", port), Handler)
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self._closed = False

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._http.shutdown()
        for connection in tuple(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()
        self._thread.join()

    def forbid(self, *restrictions: Restriction, probes: tuple[dict[str, str], ...] = (), **extra: Any) -> str:
        """A new state; returns its ETag."""
        return self.state({"restrictions": [one.to_json() for one in restrictions], "probes": list(probes), **extra})

    def state(self, body: Any) -> str:
        with self._changed:
            self._body, self._number = body, self._number + 1
            self._changed.notify_all()
            return self.etag

    @property
    def etag(self) -> str:
        return f'"{self.port}-{self._number}"'

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path)
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else {}
        self.requests.append((request.command, request.path, dict(request.headers.items()), body))
        name = path.path.rpartition("/")[2]
        if steps := self.script.get((request.command, name)):
            steps.pop(0)(request)
        elif name == "register":
            self.registered[body["instance"]] = body
            answer(200, {"wait": self.wait})(request)
        elif name == "report":
            known = body["instance"] in self.registered
            if known:
                self.reports.append(body)
            answer(204 if known else 404)(request)
        else:
            self._state(request, parse_qs(path.query))

    def _state(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        if query["instance"][0] not in self.registered:
            answer(404, {"error": "unknown instance"})(request)
            return
        seen = request.headers.get("If-None-Match")
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.etag != seen, float(query["wait"][0]))
            body, etag = self._body, self.etag
        if etag == seen:
            answer(304)(request)
        else:
            answer(200, body, ETag=etag)(request)

    def applied(self) -> list[str]:
        """What the newest report says is in force."""
        return self.reports[-1]["applied"] if self.reports else []

    def asked(self, name: str) -> int:
        return sum(urlsplit(path).path.endswith(name) for _, path, _, _ in self.requests)


def answer(status: int, body: Any = None, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """One answer for a script; ``body`` may be bytes as they are."""

    def send(request: BaseHTTPRequestHandler) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return send


@contextmanager
def guarding(endpoint: str = "", **settings: Any) -> Iterator[Guard]:
    """An installed guard, closed at the end."""
    guard = otel_ir.guard.install(service=SERVICE, endpoint=endpoint, **settings)
    try:
        yield guard
    finally:
        guard.close()


def runs(guard: Guard, tool: str, *, agent: str = "hijacked", conversation: str = "") -> bool:
    """Whether a call would run now."""
    try:
        guard.check(tool, agent=agent, conversation=conversation)
    except PermissionError:
        return False
    return True
