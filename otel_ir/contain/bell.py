"""Wakes coroutines, of whatever event loop, when something they wait for may have changed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Bell:
    """Thread-safe. A ring between looking and waiting is not lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def ring(self) -> None:
        """Whoever waits looks again."""
        with self._lock:
            waiting = list(self._waiting)
        for loop, event in waiting:
            with contextlib.suppress(RuntimeError):  # its loop was closed in between
                loop.call_soon_threadsafe(event.set)

    async def until(self, found: Callable[[], T | None], seconds: float) -> T | None:
        """What ``found`` gives, as soon as that is not ``None``; ``None`` when ``seconds`` passed first."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        with self._lock:
            self._waiting.add(entry)
        try:
            async with asyncio.timeout(seconds):
                while (value := found()) is None:
                    await event.wait()
                    event.clear()
                return value
        except TimeoutError:
            return None
        finally:
            with self._lock:
                self._waiting.discard(entry)
