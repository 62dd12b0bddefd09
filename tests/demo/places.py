"""Where the demo is run by tests, and a look at what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

OTEL_IR = Path(sys.executable).with_name("otel-ir")
_AS_FROM_A_SHELL = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


class Place(NamedTuple):
    """A folder to run in, a folder for temporary files, and an environment by which processes that came out of it are known."""

    folder: Path
    temporary: Path
    env: dict[str, str]
    mark: str

    def processes(self) -> list[int]:
        """Processes that are still there."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def start(self, *arguments: str | Path, **options: object) -> subprocess.Popen[str]:
        """``otel-ir`` with these arguments, its output in pipes."""
        # A test run under nohup ignores SIGHUP, and so would every child of it.
        command: list[str | Path] = [sys.executable, "-c", _AS_FROM_A_SHELL, OTEL_IR, *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **options,  # type: ignore[call-overload]
        )  # fmt: skip
