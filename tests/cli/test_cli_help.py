"""``--help``: examples stand in lines of their own, as they are to be typed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from otel_ir.cli import app


@pytest.mark.parametrize("command", ["agents", "backtest", "doctor", "incidents", "investigate", "postmortem", "serve"])
def test_each_example_stands_in_a_line_of_its_own(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160", "NO_COLOR": "1"}).stdout
    lines = [line.strip() for line in told[told.index("Examples:") :].partition("╭")[0].splitlines()]
    shown = [line for line in lines if f"otel-ir {command}" in line]
    assert len(shown) >= 2
    assert all(line.startswith(f"otel-ir {command}") and line.partition("#")[0].count("otel-ir ") == 1 for line in shown)
