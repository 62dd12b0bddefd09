"""Tables for people: wide where there is room, one row below the other where there is not, and never a whole document in a cell."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from otel_ir.cli import output
from otel_ir.cli.output import Format, print_rows

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
