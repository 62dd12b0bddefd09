"""``otel-ir investigate`` and ``otel-ir postmortem``: what happened, from the ledger and the evidence."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.incidents import Id, find
from otel_ir.cli.output import Format, note, print_line, print_rows, say
from otel_ir.cli.stores import DATA, Data, Form, Url, open_ledger

if TYPE_CHECKING:
    from otel_ir.investigate import Investigation, Statement

Evidence = Annotated[
    str | None, typer.Option("--evidence", help="Folder or URL of the evidence, where it is not in the data folder.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")]
_HERE = Path("otel-ir-reports")


def investigate(incident: Id, data: Data = DATA, ledger: Url = None, evidence: Evidence = None, form: Form = Format.TABLE) -> None:
    """Say where an incident began, what happened, what was touched, who is alike and what to do; with the spans that prove it.

    Works while the server runs and when it does not. What is not in the evidence yet is said.

    Examples:

        otel-ir investigate INC-20260101120000-5f3c1a
        otel-ir investigate INC-20260101120000-5f3c1a --format json

    """
    from otel_ir.report.facts import to_facts

    found = _investigate(incident, data, ledger, evidence)
    if form is Format.NDJSON:
        print_line(to_facts(found))
    elif form is Format.JSON:
        sys.stdout.write(json.dumps(to_facts(found), ensure_ascii=False, indent=2) + "\n")
    else:
        _show(found)


def postmortem(
    incident: Id, out: Out = _HERE, data: Data = DATA, ledger: Url = None, evidence: Evidence = None, form: Form = Format.TABLE
) -> None:
    """Write the post-mortem of an incident: INC-….md to write into, INC-….html to show, INC-….json for programs.

    Write between the marker lines of the .md file and run it again: what you wrote is kept, and stands in all three files.

    Examples:

        otel-ir postmortem INC-20260101120000-5f3c1a
        otel-ir postmortem INC-20260101120000-5f3c1a --out reports --format json

    """
    from otel_ir.report import build_report, write_report

    found = _investigate(incident, data, ledger, evidence)
    report = build_report(found)
    paths, written = write_report(report, out)
    filled = written.filled(report.defaults)
    row = {
        "incident_id": report.incident_id,
        "files": [str(path) for path in paths],
        "to_fill_in": [key for key in report.defaults if key not in filled],
        "notes": list(found.notes),
    }
    if form is not Format.TABLE:
        print_rows([row], form) if form is Format.NDJSON else sys.stdout.write(json.dumps(row, ensure_ascii=False, indent=2) + "\n")
        return
    for path in paths:
        say(str(path))
    for text in found.notes:
        note(f"incomplete: {text}")
    if row["to_fill_in"]:
        note(f"{len(row['to_fill_in'])} parts are for people to fill in: write them into {paths[0]}, then run this again")


def _investigate(incident: str, data: Path, ledger: str | None, evidence: str | None) -> Investigation:
    from otel_ir.investigate import investigate as look
    from otel_ir.investigate import load_evidence

    with closing(open_ledger(data, ledger)) as book:
        facts = find(book, incident)
    return look(facts, load_evidence(evidence or str(data / "evidence"), facts))


def _line(one: Statement) -> str:
    """A statement and its spans in one line, whatever is in its values."""
    from otel_ir.report.text import visible

    text = "".join(part if isinstance(part, str) else visible(part.text) for part in one.parts)
    return text + (f"  [{' '.join(one.spans)}]" if one.spans else "")


def _show(found: Investigation) -> None:
    from otel_ir.investigate import article
    from otel_ir.investigate.words import flow
    from otel_ir.report.build import held, offset
    from otel_ir.report.times import moment, span

    brief = article(found)
    say(f"{brief['incident_id']}   {brief['alert'] or 'no alert'}   {brief['agent_id']}   {found.facts.state}")
    for text in found.notes:
        say(f"incomplete: {text}")
    say("")
    say(
        _line(found.compromise.statement)
        if found.compromise
        else "Where it began is not known: the evidence holds none of the events cited."
    )
    say(_line(held(found)))
    base = found.compromise.at if found.compromise else found.facts.opened_at
    rows = [{"time (UTC)": moment(one.at), "+": offset(one.at - base), "what": _line(one.statement)} for one in found.timeline]
    print_rows(rows, Format.TABLE, title="\nTimeline")
    groups = {
        "How the values travelled": [_line(flow(edge)) for edge in found.edges],
        "Where calls pointed": [
            f"{one.text} ({', '.join(one.tools)}, {one.calls} calls)  [{' '.join(one.spans)}]" for one in found.destinations
        ],
        "Similar agents": [f"{one.agent_id}: {_line(reason)}" for one in found.similar for reason in one.reasons],
        "How long it took": [f"{one.name}: {span(one.nanos)}" + (f"   {one.why}" if one.why else "") for one in found.durations],
        "What to do": [f"{one.action.text}   {_line(one.because)}" for one in found.recommendations],
        "Left out": list(found.cut),
    }
    for title, lines in groups.items():
        if lines:
            say(f"\n{title}")
        for line in lines:
            say(f"  {line}")
    tools, seen = ", ".join(brief["affected_tools"]) or "none", f"{found.total_events:,} events of the agent in the window"
    say(f"\nAffected tools: {tools}. Looked at {seen} {moment(found.window[0])} to {moment(found.window[1])} (UTC).")
