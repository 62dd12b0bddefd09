"""One call, one event, for what stands inside one another and for servers' spans, once everything was read.

What is certain comes first: of a framework's tool span, a client's and a server's, each below the other and for one tool, the outermost
stands for the call; of several inner ones that which began first belongs to it. Then the servers' spans that are inside of none go to
the call of that tool which was going on at the time, the nearest first, one to each (served.py). All of it is decided here from what the
descriptions say themselves, so the order in which they came does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from otel_ir.normalize.columns import LOG_MARK, scoped_id
from otel_ir.normalize.inside import INSIDE, MAX_HOPS, alike
from otel_ir.normalize.served import Fit
from otel_ir.normalize.settle import Row, together

_ID, _OF, _KIND, _TOOL = "otel_ir.event.id", "otel_ir.duplicate_of", "event.type", "gen_ai.tool.name"
_CALLS = ("tool_call", "handoff")
_EXECUTED, _ERROR = "otel_ir.executed", "error"
_RESULT = ("gen_ai.tool.call.result", "otel_ir.result.size")
_FAILURE = ("error.type", "error.message")


class Links(NamedTuple):
    """What the fold knows of calls beyond their events: spans that are parts -> their parents (ids of events), the events of servers, and
    which calls these may be of, the nearest first.
    """

    between: Mapping[str, str]
    servers: frozenset[str]
    fits: list[Fit]


class _Groups:
    """Events that are one call."""

    def __init__(self, duplicates: Mapping[str, str]) -> None:
        self._of = dict(duplicates)
        self.first = dict(duplicates)
        """duplicate -> what stood for it so far"""
        self.joined: set[str] = set()

    def root(self, event: str) -> str:
        of = self._of
        while event in of:
            of[event] = of.get(of[event], of[event])
            event = of[event]
        return event

    def join(self, one: str, other: str) -> None:
        self.joined |= {self.first.get(one, one), self.first.get(other, other)}
        one, other = self.root(one), self.root(other)
        if one != other:
            self._of[one] = other


def linked(events: pl.DataFrame, links: Links) -> pl.DataFrame:
    """Settled events (``settle.settled``) -> the same rows; of each call the one that stands for it says everything, and the others name it
    as ``otel_ir.duplicate_of``.
    """
    duplicates: dict[str, str] = dict(events.filter(pl.col(_OF).is_not_null()).select(_ID, _OF).iter_rows())
    groups = _Groups(duplicates)
    certain = _inside(events, links.between, duplicates)
    for inner, outer in certain.items():
        groups.join(inner, outer)
    guessed = _serve(groups, links, certain)
    if not groups.joined:
        return events
    rows = events.filter(pl.col(_ID).is_in([*groups.joined])).rows_by_key(_ID, named=True, unique=True)
    members: defaultdict[str, list[Row]] = defaultdict(list)
    for event, row in rows.items():
        members[groups.root(event)].append(row | {_ID: event})
    changed = [row for root, group in members.items() if len(group) > 1 for row in _one(group, guessed.get(root, {}))]
    now = {row[_ID]: row[_OF] for row in changed if row[_OF]}
    new = pl.DataFrame(changed, schema=events.schema).select(events.columns)
    kept = events.join(new.select(_ID), on=_ID, how="anti", maintain_order="left").with_columns(pl.col(_OF).replace(now))
    return pl.concat([kept, new])


def _inside(events: pl.DataFrame, between: Mapping[str, str], duplicates: Mapping[str, str]) -> dict[str, str]:
    """Inner calls -> the ones that they are inside of."""
    spans = events.filter(pl.col(_KIND).is_in(_CALLS) & ~pl.col(_ID).str.contains(LOG_MARK, literal=True))
    inner = spans.filter(
        pl.col("otel_ir.dialect").is_in(INSIDE) & pl.col(_TOOL).is_not_null() & pl.col("otel_ir.parent_span_id").is_not_null()
    )
    if inner.is_empty():
        return {}
    tools: dict[str, str | None] = dict(spans.select(_ID, _TOOL).iter_rows())
    about = inner.with_columns(span_id=pl.col("otel_ir.parent_span_id"))
    about = about.select("start_time", _ID, _TOOL, scoped_id("otel_ir.tenant", "otel_ir.sender").alias("about")).sort("start_time", _ID)
    found: dict[str, str] = {}
    met = set()
    for event, tool, span in about.select(_ID, _TOOL, "about").iter_rows():
        outer = _above(span, between)
        names = (tools.get(outer), tools.get(duplicates.get(outer, outer)))
        if outer in tools and outer != event and outer not in met and any(alike(name, tool) for name in names):
            found[event] = outer
            met.add(outer)
    return found


def _above(span: str, between: Mapping[str, str]) -> str:
    for _ in range(MAX_HOPS):
        if span not in between:
            break
        span = between[span]
    return span


def _serve(groups: _Groups, links: Links, certain: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Gives servers' spans to calls; -> what they say better: call -> column -> event."""
    served = {groups.root(event) for event in links.servers if event in certain}
    placed = set()
    better: dict[str, dict[str, str]] = {}
    for fit in links.fits:
        server, call = groups.root(fit.server), groups.root(fit.call)
        if fit.server in certain or fit.server in placed or call in served or server == call:
            continue
        groups.join(fit.server, fit.call)
        placed.add(fit.server)
        served.add(call)
        better[call] = dict.fromkeys(fit.better, groups.first.get(fit.server, fit.server))
    return better


def _one(members: list[Row], better: Mapping[str, str]) -> list[Row]:
    """What stands for the call, and the others. The outer one's own result and failure count more; so does what a server says better."""
    rows = {row[_ID]: row for row in members}
    found, *others = together(members)
    ranked = [rows[row[_ID]] for row in (found, *others)]
    best: Any = ranked[0]
    found |= {name: best[name] for name in _RESULT if best[name] is not None}
    if any(row[_KIND] != best[_KIND] for row in ranked):
        found[_EXECUTED] = best[_EXECUTED]
    found[_ERROR] = found[_EXECUTED] not in ("rejected", "pending_approval") and any(row[_ERROR] for row in ranked)
    found |= {name: next((row[name] for row in ranked if row[name] is not None), None) for name in _FAILURE}
    found |= {name: rows[event][name] for name, event in better.items() if name not in (_EXECUTED, _ERROR) and event in rows}
    return [found, *others]
