"""What every command prints, and how: tables for people, JSON for scripts, errors on stderr, one set of exit statuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import IO, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
"""It ran; it failed or found faults; it was called wrongly (Typer's own)."""

WIDE = 200
"""Columns of a table that goes to a file or a pipe, where there is no width to fit."""


class Format(StrEnum):
    """Values of ``--format``."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


def console(*, stderr: bool = False) -> Console:
    """A console that leaves colors out where NO_COLOR is set or nobody looks, and never reads markup in what it prints."""
    found = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    return found if found.is_terminal else Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=WIDE)


def print_rows(rows: Iterable[Mapping[str, Any]], form: Format, *, columns: Sequence[str] = (), title: str = "", nothing: str = "") -> None:
    """Rows on stdout. ``columns`` picks and orders those of the table; JSON has every key of every row.

    Where there are none, a table has no header either; ``nothing`` then says so on stderr, whatever the form.
    """
    found = False
    if form is Format.NDJSON:
        for row in rows:
            print_line(row)
            found = True
    else:
        every = list(rows)
        found = bool(every)
        if form is Format.JSON:
            print_json(every)
        elif found:
            _print_table(every, columns, title)
    if nothing and not found:
        note(nothing)


def with_detail(row: dict[str, Any]) -> dict[str, Any]:
    """A row of an action or of a step of one, for JSON: what a dry run would have done (its ``detail``) as an object, not as text."""
    if row["state"] != "dry_run":
        return row
    try:
        return row | {"detail": json.loads(row["detail"])}
    except ValueError:  # it was too long to be kept whole
        return row


def print_line(row: Mapping[str, Any], out: IO[str] | None = None) -> None:
    """One row as one line of JSON."""
    (out or sys.stdout).write(_safe(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str)) + "\n")


def print_json(value: Any) -> None:
    """One JSON document on stdout, indented."""
    sys.stdout.write(_safe(json.dumps(value, ensure_ascii=False, indent=2, default=str)) + "\n")


def _print_table(rows: list[Mapping[str, Any]], columns: Sequence[str], title: str) -> None:
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_short(_cell(row.get(name))) for name in names] for row in rows]
    out = console()
    widest = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    if out.is_terminal and len(names) + sum(min(width, _READABLE) for width in widest) > out.width:
        _print_blocks(out, names, cells, title)
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    out.print(table)


def _print_blocks(out: Console, names: Sequence[str], rows: list[list[str]], title: str) -> None:
    """One row below the other, for a terminal that is too narrow for the columns; what a row does not say is left out."""
    if title:
        out.print(Text(title, style="italic"))
    for number, row in enumerate(rows):
        block = Table(box=None, pad_edge=False, show_header=False)
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for name, cell in zip(names, row, strict=True):
            if cell:
                block.add_row(name, Text(cell, style=_STYLES.get(cell, "")))
        if number:
            out.print()
        out.print(block)


def _short(cell: str) -> str:
    """What fits into a table; JSON has it all."""
    return cell if len(cell) <= _MAX_CELL else f"{cell[: _MAX_CELL - 1]}…"


_READABLE, _MAX_CELL = 20, 240
"""Characters: what a column needs at most to be read, and what of a value is shown."""
_STYLES = {
    "critical": "bold red", "high": "red", "medium": "yellow", "failed": "bold red", "passed": "green",
    "verified": "bold green", "contained": "bold green", "violated": "bold red", "escalated": "bold red", "unverified": "yellow",
    "open": "yellow", "recovering": "cyan", "released": "cyan", "expired": "cyan",
}  # fmt: skip


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return clean(str(value)).replace("\n", "\\n")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_UNSEEN = re.compile(f"{_CONTROL.pattern[:-1]}\\x09\\x0a\\u00ad\\u200b-\\u200d\\u2060-\\u2064\\ufeff\\U000e0000-\\U000e007f]")
_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MAX_NAME = 200
"""Characters of a name that are shown."""


def clean(text: str) -> str:
    """Text from outside for a terminal: control characters and changes of direction are shown, not obeyed."""
    return _CONTROL.sub(_shown, text)


def name(text: str, most: int = MAX_NAME) -> str:
    """A name from outside on one line: ``clean``, and what cannot be seen or would begin a line is shown, too; a long one is cut."""
    shown = _UNSEEN.sub(_shown, text[: most + 1])
    return shown if len(text) <= most and len(shown) <= 2 * most else f"{shown[: most - 1]}…"


def _shown(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _safe(document: str) -> str:
    """The same JSON without what a terminal would obey; such characters stand inside strings only."""
    return _IN_JSON.sub(_shown, document)


def say(text: str) -> None:
    """A line for people on stdout."""
    console().print(clean(text), soft_wrap=True)


def note(text: str) -> None:
    """A line for people on stderr: progress, summaries; stdout stays what scripts read."""
    console(stderr=True).print(clean(text), soft_wrap=True)


def print_error(error: object) -> None:
    """An error on stderr; those of rule and configuration files read ``file:line:column: what: hint``."""
    console(stderr=True).print(Text(clean(str(error)), style="red"), soft_wrap=True)


def fail(*errors: object) -> typer.Exit:
    """Prints the errors; raise what it returns."""
    for error in errors:
        print_error(error)
    return typer.Exit(EXIT_FAILED)
