"""Processes of ours, for the demo and for drills: started apart, watched, ended whatever happens. Nothing here waits without a limit."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05
STOP_SECONDS = 15.0
"""A server drains in this time, or is killed."""
MAX_LINES = 10_000
"""Lines of one process that wait to be read; beyond it the process waits."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """It cannot go on; the text says why, in one line for the person who started it."""


class Interrupted(Exception):
    """A person or the system wants it to end. ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class Interrupt:
    """Remembers a signal until a safe place: an exception between starting a process and noting it would leave the process behind."""

    def __init__(self) -> None:
        self.number = 0

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal has come."""
        if self.number:
            raise Interrupted(self.number)

    def until(self, condition: Callable[[], T | None], seconds: float, what: str) -> T:
        """The first true value of ``condition()``. Raises ``Failed`` after ``seconds``, ``Interrupted`` on a signal."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            self.check()
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {seconds:g} seconds")
            time.sleep(POLL_SECONDS)
        return value


@contextmanager
def catching() -> Iterator[Interrupt]:
    """Signals end the block at its safe places only. Those that the caller ignores (nohup) stay ignored."""
    interrupt = Interrupt()

    def remember(number: int, _frame: FrameType | None) -> None:
        interrupt.number = interrupt.number or number

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    mine = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in mine:
        signal.signal(number, remember)
    try:
        yield interrupt
    finally:
        for number in mine:
            signal.signal(number, before[number])


def environment(**more: str) -> dict[str, str]:
    """The environment of this process, without what could change the story: OTEL_*, OTEL_IR_* and proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "PYTHONWARNINGS")) and not name.lower().endswith("_proxy")
    }
    return kept | more


class Process:
    """One process of ours. Its stderr goes to ``log``; its stdout too, unless it is read by ``lines``."""

    def __init__(self, module: str, *arguments: str, folder: Path, log: Path, env: Mapping[str, str], lines: bool = False) -> None:
        # -P: what lies in the folder must not be imported. A session of its own: Ctrl-C in the terminal is for us, we end the others.
        command: Sequence[str] = [sys.executable, "-P", "-m", module, *arguments]
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603  # our own modules
                command,
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if lines else out,
                stderr=out,
                start_new_session=True,
            )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue(MAX_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether it ended and everything it said was read."""
        return self._process.poll() is not None and not self._reader.is_alive() and self._lines.empty()

    @property
    def status(self) -> int | None:
        """Its exit status, ``None`` while it runs."""
        return self._process.poll()

    def expect_running(self, who: str) -> None:
        """Raises ``Failed`` with its last words if it has ended."""
        if self.status is not None:
            raise Failed(f"{who} ended with status {self.status}: {self.last_words()}")

    def said(self) -> Iterator[dict[str, Any]]:
        """What it said on stdout since the last time, one JSON object a line."""
        while not self._lines.empty():
            yield self._lines.get_nowait()

    def last_words(self) -> str:
        """The last line of its log."""
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"

    def stop(self) -> int:
        """SIGTERM, and its exit status; what has not ended after ``STOP_SECONDS`` is killed."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        status = self._process.wait()
        self._reader.join(STOP_SECONDS)
        return status

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as stdout:
            for line in stdout:
                try:
                    self._lines.put(json.loads(line))
                except ValueError:
                    continue


@contextmanager
def running(process: Process) -> Iterator[Process]:
    """Ends the process with the block, however the block ends."""
    try:
        yield process
    finally:
        process.stop()
