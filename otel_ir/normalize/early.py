"""Results that came before their call: a few of them wait in each trace."""

from __future__ import annotations

from typing import Any

from otel_ir.normalize.calls import Trace
from otel_ir.normalize.telling import BY_CALL

MAX_EARLY = 64
"""Results per trace that may wait for their call; requests that only repeat what was asked in another trace bring such, too."""
MAX_EARLY_CHARACTERS = 1 << 20
_EARLY = (*BY_CALL, "call_id", "tool", "arguments", "time")
_SAME = ("call_id", "tool", "arguments", "result")


def keep_early(trace: Trace, row: dict[str, Any]) -> None:
    """Keeps a result unless one like it is kept: requests repeat what was said before."""
    size = sum(len(one["result"] or "") for one in trace.early) + len(row["result"] or "")
    if size <= MAX_EARLY_CHARACTERS and len(trace.early) < MAX_EARLY:
        kept = {name: row[name] for name in _EARLY}
        if not any(all(one[name] == kept[name] for name in _SAME) for one in trace.early):
            trace.early.append(kept)
