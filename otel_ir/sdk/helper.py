"""The fold in a process of its own, for a process that was forked after Polars had started its threads.

They do not exist in the child, and the first query that needs one waits for ever (measured; Polars says so, too). The helper is a fresh
interpreter; it ends when its standard input does, that is with its parent.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import selectors
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from otel_ir.model import Alert, AlertUpdate
from otel_ir.sdk.fold import Folding, Found
from otel_ir.sigma.ruleset import RuleSet

_log = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0
"""The start of an interpreter, on a busy machine, is in it."""
_SIZE = 8
_ANSWER = msgspec.msgpack.Decoder(tuple[list[Alert], list[AlertUpdate], int])


def pool_is_running() -> bool:
    """Whether Polars has started its threads in this process (whoever used it)."""
    name = re.compile(re.escape(os.environ.get("POLARS_THREAD_NAME", "polars")[:10]) + r"-\d+\s*")
    return any(name.fullmatch(_name(task)) for task in Path("/proc/self/task").glob("*/comm"))


def _name(task: Path) -> str:
    try:
        return task.read_text()
    except OSError:  # the thread ended meanwhile
        return ""


class HelperFold:
    """``Folds`` by a helper process, which starts with the first span."""

    def __init__(self, ruleset: RuleSet) -> None:
        self._ruleset, self._owner = ruleset, os.getpid()
        self._process: subprocess.Popen[bytes] | None = None

    def fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
        """See ``Folds``. Raises ``OSError`` when the helper cannot be started or does not answer; the next call starts another one."""
        try:
            process = self._process or self._start()
            _write(process.stdin, msgspec.msgpack.encode(list(spans)))
            return Found(*_ANSWER.decode(_read(process.stdout, ANSWER_SECONDS)))
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            self.close()
            raise OSError(f"the helper process that folds spans: {error or type(error).__name__}") from error

    def warm(self) -> None:
        """See ``Folds``."""
        self.fold([])

    def close(self) -> None:
        """See ``Folds``."""
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path[:] = {sys.path!r}; from otel_ir.sdk.helper import main; main()"
        # -I: nothing that hooks into interpreters by PYTHONPATH (opentelemetry-instrument does) shall run there.
        self._process = process = subprocess.Popen(  # noqa: S603 (this interpreter, and our own code)
            [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        _write(process.stdin, pickle.dumps(self._ruleset))
        return process


def main() -> None:
    """The helper: rule set, then frames of spans on standard input -> what they brought on standard output, until that is closed."""
    # Whatever prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    folding = Folding(pickle.loads(_read(sys.stdin.buffer, None)))  # noqa: S301 (our own parent wrote it)
    folding.warm()
    while True:
        try:
            spans = msgspec.msgpack.decode(_read(sys.stdin.buffer, None), type=list[tuple[int, bytes]])
        except EOFError:
            return
        _write(answers, msgspec.msgpack.encode(folding.fold(spans)))


def _write(pipe: IO[bytes] | None, message: bytes) -> None:
    assert pipe is not None
    pipe.write(len(message).to_bytes(_SIZE, "big") + message)
    pipe.flush()


def _read(pipe: IO[bytes] | Any, seconds: float | None) -> bytes:
    """The next message. Raises ``EOFError`` at the end, ``TimeoutError`` (an ``OSError``) when nothing came for so long."""
    if seconds is not None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(pipe, selectors.EVENT_READ)
            if not waiting.select(seconds):
                raise TimeoutError(f"no answer within {seconds:g} s")
    head = pipe.read(_SIZE)
    size = int.from_bytes(head, "big")
    message: bytes = pipe.read(size) if len(head) == _SIZE else b""
    if len(head) < _SIZE or len(message) < size:
        raise EOFError("it ended")
    return message
