"""Calls that were made again, in one trace: a tool that asked a person in between, or that failed and was tried once more.

Their spans have one id, tool and arguments. What messages tell of the result is what the span says that gives it itself; that they told it
of another span before that one came is so only in some orders of arrival, and so it does not stand in the final form.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import polars as pl

from otel_ir.normalize.calls import agree, canonical

_ID, _OF, _RESULT, _ARGUMENTS = "otel_ir.event.id", "otel_ir.duplicate_of", "gen_ai.tool.call.result", "gen_ai.tool.call.arguments"
_CALL = ("otel_ir.tenant", "otel_ir.sender", "trace_id", "gen_ai.tool.name", "gen_ai.tool.call.id")
_TOLD = (_RESULT, "otel_ir.result.size", "otel_ir.executed")
_MESSAGES = "messages"
Row = dict[str, Any]


def tried(events: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Final events, and the same rows with what each said itself -> without results that are those of another span of the call."""
    said = own.select(pl.col(name).alias(f"{name} own") for name in _TOLD)
    calls = events.select(_ID, _OF, *_CALL, _ARGUMENTS, "event.type", "otel_ir.dialect").hstack(said)
    calls = calls.filter(pl.col("event.type") == "tool_call", pl.col(_CALL[-1]).is_not_null(), pl.col(_CALL[-2]).is_not_null())
    several = pl.col(f"{_RESULT} own").is_null().any() & pl.col(f"{_RESULT} own").is_not_null().any()
    calls = calls.filter(several.over(_CALL))
    if calls.is_empty():
        return events
    groups: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in calls.iter_rows(named=True):
        groups[tuple(row[name] for name in _CALL)].append(row)
    described = {*events[_OF].drop_nulls()}
    back = [one for rows in groups.values() for one in _others(rows, described)]
    if not back:
        return events
    schema = {_ID: pl.String} | {f"{name} own": events.schema[name] for name in _TOLD}
    found = events.join(pl.DataFrame(back, schema=schema).with_columns(again=True), on=_ID, how="left", maintain_order="left")
    own_words = (pl.when(pl.col("again")).then(f"{name} own").otherwise(name).alias(name) for name in _TOLD)
    return found.with_columns(*own_words).select(events.columns)


def _others(rows: list[Row], described: set[str]) -> list[Row]:
    """Of the descriptions with one id those of which a result was told that is another span's."""
    spans = [row for row in rows if row["otel_ir.dialect"] != _MESSAGES]
    saying = [row for row in spans if row[f"{_RESULT} own"] is not None and row[_OF] is None]
    found = []
    for row in rows:
        below = [one for one in spans if one[_OF] == row[_ID]]
        if row["otel_ir.dialect"] == _MESSAGES:
            silent = bool(below) and all(one[f"{_RESULT} own"] is None for one in below)
        else:
            silent = row[f"{_RESULT} own"] is None and row[_OF] is None and row[_ID] not in described
        if silent and any(one[_ID] != row[_ID] and _alike(one, row) for one in saying):
            itself = below[0] if row["otel_ir.dialect"] == _MESSAGES else row
            found.append({_ID: row[_ID]} | {f"{name} own": itself[f"{name} own"] for name in _TOLD})
    return found


def _alike(one: Row, other: Row) -> bool:
    return agree(canonical(one[_ARGUMENTS]), canonical(other[_ARGUMENTS]))
