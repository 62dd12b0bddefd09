"""Tables for people: wide where there is room, one row below the other where there is not, and never a whole document in a cell."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from otel_ir.cli import app, output
from otel_ir.cli.output import Format, print_rows
from otel_ir.store import Ledger

ROW = {"incident": "INC-20261127100221-53f98f65", "agent": "helpdesk/triage", "verb": "revoke_tools", "note": None, "detail": "x" * 5_000}


def _printed(monkeypatch: pytest.MonkeyPatch, width: int, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, no_color=True, markup=False, highlight=False, emoji=False)
    monkeypatch.setattr(output, "console", lambda: console)
    print_rows([ROW, ROW], Format.TABLE)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_narrow_terminal_shows_one_row_below_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _printed(monkeypatch, 60, terminal=True)
    assert len(lines) < 25
    assert sum("INC-20261127100221-53f98f65" in line for line in lines) == 2
    assert not any("note" in line for line in lines)


def test_a_pipe_gets_a_table_with_values_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _printed(monkeypatch, 200, terminal=False)
    assert lines[0].split() == ["incident", "agent", "verb", "note", "detail"]
    assert sum(line.count("x") for line in lines) == 2 * 239
    assert "…" in "".join(lines)


@pytest.mark.parametrize(("command", "said"), [
    (["alerts"], "no alert yet: `otel-ir agents` lists whose telemetry came, `otel-ir doctor` says what it leaves out"),
    (["actions"], "no action yet: alerts ask for them (docs/response.md), or you do: otel-ir contain AGENT --reason ..."),
    (["actions", "--incident", "INC-0"], "no action of INC-0: `otel-ir incidents` lists the incidents"),
    (["incidents"], "no incident yet: an alert opens one (`otel-ir alerts`)"),
])  # fmt: skip
def test_nothing_to_show_is_one_line_on_stderr(command: list[str], said: str, tmp_path: Path) -> None:
    Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}").close()
    for form, printed in (("table", ""), ("json", "[]\n"), ("ndjson", "")):
        done = CliRunner().invoke(app, [*command, "--data", str(tmp_path), "--format", form])
        assert (done.exit_code, done.stdout, done.stderr) == (0, printed, said + "\n")


def test_files_without_events_say_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "spans.json").write_text(json.dumps({"resourceSpans": []}))
    for form, printed in (("table", ""), ("json", "[]\n"), ("ndjson", "")):
        done = CliRunner().invoke(app, ["events", str(tmp_path), "--format", form])
        assert (done.exit_code, done.stdout) == (0, printed)
        assert (
            done.stderr == "no event of an agent in these files: `otel-ir doctor` with them says what reads their spans and log records\n"
        )
    done = CliRunner().invoke(app, ["replay", str(tmp_path), "--format", "table"])
    assert (done.exit_code, done.stdout) == (0, "")


def test_a_folder_without_rules_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["rules", "list", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "there are no rules" in done.stderr
