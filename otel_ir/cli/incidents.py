"""``otel-ir incidents``: which there are; of one, everything the ledger says and what to do next."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_ir.cli.output import Format, fail, print_line, print_rows, say, with_detail
from otel_ir.cli.stores import DATA, Data, Form, Limit, Url, open_ledger

if TYPE_CHECKING:
    from otel_ir.investigate import IncidentFacts
    from otel_ir.investigate.model import ActionFacts
    from otel_ir.store import Ledger

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of an incident, INC-….")]


def incidents(
    incident: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one, with everything.", show_default=False)] = None,
    data: Data = DATA,
    ledger: Url = None,
    limit: Limit = 100,
    form: Form = Format.TABLE,
) -> None:
    """List incidents, newest first; or show one: state, alerts, every step of every action, who, when, and what to do next.

    Works while the server runs and when it does not.

    Examples:

        otel-ir incidents
        otel-ir incidents INC-20260101120000-5f3c1a --format json

    """
    with closing(open_ledger(data, ledger)) as book:
        if incident is None:
            rows = [row.to_row() for row in book.incidents(limit=limit)]
            columns = ("opened_at", "incident_id", "agent.threat.detection.severity", "state", "otel_ir.agent.id", "title")
            print_rows(rows, form, columns=columns, nothing="no incident yet: an alert opens one (`otel-ir alerts`)")
            return
        facts = find(book, incident)
    if form is Format.TABLE:
        _show(facts)
    elif form is Format.NDJSON:
        print_line(to_object(facts))
    else:
        sys.stdout.write(json.dumps(to_object(facts), ensure_ascii=False, indent=2) + "\n")


def find(book: Ledger, incident: str) -> IncidentFacts:
    """The incident of this id; ends the command with a clear line if there is none."""
    from otel_ir.investigate import read_incident

    facts = read_incident(book, incident)
    if facts is None:
        raise fail(f"there is no incident {incident}: `otel-ir incidents` lists them")
    return facts


def to_object(facts: IncidentFacts) -> dict[str, Any]:
    """The object of ``--format json`` (its names are a contract)."""
    from otel_ir.timefmt import rfc3339

    times = ("opened_at", "contained_at", "recovering_at", "watch_until", "closed_at")
    return {
        "incident_id": facts.incident_id,
        "otel_ir.agent.id": facts.agent_id,
        "state": facts.state,
        "agent.threat.detection.severity": facts.severity,
        "title": facts.title,
        "service.name": facts.service,
        "otel_ir.tenant": facts.tenant,
        "drill": facts.drill,
        **{name: rfc3339(at) if (at := getattr(facts, name)) else None for name in times},
        "alerts": [one.alert.to_row() | {"otel_ir.alert.count": one.count} for one in facts.alerts],
        "actions": [_action(one) for one in facts.actions],
        "log": [{"at": rfc3339(one.at), "kind": one.kind, "who": one.who, "text": one.text} for one in facts.notes],
        "next": [command for command, _ in following(facts)],
        "left_out": list(facts.cut),
    }  # fmt: skip


def _action(one: ActionFacts) -> dict[str, Any]:
    from otel_ir.timefmt import rfc3339

    names = ("action_id", "verb", "adapter", "mode", "state", "subject", "cause", "reason", "attempts", "detail")
    steps = [
        with_detail({"at": rfc3339(step.at), "state": step.state, "who": step.who or None, "detail": step.detail}) for step in one.steps
    ]
    return with_detail({name: getattr(one, name) for name in names}) | {"target": dict(one.target), "steps": steps}


def following(facts: IncidentFacts) -> list[tuple[str, str]]:
    """Commands that make sense next, and what they do."""
    incident, agent = shlex.quote(facts.incident_id), shlex.quote(facts.agent_id)
    look = (f"otel-ir investigate {incident}", "where it began, what was touched, what to do")
    write = (f"otel-ir postmortem {incident}", "write it down, as Markdown, HTML and JSON")
    by_state = {
        "open": [(f"otel-ir contain {agent} --reason ...", "nothing is verified to hold the agent: ask for containment")],
        "contained": [(f"otel-ir release {incident} --reason ...", "let go of the agent, in reverse order, and watch it")],
    }
    return [look, *by_state.get(facts.state, []), write]


def _show(facts: IncidentFacts) -> None:
    from otel_ir.report.times import moment

    say(f"{facts.incident_id}   {facts.state}   {facts.severity}   {facts.agent_id}" + ("   (drill)" if facts.drill else ""))
    say(facts.title)
    named = ("opened_at", "contained_at", "recovering_at", "watch_until", "closed_at")
    known = [f"{name.removesuffix('_at').replace('_', ' ')} {moment(at)}" for name in named if (at := getattr(facts, name))]
    say(f"{', '.join(known)} (UTC)")
    about = ("severity", "signal", "description", "span_id")
    rows = [
        {"at": moment(one.alert.event_time)} | {name: getattr(one.alert, name) for name in about} | {"count": one.count}
        for one in facts.alerts
    ]
    say("")
    print_rows(rows, Format.TABLE, title="Alerts", columns=("at", *about, "count"))
    steps = [
        {"action": f"{one.verb} · {one.adapter}" + (f" · {one.subject}" if one.subject else ""), "at": moment(step.at), "state": step.state,
         "who": step.who, "detail": step.detail} for one in facts.actions for step in one.steps
    ]  # fmt: skip
    say("")
    if steps:
        print_rows(steps, Format.TABLE, title="Actions, step by step", columns=("action", "at", "state", "who", "detail"))
    else:
        say("No action was asked for.")
    if facts.notes:
        say("")
        log = [{"at": moment(one.at), "kind": one.kind, "who": one.who, "text": one.text} for one in facts.notes]
        print_rows(log, Format.TABLE, title="Log", columns=("at", "kind", "who", "text"))
    for text in facts.cut:
        say(f"left out: {text}")
    say("\nNext")
    for command, meaning in following(facts):
        say(f"  {command}   {meaning}")
