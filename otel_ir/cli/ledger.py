"""``otel-ir alerts`` and ``otel-ir actions``: what the ledger says."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from otel_ir.cli.output import Format, print_rows, with_detail
from otel_ir.cli.stores import DATA, Data, Form, Limit, Url, open_ledger


def alerts(data: Data = DATA, ledger: Url = None, limit: Limit = 100, form: Form = Format.TABLE) -> None:
    """List alerts, newest first.

    Example: `otel-ir alerts --data otel-ir-data --format ndjson`
    """
    with closing(open_ledger(data, ledger)) as book:
        rows = [row.alert.to_row() | {"otel_ir.alert.count": row.count} for row in book.alerts(limit=limit)]
    columns = (
        "event_time",
        "agent.threat.detection.severity",
        "otel_ir.alert.signal",
        "otel_ir.agent.id",
        "description",
        "otel_ir.alert.count",
    )
    nothing = "no alert yet: `otel-ir agents` lists whose telemetry came, `otel-ir doctor` says what it leaves out"
    print_rows(rows, form, columns=columns, nothing=nothing)


def actions(
    data: Data = DATA,
    ledger: Url = None,
    limit: Limit = 100,
    incident: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this incident.", show_default=False)] = None,
    form: Form = Format.TABLE,
) -> None:
    """List containment actions with their true state, newest first. Only `verified` means that it was proven to hold.

    Example: `otel-ir actions --incident INC-20260101000000-0123abcd --format json`
    """
    with closing(open_ledger(data, ledger)) as book:
        rows = [row.to_row() for row in book.actions(incident_id=incident, limit=limit)]
    rows = rows if form is Format.TABLE else [with_detail(row) for row in rows]
    for row in rows:
        row["agent"] = row["target"].get("otel_ir.agent.id", "")
    columns = ("requested_at", "incident_id", "agent", "verb", "adapter", "mode", "state", "cause", "detail")
    nothing = "no action yet: alerts ask for them (docs/response.md), or you do: otel-ir contain AGENT --reason ..."
    print_rows(
        rows, form, columns=columns, nothing=f"no action of {incident}: `otel-ir incidents` lists the incidents" if incident else nothing
    )
