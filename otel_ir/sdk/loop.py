"""One thread that folds, and callers that wait for it, none of them longer than its budget.

Polars cannot be interrupted, so whoever must not wait longer than a budget has to let another thread do the work. It also folds together
what several threads bring at the same moment: how records are framed changes no alert (docs/semantics.md), and a frame of ten spans
costs hardly more than a frame of one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan

MAX_QUEUE = 2_048
"""Spans that wait to be folded, as in a BatchSpanProcessor. More are not taken, and counted."""
MAX_FRAME = 64
"""Spans folded at once."""
HELD = 64
IDLE = 0.25
"""Spans that are no events wait until there are ``HELD`` of them or for ``IDLE`` seconds, if no event comes before."""
TICK = 1.0


class Item:
    """A span that ended. ``received`` in Unix ns, never decreasing in the queue's order; ``waits``: somebody waits for ``done``."""

    __slots__ = ("done", "received", "span", "waits")

    def __init__(self, span: ReadableSpan, received: int, *, waits: bool) -> None:
        self.span, self.received, self.waits = span, received, waits
        self.done = threading.Event() if waits else None


class Loop:
    """The thread and its queue. None of what it is given may raise, and all of it is called in the thread.

    ``begin`` comes first. ``work`` takes up to ``MAX_FRAME`` items in order, and sets their ``done`` itself. ``tick`` is called at
    least every ``TICK`` seconds while ``ticking()`` says that there is something to wait for.
    """

    def __init__(
        self,
        begin: Callable[[], None],
        work: Callable[[Sequence[Item]], None],
        tick: Callable[[], None],
        ticking: Callable[[], bool],
    ) -> None:
        self._begin, self._work, self._tick, self._ticking = begin, work, tick, ticking
        self._changed = threading.Condition()
        self._queue: deque[Item] = deque()
        self._urgent = self._flushes = 0
        self._newest, self._since = 0, 0.0
        self._busy = self._stopped = False
        self._thread: threading.Thread | None = None

    def put(self, span: ReadableSpan, *, urgent: bool) -> Item | None:
        """Queues a span; None when it was not taken. An ``urgent`` one is folded at once, with what came before it."""
        with self._changed:
            if self._stopped or len(self._queue) >= MAX_QUEUE:
                return None
            self._newest = max(self._newest, time.time_ns())
            item = Item(span, self._newest, waits=urgent)
            if not self._queue:
                self._since = time.monotonic()
            self._queue.append(item)
            self._urgent += urgent
            self._start()
            if urgent or len(self._queue) in (1, HELD):
                self._changed.notify_all()
            return item

    def start(self) -> None:
        """Starts the thread, if it does not run yet."""
        if self._thread is None:
            with self._changed:
                self._start()

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is what the loop itself called."""
        return threading.current_thread() is self._thread

    def flush(self, timeout: float) -> bool:
        """Waits until everything queued so far is done; False when that took longer than ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            if self.is_own_thread:
                return False
            self._flushes += 1
            self._changed.notify_all()
            try:
                while (self._queue or self._busy) and self._thread is not None:
                    if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                        return False
            finally:
                self._flushes -= 1
            return True

    def stop(self, timeout: float) -> bool:
        """Does what is queued, then ends the thread; False when that took longer than ``timeout`` seconds."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None or self.is_own_thread:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _start(self) -> None:
        if self._thread is None and not self._stopped:
            # Daemon: at exit the provider's shutdown drains it; without one, nothing should hold the process.
            self._thread = threading.Thread(target=self._run, name="otel-ir-fold", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        self._begin()
        while True:
            items = self._next()
            if items:
                self._work(items)
            self._tick()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if self._stopped and not self._queue:
                    return

    def _next(self) -> list[Item]:
        """The next frame; empty when it is time to tick or to end."""
        with self._changed:
            tick = time.monotonic() + TICK
            while not self._ready(now := time.monotonic()):
                if now >= tick and self._ticking():
                    return []
                ends = [self._since + IDLE] * bool(self._queue) + [tick] * self._ticking()
                self._changed.wait(min(ends) - now if ends else None)
            items = [self._queue.popleft() for _ in range(min(MAX_FRAME, len(self._queue)))]
            self._urgent -= sum(item.waits for item in items)
            self._since = now
            self._busy = True
            return items

    def _ready(self, now: float) -> bool:
        if self._urgent or self._stopped or len(self._queue) >= HELD:
            return True
        return bool(self._queue) and (self._flushes > 0 or now >= self._since + IDLE)
