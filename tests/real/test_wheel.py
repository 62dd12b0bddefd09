"""What a stranger does: installs the wheel into a new environment and runs the demo in some other folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path, timeout: float) -> str:
    """Standard output of a command that must succeed, run in a folder, with nothing of this project on the path."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and its extra ``demo``."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        PROJECT,
        folder=folder,
        timeout=120,
    )
    venv.create(folder / "venv", with_pip=True)
    wheel = next(folder.glob("otel_ir-*.whl"))
    run(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", f"{wheel}[demo]", folder=folder, timeout=600)
    return folder / "venv" / "bin"


def test_the_demo_contains_the_hijacked_agent_only(installed: Path, tmp_path: Path) -> None:
    shown = json.loads(run(installed / "otel-ir", "demo", "--format", "json", folder=tmp_path, timeout=120))
    critical = [alert for alert in shown["alerts"] if alert["agent.threat.detection.severity"] == "critical"]
    assert critical
    assert len({alert["otel_ir.agent.id"] for alert in shown["alerts"]}) == 1, "the benign agent raised an alert"
    assert {(action["adapter"], action["state"]) for action in shown["actions"]} == {("guard", "verified"), ("hook", "unverified")}
    assert {call["agent"] for call in shown["blocked_calls"]} == {"hijacked"}
    assert Path(shown["postmortem"]).exists()
    assert shown["seconds_to_dispatch"] < 30


def test_the_shipped_rules_are_found_and_pass_their_own_tests(installed: Path, tmp_path: Path) -> None:
    run(installed / "otel-ir", "rules", "check", folder=tmp_path, timeout=60)
    run(installed / "otel-ir", "rules", "test", folder=tmp_path, timeout=60)
