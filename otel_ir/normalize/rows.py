"""Positions of texts -> the event frame, the nodes and the calls of a batch."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import polars as pl

from otel_ir.decode import Batch
from otel_ir.decode.values import Index
from otel_ir.model import EVENT_COLUMNS, EVENT_SCHEMA
from otel_ir.normalize import columns, plain
from otel_ir.normalize.assign import CODES, EVENTS
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import Mask
from otel_ir.normalize.hashes import mixed
from otel_ir.normalize.messages import Call, call_frame
from otel_ir.normalize.sources import Sources, event_names, nulls, pick
from otel_ir.normalize.table import DETAIL, EVENT_TYPE, STATED


def pick_rows(frame: pl.DataFrame, index: Index) -> pl.DataFrame:
    """``frame[index]``."""
    return frame if len(index) == frame.height else frame[pl.Series(index.astype(np.uint32))]


_SERVICE, _INSTANCE = "resource:service.name", "resource:service.instance.id"
_TEXTS = {
    "service.name": (_SERVICE,),
    "service.instance.id": (_INSTANCE,),
    "_exception": ("exception.type", "event:exception/exception.type"),
    "_text": ("exception.message", "event:exception/exception.message"),
    "_message": ("@message",),
}
READ = frozenset({*STATED, EVENT_TYPE, *(source for listed in _TEXTS.values() for source in listed)})
"""Sources that are read whatever the dialect."""
NODE_SCHEMA = pl.Schema(
    {"ordinal": pl.Int64, "position": pl.UInt32}
    | dict.fromkeys(("tenant", "sender", "service.name", "trace_id", "span_id", "parent_span_id"), pl.String)
    | dict.fromkeys(("agent_name", "agent_id", "conversation", "user"), pl.String)
    | {"start": pl.Int64, "end": pl.Int64, "tripped": pl.Boolean, "event_type": pl.String}
)
DESCRIBES = "describes"
"""``event_type`` of the node of a log record that describes the very span it names; other records stand below their span."""
AROUND = "\x1f"
"""In the parent of a node that is no span's id."""
TELL_SCHEMA = pl.Schema([*EVENT_SCHEMA.items(), *dict.fromkeys(("signal", "call", "about"), pl.String()).items(), ("dialect", pl.Int64())])
"""A description of a call: the event's columns; ``signal``: span or log; ``call``: what its id is unique within, null where the table does
not say; ``about``: id of the event of the span in which it stands (span: its parent; log: the span it names); ``dialect``: its number."""
_NO_TELLS = TELL_SCHEMA.to_frame()
_DESCRIBING = [CODES["model_output"], CODES[DETAIL]]
_TOLD = ("tool_call", "handoff", "approval", "model_output", DETAIL)
_NOT_TEXT = [name for name in STATED if EVENT_COLUMNS[name].dtype != pl.String]
_NAMES = pl.Series([one.name for one in DIALECTS], dtype=pl.String)
_KINDS = pl.Series([None, *EVENTS[1:]], dtype=pl.String)
_TRIPPED = pl.Series([None, True], dtype=pl.Boolean)


class Rows:
    """A classified batch; its methods give the frames of ``Extract``."""

    def __init__(self, batch: Batch, sources: Sources, chosen: Index, codes: Index, positions: dict[str, Index]) -> None:
        self._batch, self._sources, self._chosen, self._codes, self._positions = batch, sources, chosen, codes, positions
        self._logs = batch.signal == "logs"
        self._take = np.flatnonzero(codes > 0)
        self._all = len(self._take) == batch.rows.height
        self._gathered: dict[str, pl.Series] = {}
        self._telling = np.zeros(batch.rows.height, dtype=np.bool_)

    def events(self, failed: Mask, attributes: list[str]) -> pl.DataFrame:
        """The event frame without the argument columns."""
        found = self._own() | self._stated() | self._read(attributes)
        other = [name for name in _NOT_TEXT if found[name].dtype == pl.String]
        if other:
            typed = pl.DataFrame([found[name].alias(name) for name in other]).with_columns(columns.typed(name) for name in other)
            found |= {name: typed[name] for name in other}
        failed = failed[self._take]
        found |= plain.computed(found) if plain.is_plain(found, failed) else columns.computed(found, failed)
        frame = pl.DataFrame([found[name].alias(name) for name in (*EVENT_COLUMNS, *attributes)])
        return frame if not self._logs else frame.hstack([found["_time"].alias("_time")]).with_columns(columns.log_id()).drop("_time")

    def nodes(self, tripped: Mask) -> pl.DataFrame:
        """One row per span, and per log record that says something."""
        found = {
            "service.name": self._service,
            "agent_name": self._names(),
            "agent_id": self._column("gen_ai.agent.id"),
            "conversation": self._column("gen_ai.conversation.id"),
            "user": self._column("user.id"),
            "tripped": pick(_TRIPPED, tripped) if tripped.any() else nulls(len(tripped), pl.Boolean),
            "event_type": self._kinds,
        }
        if self._logs:
            found |= self._leaves()
        rows = self._batch.rows
        frame = pl.DataFrame([found[name].alias(name) if name in found else rows[name] for name in NODE_SCHEMA])
        if self._logs:
            frame = frame.filter(pl.Series(self._codes > 0) | pl.Series(self._telling))
        return frame.with_columns(columns.stable_id("agent_id")) if frame["agent_id"].null_count() < frame.height else frame

    def _names(self) -> pl.Series:
        """What each row calls the agent of those below it: its own, or the one to which it hands over."""
        own = self._column("gen_ai.agent.name")
        to = self._positions.get("otel_ir.handoff.to")
        above = self._codes == CODES["handoff"]
        if to is None or not above.any():
            return own
        above &= to >= 0
        above &= np.array([dialect.hosts for dialect in DIALECTS], dtype=np.bool_)[self._chosen]
        return self._sources.gather(to).zip_with(pl.Series(above), own)

    def _leaves(self) -> dict[str, pl.Series]:
        """Log records as leaves of the tree of spans: named by a hash of all they say, so that one that is sent again is known."""
        rows, attributes = self._batch.rows, self._batch.attributes
        values = pl.Series(pl.from_arrow(attributes.values))
        sums = np.zeros(rows.height, dtype=np.uint64)
        np.add.at(sums, attributes.row, mixed(0, pl.Series(attributes.keys, dtype=pl.String)[pl.Series(attributes.code)], values))
        times = (rows[name].to_numpy().astype(np.uint64) for name in ("time", "observed"))
        digest = mixed(0, sums, *times, rows["event_name"], self._batch.body_texts, rows["trace_id"], rows["span_id"])
        describing = pl.Series([not dialect.call for dialect in DIALECTS])[pl.Series(self._chosen)]
        kinds = pl.DataFrame({"kind": self._kinds, "describes": describing & pl.Series(np.isin(self._codes, _DESCRIBING))})
        return {
            "parent_span_id": self._around().fill_null(rows["span_id"]),
            "span_id": pl.Series(digest).cast(pl.String),
            "start": rows["time"],
            "end": rows["observed"],
            "event_type": kinds.select(pl.when("describes").then(pl.lit(DESCRIBES)).otherwise("kind"))["literal"],
        }

    def _around(self) -> pl.Series:
        """In place of a span around it, what a log record without a trace says that it stands in (``Dialect.within``)."""
        rows, around = self._batch.rows, nulls(self._batch.rows.height)
        for index in np.unique(self._chosen).tolist():
            if DIALECTS[index].within and rows["trace_id"].null_count():
                parts = [self._service.fill_null(""), *(self._sources.column(source) for source in DIALECTS[index].within)]
                named = pl.DataFrame([one.alias(str(at)) for at, one in enumerate(parts)])
                mine = rows["trace_id"].is_null() & pl.Series(self._chosen == index)
                around = named.select(pl.concat_str(pl.all(), separator=AROUND).alias("around"))["around"].zip_with(mine, around)
        return around

    def tells(self, frame: pl.DataFrame) -> pl.DataFrame:
        """``TELL_SCHEMA`` rows of the events (``frame``, details among them) that describe a call in one way of several."""
        alone = np.array([not (dialect.call or dialect.inside) for dialect in DIALECTS], dtype=np.bool_)
        codes, chosen = self._codes[self._take], self._chosen[self._take]
        told = (~alone[chosen] & np.isin(codes, [CODES[kind] for kind in _TOLD])) | (codes == CODES[DETAIL])
        if not told.any():
            return _NO_TELLS
        at = np.flatnonzero(told)
        rows = self._batch.rows[self._take[at]]
        found = pick_rows(frame, at).select(EVENT_COLUMNS.keys())
        calls = nulls(self._batch.rows.height)
        for index in np.unique(chosen[at]).tolist():
            if DIALECTS[index].call:
                mine = pl.Series(self._chosen == index)
                calls = self._sources.column(*DIALECTS[index].call).zip_with(mine, calls)
        about = rows["span_id"] if self._logs else rows["parent_span_id"]
        place = pl.DataFrame([rows["tenant"], rows["sender"], rows["trace_id"], about.alias("span_id")])
        known = pl.when(pl.col("trace_id").is_not_null() & pl.col("span_id").is_not_null()).then(columns.scoped_id("tenant", "sender"))
        extra = [
            pl.Series("signal", ["log" if self._logs else "span"] * len(at), dtype=pl.String),
            pick(calls, self._take[at]).alias("call"),
            place.select(known.alias("about"))["about"],
            pl.Series("dialect", chosen[at].astype(np.int64)),
        ]
        return found.hstack(extra).select(TELL_SCHEMA.names())

    def calls(self, found: list[tuple[int, Call]]) -> pl.DataFrame:
        """Tool calls and results seen in LLM messages."""
        self._telling[[row for row, _ in found]] = True
        return call_frame(self._batch.rows, self._service, found, [DIALECTS[self._chosen[row]] for row, _ in found])

    @cached_property
    def _kinds(self) -> pl.Series:
        return pick(_KINDS, self._codes)

    @cached_property
    def _service(self) -> pl.Series:
        return self._sources.column(_SERVICE)

    def _column(self, column: str) -> pl.Series:
        """The text of a stated column for all rows, null where there is none."""
        if column not in self._gathered:
            at = self._positions.get(column)
            self._gathered[column] = self._sources.gather(at) if at is not None else nulls(len(self._codes))
        return self._gathered[column]

    def _of_events(self, series: pl.Series) -> pl.Series:
        return series if self._all else pick(series, self._take)

    def _stated(self) -> dict[str, pl.Series]:
        """Stated columns as text; those that nobody states in their own type."""
        found = {}
        for column in STATED:
            at = self._positions.get(column)
            if self._all and at is not None:
                found[column] = self._column(column)
            elif at is not None and (at[self._take] >= 0).any():
                found[column] = self._sources.gather(at[self._take])
            else:
                found[column] = nulls(len(self._take), EVENT_COLUMNS[column].dtype)
        return found

    def _read(self, attributes: list[str]) -> dict[str, pl.Series]:
        """Other texts, and the helper columns of ``columns.py``."""
        wanted = _TEXTS | {name: (name, f"resource:{name}") for name in attributes}
        found = {name: self._of_events(self._sources.column(*listed)) for name, listed in wanted.items()}
        return found | {
            "_dialect": pl.Series(self._chosen[self._take].astype(np.uint32)),
            "otel_ir.dialect": pick(_NAMES, self._chosen[self._take]),
        }

    def _own(self) -> dict[str, pl.Series]:
        """What the row itself says, whatever the dialect."""
        rows = self._batch.rows if self._all else self._batch.rows[self._take]
        if self._logs:
            time = pl.Series(np.where(rows["time"].to_numpy() > 0, rows["time"].to_numpy(), rows["observed"].to_numpy()))
            parent, name, start = rows["span_id"], self._of_events(event_names(self._batch)), time
        else:
            time, start, parent, name = rows["end"], rows["start"], rows["parent_span_id"], rows["name"]
        return {
            "_time": time,
            "_received": rows["received"],
            "_dropped": rows["dropped_attributes_count"],
            "start_time": start,
            "event.type": self._of_events(self._kinds),
            "trace_id": rows["trace_id"],
            "span_id": rows["span_id"],
            "otel_ir.parent_span_id": parent,
            "otel_ir.span.name": name,
            "otel_ir.tenant": rows["tenant"],
            "otel_ir.sender": rows["sender"],
            "otel_ir.journal.ordinal": rows["ordinal"],
            "otel_ir.journal.position": rows["position"],
            "otel_ir.duplicate_of": self._repeated(rows) if self._logs else nulls(rows.height),
        }

    def _repeated(self, rows: pl.DataFrame) -> pl.Series:
        """A log record which the conventions tie to a model call's span describes that call a second time; one that an application
        states does not.
        """
        joined = np.array([bool(dialect.call) for dialect in DIALECTS], dtype=np.bool_)[self._chosen[self._take]]
        again = (self._codes[self._take] == CODES["model_output"]) & ~self._sources.has(EVENT_TYPE)[self._take] & ~joined
        named = pl.col("trace_id").is_not_null() & pl.col("span_id").is_not_null()
        return rows.select(id=pl.when(pl.Series(again) & named).then(columns.scoped_id("tenant", "sender")))["id"]
