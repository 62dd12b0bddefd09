"""Child processes whose CPU time and memory are taken from the operating system. Linux only (/proc)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


class Measured:
    """A running process. ``cpu``: user and system seconds of all its threads, children not included."""

    def __init__(self, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
            )  # fmt: skip
        self._folder = Path(f"/proc/{self._process.pid}")

    @property
    def cpu(self) -> float:
        """Seconds so far."""
        # The name in parentheses may hold anything; utime and stime are the 14th and 15th fields (proc(5)).
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    @property
    def peak_bytes(self) -> int:
        """The largest resident set so far."""
        line = next(line for line in (self._folder / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def until(self, ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Waits; raises ``RuntimeError`` with the end of its log when it ends before, or is not ready in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"{what}: the process ended with {self._process.returncode}\n{self._tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {seconds:g} s\n{self._tail()}")
            time.sleep(0.05)

    def end(self, seconds: float = 600.0) -> tuple[int, float]:
        """SIGTERM, then ``(exit status, CPU seconds of its whole life)``."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            return self.wait(seconds)
        raise RuntimeError(f"the process ended by itself with {self._process.returncode}\n{self._tail()}")

    def wait(self, seconds: float = 600.0) -> tuple[int, float]:
        """As ``end``, for a process that ends by itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return self._process.returncode, usage.ru_utime + usage.ru_stime
            time.sleep(0.02)
        raise RuntimeError(f"still running after {seconds:g} s\n{self._tail()}")

    def kill(self) -> None:
        """If it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def running(command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> Iterator[Measured]:
    """Starts it; it does not outlive the block."""
    process = Measured(command, log, env)
    try:
        yield process
    finally:
        process.kill()


def free_port() -> int:
    """A loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own for one case."""
    with tempfile.TemporaryDirectory(prefix="otel-ir-bench-") as name:
        yield Path(name)
