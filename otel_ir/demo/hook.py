"""The system that is asked to act, in the demo: a webhook receiver on loopback that believes nothing it cannot verify."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

MAX_BODY = 1024 * 1024
IDLE_SECONDS = 10.0


class Hook:
    """Receives signed requests as Standard Webhooks says: 204 for what is genuine, 401 for what is not.

    ``accepted`` has the ids (``webhook-id``, the action's id) of genuine requests, ``refused`` counts the others.
    """

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.accepted: set[str] = set()
        self.refused = 0
        self._lock = threading.Lock()
        self._signer = Webhook(self.secret)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            timeout = IDLE_SECONDS  # of a peer that connects and says nothing

            def do_POST(self) -> None:
                self.send_response(hook._answer(self))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                """Say nothing: the screen belongs to the story."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False

    @property
    def url(self) -> str:
        """Where to send requests."""
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def _answer(self, request: BaseHTTPRequestHandler) -> int:
        size = request.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > MAX_BODY:
            return 413
        body = request.rfile.read(int(size))
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            self._signer.verify(body, headers)
        except (WebhookVerificationError, ValueError):
            with self._lock:
                self.refused += 1
            return 401
        with self._lock:
            self.accepted.add(headers["webhook-id"])
        return 204


@contextmanager
def receiving() -> Iterator[Hook]:
    """A receiver that listens until the block ends."""
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever, args=(0.05,), name="otel_ir-demo-hook", daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        hook.server.server_close()
        thread.join()
