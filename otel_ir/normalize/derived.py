"""Events that only LLM messages know, made of message rows: who made the model's span made the call."""

from __future__ import annotations

from typing import Any

import polars as pl

from otel_ir.model import EVENT_SCHEMA
from otel_ir.normalize.arguments import argument_columns, is_argument
from otel_ir.normalize.identity import NOBODY, Identity, Traces, agent_of
from otel_ir.normalize.slots import AGENT, CONVERSATION, USER
from otel_ir.normalize.span_keys import SPAN, SpanKeys
from otel_ir.normalize.telling import taker


def with_derived(events: pl.DataFrame, derived: list[dict[str, Any]], traces: Traces, keys: SpanKeys) -> pl.DataFrame:
    """Adds the events that ``derived``, the rows that ``Joins`` gives, tell of; all in journal order."""
    if not derived:
        return events
    spans = pl.DataFrame(
        [[row[name] for name in SPAN] for row in derived], schema=dict.fromkeys(SPAN, pl.String), orient="row"
    )  # fmt: skip
    nodes = traces.above(keys.of(spans, "span_id").tolist())
    who = [traces.identities.one(node.identity) if node else NOBODY for node in nodes]
    new = pl.DataFrame([_event_row(row, one) for row, one in zip(derived, who, strict=True)], schema=EVENT_SCHEMA)
    names = [name for name in events.columns if is_argument(name)]
    if names:
        new = new.with_columns(argument_columns(new["gen_ai.tool.call.arguments"], names))
    order = ["otel_ir.journal.ordinal", "otel_ir.journal.position"]
    return pl.concat([events, new], how="diagonal").select(events.columns).sort(order, maintain_order=True)


def _event_row(row: dict[str, Any], who: Identity) -> dict[str, Any]:
    """An event made of a message row; identity is that of the model's own span."""
    agent = agent_of(row["service.name"], row["agent"], None) or who[AGENT] or (None, None, None)
    return {
        "event_time": row["time"],
        "start_time": row["time"],
        "event.type": row["event_type"],
        "trace_id": row["trace_id"],
        "span_id": row["span_id"],
        "otel_ir.parent_span_id": row["parent_span_id"],
        "service.name": row["service.name"],
        "otel_ir.tenant": row["tenant"],
        "otel_ir.sender": row["sender"],
        "otel_ir.dialect": "messages",
        "otel_ir.duplicate_of": row.get("duplicate_of"),
        "otel_ir.agent.id": agent[0],
        "otel_ir.agent.id_source": "own" if agent[0] else "none",
        "gen_ai.agent.name": agent[1],
        "gen_ai.agent.id": agent[2],
        "gen_ai.conversation.id": who[CONVERSATION],
        "user.id": who[USER],
        "gen_ai.tool.name": row["tool"],
        "gen_ai.tool.call.id": row["call_id"],
        "gen_ai.tool.call.arguments": row["arguments"],
        "gen_ai.tool.call.result": row["result"],
        "otel_ir.arguments.size": len(row["arguments"]) if row["arguments"] is not None else None,
        "otel_ir.result.size": len(row["result"]) if row["result"] is not None else None,
        "otel_ir.executed": row["executed"] or "unknown" if row["event_type"] == "tool_call" else None,
        "error": bool(row["error"]),
        "error.message": row["result"] if row["error"] else None,
        "otel_ir.handoff.to": taker(row["tool"], row["arguments"]) if row["event_type"] == "handoff" else None,
        "otel_ir.approval.decision": row.get("decision"),
        "otel_ir.event.id": row["id"],
        "otel_ir.journal.ordinal": row["ordinal"],
        "otel_ir.journal.position": row["position"],
    }
