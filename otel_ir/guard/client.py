"""The guard's line to a server: register, long poll for the state, report. Two daemon threads; nothing they meet reaches the agent."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from otel_ir import __version__
from otel_ir.errors import InputError
from otel_ir.guard.restriction import Wanted, parse_state
from otel_ir.guard.settings import Settings

BASE = "/guard/v1"
MAX_REQUEST = 64 << 10
MAX_ANSWER = 4 << 20
MAX_WAIT = 60.0
"""Seconds that a server may have a long poll wait."""
GRACE = 10.0
"""Seconds beyond that in which an exchange must end, however slowly its bytes come."""
SLACK = 1.0
"""Seconds beyond that until a connection is cut from outside."""
FIRST, LONGEST = 0.25, 10.0
"""Seconds between attempts: at first, and at most (``Retry-After`` may ask for up to a minute)."""
REPORT_EVERY = 1.0
"""Seconds between reports in which nothing is new but blocked calls."""
LEAVE = 1.0
"""Seconds that closing may take, at most."""

_log = logging.getLogger("otel_ir.guard")


class Enforcer(Protocol):
    """What the line is for (``Guard``). None of these raises."""

    def registration(self) -> dict[str, Any]:
        """The body of a registration."""

    def accept(self, wanted: Wanted, etag: str) -> bool:
        """Puts a state into force and answers its probes; True when there is something to report."""

    def in_touch(self) -> None:
        """The server answered as one that knows this guard."""

    def renamed(self) -> Settings:
        """The server knows another live process by this instance id (workers that share one): the settings with a new one."""

    def report(self) -> dict[str, Any]:
        """What is to be reported."""

    def reported(self, report: dict[str, Any]) -> None:
        """The server has it."""


class Answer(NamedTuple):
    status: int
    body: bytes
    etag: str
    retry_after: float | None


class Client:
    """``start`` it once; ``close`` ends both threads."""

    def __init__(self, settings: Settings, guard: Enforcer) -> None:
        self._settings, self._guard = settings, guard
        self._closed = threading.Event()
        self._wake = threading.Condition()
        self._urgent = self._pending = self._register = self._leaving = self._up = self._sending = False
        self._wait = 25.0
        self._etag = ""
        self._told: dict[str, str] = {}
        self._lines = (_Line(settings), _Line(settings))
        self._threads = [
            threading.Thread(target=self._run, args=(self._poll_once, self._lines[0]), name="otel_ir.guard.poll", daemon=True),
            threading.Thread(target=self._run, args=(self._report_once, self._lines[1]), name="otel_ir.guard.report", daemon=True),
        ]

    def start(self) -> None:
        """Begins to register and to poll."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Tells a server that was there a moment ago that this guard leaves, and what is still to be reported, in ``LEAVE`` seconds."""
        deadline = time.monotonic() + LEAVE
        with self._wake:
            self._pending = self._leaving = True
            while self._up and (self._pending or self._sending) and time.monotonic() < deadline and self._threads[1].is_alive():
                self._urgent = True
                self._wake.notify_all()
                self._wake.wait(0.02)
            self._closed.set()
            self._wake.notify_all()
        for line in self._lines:
            line.end()
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.2))

    def changed(self) -> None:
        """What a registration says changed."""
        with self._wake:
            self._register = self._pending = self._urgent = True
            self._wake.notify_all()

    def blocked(self, *, urgent: bool = False) -> None:
        """There is something to report."""
        with self._wake:
            self._pending = True
            self._urgent |= urgent
            self._wake.notify_all()

    # --- the two loops -------------------------------------------------------------------------------------------------------

    def _run(self, once: Any, line: _Line) -> None:
        failures = 0
        while not self._closed.is_set():
            try:
                pause = once(line)
                failures, self._up = 0, True
                self._told.pop(once.__name__, None)
            except Exception as error:  # whatever a server or a network does, the agent goes on
                line.abort()
                self._up = False
                if self._closed.is_set():
                    break
                self._tell(once.__name__, f"{type(error).__name__}: {error}")
                pause = min(FIRST * 2**failures, LONGEST) * random.uniform(0.5, 1.0)  # noqa: S311
                if isinstance(error, _Refused) and error.retry_after is not None:
                    pause = max(pause, error.retry_after)
                failures = min(failures + 1, 16)
            self._closed.wait(pause)
        line.abort()

    def _poll_once(self, line: _Line) -> float:
        if not self._etag:
            self._registered(line)
        settings, wait = self._settings, self._wait
        path = f"/state?service={quote(settings.service, safe='')}&instance={quote(settings.instance, safe='')}&wait={wait:g}"
        began = time.monotonic()
        answer = line.ask("GET", path, None, {"If-None-Match": self._etag} if self._etag else {}, wait + GRACE)
        if answer.status == 404:
            self._etag = ""
            return FIRST * random.random()  # noqa: S311
        if answer.status == 304:
            self._guard.in_touch()
            # A server that does not let us wait is not asked in a tight loop.
            return 0.0 if time.monotonic() - began > min(wait, 1.0) / 2 else 1.0
        if answer.status != 200:
            raise _refused("state", answer)
        wanted = parse_state(answer.body)
        if wanted.faults:
            self._tell("state", f"{len(wanted.faults)} entries ignored; {wanted.faults[0]}")
        again = answer.etag == self._etag
        self._etag = answer.etag or '"none"'
        self._guard.in_touch()
        if self._guard.accept(wanted, answer.etag):
            self.blocked(urgent=True)
        return 1.0 if again or not answer.etag else 0.0

    def _report_once(self, line: _Line) -> float:
        with self._wake:
            while not (self._closed.is_set() or self._pending):
                self._wake.wait()
            if not self._pending:
                return 0.0
            if not self._urgent:
                # Blocked calls only: what comes in the meantime goes along.
                self._wake.wait_for(lambda: self._urgent or self._closed.is_set(), REPORT_EVERY)
            register = self._register
            self._register = self._urgent = self._pending = False
            self._sending = True
        try:
            if register:
                self._registered(line)
            report = self._guard.report()
            self._send(line, {**report, "leaving": True} if self._leaving else report)
        except BaseException:
            with self._wake:
                self._pending = self._urgent = True
                self._register |= register
            raise
        finally:
            with self._wake:
                self._sending = False
                self._wake.notify_all()
        self._guard.reported(report)
        return 0.0

    def _send(self, line: _Line, report: dict[str, Any]) -> None:
        answer = line.ask("POST", "/report", _bounded(report), {}, GRACE)
        if answer.status == 404:
            self._registered(line)
            answer = line.ask("POST", "/report", _bounded(self._guard.report()), {}, GRACE)
        if answer.status not in (200, 204):
            raise _refused("report", answer)

    def _registered(self, line: _Line) -> None:
        answer = line.ask("POST", "/register", json.dumps(self._guard.registration()).encode(), {}, GRACE)
        if answer.status == 409:
            self._settings = self._guard.renamed()
            answer = line.ask("POST", "/register", json.dumps(self._guard.registration()).encode(), {}, GRACE)
        if answer.status != 200:
            raise _refused("register", answer)
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            wait = json.loads(answer.body).get("wait")
            if isinstance(wait, int | float) and not isinstance(wait, bool) and wait > 0:
                self._wait = min(float(wait), MAX_WAIT, self._settings.stale_after / 2)
        # It may be another server than before, with the same ETag for another state: the next poll brings all of it, a report follows.
        self._etag = ""
        self._guard.in_touch()

    def _tell(self, about: str, what: str) -> None:
        """Once, until it is another thing that went wrong."""
        if self._told.get(about) != what:
            self._told[about] = what
            _log.warning("otel_ir guard, %s: %s", about.strip("_").removesuffix("_once"), what)


def _bounded(report: dict[str, Any]) -> bytes:
    """At most ``MAX_REQUEST`` bytes: the oldest blocked calls are left out first (their number is not)."""
    report = dict(report)
    while len(body := json.dumps(report).encode()) > MAX_REQUEST:
        key = next((key for key in ("blocked", "probes", "applied", "agents") if report.get(key)), "")
        if not key:
            return body
        report[key] = report[key][len(report[key]) // 2 + 1 :]
    return body


class _Refused(Exception):
    def __init__(self, what: str, retry_after: float | None) -> None:
        self.retry_after = retry_after
        super().__init__(what)


def _refused(what: str, answer: Answer) -> _Refused:
    reason = "".join(mark if mark.isprintable() else " " for mark in answer.body[:200].decode(errors="replace"))
    return _Refused(f"{what} was answered {answer.status} {reason}".rstrip(), answer.retry_after)


class _Line:
    """One connection to the server, opened when needed and again after any error."""

    def __init__(self, settings: Settings) -> None:
        self._parts = urlsplit(settings.endpoint)
        self._settings = settings
        self._connection: http.client.HTTPConnection | None = None
        self._ended = False

    def end(self) -> None:
        """For good."""
        self._ended = True
        self.abort()

    def abort(self) -> None:
        """Ends whatever is going on, from any thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(2)
            with contextlib.suppress(Exception):
                connection.close()

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float) -> Answer:
        """One exchange of at most ``seconds``. Raises ``OSError``, ``http.client.HTTPException`` or ``InputError``."""
        given = {"User-Agent": f"otel_ir.guard/{__version__}", "Accept": "application/json", **headers}
        if body is not None:
            given["Content-Type"] = "application/json"
        if self._settings.authorization:
            given["Authorization"] = self._settings.authorization
        reused = self._connection is not None
        try:
            response, read = self._exchange(method, self._parts.path + BASE + path, body, given, seconds)
        except (ConnectionError, http.client.RemoteDisconnected):
            # A server may close a connection that was idle; that says nothing about the next one.
            self.abort()
            if not reused:
                raise
            response, read = self._exchange(method, self._parts.path + BASE + path, body, given, seconds)
        if len(read) > MAX_ANSWER:
            raise InputError("the answer is larger than any state")
        if response.will_close:
            self.abort()
        return Answer(response.status, read, response.headers.get("ETag", "")[:256], _seconds(response.headers.get("Retry-After")))

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connection = self._connection or self._opened()
        try:
            with _at_most(seconds, connection):
                if connection.sock is None:
                    connection.timeout = min(seconds, GRACE)
                    connection.connect()
                if self._ended:
                    raise ConnectionAbortedError("the guard was closed")
                connection.sock.settimeout(seconds)
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                return response, response.read(MAX_ANSWER + 1)
        except BaseException:
            connection.close()
            raise

    def _opened(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port)
        tls = ssl.create_default_context(cafile=self._settings.ca_file or None)
        return http.client.HTTPSConnection(host, port, context=tls)


@contextlib.contextmanager
def _at_most(seconds: float, connection: http.client.HTTPConnection) -> Iterator[None]:
    """A socket's own timeout starts anew with every byte; this one does not."""

    def end() -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(2)

    timer = threading.Timer(seconds + SLACK, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds (its date form is not used by servers of this protocol)."""
    try:
        return min(max(float(text or ""), 0.0), 60.0)
    except ValueError:
        return None
