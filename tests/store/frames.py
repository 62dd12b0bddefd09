"""Small event frames and patches."""

from __future__ import annotations

from typing import Any

import polars as pl

from otel_ir.model import EVENT_SCHEMA, PATCH_COLUMNS, PATCH_SCHEMA

NOON = 1_767_268_800_000_000_000
"""2026-01-01T12:00:00Z"""
SECOND = 1_000_000_000
DAY = 86_400 * SECOND

ID, ORDINAL, POSITION = "otel_ir.event.id", "otel_ir.journal.ordinal", "otel_ir.journal.position"


def event(ordinal: int, position: int = 0, **changes: Any) -> dict[str, Any]:
    """A row of the event frame; keys of ``changes`` have ``__`` for a dot."""
    row = {
        "event_time": NOON + ordinal * SECOND,
        "event.type": "tool_call",
        "service.name": "helpdesk",
        "otel_ir.tenant": "",
        "otel_ir.sender": "",
        "otel_ir.agent.id": f"helpdesk/trace:{ordinal}",
        "otel_ir.agent.id_source": "none",
        "gen_ai.tool.name": "send_email",
        "gen_ai.tool.call.arguments": f'{{"n": {ordinal}}}',
        "error": False,
        ID: f"{ordinal:032x}/{position:016x}",
        ORDINAL: ordinal,
        POSITION: position,
    }
    return row | {name.replace("__", "."): value for name, value in changes.items()}


def events(*rows: dict[str, Any], **extra: Any) -> pl.DataFrame:
    """An event frame. ``extra``: type of further columns."""
    more = {name.replace("__", "."): dtype for name, dtype in extra.items()}
    return pl.DataFrame(list(rows), schema={**EVENT_SCHEMA, **more})


def patch(event_id: str, ordinal: int, **changes: Any) -> dict[str, Any]:
    """A row of the patch frame: what is not given is not known."""
    row: dict[str, Any] = dict.fromkeys(PATCH_COLUMNS) | {ID: event_id, ORDINAL: ordinal}
    row |= {"otel_ir.agent.id": f"agent@{ordinal}", "otel_ir.agent.id_source": "own"}
    return row | {name.replace("__", "."): value for name, value in changes.items()}


def patches(*rows: dict[str, Any]) -> pl.DataFrame:
    """A frame of patches."""
    return pl.DataFrame(list(rows), schema=PATCH_SCHEMA)


NO_EVENTS, NO_PATCHES = events(), patches()
