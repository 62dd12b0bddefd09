"""Real processes for tests: started on loopback with ephemeral ports, their output kept, ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
OTEL_IR = Path(sys.executable).with_name("otel-ir")


def until(condition: Callable[[], T], *, seconds: float = 30, what: str) -> T:
    """The first true value of ``condition()``; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return value


def free_port() -> int:
    """A loopback port free at this moment, for the one case where a peer must know it before its owner starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running(NamedTuple):
    """A started process and the file with all it printed."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def ready(self, condition: Callable[[], T], *, seconds: float = 60, what: str) -> T:
        """As ``until``, but a process that ended, or is not ready in time, fails the test with what it printed."""

        def check() -> T:
            assert self.process.poll() is None, f"{what}: ended with {self.process.returncode}\n{self.text()}"
            return condition()

        try:
            return until(check, seconds=seconds, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()[-4000:]}") from None

    def stop(self, *, seconds: float = 30) -> int:
        """SIGTERM, and the exit status; what does not end in time is killed, and that fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still there {seconds:g} s after SIGTERM\n{self.text()[-4000:]}") from None


@contextmanager
def started(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Runs a command with its output in ``log`` until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )  # fmt: skip
    running = Running(process, log)
    try:
        yield running
    finally:
        running.stop()


class Server(NamedTuple):
    """A running ``otel-ir serve``: where it listens, as its data folder's serve.json says."""

    running: Running
    data: Path
    grpc: str
    http: str


@contextmanager
def otel_ir_serving(
    data: Path, *arguments: str, grpc: str = "127.0.0.1:0", env: Mapping[str, str] | None = None
) -> Iterator[Server]:  # fmt: skip
    """The whole system in its own process, with ``--data data`` and ephemeral ports."""
    data.mkdir(parents=True, exist_ok=True)
    address = data / "serve.json"
    address.unlink(missing_ok=True)
    command: list[str | Path] = [OTEL_IR, "serve", "--data", data, "--grpc", grpc, "--http", "127.0.0.1:0", *arguments]
    with started(command, log=data.parent / f"{data.name}.log", env=env) as running:
        running.ready(address.exists, what="otel-ir serve")
        where = json.loads(address.read_text())
        yield Server(running, data, where["grpc"], where["http"])


def alerts(data: Path) -> list[dict[str, Any]]:
    """The alerts in a server's ledger, as ``otel-ir alerts`` prints them."""
    command: list[str | Path] = [OTEL_IR, "alerts", "--data", data, "--format", "ndjson"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
