"""``otel-ir agents``: the inventory of agents, out of the ledger or of OTLP files."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from otel_ir.cli.output import Format, console, name, note, print_rows
from otel_ir.cli.stores import DATA, Data, Form, Limit, Url, moment, open_ledger

_TABLE = ("otel_ir.agent.id", "dialects", "tools", "models", "system_prompt", "first_seen", "last_seen")
_SHORT = 12
"""Characters of a fingerprint in a table."""
_NARROW = 120
"""Columns of a terminal below which a table of agents cannot be read: each stands in lines of its own then."""
_MOST = 20
"""Names of one kind that are shown of an agent."""

_UNNAMED = ("otel_ir_events_unnamed", "otel_ir_services_unnamed")
"""How many wait, as ``/metrics`` has it."""

Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]...", help="OTLP files or folders, instead of the ledger of `otel-ir serve`.", show_default=False),
]


def agents(
    paths: Paths = None,
    service: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this `service.name`.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only those seen since then: 90s, 15m, 6h, 7d, or a time.", show_default=False)
    ] = None,
    data: Data = DATA,
    ledger: Url = None,
    limit: Limit = 1000,
    form: Form = Format.TABLE,
) -> None:
    """List the agents that were seen: their telemetry's dialect, tools, models, fingerprint of the system prompt, first and last seen.

    Examples:

        otel-ir agents                                    # what `otel-ir serve` has seen, last seen first
        otel-ir agents --service helpdesk --since 24h
        otel-ir agents spans.jsonl logs.jsonl             # agents of OTLP files
        otel-ir agents --format ndjson | jq -r '.tools[]' | sort | uniq -c

    Agents with one fingerprint run the same prompt, whatever was filled in. `otel-ir doctor` says what their telemetry leaves out.

    """
    start = None if since is None else moment(since, time.time_ns())
    rows = _of_files(paths, service, start)[:limit] if paths else _of_ledger(data, ledger, service, start, limit)
    if form is Format.TABLE:
        _print(rows, (*_TABLE, *(("events", "conversations") if paths else ())))
    else:
        print_rows(rows, form)
    if len(rows) == limit:
        note(f"the {limit} that were last seen; --limit for more, --service and --since for others")
    waiting = "" if paths else _waiting(data)
    if waiting:
        note(waiting)
    chosen = " that fits" if service is not None or since is not None else ""
    if not rows and (chosen or not waiting):
        where = "in these files" if paths else "yet: send your agents' OTLP to `otel-ir serve` (docs/quickstart.md)"
        note(f"no agent{chosen} was seen {where}" if not chosen or paths else f"no agent{chosen} was seen")


def _waiting(data: Path) -> str:
    """What the server that runs has seen, and lists later."""
    from otel_ir.cli.stores import running_server
    from otel_ir.doctor.checks import metrics_of

    found = dict[str, int]()
    for line in metrics_of(running_server(data)):
        key, _, value = line.partition(" ")
        if key in _UNNAMED and value.replace(".", "", 1).isdecimal():
            found[key] = int(float(value))
    events, services = (found.get(key, 0) for key in _UNNAMED)
    if not events:
        return ""
    what = f"{events} event{'s'[: events > 1]} of {services} service{'s'[: services > 1]} still wait for the name of their agent"
    return f"not listed yet: {what}; it comes with the agent's own span, and after ten minutes without it they are listed as SERVICE/-"


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """For people: times to the second, names on one line, and as much of a fingerprint as tells two apart."""
    lists = {key: [name(one) for one in row[key][:_MOST]] for key in ("dialects", "tools", "models")}
    more = {key: [*lists[key], f"and {len(row[key]) - _MOST} more"] for key in lists if len(row[key]) > _MOST}
    times = {key: row[key][:19] + "Z" for key in ("first_seen", "last_seen")}
    return (
        row
        | lists
        | more
        | times
        | {"otel_ir.agent.id": name(row["otel_ir.agent.id"]), "system_prompt": (row["system_prompt"] or "")[:_SHORT]}
    )


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    out, shown = console(), [_short(row) for row in rows]
    if not out.is_terminal or out.width >= _NARROW:
        if shown:
            print_rows(shown, Format.TABLE, columns=columns)
        return
    for row in shown:
        out.print(row[columns[0]], style="bold", soft_wrap=True)
        for key in columns[1:]:
            value = ", ".join(row[key]) if isinstance(row[key], list) else row[key]
            if value:
                out.print(f"  {key:<14}{value}", soft_wrap=True)


def _of_ledger(data: Path, url: str | None, service: str | None, since: int | None, limit: int) -> list[dict[str, Any]]:
    from dataclasses import asdict

    with closing(open_ledger(data, url)) as book:
        return [_row(asdict(one)) for one in book.agents(service=service, since=since, limit=limit)]


def _of_files(paths: list[Path], service: str | None, since: int | None) -> list[dict[str, Any]]:
    import polars as pl

    from otel_ir.normalize.roster import roster_of
    from otel_ir.offline import final_events

    events = final_events(paths)
    once = events.filter(pl.col("otel_ir.duplicate_of").is_null())
    by_agent = once.group_by(pl.col("otel_ir.tenant").fill_null("").alias("tenant"), pl.col("otel_ir.agent.id").alias("agent_id"))
    counts = by_agent.agg(pl.len().alias("events"), pl.col("gen_ai.conversation.id").drop_nulls().n_unique().alias("conversations"))
    roster = roster_of(events).join(counts, on=["tenant", "agent_id"], how="left")
    if service is not None:
        roster = roster.filter(pl.col("service") == service)
    if since is not None:
        roster = roster.filter(pl.col("last_seen") >= since)
    return [_row(row) for row in roster.sort("last_seen", "agent_id", descending=[True, False]).to_dicts()]


def _row(agent: dict[str, Any]) -> dict[str, Any]:
    """``events`` and ``conversations`` are null where it comes from the ledger, which does not count."""
    from otel_ir.timefmt import rfc3339

    return {
        "otel_ir.agent.id": agent["agent_id"],
        "service.name": agent["service"],
        "gen_ai.agent.name": agent["name"],
        "otel_ir.tenant": agent["tenant"],
        "dialects": list(agent["dialects"]),
        "tools": list(agent["tools"]),
        "models": list(agent["models"]),
        "system_prompt": agent["fingerprint"],
        "first_seen": rfc3339(agent["first_seen"]),
        "last_seen": rfc3339(agent["last_seen"]),
        "events": agent.get("events"),
        "conversations": agent.get("conversations"),
    }
