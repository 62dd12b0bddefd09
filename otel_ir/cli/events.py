"""``otel-ir events``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.output import Format, fail, note, print_rows

if TYPE_CHECKING:
    import polars as pl

_TABLE = (
    "event_time",
    "event.type",
    "otel_ir.agent.id",
    "gen_ai.tool.name",
    "gen_ai.tool.call.arguments",
    "otel_ir.executed",
    "error",
    "error.type",
)
_SLICE = 4096
"""Rows that are turned into text at a time."""


def events(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="OTLP files or folders: JSON, JSON lines, .binpb; may be gzipped.", show_default=False),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the schema of an event (JSON Schema) and leave.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.NDJSON,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write NDJSON here, not to stdout.", show_default=False)
    ] = None,
) -> None:
    """Canonical events of OTLP files, in their final form: with all that later spans told about them.

    Example: `otel-ir events spans.jsonl logs.jsonl --format table`
    """
    if schema:
        _print_schema()
        return
    if not paths:
        raise typer.BadParameter("at least one file or folder is needed", param_hint="PATH")
    from otel_ir.offline import final_events

    found = _with_times(final_events(paths))
    if output:
        try:
            with output.open("w", encoding="utf-8") as out:
                _write(found, out)
        except OSError as error:
            raise fail(f"{output}: cannot be written: {error.strerror}") from None
    elif form is Format.NDJSON:
        _write(found, sys.stdout)
    else:
        print_rows(found.iter_rows(named=True), form, columns=_TABLE)
    if found.is_empty():
        note("no event of an agent in these files: `otel-ir doctor` with them says what reads their spans and log records")


def _print_schema() -> None:
    import json

    from otel_ir.normalize.reference import event_schema

    sys.stdout.write(json.dumps(event_schema(), ensure_ascii=False, indent=2) + "\n")


def _with_times(found: pl.DataFrame) -> pl.DataFrame:
    """Times as RFC 3339 with nine decimals."""
    import polars as pl

    times = (pl.col(name).cast(pl.Datetime("ns")).dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ") for name in ("event_time", "start_time"))
    return found.with_columns(times)


def _write(found: pl.DataFrame, out: IO[str]) -> None:
    for part in found.iter_slices(_SLICE):
        out.write(part.write_ndjson())
