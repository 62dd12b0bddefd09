"""What was touched since it began: tools, destinations, conversations, users; and who else it could happen to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import polars as pl

from otel_ir.investigate.model import Compromise, Destination, Edge, IncidentFacts, Similar, Statement, ToolUse, say
from otel_ir.investigate.trace import STEERING
from otel_ir.investigate.words import short
from otel_ir.provenance import Value, leaves, values
from otel_ir.provenance.values import DESTINATIONS

MAX_TOOLS = 100
MAX_DESTINATIONS = 50
MAX_NAMES = 50
MAX_SIMILAR = 25
FEW_TOOLS = 2
"""Two agents that share fewer tools than this are not said to have the same ones."""


def concerned(events: pl.DataFrame, origin: Compromise | None) -> pl.DataFrame:
    """The tool calls and other events of the agent since the first anomaly; all there are where that is not known by data flow."""
    own = events.filter(pl.col("otel_ir.duplicate_of").is_null())
    if origin is None or origin.basis != "data_flow":
        return own
    spans = [origin.span_id] if origin.span_id else []
    return own.filter((pl.col("event_time") >= origin.at) | pl.col("span_id").is_in(spans))


def tools_used(rows: pl.DataFrame) -> tuple[ToolUse, ...]:
    """By first use."""
    calls = rows.filter(pl.col("event.type") == "tool_call", pl.col("gen_ai.tool.name").is_not_null())
    refused = pl.col("otel_ir.executed") == "rejected"
    grouped = calls.group_by("gen_ai.tool.name", maintain_order=True).agg(
        pl.len().alias("calls"),
        pl.col("error").fill_null(False).sum().alias("failed"),
        refused.fill_null(False).sum().alias("refused"),
        pl.col("span_id").first().alias("span"),
    )
    return tuple(
        ToolUse(tool=tool, calls=calls, failed=failed, refused=refused, first_span=span or "")
        for tool, calls, failed, refused, span in grouped.head(MAX_TOOLS).iter_rows()
    )


def names(rows: pl.DataFrame, column: str) -> tuple[str, ...]:
    """Distinct values, by first occurrence."""
    return tuple(rows[column].drop_nulls().unique(maintain_order=True).head(MAX_NAMES).to_list())


def destinations(rows: pl.DataFrame, edges: tuple[Edge, ...]) -> tuple[Destination, ...]:
    """Where steering arguments of calls pointed: addresses, hosts, accounts; hosts that an address names already are left out."""
    found: dict[Value, list[dict[str, Any]]] = {}
    for row in rows.filter(pl.col("event.type") == "tool_call").to_dicts():
        for value in _pointed(row):
            found.setdefault(value, []).append(row)
    outside = {edge.value.text for edge in edges if edge.role == "steer" and edge.source.kind not in ("user", "system")}
    told = [
        Destination(
            kind=value.kind,
            text=value.text,
            tools=tuple(dict.fromkeys(row["gen_ai.tool.name"] or "" for row in calls))[:5],
            spans=tuple(row["span_id"] or "" for row in calls[:5]),
            calls=len(calls),
            from_outside=value.text in outside,
        )
        for value, calls in found.items()
    ]
    return tuple(sorted(told, key=lambda one: not one.from_outside)[:MAX_DESTINATIONS])


def _pointed(row: dict[str, Any]) -> Iterator[Value]:
    arguments = row.get("gen_ai.tool.call.arguments")
    for leaf in leaves(arguments).found[:50] if arguments else ():
        if len(leaf.text) <= STEERING:
            found = values(leaf.text, DESTINATIONS).found
            named = [one.text for one in found if one.kind in ("url", "email")]
            yield from (one for one in found if one.kind not in ("host", "ip") or not any(one.text in other for other in named))


def similar_agents(
    facts: IncidentFacts, fleet: pl.DataFrame, elsewhere: pl.DataFrame, edges: tuple[Edge, ...], origin: Compromise | None
) -> tuple[Similar, ...]:
    """Agents with the same system prompt or the same tools, with the tool that brought it in, or that were given the same values."""
    rows = {row["otel_ir.agent.id"]: row for row in fleet.to_dicts()}
    own = rows.pop(facts.agent_id, None)
    exposed = _exposed(facts, elsewhere, edges)
    brought = origin.tool if origin and origin.basis == "data_flow" and origin.kind in ("tool_result", "retrieval") else ""
    found = []
    for agent in {**rows, **dict.fromkeys(exposed)}:
        reasons = [*exposed.get(agent, ()), *(_alike(own, rows[agent], brought) if own and agent in rows else ())]
        if reasons:
            found.append(Similar(agent_id=agent, reasons=tuple(reasons), exposed=agent in exposed))
    return tuple(sorted(found, key=lambda one: (not one.exposed, -len(one.reasons), one.agent_id))[:MAX_SIMILAR])


def _alike(own: dict[str, Any], other: dict[str, Any], brought: str) -> Iterator[Statement]:
    prompts = set(own["prompts"] or ()) & set(other["prompts"] or ())
    if prompts:
        digest = hashlib.sha256(min(prompts).encode("utf-8", "replace")).hexdigest()[:12]
        spans = [own["prompt_span"] or "", other["prompt_span"] or ""]
        yield say(f"It has the same system prompt (sha256 {digest}…).", spans=spans)
    mine, theirs = set(own["tools"] or ()), set(other["tools"] or ())
    spans = [own["tool_span"] or "", other["tool_span"] or ""]
    if mine == theirs and len(mine) >= FEW_TOOLS:
        yield say(f"It called the same {len(mine)} tools in the window.", spans=spans)
    elif brought and brought in theirs:
        yield say("It uses ", short(brought), ", through which the instruction came in.", spans=spans)


def _exposed(facts: IncidentFacts, elsewhere: pl.DataFrame, edges: tuple[Edge, ...]) -> dict[str, list[Statement]]:
    """Other agents whose calls hold a value that this agent was steered with from outside."""
    wanted = {edge.value for edge in edges if edge.role == "steer" and edge.signs and edge.value.kind in DESTINATIONS}
    found: dict[str, list[Statement]] = {}
    for row in elsewhere.to_dicts() if wanted else ():
        agent = row["otel_ir.agent.id"] or ""
        held = wanted & {value for name in ("result", "arguments") for value in values(row.get(f"gen_ai.tool.call.{name}") or "").found}
        if agent and agent != facts.agent_id and held and len(found.setdefault(agent, [])) < 3:
            tool, spans = short(row["gen_ai.tool.name"] or "a tool"), [row["span_id"] or ""]
            found[agent].append(say("Its call of ", tool, " holds the same value, ", short(min(held).text), ".", spans=spans))
    return found
