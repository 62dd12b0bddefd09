"""Where it began: the event that brought the instruction in, found along the data flow; where there is none, that is what is said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from otel_ir.investigate.model import Compromise, Edge, IncidentFacts, Part, Statement, say
from otel_ir.investigate.sources import UNTRUSTED, sources
from otel_ir.investigate.trace import Tracer, cited_calls, rank
from otel_ir.investigate.words import argument, call, source, value
from otel_ir.provenance.values import WEAK

MAX_HOPS = 8
"""From an order back to the order that led to it."""
MAX_FOLLOWED = 60
"""Calls since it began whose arguments are followed as well: what else it made the agent do."""
MAX_EDGES = 100
MAX_TOLD = 3
"""Arguments that the sentence about the origin names."""


def find_origin(
    facts: IncidentFacts, events: pl.DataFrame, elsewhere: pl.DataFrame
) -> tuple[Compromise | None, tuple[Edge, ...], list[str]]:
    """The initial compromise, every edge found on the way, and what was left out.

    ``None``: the evidence holds none of the events that the alerts cite.
    """
    cited = cited_calls(facts, events).to_dicts()
    rows = events.to_dicts()
    tracer = Tracer(sources(rows) + sources(elsewhere.to_dicts()))
    calls = {row["span_id"]: row for row in rows if row["event.type"] == "tool_call" and not row["otel_ir.duplicate_of"]}
    edges = [edge for row in cited for edge in tracer.edges(row)]
    telling = [edge for edge in edges if edge.role == "steer" and edge.value.kind not in WEAK]
    if not telling:
        return _first_contributing(facts, rows, cited), _bounded(edges), tracer.cut
    path = _walk(tracer, calls, min(telling, key=rank))
    first = path[0]
    began = calls.get(first.source.span_id)
    # How the agent came to read it: a plain number in the user's request is enough to show that, and decides nothing.
    reached = tracer.edges(began, weak=True)[:2] if began else []
    after = [row for row in calls.values() if _after(row, first) and row not in cited]
    after = sorted(after, key=lambda row: row["event_time"] or 0)[:MAX_FOLLOWED]
    edges = [*reached, *path, *edges, *(edge for row in after for edge in tracer.edges(row))]
    found = Compromise(
        basis="data_flow",
        at=first.source.at,
        span_id=first.source.span_id,
        kind=first.source.kind,
        tool=first.source.tool,
        conversation_id=first.source.conversation_id,
        statement=_statement(first, edges),
        edge=first,
        path=tuple(path),
    )
    return found, _bounded(edges), tracer.cut


def _walk(tracer: Tracer, calls: dict[str, dict[str, Any]], best: Edge) -> list[Edge]:
    """From the edge that explains the alert back to the first order: what made the agent read that text may itself have been one."""
    path, seen = [best], {best.source.span_id}
    for _ in range(MAX_HOPS):
        row = calls.get(path[0].source.span_id)
        orders = [edge for edge in tracer.edges(row) if edge.signs and edge.source.kind in UNTRUSTED] if row else []
        earlier = [edge for edge in orders if edge.source.span_id not in seen]
        if not earlier:
            break
        path.insert(0, min(earlier, key=rank))
        seen.add(path[0].source.span_id)
    return path


def _after(row: dict[str, Any], first: Edge) -> bool:
    made = row["start_time"] or row["event_time"] or 0
    same = row["gen_ai.conversation.id"] == first.source.conversation_id or row["trace_id"] == first.source.trace_id
    return bool(made >= first.source.at and same)


def _bounded(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """Each once; those that steer, and by better known values, first when there are too many."""
    once: dict[tuple[str, str, str, str], Edge] = {}
    for edge in edges:
        once.setdefault((edge.source.span_id + edge.source.kind, edge.call, edge.argument, edge.value.fingerprint), edge)
    kept = list(once.values())
    if len(kept) > MAX_EDGES:
        kept = sorted(kept, key=rank)[:MAX_EDGES]
    return tuple(sorted(kept, key=lambda edge: (edge.at, edge.source.at)))


def _statement(first: Edge, edges: list[Edge]) -> Statement:
    same = [edge for edge in edges if edge.source == first.source and edge.role == "steer" and edge.value.kind not in WEAK]
    arguments: dict[tuple[str, str], Edge] = {}
    for edge in (first, *same):
        arguments.setdefault((edge.tool, edge.argument), edge)
    shown = list(arguments.values())[:MAX_TOLD]
    became: list[Part] = []
    for place, edge in enumerate(shown):
        became += [", and " if place else "", *value(edge), ", which became ", *argument(edge)]
    spans = [first.source.span_id, *(edge.span_id for edge in shown)]
    if first.source.kind == "user":
        return say("The user's own request held ", *became, ". Nothing shows that anybody else brought it in.", spans=spans)
    where = {
        "same_agent": " in another conversation of this agent (what carried it over, a memory or a store, is not in the evidence)",
        "elsewhere": " of another agent (what carried it over, a memory or a store, is not in the evidence)",
    }.get(first.place, "")
    if not first.signs:
        return say(
            "It came in with ", *source(first), where, ". It held ", *became, "; nothing there reads like instructions.", spans=spans
        )
    signs = f"Text in it that reads like instructions ({', '.join(first.signs)}) held "
    return say("It came in with ", *source(first), where, ". ", signs, *became, ".", spans=spans)


def _first_contributing(facts: IncidentFacts, rows: list[dict[str, Any]], cited: list[dict[str, Any]]) -> Compromise | None:
    spans = {ref.span_id for one in facts.alerts for ref in one.alert.contributing} | {one.alert.span_id for one in facts.alerts}
    there = sorted(
        (row for row in rows if row["span_id"] in spans), key=lambda row: (row["event_time"] or 0, row["otel_ir.event.id"] or "")
    )
    if not there:
        return None
    first = there[0]
    silent = bool(cited) and not any(row.get("gen_ai.tool.call.arguments") for row in cited)
    why = (
        "the telemetry has no arguments (content capture is off)"
        if silent
        else "no argument of the calls that the alerts cite stands in it"
    )
    what = call(first) if first["event.type"] == "tool_call" else (str(first["event.type"]).replace("_", " "),)
    statement = say(
        "Where it came from is not known. Nothing that the agent was given to read, as far as the evidence holds it, leads to the alert: ",
        f"{why}. The first event that the alerts cite is ",
        *what,
        ".",
        spans=[first["span_id"]],
    )
    return Compromise(
        basis="first_contributing",
        at=int(first["start_time"] or first["event_time"] or 0),
        span_id=first["span_id"] or "",
        kind=first["event.type"] or "",
        tool=first["gen_ai.tool.name"] or "",
        conversation_id=first["gen_ai.conversation.id"] or "",
        statement=statement,
    )
