"""One call, one event, once everything was read: which of its descriptions stands for it, and what it says in all.

While spans and log records come in, the first description of a call is its event, since nothing waits; which one is first depends on the
order of arrival. In the final form it does not: a span stands before a log record, that before what only messages know; of two model calls
one in the other the inner one; an instrumentation's span before the client library's own; an emitter that
says what its calls belong to before one that does not; then the one that began first. What it does not
say itself the others say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import polars as pl

from otel_ir.model import TOLD_COLUMNS
from otel_ir.normalize.alone import NEAR
from otel_ir.normalize.calls import agree, canonical
from otel_ir.normalize.columns import CONTENT, LOG_MARK
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.json_text import members
from otel_ir.normalize.table import ANYWHERE
from otel_ir.normalize.twice import INNER, NESTED

_ID, _OF, _KIND = "otel_ir.event.id", "otel_ir.duplicate_of", "event.type"
_SOURCE, _MESSAGES = "otel_ir.agent.id_source", "messages"
_AGENT = ("otel_ir.agent.id", _SOURCE, "gen_ai.agent.name", "gen_ai.agent.id")
_SOURCES = ("own", "ancestor", "sibling")
_TOLD = (*TOLD_COLUMNS, "otel_ir.executed", "gen_ai.tool.call.id")
_PLACE = (
    _ID, _OF, _KIND, "event_time", "start_time", "trace_id", "span_id", "otel_ir.parent_span_id", "otel_ir.span.name", "service.name",
    "service.instance.id", "otel_ir.dialect", "otel_ir.tenant", "otel_ir.sender", "otel_ir.journal.ordinal", "otel_ir.journal.position",
    "otel_ir.content",
)  # fmt: skip
"""Columns that belong to one description, not to the call."""
_FAR = ("rejected", "yes", "pending_approval", "unknown")
_CAME = ("gen_ai.tool.call.result", "otel_ir.result.size", "error", "error.type", "error.message")
_RESULT = ("gen_ai.tool.call.result", "otel_ir.result.size", "otel_ir.executed")
_ARGUMENTS = "gen_ai.tool.call.arguments"
_GIVEN = (_ARGUMENTS, "otel_ir.arguments.size")
_ELSEWHERE = frozenset(dialect.name for dialect in DIALECTS if f"={ANYWHERE}" in dialect.call)
"""Dialects whose records are second to those of the emitter that makes the call."""
_SCOPE = ("otel_ir.tenant", "otel_ir.sender")
_NAMES_A_CALL = ("service.name", "gen_ai.conversation.id", "gen_ai.tool.name", "gen_ai.tool.call.id")
Row = dict[str, Any]


def settled(events: pl.DataFrame) -> pl.DataFrame:
    """Final events (event frame, with all that was told of each) -> the same rows; of each call the one that stands for it says everything,
    and the others name it as ``otel_ir.duplicate_of``.
    """
    events = _apart(_at_their_models(events))
    of: dict[str, str] = dict(events.filter(pl.col(_OF).is_not_null()).select(_ID, _OF).iter_rows())
    again = _resumed(events, of) + _repeated(events)
    if not of and not again:
        return events
    groups = _groups(of, again)
    rows = events.filter(pl.col(_ID).is_in([one for group in groups.values() for one in group])).rows_by_key(_ID, named=True, unique=True)
    changed: list[Row] = []
    for root, group in groups.items():
        members = [rows[one] | {_ID: one} for one in group if one in rows]
        if root in rows and len(members) > 1:
            changed += together(members, rows[root])
    if not changed:
        return events
    new = pl.DataFrame(changed, schema=events.schema).select(events.columns)
    kept = events.join(new.select(_ID), on=_ID, how="anti", maintain_order="left")
    return pl.concat([kept, new])


def together(members: list[Row], first: Row | None = None) -> list[Row]:
    """Descriptions of one call -> the same, that which stands for it in front. ``first``: the one that was told what others say."""
    spans = Counter(span for span, _ in {(one["span_id"], one[_ID]) for one in members if LOG_MARK not in one[_ID]})
    best, *others = sorted(members, key=lambda row: _rank(row, spans))
    return [_merged(best, others, first or best), *(other | {_OF: best[_ID]} for other in others)]


def present() -> pl.Expr:
    """``otel_ir.content`` without ``absent`` where what was absent has been told."""
    arguments, result, inward, outward = (pl.col(name).is_not_null() for name in CONTENT)
    ran = (pl.col("otel_ir.executed") == "yes") & ~pl.col("error")
    tool = (pl.col(_KIND) == "tool_call") & arguments & (result | ~ran.fill_null(value=False))
    whole = tool | ((pl.col(_KIND) == "model_output") & (inward | outward))
    said = pl.when(whole).then(pl.col("otel_ir.content").str.replace(r"^absent,?", "")).otherwise(pl.col("otel_ir.content"))
    return pl.when(said != "").then(said).alias("otel_ir.content")


def _groups(duplicates: dict[str, str], again: list[list[str]]) -> dict[str, list[str]]:
    """The first description of each call that has several -> the ids of all."""
    of = dict(duplicates)
    for alike in again:
        first, *rest = dict.fromkeys(_root(event, of, {}) for event in alike)
        of |= dict.fromkeys(rest, first)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    roots: dict[str, str] = {}
    for event in of:
        groups[_root(event, of, roots)].append(event)
    return {root: [root, *(one for one in rest if one != root)] for root, rest in groups.items()}


def _root(event: str, of: dict[str, str], roots: dict[str, str]) -> str:
    """``roots``: what was found before, and is now. Of a ring of duplicates the root is one of them."""
    root, path = event, set[str]()
    while root in of and root not in roots and root not in path:
        path.add(root)
        root = of[root]
    root = roots.get(root, root)
    roots.update((one, root) for one in path)
    return root


def _resumed(events: pl.DataFrame, of: dict[str, str]) -> list[list[str]]:
    """Calls that waited for a person in one trace, and went on in another: ids of their events, the one that began first in front.

    The call's id, tool and conversation are the same, and so are the arguments that both give; of at most one a span says that it ran.
    ``of``: duplicates -> what stands for the call: a call that ran is one, however many describe it.
    """
    calls = events.filter((pl.col(_KIND) == "tool_call") & pl.all_horizontal(pl.col(name).is_not_null() for name in _NAMES_A_CALL))
    ran = (pl.col("otel_ir.executed") == "yes") & (pl.col("otel_ir.dialect") != _MESSAGES)
    several = pl.col("trace_id").n_unique() > 1
    calls = calls.with_columns(ran=ran.fill_null(value=False)).filter(several.over(_SCOPE, *_NAMES_A_CALL)).sort("start_time", _ID)
    found = []
    roots: dict[str, str] = {}
    for _, group in calls.group_by(*_SCOPE, *_NAMES_A_CALL, maintain_order=True):
        given = [canonical(one) for one in group[_ARGUMENTS]]
        alike = {event: ran for event, ran, one in zip(group[_ID], group["ran"], given, strict=True) if agree(given[0], one)}
        if len({_root(event, of, roots) for event, ran in alike.items() if ran}) <= 1 < len({_root(event, of, roots) for event in alike}):
            found.append([*alike])
    return found


def _repeated(events: pl.DataFrame) -> list[list[str]]:
    """Calls of messages that are one with that of a span which stands alone (alone.py), as they are where the span comes first."""
    calls = events.filter((pl.col(_KIND) == "tool_call") & pl.col("gen_ai.tool.call.id").is_not_null())
    derived = pl.col("otel_ir.dialect") == _MESSAGES
    spans = calls.filter(~derived & pl.col("otel_ir.parent_span_id").is_null() & pl.col(_OF).is_not_null())
    if spans.is_empty():
        return []
    told = calls.filter(derived & pl.col(_OF).is_null())
    same = (*_SCOPE, "service.name", "gen_ai.tool.name", "gen_ai.tool.call.id")
    pairs = spans.join(told, on=same, nulls_equal=True, suffix=" told").filter(
        (pl.col("trace_id") != pl.col("trace_id told"))
        & (pl.col("gen_ai.conversation.id") == pl.col("gen_ai.conversation.id told")).fill_null(value=True)
        & (pl.col(_OF) != pl.col(f"{_ID} told"))
        & ((pl.col("start_time") - pl.col("start_time told")).abs() <= NEAR)
    )
    rows = pairs.select(_OF, f"{_ID} told", _ARGUMENTS, f"{_ARGUMENTS} told").iter_rows()
    return [[of, other] for of, other, one, two in rows if agree(canonical(one), canonical(two))]


def _rank(row: Row, spans: Counter[str | None]) -> tuple[Any, ...]:
    """``spans``: how many of the descriptions are a span's with this id."""
    kind = 2 if row["otel_ir.dialect"] == _MESSAGES else 1 if LOG_MARK in row[_ID] else 0
    parent = row["otel_ir.parent_span_id"]
    itself = parent == row["span_id"] and LOG_MARK not in row[_ID]
    inside = row["otel_ir.dialect"] in NESTED and spans[parent] > itself
    return (kind, row["otel_ir.dialect"] in INNER, row["otel_ir.dialect"] in _ELSEWHERE, not inside, row["start_time"] or 0, row[_ID])


def _says_itself(best: Row, first: Row, name: str) -> bool:
    """Whether a span's own words count for more than what its message says; of a bare argument the message says the name."""
    if first["otel_ir.dialect"] != _MESSAGES or best["otel_ir.dialect"] == _MESSAGES or best[name] is None:
        return False
    return name in _CAME or (name in _GIVEN and (best[_ARGUMENTS] or "").startswith("{"))


def _is_span(row: Row) -> bool:
    return bool(row["otel_ir.dialect"] != _MESSAGES)


def _came(row: Row) -> Row:
    return {name: row[name] for name in _CAME if row[name] is not None}


def _outcome(row: Row) -> int:
    """How sure it is what came of the call: what a span says of its own run is, else a refusal; any text may speak of refusals."""
    executed = row["otel_ir.executed"]
    if executed == "yes" and row["otel_ir.dialect"] != _MESSAGES:
        return 0
    return _FAR.index(executed) + 1 if executed in _FAR else len(_FAR) + 1


def _knows(row: Row) -> tuple[bool, int]:
    """How well a description knows whose call it is; messages only know whose model asked for it."""
    source = row[_SOURCE]
    if row["otel_ir.dialect"] == _MESSAGES:
        return True, source not in _SOURCES
    return False, _SOURCES.index(source) if source in _SOURCES else len(_SOURCES)


def _at_their_models(events: pl.DataFrame) -> pl.DataFrame:
    """Calls that only messages know stand where the model's own span does, whichever description of it told of them first."""
    derived = pl.col("otel_ir.dialect") == _MESSAGES
    if not events.select(derived.any()).item():
        return events
    where = ["otel_ir.tenant", "otel_ir.sender", "trace_id", "span_id"]
    models = events.filter(~derived & ~pl.col(_ID).str.contains(LOG_MARK, literal=True), pl.col(_KIND) == "model_output")
    models = models.select(*where, pl.col("event_time").alias("ended"), pl.col("otel_ir.parent_span_id").alias("above"), known=True)
    found = events.join(models.unique(where, keep="any"), on=where, how="left", nulls_equal=True, maintain_order="left")
    at = derived & pl.col("known").fill_null(value=False)
    return found.with_columns(
        *(pl.when(at).then("ended").otherwise(name).alias(name) for name in ("event_time", "start_time")),
        pl.when(at).then("above").otherwise("otel_ir.parent_span_id").alias("otel_ir.parent_span_id"),
    ).select(events.columns)


def _apart(events: pl.DataFrame) -> pl.DataFrame:
    """Calls with a span in the trace in which their model asked for them, and one in that of the result, which is the second one's.

    While spans come in, both are descriptions of the event that messages made of the call, if that was there first.
    """
    calls = events.filter(pl.col(_KIND) == "tool_call")
    asked = calls.filter((pl.col("otel_ir.dialect") == _MESSAGES) & pl.col(_OF).is_null())
    spans = calls.filter((pl.col("otel_ir.dialect") != _MESSAGES) & pl.col(_OF).is_not_null())
    if asked.is_empty() or spans.is_empty():
        return events
    told = [pl.col(name).alias(f"{name} told") for name in ("trace_id", *_GIVEN, *_RESULT)]
    spans = spans.join(asked.select(pl.col(_ID).alias(_OF), *told), on=_OF)
    at_home = pl.col("trace_id") == pl.col("trace_id told")
    ran = spans.filter(at_home)[_OF].unique()
    away = spans.filter(~at_home & pl.col(_OF).is_in(ran.implode()))
    if away.is_empty():
        return events
    filled = [
        pl.when(pl.col(names[0]).is_null()).then(f"{name} told").otherwise(name).alias(name)
        for names in (_GIVEN, _RESULT)
        for name in names
    ]
    left = events.filter(~pl.col(_ID).is_in(away[_ID].implode()))
    twice = pl.col(_ID).is_in(away[_OF].implode())
    left = left.with_columns(pl.when(~twice).then(name).alias(name) for name in (*_CAME, "otel_ir.executed"))
    away = away.with_columns(*filled, pl.lit(None, dtype=pl.String).alias(_OF)).select(events.columns)
    return pl.concat([left, away])


def _merged(best: Row, others: list[Row], first: Row) -> Row:
    found = dict(best)
    for name, value in best.items():
        if name not in _PLACE and value is None:
            found[name] = next((other[name] for other in others if other[name] is not None), None)
    # What was told of the call was told of its first description; of a model's call nothing is, but whether its error is one.
    for name in ("error",) if best[_KIND] == "model_output" else _TOLD:
        if first[name] is not None and (name != "otel_ir.executed" or first[_KIND] == best[_KIND]) and not _says_itself(best, first, name):
            found[name] = first[name]
    # One gives the bare text of the only argument, another one its name, too.
    named = next((other for other in others if [*members(other[_ARGUMENTS] or "").values()] == [found[_ARGUMENTS]]), None)
    if named is not None:
        found |= {name: named[name] for name in _GIVEN}
    if first[_KIND] != best[_KIND]:
        found["otel_ir.executed"] = best["otel_ir.executed"]
    elif found["otel_ir.executed"] == "rejected":
        # What a span says of the refusal counts, not what another one said while the call waited.
        found |= next((_came(one) for one in (best, *others) if one["otel_ir.executed"] == "rejected" and _is_span(one)), {})
    else:
        came = min((best, *others), key=_outcome)
        found["otel_ir.executed"] = came["otel_ir.executed"]
        if came is not best and _is_span(came):
            found |= _came(came)
    if found["otel_ir.executed"] in ("rejected", "pending_approval"):
        found["error"] = False  # of a tool that did not run
    who = min([best, *others], key=_knows)
    return found | {name: who[name] for name in _AGENT} | {_OF: None}
