"""From the spans' own words to events with identity: late identity, one event per call, nothing twice.

``Weaver.fold`` is deterministic and independent of framing: what it gives for a frame of records is what the records give one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from otel_ir.model import PATCH_SCHEMA
from otel_ir.normalize.calls import Extra
from otel_ir.normalize.descriptions import Descriptions
from otel_ir.normalize.few import FEW, is_among, is_null
from otel_ir.normalize.hashes import Keys, Numbers, mixed
from otel_ir.normalize.identity import TraceLimits, Traces
from otel_ir.normalize.opened import IDENTITY_BITS, LACKS, OPEN_SCHEMA, Opened, identity, lacks, nobody, with_nobody
from otel_ir.normalize.rows import AROUND, DESCRIBES, pick_rows
from otel_ir.normalize.slots import FIELDS, SAID, SLOT
from otel_ir.normalize.span_keys import SpanKeys, where

_LENDERS = ("model_output", "tool_call")
_SELF = ("agent_name", "agent_id", "conversation", "user")
_EVENT, _ARGUMENTS = "otel_ir.event.id", "gen_ai.tool.call.arguments"
_FIELDS = np.array(FIELDS, dtype=np.uint8)[:, None]


@dataclass(slots=True)
class Woven:
    """Events as they first became known, and patches to these and earlier ones; both in journal order."""

    events: pl.DataFrame
    patches: pl.DataFrame


class Weaver:
    """State: the open traces, and the events whose identity may still improve. ``final``: see ``Descriptions``."""

    def __init__(self, limits: TraceLimits | None = None, *, final: bool = False) -> None:
        self.keys = SpanKeys()
        self.traces = Traces(limits)
        self.calls = Descriptions(self.traces, self.keys, final=final)
        self.described: dict[int, list[tuple[int, int]]] = {}
        """key of a span that is not there yet -> what log records say about it: (number of an identity, journal record)"""
        self.opened = Opened()

    def fold(self, events: pl.DataFrame, nodes: pl.DataFrame, calls: pl.DataFrame, tells: pl.DataFrame | None = None) -> Woven:
        """``events`` (own values only), ``nodes``, ``calls`` and ``tells`` of a frame, as ``extract`` gives them -> events with identity,
        and patches.
        """
        starts: list[Any] = [frame[name].min() for frame, name in ((events, "otel_ir.journal.ordinal"), (nodes, "ordinal"))]
        since = min((start for start in starts if start is not None), default=0)
        nodes, keys, parents, scopes, identities, repeated = self._add(nodes)
        if repeated is not None:
            events = _without(events, repeated, "otel_ir.journal.ordinal", "otel_ir.journal.position")
            calls = _without(calls, repeated, "ordinal", "position")
            tells = tells if tells is None else _without(tells, repeated, "otel_ir.journal.ordinal", "otel_ir.journal.position")
        rows = _rows_of(events, nodes)
        changed = self.traces.wake(keys)
        lent = self.traces.lend(*self._offers(nodes, keys, parents, identities))
        events, extras, moved = self.calls.fold(events, nodes, calls, tells, keys, None if rows is None else scopes[rows])
        again = self.traces.reopen(*self.opened.move(moved)) if moved else lent[:0]
        moved |= _around(events, nodes, parents)
        woven, touched = self._first(*self._place(events, None if rows is None else parents[rows], moved))
        patches = self.opened.patch(self.traces.changes(np.concatenate([changed, lent, again, touched]), since))
        return Woven(woven, self._learn(patches, extras, since))

    def _add(self, nodes: pl.DataFrame) -> tuple[pl.DataFrame, Keys, Keys, Keys, Numbers, pl.DataFrame | None]:
        """The spans that are new, with keys of them, of their parents and their traces, and the numbers of what they say; and those that
        are not.
        """
        keys, parents, scope = self.keys.of_nodes(nodes)
        identities = self._identities(nodes)
        new = self.traces.nodes.add(keys, parents, nodes["ordinal"].to_numpy().astype(np.uint64), identities.astype(np.uint64))
        if new.all():
            return nodes, keys, parents, scope, identities, None
        kept = pl.Series(new)
        return nodes.filter(kept), keys[new], parents[new], scope[new], identities[new], nodes.filter(~kept)

    def _offers(self, nodes: pl.DataFrame, keys: Keys, parents: Keys, identities: Numbers) -> tuple[Keys, Numbers, Numbers]:
        """What spans lend their siblings; a log record that describes a span speaks for it, from when both are there."""
        offers = _offers(nodes, parents, identities)
        describing = is_among(nodes["event_type"], (DESCRIBES,)) & (identities != 0)
        told = [(key, number) for key, number in zip(*(x[describing].tolist() for x in (parents, identities)), strict=True)]
        if not told and not self.described:
            return offers
        extra = []
        for (span, number), at in zip(told, nodes["ordinal"].to_numpy()[describing].tolist(), strict=True):
            extra.append((span, number, at))
            extra += [(node.parent, number, max(at, node.ordinal)) for node in self.traces.above([span]) if node]
            if extra[-1][0] == span:
                self.described.setdefault(span, []).append((number, at))
        if self.described:
            waited = pl.Series(keys).is_in(pl.Series([*self.described], dtype=pl.UInt64).implode()).to_numpy()
            for key, parent, at in zip(
                keys[waited].tolist(), parents[waited].tolist(), nodes["ordinal"].to_numpy()[waited].tolist(), strict=True
            ):
                extra += [(parent, number, at) for number, _ in self.described.pop(key, ())]
        every = [*zip(*(column.tolist() for column in offers), strict=True), *(one for one in extra if one[0])]
        every.sort(key=lambda one: one[2])
        spans, numbers, ordinals = zip(*every, strict=True) if every else ((), (), ())
        return np.array(spans, dtype=np.uint64), np.array(numbers, dtype=np.int64), np.array(ordinals, dtype=np.int64)

    def _identities(self, nodes: pl.DataFrame) -> Numbers:
        """A number for what each span says about itself, 0 where that is nothing."""
        stated = [nodes[name] for name in _SELF if nodes[name].null_count() < nodes.height]
        if not stated:
            return np.zeros(nodes.height, dtype=np.int64)
        says = np.zeros(nodes.height, dtype=np.bool_)
        for one in stated:
            says |= ~is_null(one)
        rows = np.flatnonzero(says)
        said = pick_rows(nodes[SAID], rows)
        numbers = np.zeros(nodes.height, dtype=np.int64)
        numbers[rows] = self.traces.identities.enter(self.keys.seed, mixed(self.keys.seed, *(said[name] for name in SAID)), said)
        return numbers

    def finish(self) -> Woven:
        """What remains to be said when everything was read: calls without an answer, and agents that nobody named (their service)."""
        ordinal = 2**62
        events, extras = self.calls.finish(ordinal)
        woven, _ = self._first(*self._place(events))
        return Woven(woven, self._learn(PATCH_SCHEMA.to_frame(), extras, ordinal))

    def _learn(self, patches: pl.DataFrame, extras: list[Extra], since: int) -> pl.DataFrame:
        learnt = [(one.event, one.ordinal, one.column, one.value, one.fill) for one in extras]
        return self.opened.learn(self.traces, patches, learnt, since) if learnt else patches

    def _place(
        self, events: pl.DataFrame, parents: Keys | None = None, moved: dict[str, int] | None = None
    ) -> tuple[pl.DataFrame, Numbers, Numbers]:
        """Adds the helper columns of ``opened.py``; -> the events that have a slot as well, and these slots."""
        if parents is None or len(parents) != events.height:  # calls of messages became events
            parents = self.keys.of(events, "otel_ir.parent_span_id")
        lacking = lacks(events)
        wants = lacking & np.uint8(IDENTITY_BITS)
        slots = np.where(wants != 0, where(events["trace_id"], parents), np.uint64(0))
        if moved:
            for row in np.flatnonzero(is_among(events[_EVENT], (*moved,))).tolist():
                slots[row] = moved[events[_EVENT][row]]
        rows = np.flatnonzero(slots)
        touched = self.traces.open(slots[rows], events["otel_ir.journal.ordinal"].to_numpy()[rows], wants[rows])
        return events.hstack([pl.Series(SLOT, slots), pl.Series(LACKS, lacking)]), rows, touched

    def _first(self, events: pl.DataFrame, rows: Numbers, slots: Numbers) -> tuple[pl.DataFrame, Numbers]:
        """Events with the identity known as of their record; those that may still improve are kept."""
        if events.height > FEW:
            opens = events.select((pl.col(SLOT) != 0) | (pl.col(LACKS) > IDENTITY_BITS) | _awaits_more()).to_series()
            self.opened.add(events if opens.all() else events[OPEN_SCHEMA.names()].filter(opens))
        else:
            self.opened.add(pick_rows(events, _opens(events)))
        columns = events.columns[:-2]
        who, source = self.traces.known(slots, events["otel_ir.journal.ordinal"].to_numpy()[rows])
        who[((events[LACKS].to_numpy()[rows] >> _FIELDS) & 1) == 0] = 0
        if who.any():
            everybody, sources = np.zeros((3, events.height), dtype=np.int64), np.zeros(events.height, dtype=np.int64)
            everybody[:, rows], sources[rows] = who, source
            events = events.hstack(self.traces.identities.texts(everybody, sources)).with_columns(**identity())
        elif events["otel_ir.agent.id"].null_count():
            events = with_nobody(events) if events.height <= FEW else events.with_columns(**nobody())
        return events[columns], slots

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        opened, rest = self.opened.state()
        return {
            **self.traces.state(),
            **self.calls.state(),
            "weave": msgspec.msgpack.encode((self.keys.seed, self.described, rest)),
            "opened": opened,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.traces.restore(state)
        self.calls.restore(state)
        self.keys.seed, described, rest = msgspec.msgpack.decode(state["weave"], strict=False)
        self.described = {key: [(number, at) for number, at in said] for key, said in described.items()}
        self.opened.restore(state["opened"], rest)

    def end_epoch(self, epoch: int, received: int) -> int | None:
        """Called at fixed journal ordinals only; ``received`` is the newest record's receive time, ns.

        -> first ordinal still remembered, None where nothing was forgotten now; an earlier span that is sent again is a new one.
        """
        first = self.traces.end_epoch(epoch, received)
        self.opened.end_epoch((epoch + 1) * self.traces.limits.epoch - 1, first)
        self.calls.end_epoch(first)
        if first is not None:
            self.described = {key: kept for key, said in self.described.items() if (kept := [one for one in said if one[1] >= first])}
        return first


def _around(events: pl.DataFrame, nodes: pl.DataFrame, parents: Keys) -> dict[str, int]:
    """The slots of log records without a trace that say what they stand in (``Dialect.within``): event -> key."""
    if not nodes["trace_id"].null_count():
        return {}
    within = nodes.select("ordinal", "position", pl.Series("slot", parents)).filter(
        nodes["trace_id"].is_null() & nodes["parent_span_id"].str.contains(AROUND, literal=True)
    )
    here = {"ordinal": "otel_ir.journal.ordinal", "position": "otel_ir.journal.position"}
    return dict(events.join(within, left_on=[*here.values()], right_on=[*here], how="inner").select(_EVENT, "slot").iter_rows())


def _awaits_more() -> pl.Expr:
    unnamed = ~pl.col(_ARGUMENTS).str.starts_with("{")
    alone = pl.col("otel_ir.parent_span_id").is_null() & (pl.col(LACKS) != 0)
    tool = (pl.col("event.type") == "tool_call") & (pl.col("gen_ai.tool.call.id").is_null() | unnamed | alone)
    tool |= (pl.col("event.type") == "approval") | pl.col("error") | (pl.col("otel_ir.dialect") == "messages")
    return tool | ((pl.col("event.type") == "guardrail") & pl.col("otel_ir.guardrail.triggered").is_null())


def _opens(events: pl.DataFrame) -> Numbers:
    """The rows of a few events that may still learn something."""
    columns = (
        events[name]
        for name in (
            SLOT,
            LACKS,
            "event.type",
            "gen_ai.tool.call.id",
            _ARGUMENTS,
            "otel_ir.guardrail.triggered",
            "error",
            "otel_ir.dialect",
            "otel_ir.parent_span_id",
        )
    )
    rows = zip(*(column.to_list() for column in columns), strict=True)
    open_ = [
        slot
        or lack > IDENTITY_BITS
        or kind == "approval"
        or (kind == "tool_call" and (call is None or not (arguments or "{").startswith("{") or (lack and parent is None)))
        or (kind == "guardrail" and verdict is None)
        or error
        or dialect == "messages"
        for slot, lack, kind, call, arguments, verdict, error, dialect, parent in rows
    ]
    return np.flatnonzero(np.array(open_, dtype=np.bool_))


def _rows_of(events: pl.DataFrame, nodes: pl.DataFrame) -> Numbers | None:
    """The node of each event, None where they are not one to one."""
    rows = np.flatnonzero(~is_null(nodes["event_type"]))
    if len(rows) != events.height:
        return None
    pairs = (("ordinal", "otel_ir.journal.ordinal"), ("position", "otel_ir.journal.position"))
    same = all(np.array_equal(nodes[theirs].to_numpy()[rows], events[ours].to_numpy()) for theirs, ours in pairs)
    return rows if same else None


def _offers(nodes: pl.DataFrame, parents: Keys, identities: Numbers) -> tuple[Keys, Numbers, Numbers]:
    """What spans lend their siblings: spans an agent made (model calls, tool calls) speak for it; an agent's span names itself."""
    lends = is_among(nodes["event_type"], _LENDERS) & (parents != 0) & (identities != 0)
    rows = np.flatnonzero(lends)
    return parents[rows], identities[rows], nodes["ordinal"].to_numpy()[rows]


def _without(rows: pl.DataFrame, repeated: pl.DataFrame, ordinal: str, position: str) -> pl.DataFrame:
    """Rows of spans that were not seen before."""
    return rows.join(repeated, left_on=[ordinal, position], right_on=["ordinal", "position"], how="anti", maintain_order="left")


__all__ = ["Weaver", "Woven"]
