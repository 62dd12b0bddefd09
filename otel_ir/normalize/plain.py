"""The computed half of a few events, row by row: what ``columns.py`` does with queries, for events of which none failed.

tests/detect/test_fold_ways.py and tests/normalize/test_few_rows.py hold both to the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from otel_ir.model import EVENT_COLUMNS, scoped
from otel_ir.normalize import columns
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import FEW, Mask, contains_any

Columns = Mapping[str, pl.Series]


def is_plain(found: Columns, failed: Mask) -> bool:
    """Whether ``computed`` knows what to do: a few events, no failure, nobody states an error or a stable agent id."""
    return len(failed) <= FEW and not failed.any() and all(found[name].null_count() == len(failed) for name in ("error", "gen_ai.agent.id"))


def computed(found: Columns) -> dict[str, pl.Series]:
    """``found``: what was read, and the helper columns (``rows.py``) -> the columns that are computed from it."""
    said = {name: found[name].to_list() for name in _READ}
    size = len(said["_time"])
    tool, model = ([kind == wanted for kind in said["event.type"]] for wanted in ("tool_call", "model_output"))
    arguments, result, inward, outward = (said[name] for name in columns.CONTENT)
    executed = [
        stated if stated is not None else _executed(dialect, given is not None, back is not None) if call else None
        for stated, dialect, given, back, call in zip(said["otel_ir.executed"], said["_dialect"], arguments, result, tool, strict=True)
    ]
    absent = [
        (call and (given is None or (back is None and ran == "yes"))) or (chat and asked is None and answered is None)
        for call, given, back, ran, chat, asked, answered in zip(tool, arguments, result, executed, model, inward, outward, strict=True)
    ]
    cut, scrubbed = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
    for name in columns.CONTENT:
        if found[name].null_count() < size:
            cut[columns.cut_rows(found[name])] = True
            scrubbed |= contains_any(found[name], columns.SCRUBBED)
    dropped = [number > 0 for number in said["_dropped"]]
    spans = [f"{trace or ''}/{span or ''}" for trace, span in zip(said["trace_id"], said["span_id"], strict=True)]
    agents = zip(said["service.name"], said["gen_ai.agent.name"], strict=True)
    values: dict[str, list[object]] = {
        "otel_ir.event.id": list(map(scoped, said["otel_ir.tenant"], said["otel_ir.sender"], spans)),
        "event_time": [
            min(received if time <= 0 else time, received + columns.FUTURE)
            for time, received in zip(said["_time"], said["_received"], strict=True)
        ],
        "otel_ir.arguments.size": list(map(_size, said["otel_ir.arguments.size"], arguments)),
        "otel_ir.result.size": list(map(_size, said["otel_ir.result.size"], result)),
        "error": [False] * size,
        "error.type": [None] * size,
        "otel_ir.executed": list(executed),
        "otel_ir.agent.id": [None if name is None else f"{service or ''}/{name}" for service, name in agents],
        "otel_ir.agent.id_source": ["none" if name is None else "own" for name in said["gen_ai.agent.name"]],
        "otel_ir.content": [columns.flags(*each) for each in zip(absent, cut.tolist(), scrubbed.tolist(), dropped, strict=True)],
    }
    return {name: pl.Series(name, listed, dtype=EVENT_COLUMNS[name].dtype) for name, listed in values.items()}


def _size(stated: int | None, text: str | None) -> int | None:
    return len(text) if stated is None and text is not None else stated


def _executed(dialect: int, given: bool, back: bool) -> str:
    if back:
        return "yes"
    return DIALECTS[dialect].executed if given else DIALECTS[dialect].unproven


_READ = (
    *columns.CONTENT,
    "_time",
    "_received",
    "_dropped",
    "_dialect",
    "event.type",
    "trace_id",
    "span_id",
    "service.name",
    "otel_ir.tenant",
    "otel_ir.sender",
    "otel_ir.executed",
    "otel_ir.arguments.size",
    "otel_ir.result.size",
    "gen_ai.agent.name",
)
