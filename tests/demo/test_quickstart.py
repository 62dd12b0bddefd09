"""docs/quickstart.md, executed: its files written, its commands run, in its order, against the real server on free ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.demo.markdown import PROJECT, Block, blocks

QUICKSTART = PROJECT / "docs" / "quickstart.md"
SECONDS = 60


class Walkthrough:
    """A folder in which the page is followed. ``serve`` runs beside until the next one, or the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
            "PATH": path,
            "NO_PROXY": "127.0.0.1",
        }
        # The page's ports may be somebody else's here.
        self._ports = {number: str(_free_port()) for number in ("4317", "4318")}
        self._server: subprocess.Popen[bytes] | None = None

    def follow(self, block: Block) -> str:
        """Writes the file that a block shows, or runs its commands; -> what they printed."""
        text = block.text.replace("127.0.0.1:4318", f"127.0.0.1:{self._ports['4318']}")
        if block.file:
            file = self.folder / block.file
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return ""
        assert block.language == "bash", f"{block.path}:{block.line}: a block that is neither a file nor commands"
        if any(command.startswith("otel-ir serve") for command in block.commands):
            self._serve(block)
            return ""
        return self.run(text)

    def run(self, script: str) -> str:
        """Runs a script that must succeed; -> its output."""
        command = ["bash", "-euc", script]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """Ctrl-C."""
        if self._server:
            self._server.terminate()
            assert self._server.wait(SECONDS) == 0, (self.folder / "serve.log").read_text(encoding="utf-8")
            self._server = None

    def _serve(self, block: Block) -> None:
        self.stop()
        ports = f"--grpc 127.0.0.1:{self._ports['4317']} --http 127.0.0.1:{self._ports['4318']}"
        script = block.text.replace("otel-ir serve", f"exec otel-ir serve {ports}")
        with (self.folder / "serve.log").open("ab") as log:
            self._server = subprocess.Popen(["bash", "-euc", script], cwd=self.folder, env=self.env, stdout=log, stderr=log)
        address = self.folder / "otel-ir-data" / "serve.json"
        _until(lambda: address.exists() or (self._server and self._server.poll() is not None))
        assert self._server.poll() is None, (self.folder / "serve.log").read_text(encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def walking(folder: Path) -> Iterator[Walkthrough]:
    """Follows the page in a folder."""
    walkthrough = Walkthrough(folder)
    try:
        yield walkthrough
    finally:
        walkthrough.stop()


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="the page is written for bash")
def test_the_quickstart_does_what_it_says(tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    with walking(tmp_path) as walkthrough:

        def alerts() -> list[dict[str, str]]:
            found: list[dict[str, str]] = json.loads(walkthrough.run("otel-ir alerts --format json"))
            return found

        def actions() -> list[dict[str, str]]:
            found: list[dict[str, str]] = json.loads(walkthrough.run("otel-ir actions --format json"))
            return found

        for block in blocks(QUICKSTART):
            # A person takes longer to get there than the server does.
            if "otel-ir alerts" in block.text:
                _until(alerts)
            if "python events.py" in block.text:
                _until(lambda: "http_request" in walkthrough.run("python events.py"))
            seen[block.commands[0] if block.language == "bash" else block.file] = walkthrough.follow(block)
            if "otel-ir actions" in block.text:
                _until(lambda: len(actions()) == 4)

        assert "suspicious_tool_sequence" in seen["otel-ir alerts"]
        assert "helpdesk/triage" in seen["otel-ir alerts"]
        assert {alert["otel_ir.alert.signal"] for alert in alerts()} == {"suspicious_tool_sequence"}
        assert {(action["verb"], action["state"]) for action in actions()} == {
            ("revoke_tools", "dry_run"),
            ("isolate_network", "dry_run"),
            ("pause_agent", "dry_run"),
            ("rotate_credentials", "dry_run"),
        }
        assert "read_secret" in seen["python events.py"]
