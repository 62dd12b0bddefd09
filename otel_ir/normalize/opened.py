"""Events that may still learn something: kept as they came, told apart by slot, and asked again when the slot knows more."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.model import EVENT_SCHEMA, PATCH_COLUMNS, PATCH_SCHEMA, TOLD_COLUMNS
from otel_ir.normalize.few import is_among, is_null
from otel_ir.normalize.hashes import Keys, Numbers
from otel_ir.normalize.identity import Traces, provisional
from otel_ir.normalize.slots import AGENT, CONVERSATION, SLOT, USER, solid

EVENT, ORDINAL, POSITION = "otel_ir.event.id", "otel_ir.journal.ordinal", "otel_ir.journal.position"
IDENTITY, LEARNT = PATCH_COLUMNS[:6], PATCH_COLUMNS[6:]
LACKS = "lacks"
"""Helper column of events beside ``SLOT``: a mask of what they lack."""
_OWN = ("service.name", "trace_id", "otel_ir.parent_span_id", *(name for name in IDENTITY if name != "otel_ir.agent.id_source"))
OPEN_SCHEMA = pl.Schema(
    {name: EVENT_SCHEMA[name] for name in (EVENT, ORDINAL, POSITION, *_OWN, *LEARNT)} | {SLOT: pl.UInt64, LACKS: pl.UInt8}
)
_POINT_SCHEMA = pl.Schema({name: PATCH_SCHEMA[name] for name in (EVENT, ORDINAL, *LEARNT, *TOLD_COLUMNS)})
_SAID_SCHEMA = pl.Schema({name: PATCH_SCHEMA[name] for name in (EVENT, *LEARNT)})
IDENTITY_BITS = 0b111
CONTENT_BITS = {
    "gen_ai.tool.call.arguments": 0b1000,
    "otel_ir.arguments.size": 0b1000,
    "gen_ai.tool.call.result": 0b1010000,
    "otel_ir.result.size": 0b1010000,
    "otel_ir.executed": 0b10000,
    "otel_ir.handoff.to": 0b100000,
}
"""Bits of ``LACKS`` beside those of the identity: a call without arguments, without a result (a tool's and a hand-off's, of which nothing
says how far it got), a hand-off without a taker."""
_NOTHING_TOLD = [pl.lit(None, dtype=EVENT_SCHEMA[name]).alias(name) for name in TOLD_COLUMNS]
_MAX_CHUNKS = 32
Learnt = tuple[str, int, str, Any, bool]
"""Event, journal record, column, value, and whether it counts only if the event lacks it."""
_NO_PATCHES = PATCH_SCHEMA.to_frame()


def lacks(events: pl.DataFrame) -> NDArray[np.uint8]:
    """Mask of the fields that an event does not state itself (and which it could)."""
    fields = ((AGENT, "otel_ir.agent.id"), (CONVERSATION, "gen_ai.conversation.id"), (USER, "user.id"))
    masks = [is_null(events[name]) * np.uint8(1 << field) for field, name in fields]
    found: NDArray[np.uint8] = masks[0] | masks[1] | masks[2]
    tools, over = (is_among(events["event.type"], (kind,)) for kind in ("tool_call", "handoff"))
    for name in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"):
        if events[name].null_count():
            found |= (is_null(events[name]) & tools) * np.uint8(CONTENT_BITS[name] & 0b11000)
            found |= (is_null(events[name]) & over) * np.uint8(CONTENT_BITS[name] & 0b1001000)
    if events["otel_ir.handoff.to"].null_count():
        found |= (is_null(events["otel_ir.handoff.to"]) & over) * np.uint8(0b100000)
    return found


def identity() -> dict[str, pl.Expr]:
    """Own value, else the slot's; the agent as a whole (id, name and stable id come from one span)."""
    own = pl.col("otel_ir.agent.id").is_not_null()
    agent = {
        name: pl.when(own).then(pl.col(name)).otherwise(pl.col(theirs))
        for name, theirs in (("gen_ai.agent.name", "s_name"), ("gen_ai.agent.id", "s_agent_id"))
    }
    return agent | {
        "otel_ir.agent.id": pl.coalesce("otel_ir.agent.id", "s_id", _provisional()),
        "otel_ir.agent.id_source": pl.when(own).then(pl.lit("own")).otherwise(pl.col("s_source").fill_null("none")),
        "gen_ai.conversation.id": pl.coalesce("gen_ai.conversation.id", "s_conversation"),
        "user.id": pl.coalesce("user.id", "s_user"),
    }


def nobody() -> dict[str, pl.Expr]:
    """The same where no slot knows anything."""
    own = pl.col("otel_ir.agent.id").is_not_null()
    return {
        "otel_ir.agent.id": pl.when(own).then(pl.col("otel_ir.agent.id")).otherwise(_provisional()),
        "otel_ir.agent.id_source": pl.when(own).then(pl.lit("own")).otherwise(pl.lit("none")),
    }


def with_nobody(events: pl.DataFrame) -> pl.DataFrame:
    """The same for a few events, row by row."""
    columns = events[["otel_ir.agent.id", "service.name", "trace_id", "otel_ir.parent_span_id"]]
    rows = list(columns.iter_rows())
    ids = [f"{service or ''}/~{trace or ''}/{parent or ''}" if own is None else own for own, service, trace, parent in rows]
    values = {"otel_ir.agent.id": ids, "otel_ir.agent.id_source": ["none" if own is None else "own" for own, *_ in rows]}
    changed = events.clone()
    for name, listed in values.items():
        changed.replace_column(changed.get_column_index(name), pl.Series(name, listed, dtype=pl.String))
    return changed


def _provisional() -> pl.Expr:
    return provisional(pl.col("service.name"), pl.col("trace_id"), pl.col("otel_ir.parent_span_id"))


class Opened:
    """The events, an older part for each epoch and a younger one; each as it was when it came."""

    def __init__(self) -> None:
        self._old: deque[tuple[int, pl.DataFrame]] = deque()
        """(newest ordinal, events)"""
        self._new = OPEN_SCHEMA.to_frame()
        self._said: dict[str, tuple[int, dict[str, Any]]] = {}
        """event -> (its ordinal, what was learnt about it later)"""

    def add(self, events: pl.DataFrame) -> None:
        """Events with their own values, and the helper columns."""
        if events.height:
            self._new = self._new.vstack(events[OPEN_SCHEMA.names()])
            if self._new.n_chunks() > _MAX_CHUNKS:
                self._new = self._new.rechunk()

    def move(self, slots: dict[str, int]) -> tuple[Keys, Numbers, NDArray[np.uint8]]:
        """Events whose identity comes from elsewhere than was thought: event -> slot. -> slot, the event's record, what it lacks."""
        mine = pl.col(EVENT).is_in([*slots])
        moved = pl.when(mine).then(pl.col(EVENT).replace_strict(slots, default=None, return_dtype=pl.UInt64)).otherwise(pl.col(SLOT))
        self._new = self._new.with_columns(moved.alias(SLOT))
        self._old = deque((newest, part.with_columns(moved.alias(SLOT))) for newest, part in self._old)
        found = self._where(mine, 0)
        return found[SLOT].to_numpy(), found[ORDINAL].to_numpy(), found[LACKS].to_numpy() & np.uint8(IDENTITY_BITS)

    def patch(self, changes: pl.DataFrame | None) -> pl.DataFrame:
        """Patches for the events of the slots that learnt something (``Traces.changes``)."""
        if changes is None:
            return _NO_PATCHES
        opened: Any = changes["opened"].min()
        about = self._where(pl.col(SLOT).is_in(changes[SLOT].unique().implode()), opened)
        # A row older than its slot belongs to an earlier one of that name, which was forgotten.
        later = (pl.col("at") > pl.col(ORDINAL)) & (pl.col(ORDINAL) >= pl.col("opened"))
        # Numbers are joined and sorted; the texts that belong to them are gathered once, at the end.
        asked = about[[SLOT, ORDINAL, POSITION, LACKS]].with_row_index("event")
        pairs = asked.join(changes[[SLOT, "at", "opened", "better"]].with_row_index("change"), on=SLOT, how="inner")
        pairs = pairs.filter(later & (pl.col(LACKS) & pl.col("better") != 0)).sort("at", ORDINAL, POSITION, maintain_order=True)
        now = about[pairs["event"]].hstack(changes.drop(SLOT)[pairs["change"]])
        now = self._with_said(now).with_columns(**identity())
        return now.with_columns(pl.col("at").alias(ORDINAL), *_NOTHING_TOLD).select(PATCH_SCHEMA.names())

    def learn(self, traces: Traces, patches: pl.DataFrame, learnt: Sequence[Learnt], since: int) -> pl.DataFrame:
        """Patches that also carry what was learnt, (event, ordinal, column, value, only if the event lacks it): every patch gives the
        present value of all of ``PATCH_COLUMNS``.
        """
        about = pl.Series([one[0] for one in learnt], dtype=pl.String).unique()
        told = self._with_said(self._where(pl.col(EVENT).is_in(about.implode()), 0))
        missing = dict(told.select(EVENT, LACKS).iter_rows())
        learnt = [one for one in learnt if not one[4] or missing.get(one[0], 0) & CONTENT_BITS.get(one[2], 0)]
        learnt = _unless_it_ran(told, learnt)
        if not learnt:
            return patches
        together: dict[tuple[str, int], dict[str, Any]] = {}
        for event, at, column, value, _ in learnt:
            together.setdefault((event, at), {})[column] = value
        points = pl.DataFrame([{EVENT: event, ORDINAL: at} | said for (event, at), said in together.items()], schema=_POINT_SCHEMA)
        told = told.filter(pl.col(EVENT).is_in(points[EVENT].unique().implode()))
        asked = pl.max_horizontal(pl.col(ORDINAL), pl.lit(since - 1)).alias("at")
        told = _alive(told, traces).with_columns(asked)
        points_of = told.filter(pl.col(SLOT) != 0).select(SLOT, "at").unique()
        known = traces.as_of(points_of[SLOT].to_numpy(), points_of["at"].to_numpy())
        told = told.join(known, on=[SLOT, "at"], how="left").with_columns(**identity())
        for event, at in told.select(EVENT, ORDINAL).iter_rows():
            self._said.setdefault(event, (at, {}))
        for event, _, column, value, _ in learnt:
            if event in self._said and column in LEARNT:
                self._said[event][1][column] = value
        mine = pl.col(EVENT).is_in(points[EVENT].unique().implode())
        merged = _merged(told, patches.filter(mine), points)
        return pl.concat([patches.filter(~mine), merged]).sort(ORDINAL, maintain_order=True)

    def _with_said(self, events: pl.DataFrame) -> pl.DataFrame:
        """With what was learnt before."""
        if not self._said:
            return events
        found = [(event, self._said[event][1]) for event in events[EVENT].unique().to_list() if event in self._said]
        if not found:
            return events
        values = pl.DataFrame([{EVENT: event} | said for event, said in found], schema=_SAID_SCHEMA)
        return events.update(values, on=EVENT, how="left")

    def _where(self, wanted: pl.Expr, opened: int) -> pl.DataFrame:
        parts = [part for newest, part in self._old if newest >= opened]
        return pl.concat([part.filter(wanted) for part in (*parts, self._new)])

    def end_epoch(self, ordinal: int, first: int | None) -> None:
        """Closes the epoch that ends with journal record ``ordinal``; forgets events from before ``first``."""
        if self._new.height:
            self._old.append((ordinal, solid(self._new)))
            self._new = OPEN_SCHEMA.to_frame()
        if first is not None:
            while self._old and self._old[0][0] < first:
                self._old.popleft()
            self._said = {event: said for event, said in self._said.items() if said[0] >= first}

    def state(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        """What a checkpoint keeps; at the end of an epoch only."""
        events = pl.concat([OPEN_SCHEMA.to_frame(), *(part for _, part in self._old)])
        return events, {"parts": [(newest, part.height) for newest, part in self._old], "said": self._said}

    def restore(self, events: pl.DataFrame, rest: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self._new, self._said = OPEN_SCHEMA.to_frame(), {event: (at, said) for event, (at, said) in rest["said"].items()}
        self._old, start = deque(), 0
        for newest, height in rest["parts"]:
            self._old.append((newest, events.slice(start, height)))
            start += height


def _unless_it_ran(told: pl.DataFrame, learnt: Sequence[Learnt]) -> list[Learnt]:
    """Without what texts say of how far a call got, where a span says that it ran: a tool could write that it was refused."""
    ran = dict.fromkeys(told.filter(pl.col("otel_ir.executed") == "yes")[EVENT], -1)
    for event, at, column, value, fill in learnt:
        if column == "otel_ir.executed" and value == "yes" and not fill:
            ran[event] = min(at, ran.get(event, at))
    return [one for one in learnt if not one[4] or one[2] != "otel_ir.executed" or one[3] == "yes" or one[1] < ran.get(one[0], one[1] + 1)]


def _alive(events: pl.DataFrame, traces: Traces) -> pl.DataFrame:
    """Without the events of slots that were forgotten."""
    return events.filter(pl.Series(traces.alive(events[SLOT].to_numpy(), events[ORDINAL].to_numpy())))


def _merged(told: pl.DataFrame, patches: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """All patches in journal order, each with the newest value of every column. ``told``: the values so far of events in ``points``."""
    whole = pl.struct(IDENTITY).alias("identity")
    rows = [
        told.select(EVENT, pl.lit(-1, dtype=pl.Int64).alias(ORDINAL), whole, *LEARNT),
        patches.select(EVENT, ORDINAL, whole),
        points,
    ]
    every = pl.concat(rows, how="diagonal").sort(ORDINAL, maintain_order=True)
    every = every.with_columns(pl.col("identity", *LEARNT).forward_fill().over(EVENT))
    every = every.unique([EVENT, ORDINAL], keep="last", maintain_order=True)
    return every.filter((pl.col(ORDINAL) >= 0) & pl.col("identity").is_not_null()).unnest("identity").select(PATCH_SCHEMA.names())
