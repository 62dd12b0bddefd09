"""``otel-ir alerts`` and ``otel-ir actions``: what the ledger says."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.output import Format, fail, print_rows

if TYPE_CHECKING:
    from otel_ir.store import Ledger

Data = Annotated[Path, typer.Option(help="Data folder of `otel-ir serve`.")]
Url = Annotated[
    str | None, typer.Option("--ledger", help="SQLAlchemy URL, where the ledger is not in the data folder.", show_default=False)
]
Limit = Annotated[int, typer.Option(help="How many at most, newest first.", min=1)]
Form = Annotated[Format, typer.Option("--format", help="How to print.")]


def alerts(data: Data = Path("otel-ir-data"), ledger: Url = None, limit: Limit = 100, form: Form = Format.TABLE) -> None:
    """List alerts, newest first.

    Example: `otel-ir alerts --data otel-ir-data --format ndjson`
    """
    with closing(_open(data, ledger)) as book:
        rows = [row.alert.to_row() | {"otel_ir.alert.count": row.count} for row in book.alerts(limit=limit)]
    columns = (
        "event_time",
        "agent.threat.detection.severity",
        "otel_ir.alert.signal",
        "otel_ir.agent.id",
        "description",
        "otel_ir.alert.count",
    )
    print_rows(rows, form, columns=columns)


def actions(data: Data = Path("otel-ir-data"), ledger: Url = None, limit: Limit = 100, form: Form = Format.TABLE) -> None:
    """List containment actions with their true state, newest first.

    Example: `otel-ir actions --format json`
    """
    with closing(_open(data, ledger)) as book:
        rows = [row.to_row() for row in book.actions(limit=limit)]
    print_rows(rows, form, columns=("requested_at", "verb", "adapter", "mode", "state", "attempts", "detail"))


def _open(data: Path, url: str | None) -> Ledger:
    from otel_ir.store import Ledger

    file = data / "ledger.db"
    if url is None and not file.exists():
        raise fail(f"{file}: there is no ledger: give the folder of `otel-ir serve` with --data, or its URL with --ledger")
    return Ledger.open(url or f"sqlite:///{file}")
