"""A real receiver with the guard's pages, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from otel_ir.contain import GuardHub
from otel_ir.contain.guard_http import GuardPages
from otel_ir.receive import ReceiveConfig, Receiver

DEADLINE = 20.0


def wait_for(condition: Callable[[], Any], what: str = "it") -> Any:
    """The first true value of ``condition``."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen in {DEADLINE:g} s"
        time.sleep(0.005)
    return value


class Server:
    """A receiver with an event loop in a thread of its own. It can stop and start again on the same port, with another hub."""

    def __init__(self, hub: GuardHub | None = None, **settings: Any) -> None:
        self.hub, self.settings = hub or GuardHub(), settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self.start(self.hub)

    def start(self, hub: GuardHub) -> None:
        async def nothing(*_: object, **__: object) -> int:
            return 1

        self.hub = hub
        config = ReceiveConfig(**{"grpc_endpoint": "127.0.0.1:0", "http_endpoint": f"127.0.0.1:{self.port}"} | self.settings)
        self.receiver = Receiver(config, nothing, pages=GuardPages(hub))
        self.run(self.receiver.start())
        self.port = self.receiver.http_port

    def stop(self, grace: float = 5.0) -> None:
        self.run(self.receiver.stop(grace))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
