"""A real HTTP server in the place of a system that is asked to act."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0" * 5  # 30 bytes


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is needed to make a certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return cert, key


@dataclass
class Call:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str = SECRET) -> dict[str, Any]:
        """The body, after the signature was checked with the Standard Webhooks library."""
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload


Answer = Callable[[BaseHTTPRequestHandler], None]


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Hook:
    """Answers with ``script`` in turn, then with ``then`` for ever. ``release`` lets answers go that wait for it."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.calls: list[Call] = []
        self.script: list[Answer] = []
        self.then: Answer = reply(204)
        self.changed, self.release = threading.Condition(), threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.call = Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with hook.changed:
                    hook.calls.append(self.call)
                    answer = hook.script.pop(0) if hook.script else hook.then
                    hook.changed.notify_all()
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}/hooks/secret-path"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def wait(self, count: int, timeout: float = 20.0) -> list[Call]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.calls) >= count, timeout), f"{len(self.calls)} of {count} calls"
            return list(self.calls)

    def held(self, then: Answer) -> Answer:
        """An answer that is given when ``release`` is set."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            self.release.wait(30)
            then(handler)

        return answer

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
