"""Calls that wait, in threads and on event loops, and the one bell that lets all of them look again."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from otel_ir.guard.decide import Call, Decision, Hold, Refusal

Decide = Callable[[Call], Decision]


class Bell:
    """``ring`` when the state changed. Waiting ends with the first decision that is no Hold, or with a refusal after ``seconds``."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._sleepers: set[Callable[[], None]] = set()

    def ring(self) -> None:
        """Everyone looks again."""
        with self._condition:
            self._condition.notify_all()
            sleepers = tuple(self._sleepers)
        for wake in sleepers:
            # A loop that was closed meanwhile has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                wake()

    def wait(self, call: Call, decide: Decide, seconds: float) -> Refusal | None:
        """In a thread: blocks it."""
        deadline = time.monotonic() + seconds
        with self._condition:
            while isinstance(decision := decide(call), Hold):
                if (left := deadline - time.monotonic()) <= 0:
                    return _too_long(decision, call, seconds)
                self._condition.wait(_nap(decision, left))
        return decision

    async def asleep(self, call: Call, decide: Decide, seconds: float) -> Refusal | None:
        """On an asyncio event loop: other tasks go on."""
        deadline = time.monotonic() + seconds
        rung, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(rung.set)

        with self._condition:
            self._sleepers.add(wake)
        try:
            while True:
                rung.clear()
                if not isinstance(decision := decide(call), Hold):
                    return decision
                if (left := deadline - time.monotonic()) <= 0:
                    return _too_long(decision, call, seconds)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rung.wait(), _nap(decision, left))
        finally:
            with self._condition:
                self._sleepers.discard(wake)


def _nap(hold: Hold, left: float) -> float:
    expires = hold.restriction.expires
    return left if expires is None else min(left, max((expires - time.time_ns()) / 1e9, 0.01))


def _too_long(hold: Hold, call: Call, seconds: float) -> Refusal:
    return refuse(hold, call, f"it waited {seconds:g} s and was not let go of")


def refuse(hold: Hold, call: Call, why: str) -> Refusal:
    """A call that should wait and cannot, or not any longer."""
    held = hold.restriction
    return Refusal(held.id, held.verb, call.tool, held.incident, "; ".join(part for part in (held.reason, why) if part))
