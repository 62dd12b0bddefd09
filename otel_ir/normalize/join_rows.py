"""What joins.py is told of tool and guardrail events, and how it names their traces."""

from __future__ import annotations

from typing import Any

import polars as pl

from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import FEW

NAMELESS = tuple(dialect.name for dialect in DIALECTS if dialect.nameless)
"""Dialects whose messages tell of calls without their ids."""
SCOPE = ["otel_ir.tenant", "otel_ir.sender", "trace_id"]
_JOIN_NAMES = {
    "ordinal": "otel_ir.journal.ordinal",
    "id": "otel_ir.event.id",
    "type": "event.type",
    "dialect": "otel_ir.dialect",
    "tool": "gen_ai.tool.name",
    "call_id": "gen_ai.tool.call.id",
    "arguments": "gen_ai.tool.call.arguments",
    "triggered": "otel_ir.guardrail.triggered",
    "arguments_size": "otel_ir.arguments.size",
    "result": "gen_ai.tool.call.result",
    "result_size": "otel_ir.result.size",
    "to": "otel_ir.handoff.to",
    "executed": "otel_ir.executed",
    "error": "error",
    "error_type": "error.type",
    "error_message": "error.message",
    "service.name": "service.name",
    "start": "start_time",
    "conversation": "gen_ai.conversation.id",
}


def trace_keys(events: pl.DataFrame) -> list[str | None]:
    """Tenant, sender and trace as one text; of events of which only these (``SCOPE``) are given."""
    if events.height > FEW:
        return events.select(_trace_of_event()).to_series().to_list()
    return [trace and f"{tenant or ''}\x1f{sender or ''}\x1f{trace}\x1f" for tenant, sender, trace in events.iter_rows()]


def join_rows(events: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows that ``Joins.fold`` takes."""
    if events.height > FEW:
        return events.select(**_join_columns()).to_dicts()
    found = []
    for tenant, sender, trace, parent, *rest in events[[*SCOPE, "otel_ir.parent_span_id", *_JOIN_NAMES.values()]].iter_rows():
        key = f"{tenant or ''}\x1f{sender or ''}\x1f{trace}\x1f"
        row = {
            "tenant": tenant,
            "sender": sender,
            "trace": trace and key,
            "parent": parent,
            "parent_key": key + parent if trace and parent is not None else None,
        }
        found.append(row | dict(zip(_JOIN_NAMES, rest, strict=True)))
    return found


def _join_columns() -> dict[str, pl.Expr]:
    return {
        **{name: pl.col(column) for name, column in _JOIN_NAMES.items()},
        "tenant": pl.col("otel_ir.tenant"),
        "sender": pl.col("otel_ir.sender"),
        "trace": _trace_of_event(),
        "parent": pl.col("otel_ir.parent_span_id"),
        "parent_key": pl.when(pl.col("otel_ir.parent_span_id").is_not_null()).then(_key_of_event()),
    }


def _trace_of_event() -> pl.Expr:
    scope = [pl.col("otel_ir.tenant").fill_null(""), pl.col("otel_ir.sender").fill_null(""), pl.col("trace_id")]
    return pl.concat_str([*scope, pl.lit("")], separator="\x1f")


def _key_of_event() -> pl.Expr:
    columns = [
        pl.col("otel_ir.tenant").fill_null(""),
        pl.col("otel_ir.sender").fill_null(""),
        pl.col("trace_id"),
        pl.col("otel_ir.parent_span_id"),
    ]
    return pl.concat_str(columns, separator="\x1f")
