"""Approvals of calls, as requests tell of them: each decision is one event, however often later requests repeat it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from otel_ir.normalize.calls import call_key
from otel_ir.normalize.refusals import Refusals

Decided = dict[str, tuple[int, int, str]]
"""Call of a trace, and what messages say of its approval -> (journal record, time of the earliest of them, first event)."""


def approval(decided: Decided, refused: Refusals, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The event of an approval that is asked for, or decided; of one that is told of again, but earlier in time, the second description."""
    key, decision = call_key(row), row["result"]
    if key is None or decision is None:
        return []
    if decision == "rejected":
        refused.add(row)
    known = _name(row["trace"], key, decision)
    told = row | {"result": None, "decision": decision, "id": f"{row['event']}#{decision}:{row['call_id']}"}
    _, earliest, first = decided.get(known, (0, row["time"], None))
    if first is not None and row["time"] >= earliest:
        return []
    decided.pop(known, None)
    decided[known] = (row["ordinal"], row["time"], first or told["id"])
    return [told | {"duplicate_of": first}]


def is_pending(decided: Container[str], trace: str, key: str) -> bool:
    """Whether the approval of a call of a trace was asked for."""
    return _name(trace, key, "pending") in decided


def _name(trace: str, key: str, decision: str) -> str:
    return f"{trace}{key} {decision}"
