"""Puts an investigation together. Pure: the same facts and the same frames give the same findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from otel_ir.investigate.impact import concerned, destinations, names, similar_agents, tools_used
from otel_ir.investigate.load import Evidence
from otel_ir.investigate.model import Compromise, IncidentFacts, Investigation, Statement, say
from otel_ir.investigate.origin import find_origin
from otel_ir.investigate.recommend import Known, recommend
from otel_ir.investigate.timeline import build_timeline, durations
from otel_ir.investigate.trace import cited_calls
from otel_ir.investigate.words import call, short
from otel_ir.timefmt import rfc3339

MAX_EVIDENCE = 300
"""Spans that are described for those who want to look."""


def investigate(facts: IncidentFacts, evidence: Evidence) -> Investigation:
    """What can be said of an incident from what the ledger and the evidence hold."""
    events = evidence.events.sort("event_time", "otel_ir.event.id")
    origin, edges, not_compared = find_origin(facts, events, evidence.elsewhere)
    timeline, left_out = build_timeline(facts, events, origin, edges)
    rows = concerned(events, origin)
    pointed = destinations(rows, edges)
    alike = similar_agents(facts, evidence.fleet, evidence.elsewhere, edges, origin)
    advice = recommend(Known(facts, origin, pointed, alike, _blind(facts, events)))
    said = [*(one.statement for one in timeline), *(reason for one in alike for reason in one.reasons), *(one.because for one in advice)]
    spans = [*(span for one in said for span in one.spans), *(span for edge in edges for span in (edge.source.span_id, edge.span_id))]
    spans += [span for one in pointed for span in one.spans]
    return Investigation(
        facts=facts,
        window=evidence.window,
        total_events=evidence.total_events,
        compromise=origin,
        first_anomaly=_first_anomaly(facts, events, origin),
        edges=edges,
        timeline=timeline,
        tools=tools_used(rows),
        destinations=pointed,
        conversations=names(rows, "gen_ai.conversation.id"),
        users=names(rows, "user.id"),
        similar=alike,
        recommendations=advice,
        durations=durations(facts, origin),
        evidence=_described(spans, pl.concat([events, evidence.elsewhere], how="diagonal")),
        cut=(*facts.cut, *evidence.cut, *not_compared, *left_out),
        notes=evidence.notes,
    )


def article(found: Investigation) -> dict[str, Any]:
    """The report of the article, with its very fields."""
    main = found.facts.main
    alert = main.alert if main else None
    return {
        "incident_id": found.facts.incident_id,
        "agent_id": found.facts.agent_id,
        "alert": alert.signal if alert else None,
        "timeline": {
            "first_anomaly": rfc3339(found.first_anomaly) if found.first_anomaly else None,
            "alert_triggered": rfc3339(alert.event_time) if alert else None,
            "total_events": found.total_events,
        },
        "affected_tools": [one.tool for one in found.tools],
        "recommended_actions": [one.action.text for one in found.recommendations],
    }


def _first_anomaly(facts: IncidentFacts, events: pl.DataFrame, origin: Compromise | None) -> int | None:
    """The initial compromise, or the first event that an alert cites if that was earlier."""
    cited = {ref.span_id for one in facts.alerts for ref in one.alert.contributing} | {one.alert.span_id for one in facts.alerts}
    first = events.filter(pl.col("span_id").is_in(list(cited)))["event_time"].min()
    times = [origin.at if origin else None, first, *([facts.alerts[0].alert.event_time] if facts.alerts and first is None else [])]
    return min((int(at) for at in times if isinstance(at, int)), default=None)


def _blind(facts: IncidentFacts, events: pl.DataFrame) -> bool:
    calls = cited_calls(facts, events)
    missing = calls["gen_ai.tool.call.arguments"].null_count() or calls["gen_ai.tool.call.result"].null_count() == calls.height
    return bool(calls.height and missing)


def _described(spans: Iterable[str], events: pl.DataFrame) -> tuple[tuple[str, Statement], ...]:
    wanted = list(dict.fromkeys(span for span in spans if span))[:MAX_EVIDENCE]
    rows = {row["span_id"]: row for row in reversed(events.filter(pl.col("span_id").is_in(wanted)).to_dicts())}
    return tuple((span, _description(rows[span])) for span in wanted if span in rows)


def _description(row: dict[str, Any]) -> Statement:
    kind = str(row["event.type"]).replace("_", " ")
    what = call(row) if row["event.type"] == "tool_call" else (short(row["otel_ir.span.name"] or kind),)
    who = (" by ", short(row["otel_ir.agent.id"])) if row["otel_ir.agent.id"] else ()
    where = (", trace ", short(row["trace_id"], 40)) if row["trace_id"] else ()
    return say(f"{kind} ", *what, *who, f" at {rfc3339(row['event_time'] or 0)}", *where)
