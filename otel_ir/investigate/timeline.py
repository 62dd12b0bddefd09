"""The timeline from compromise to recovery, and how long each part of it took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from otel_ir.investigate.model import (
    ActionFacts,
    AlertFacts,
    Compromise,
    Duration,
    Edge,
    IncidentFacts,
    Moment,
    Outside,
    say,
)
from otel_ir.investigate.words import call, short, source

MAX_CALLS = 60
"""Calls since it began that the timeline shows; those that alerts cite come first."""
MAX_MOMENTS = 200
GUARD = "otel_ir.guard"
"""``otel_ir.guardrail.name`` of what the guard refused."""

_STEPS: dict[str, str] = {
    "requested": "was requested",
    "dispatched": "was dispatched",
    "applied": "was acknowledged by its target (applied)",
    "verified": "was verified: independent evidence shows that it holds",
    "unverified": "could not be verified; whether it holds is not known",
    "violated": "was violated: something happened that it should have made impossible",
    "escalated": "was escalated to the next step",
    "releasing": "is being let go of",
    "released": "was released",
    "expired": "expired",
    "failed": "failed",
    "dry_run": "was a dry run: recorded, not carried out",
}
"""State -> what is said of an action that reached it."""


def build_timeline(
    facts: IncidentFacts, events: pl.DataFrame, origin: Compromise | None, edges: tuple[Edge, ...]
) -> tuple[tuple[Moment, ...], list[str]]:
    """Moments in order of time, bounded, and what was left out."""
    since = origin.at if origin else 0
    calls, left_out = _calls(facts, events, since)
    moments = [
        *_asked(origin, edges),
        *([_began(origin)] if origin else []),
        *calls,
        *(_alert(one) for one in facts.alerts),
        *(moment for action in facts.actions for moment in _steps(action)),
        *_incident(facts),
        *(_note(facts, place) for place in range(len(facts.notes))),
    ]
    order = {kind: place for place, kind in enumerate(("asked", "origin", "call", "alert", "action", "incident", "note"))}
    moments.sort(key=lambda one: (one.at, order[one.kind]))
    cut = [f"the timeline shows {MAX_CALLS} of {left_out + MAX_CALLS:,} calls: those that alerts cite, then the first"] if left_out else []
    if len(moments) > MAX_MOMENTS:
        cut.append(f"the timeline leaves out {len(moments) - MAX_MOMENTS:,} entries in its middle")
        moments = [*moments[: MAX_MOMENTS // 2], *moments[-MAX_MOMENTS // 2 :]]
    return tuple(moments), cut


def _began(origin: Compromise) -> Moment:
    if origin.edge is None:
        return Moment(at=origin.at, kind="origin", statement=origin.statement, mark=origin.basis)
    statement = say("Here it began: the agent was given ", *source(origin.edge), ".", spans=origin.statement.spans)
    return Moment(at=origin.at, kind="origin", statement=statement, mark=origin.basis)


def _asked(origin: Compromise | None, edges: tuple[Edge, ...]) -> Iterator[Moment]:
    """What the user asked, where that led to the text that brought the instruction in."""
    for edge in edges:
        if origin and edge.source.kind == "user" and edge.span_id == origin.span_id:
            statement = say("The user asked: ", short(edge.source.text, 160), spans=[edge.source.span_id])
            yield Moment(at=edge.source.at, kind="asked", statement=statement)
            return


def _calls(facts: IncidentFacts, events: pl.DataFrame, since: int) -> tuple[list[Moment], int]:
    cited = {ref.span_id for one in facts.alerts for ref in one.alert.contributing} | {one.alert.span_id for one in facts.alerts}
    is_call = (pl.col("event.type") == "tool_call") & pl.col("otel_ir.duplicate_of").is_null()
    refusal = (pl.col("otel_ir.guardrail.name") == GUARD) & pl.col("otel_ir.guardrail.triggered")
    # The guard says of a refused call that it refused it, in a span below that call's own: one entry for both.
    told = events.filter(is_call, pl.col("otel_ir.executed") == "rejected")["span_id"].to_list()
    refusal &= ~pl.col("otel_ir.parent_span_id").is_in(told).fill_null(False)
    wanted = events.filter(is_call | refusal, pl.col("event_time") >= since)
    ranked = wanted.with_columns((~pl.col("span_id").is_in(list(cited))).alias("rank")).sort("rank", "event_time", maintain_order=True)
    return [_call(row, cited) for row in ranked.head(MAX_CALLS).to_dicts()], max(0, wanted.height - MAX_CALLS)


def _call(row: dict[str, Any], cited: set[str]) -> Moment:
    span = row["span_id"]
    if row["event.type"] == "guardrail":
        statement = say("The guard refused a call of ", short(row["gen_ai.tool.name"] or "a tool"), ".", spans=[span])
        return Moment(at=row["event_time"], kind="call", statement=statement, mark="refused")
    refused = row["otel_ir.executed"] == "rejected"
    outcome = " It was refused." if refused else " It failed." if row["error"] else ""
    statement = say("The agent called ", *call(row), ".", outcome, spans=[span])
    return Moment(at=row["event_time"], kind="call", statement=statement, mark="refused" if refused else "cited" if span in cited else "")


def _alert(one: AlertFacts) -> Moment:
    alert = one.alert
    spans = [ref.span_id for ref in alert.contributing][-8:] or [alert.span_id]
    times = f" Its condition was met {one.count:,} times." if one.count > 1 else ""
    words = ("Alert, ", short(alert.severity), ": ", short(alert.signal), ": ", short(alert.description, 300), ".", times)
    return Moment(at=one.recorded_at or alert.received, kind="alert", statement=say(*words, spans=spans), mark=alert.severity)


def action_name(action: ActionFacts) -> tuple[str | Outside, ...]:
    """``revoke_tools through guard``, and on whom where that is not the incident's agent."""
    whom = (" for ", short(action.subject)) if action.subject else ()
    return (short(action.verb), " through ", short(action.adapter), *whom)


def _steps(action: ActionFacts) -> Iterator[Moment]:
    last = ""
    for step in action.steps:
        if step.state == last:
            continue
        last = step.state
        who = (" by ", short(step.who)) if step.who else ()
        # Who lets go stands in the detail of the ledger already.
        told = () if not step.detail else (" (", short(step.detail, 200), ")")
        statement = say(*action_name(action), " ", _STEPS.get(step.state, step.state), *(() if told else who), *told, ".")
        yield Moment(at=step.at, kind="action", statement=statement, mark=step.state)


def _incident(facts: IncidentFacts) -> Iterator[Moment]:
    told = (
        (facts.opened_at, "open", "The incident was opened."),
        (facts.contained_at, "contained", "The agent counts as contained: an action is verified."),
        (facts.recovering_at, "recovering", "Recovery began: every action is let go of, then the agent is watched."),
        (facts.closed_at, "closed", "The incident was closed."),
    )
    return (Moment(at=at, kind="incident", statement=say(text), mark=state) for at, state, text in told if at)


def _note(facts: IncidentFacts, place: int) -> Moment:
    note = facts.notes[place]
    who = (" by ", short(note.who)) if note.who else ()
    return Moment(at=note.at, kind="note", statement=say("Log, ", short(note.kind), *who, ": ", short(note.text, 300), "."), mark=note.kind)


def durations(facts: IncidentFacts, origin: Compromise | None) -> tuple[Duration, ...]:
    """How long it took to detect, dispatch, verify, release, recover. Telemetry's times are the sender's clock, the ledger's are ours."""
    main = facts.first
    alert = main.alert if main else None
    began = origin.at if origin else None
    basis = "" if origin is None or origin.basis == "data_flow" else " (from the first cited event: where it began is not known)"
    noted = main.recorded_at if main else None
    received, happened = (alert.received or None, alert.event_time or None) if alert else (None, None)
    dispatched = _first(facts, "dispatched_at")
    verified = _first(facts, "verified_at")
    end = facts.closed_at
    started = received or facts.opened_at
    return (
        _took("detect", "from compromise to alert", began, noted, f"until the alert stood in the ledger{basis}"),
        _took("attack", "of that, until the harmful call had run", began, happened, "what the attack itself took"),
        _took(
            "sender",
            "of that, until its span was received",
            happened,
            received,
            "the sender's part: spans come late, in batches",
        ),
        _took("judge", "of that, until the alert was recorded", received, noted, "otel_ir's part"),
        _took("dispatch", "from receipt to the first action dispatched", started, dispatched, _why(facts, "dispatched")),
        _took("verify", "from receipt to the first action verified", started, verified, _why(facts, "verified")),
        _took("contain", "from compromise to contained", began, facts.contained_at, "the first verified action" + basis),
        _took("release", "from contained to everything let go of", facts.contained_at, facts.recovering_at, "how long the agent was held"),
        _took("recover", "from everything let go of to closed", facts.recovering_at, end, "the watch period"),
        _took("total", "from compromise to closed", began, end, "the whole incident" + basis),
    )


def _first(facts: IncidentFacts, name: str) -> int | None:
    return min((at for action in facts.actions if (at := getattr(action, name))), default=None)


def _why(facts: IncidentFacts, what: str) -> str:
    if not facts.actions:
        return "no action was asked for"
    states = sorted({action.state for action in facts.actions})
    return "" if _first(facts, f"{what}_at") else f"none was {what}: {', '.join(states)}"


def _took(key: str, name: str, start: int | None, end: int | None, why: str) -> Duration:
    known = start is not None and end is not None
    return Duration(key=key, name=name, nanos=end - start if known else None, why=why)  # type: ignore[operator]
