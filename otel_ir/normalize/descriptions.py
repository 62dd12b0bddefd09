"""One call, one event, for frames: which events describe the same call, and what one description tells of another.

Each rule is a module that knows rows, not frames: model calls that two instrumentations describe (``twice.py``), several descriptions of a
call by their ids (``same.py``), a call inside a call (``inside.py``), errors that are passed on (``once.py``), what LLM messages tell
(``joins.py``), and who asked for what stands alone (``askers.py``). A description that is not the first is a duplicate; what it says beyond
the first is told of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.model import EVENT_SCHEMA, TOLD_COLUMNS
from otel_ir.normalize.arguments import argument_columns, is_argument, short_texts
from otel_ir.normalize.askers import Askers, Place
from otel_ir.normalize.calls import MAX_ALIKE, Extra
from otel_ir.normalize.columns import LOG_MARK, scoped_id
from otel_ir.normalize.derived import with_derived
from otel_ir.normalize.few import Mask, is_among, is_null
from otel_ir.normalize.hashes import Keys
from otel_ir.normalize.identity import Traces
from otel_ir.normalize.inside import FAILURE, INSIDE, Inside, Outer
from otel_ir.normalize.join_rows import NAMELESS, SCOPE, join_rows, trace_keys
from otel_ir.normalize.joins import Joins
from otel_ir.normalize.linked import Links
from otel_ir.normalize.once import Erring, Once
from otel_ir.normalize.opened import LEARNT
from otel_ir.normalize.rows import pick_rows
from otel_ir.normalize.same import PLACE, Same
from otel_ir.normalize.served import Served
from otel_ir.normalize.sources import pick
from otel_ir.normalize.span_keys import SPAN, SpanKeys
from otel_ir.normalize.stated import Places
from otel_ir.normalize.table import DETAIL
from otel_ir.normalize.twice import INNER, NESTED, PROVIDERS, Answer, Twice

_OWN_EXTRAS = pl.Schema({name: EVENT_SCHEMA[name] for name in ("otel_ir.event.id", "otel_ir.duplicate_of", *LEARNT, *TOLD_COLUMNS)})
_JOINED = ("tool_call", "handoff", "guardrail")
_CALLS = ("tool_call", "handoff")
_INNER = (pl.col("signal") == "span") & ((pl.col("event.type") == DETAIL) | pl.col("otel_ir.dialect").is_in(INSIDE))
_STATED_SCHEMA = pl.Schema(
    {"call": pl.UInt64, "ordinal": pl.Int64, "id": pl.String, "tool": pl.String, "bare": pl.Boolean, "text": pl.String, "failure": pl.UInt8}
)
_EVENT, _ARGUMENTS, _TO = "otel_ir.event.id", "gen_ai.tool.call.arguments", "otel_ir.handoff.to"
_OF_HANDOFF = (_ARGUMENTS, "gen_ai.tool.call.result", "otel_ir.arguments.size", "otel_ir.result.size", _TO)
_PLACE = ("trace_id", "span_id", "otel_ir.parent_span_id")
_MODEL = "gen_ai.request.model"
_ANSWER = (_EVENT, "otel_ir.journal.ordinal", "start_time", "event_time")
_MAX_CHUNKS = 64
_RULES = ("joins", "same", "inside", "twice", "once", "askers")


class Descriptions:
    """State: what was described, for as long as another description of it may come.

    ``final``: of calls inside calls and of servers' spans it says nothing in ``fold``, but in ``links`` at the end.
    """

    def __init__(self, traces: Traces, keys: SpanKeys, *, final: bool = False) -> None:
        self._traces, self._keys, self._final = traces, keys, final
        self.joins = Joins()
        self.same = Same(final=final)
        self.inside = Inside(final=final)
        self.twice = Twice()
        self.once = Once()
        self.askers = Askers()
        self.stated = _STATED_SCHEMA.to_frame()
        """Tool events that name their call. ``failure``: bits of ``inside.FAILURE`` of what they say themselves."""
        self._places = Places()

    def fold(
        self, events: pl.DataFrame, nodes: pl.DataFrame, calls: pl.DataFrame, tells: pl.DataFrame | None, arrived: Keys, scopes: Keys | None
    ) -> tuple[pl.DataFrame, list[Extra], dict[str, int]]:
        """``arrived``: keys of the spans of this frame; ``scopes``: of the traces of its events, where they are known.

        -> the events with what is told of them in their own record, and those that only messages know; what is told of others; and
        where the caller of an event stands, if not above it: event -> key of a span.
        """
        failures = _failures(events)
        events, within = self._inside(events, tells)
        events = self._twice(events)
        events, passed_on = self._once(events, arrived)
        events, told, moved = self._same(events, tells)
        events, extras = self._join(events, nodes, calls, scopes, failures)
        if self._final:
            events, within = _without(events, within), []
        return events, passed_on + within + told + extras, moved | self._asked()

    def finish(self, ordinal: int) -> tuple[pl.DataFrame, list[Extra]]:
        """The events of calls that nothing ever came back from, and what is told of others."""
        derived, extras = self.joins.finish(ordinal, self._stated)
        return with_derived(EVENT_SCHEMA.to_frame(), derived, self._traces, self._keys), extras

    def links(self) -> Links:
        """What linked.py decides by, of all that was folded; only where ``final``."""
        served = self.same.served or Served()
        between = {span: parent for span, (parent, _) in self.inside.between.items()}
        return Links(between, frozenset(served.events()), served.fits())

    def end_epoch(self, first: int | None) -> None:
        """Forgets what came before journal record ``first``; their own bounds hold at every epoch."""
        for one in (self.joins, self.same, self.inside, self.twice, self.askers):
            one.end_epoch(first or 0)
        if first is not None:
            self.once.forget(first)
            self.stated, self._places = self.stated.filter(pl.col("ordinal") >= first), Places()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name).state() for name in _RULES} | {"stated": self.stated}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        for name in _RULES:
            getattr(self, name).restore(state[name])
        self.stated, self._places = state["stated"], Places()

    def _twice(self, events: pl.DataFrame) -> pl.DataFrame:
        """Model calls that two instrumentations describe (twice.py)."""
        model = is_among(events["event.type"], ("model_output",)) & is_null(events["otel_ir.duplicate_of"])
        calls: list[tuple[str, Answer]] = []
        names = ("otel_ir.tenant", "otel_ir.sender", "gen_ai.response.id", "otel_ir.dialect", *_ANSWER)
        if events["gen_ai.response.id"].null_count() < events.height:
            shared = is_among(events["gen_ai.provider.name"], PROVIDERS) & ~is_null(events["gen_ai.response.id"])
            rows = np.flatnonzero(model & shared)
            for tenant, sender, answer, dialect, event, ordinal, start, end in pick_rows(events[list(names)], rows).iter_rows():
                calls.append((f"{tenant or ''}\x1f{sender or ''}\x1f{answer}", Answer(event, ordinal, dialect in INNER, start, end)))
        failed = model & ~is_null(events["error.type"]) & is_null(events["gen_ai.response.id"])
        if failed.any():
            rows = np.flatnonzero(failed & is_among(events["gen_ai.provider.name"], PROVIDERS))
            for tenant, sender, asked, dialect, *answer in pick_rows(events[[*names[:2], _MODEL, names[3], *_ANSWER]], rows).iter_rows():
                event, ordinal, start, end = answer
                calls.append((f"{tenant or ''}\x1f{sender or ''}\x1f\x1f{asked}", Answer(event, ordinal, dialect in INNER, start, end)))
        rows = np.flatnonzero(model & is_among(events["otel_ir.dialect"], NESTED))
        for tenant, sender, trace, span, parent, *answer in pick_rows(events[[*names[:2], *_PLACE, *_ANSWER]], rows).iter_rows():
            # Of the two the one inside is the event, as it is where each comes alone: it ends first.
            for place, inside in ((span, True), (parent, False)):
                if trace and place:
                    event, ordinal, start, end = answer
                    calls.append((f"{tenant or ''}\x1f{sender or ''}\x1f{trace}/{place}", Answer(event, ordinal, inside, start, end)))
        if not calls:
            return events
        return _set(events, {event: {"otel_ir.duplicate_of": other} for event, other in self.twice.fold(calls).items()})

    def _same(self, events: pl.DataFrame, tells: pl.DataFrame | None) -> tuple[pl.DataFrame, list[Extra], dict[str, int]]:
        """Several descriptions of one call (same.py); -> also where the caller of an event stands, if not above it: event -> slot."""
        if (tells is None or tells.is_empty()) and not self.same.waiting:
            return events, [], {}
        if tells is not None and not tells.is_empty() and not self._final:
            # Where it stands says better than name and time which call it is inside of.
            inside = events.filter(pl.col("otel_ir.dialect").is_in(INSIDE) & pl.col("otel_ir.duplicate_of").is_not_null())
            tells = tells.filter(~pl.col(_EVENT).is_in(inside[_EVENT].implode()))
        came: dict[str, int] = dict(events.select(_EVENT, "otel_ir.journal.ordinal").rows())
        found = self.same.fold(tells.iter_rows(named=True), came) if tells is not None else []
        found += self.same.opened([(event, at) for event, at in came.items() if event in self.same.waiting])
        places = {one.event: one.value for one in found if one.column == PLACE}
        moved = dict(zip(places, self._slots([*places.values()]), strict=True))
        return *self._told(events, [one for one in found if one.column != PLACE]), moved

    def _inside(self, events: pl.DataFrame, tells: pl.DataFrame | None) -> tuple[pl.DataFrame, list[Extra]]:
        """Calls inside calls (inside.py)."""
        rows = tells if tells is None or tells.is_empty() else tells.filter(_INNER)
        if (rows is None or rows.is_empty()) and not self.inside.waiting:
            return events, []
        tools = events.filter(pl.col("event.type").is_in(_CALLS))
        if rows is None or (rows["event.type"] == DETAIL).all():
            # Where nothing waits, spans between are only noted.
            tools = tools.filter(pl.col(_EVENT).is_in([*self.inside.waiting])) if rows is None or rows.is_empty() else tools
            tools = tools if self.inside.waiting else tools.clear()
        calls = {row[_EVENT]: row for row in tools.iter_rows(named=True)}
        found = self.inside.fold(() if rows is None else rows.iter_rows(named=True), calls, self._tools)
        events, later = self._told(events, found)
        return events, found if self._final else later

    def _tools(self, events: set[str]) -> dict[str, Outer]:
        """Which of these are tool calls that came in earlier frames."""
        if not events:
            return {}
        found = self.stated.filter(pl.col("id").is_in([*events])).select("id", "tool", "failure")
        return {event: (tool, failure) for event, tool, failure in found.iter_rows()}

    def _told(self, events: pl.DataFrame, found: list[Extra]) -> tuple[pl.DataFrame, list[Extra]]:
        """Events with what is told of them in their own record; what is told of others."""
        came: dict[str, int] = dict(events.select(_EVENT, "otel_ir.journal.ordinal").rows())
        now = [one for one in found if came.get(one.event) == one.ordinal]
        lacking = _lacking(events, now)
        own: dict[str, dict[str, Any]] = {}
        for one in now:
            if not one.fill or (one.event, one.column) in lacking:
                own.setdefault(one.event, {})[one.column] = one.value
        return _set(events, own), [one for one in found if came.get(one.event) != one.ordinal]

    def _once(self, events: pl.DataFrame, arrived: Keys) -> tuple[pl.DataFrame, list[Extra]]:
        """An error counts once, on the leaf (once.py)."""
        passed = self.once.passed(arrived)
        errs = bool(events["error"].any())
        if not errs and not passed:
            return events, []
        # What is told a second time is no error below the span that it describes.
        erring = events.filter(pl.col("error") & pl.col("otel_ir.duplicate_of").is_null()) if errs else events.clear()
        keys, parents = self._keys.of(erring, "span_id"), self._keys.of(erring, "otel_ir.parent_span_id")
        # A log record stands in its span, and is a leaf itself.
        keys = np.where(erring[_EVENT].str.contains(LOG_MARK, literal=True).to_numpy(), np.uint64(0), keys)
        columns = (erring[_EVENT].to_list(), keys.tolist(), parents.tolist(), erring["otel_ir.journal.ordinal"].to_list())
        again, found = self.once.fold([Erring(*row) for row in zip(*columns, strict=True)], passed, self._traces.above)
        if again:
            events = events.with_columns(error=pl.col("error") & ~pl.col(_EVENT).is_in(pl.Series(again).implode()))
        return events, found

    def _join(
        self, events: pl.DataFrame, nodes: pl.DataFrame, calls: pl.DataFrame, scopes: Keys | None, failures: NDArray[np.uint8]
    ) -> tuple[pl.DataFrame, list[Extra]]:
        """Call ids, calls that only messages know, guardrail verdicts (joins.py)."""
        joined = is_among(events["event.type"], _JOINED)
        if joined.any():
            self._state(events, joined, scopes, failures)
        if calls.height:
            who = nodes.select("ordinal", "position", "conversation")
            calls = calls.join(who, on=["ordinal", "position"], how="left", maintain_order="left").with_columns(
                trace=_key(pl.col("trace_id").fill_null(""), pl.lit("")),
                event=scoped_id("tenant", "sender"),
                parent=pl.col("parent_span_id"),
            )
            calls = self._stated_by(calls.with_columns(asked=pl.Series(self._tools_asked(calls), dtype=pl.String)))
        tools = self._joining(events, joined, calls)
        tripped = nodes.clear()
        if nodes["tripped"].null_count() < nodes.height:
            tripped = nodes.filter(pl.col("tripped").is_not_null()).select("ordinal", "tripped", key=_key("trace_id", "span_id"))
        if not tools and calls.is_empty() and tripped.is_empty():
            return events, []
        own, derived, extras = self.joins.fold(tools, calls.to_dicts(), tripped.to_dicts(), self._stated)
        return with_derived(_set(events, own), derived, self._traces, self._keys), extras

    def _asked(self) -> dict[str, int]:
        """Where those stand who called what stands alone (askers.py): event -> slot."""
        if not self.joins.far:
            return {}
        places = self.askers.fold(self.joins.far, self._may_know)
        return dict(zip(places, self._slots([*places.values()]), strict=True))

    def _may_know(self, places: list[Place]) -> list[bool]:
        """Whether these spans, or others above them, may say who they are."""
        nodes = self._traces.above(self._slots(places))
        return [node is None or node.parent != 0 or node.identity != 0 for node in nodes]

    def _slots(self, places: list[Place]) -> list[int]:
        """The keys of spans."""
        spans = pl.DataFrame(places, schema=dict.fromkeys(SPAN, pl.String), orient="row")
        return self._keys.of(spans, "span_id").tolist() if places else []

    def _state(self, events: pl.DataFrame, joined: Mask, scopes: Keys | None, failures: NDArray[np.uint8]) -> None:
        """Remembers which events stated the id of their call."""
        made = self._keys.of_calls(events, "gen_ai.tool.call.id", "gen_ai.tool.name", scopes)
        rows = np.flatnonzero(joined & is_among(events["event.type"], _CALLS))
        if not len(rows):
            return
        named = (("otel_ir.journal.ordinal", "ordinal"), (_EVENT, "id"), ("gen_ai.tool.name", "tool"))
        columns = [pick(events[name], rows).alias(to) for name, to in named]
        bare = is_null(events["otel_ir.handoff.to"]) & is_among(events["event.type"], ("handoff",))
        bare |= is_null(events["gen_ai.tool.call.arguments"]) | is_null(events["gen_ai.tool.call.result"])
        text = short_texts(pick(events["gen_ai.tool.call.arguments"], rows)).alias("text")
        masks = [pl.Series("bare", bare[rows]), text, pl.Series("failure", failures[rows])]
        self.stated = self.stated.vstack(pl.DataFrame([pl.Series("call", made[rows]), *columns, *masks]))
        if self.stated.n_chunks() > _MAX_CHUNKS:
            self.stated = self.stated.rechunk()

    def _joining(self, events: pl.DataFrame, joined: Mask, calls: pl.DataFrame) -> list[dict[str, Any]]:
        """What joins.py looks at: guardrails, tool calls without an id or above which nothing stands, and those in whose trace messages
        told of calls.
        """
        nameless = is_null(events["gen_ai.tool.call.id"])
        wanted = is_among(events["event.type"], ("guardrail",)) | nameless | is_among(events["otel_ir.dialect"], NAMELESS)
        wanted |= is_null(events["otel_ir.parent_span_id"])
        if joined.any() and (calls.height or self.joins.traces):
            rows = np.flatnonzero(joined)
            traces = pick_rows(events[SCOPE], rows)
            named = {*calls["trace"]} if calls.height else set()
            known = [trace is not None and (trace in named or trace in self.joins.traces) for trace in trace_keys(traces)]
            wanted[rows] |= np.array(known, dtype=np.bool_)
        # A second description that names no call would take that of another one.
        rows = np.flatnonzero(joined & wanted & (~nameless | is_null(events["otel_ir.duplicate_of"])))
        if not len(rows):
            return []
        return join_rows(pick_rows(events, rows))

    def _stated_by(self, calls: pl.DataFrame) -> pl.DataFrame:
        """Adds the tool events that stated the same call: ids may come again."""
        named = calls.with_columns(pl.coalesce("tool", "asked").alias("tool"))
        calls = calls.with_columns(call=pl.Series(self._keys.of_calls(named, "call_id", "tool")).replace(0, None))
        found = self.stated.filter(pl.col("call").is_in(calls["call"].drop_nulls().unique().implode()))
        found = found.group_by("call", maintain_order=True).agg(pl.struct("id", "ordinal", "bare", "text").head(MAX_ALIKE).alias("stated"))
        return calls.join(found, on="call", how="left", maintain_order="left")

    def _tools_asked(self, calls: pl.DataFrame) -> list[str | None]:
        """The tools of results that do not name theirs, as far as a call with their id was asked for: by then or in this frame."""
        columns = (calls[name].to_list() for name in ("side", "tool", "conversation", "tenant", "sender", "service.name", "call_id"))
        rows = [(side, tool, of, (tenant, sender, name, id_)) for side, tool, of, tenant, sender, name, id_ in zip(*columns, strict=True)]
        here = {key: tool for side, tool, _, key in rows if side == "call"}
        return [
            (self.joins.by_id.tool_of(*key, conversation=of) or here.get(key)) if side == "result" and tool is None and key[-1] else None
            for side, tool, of, key in rows
        ]

    def _stated(self, row: dict[str, Any], tool: str | None) -> list[dict[str, Any]]:
        """The tool events that stated the call which a message row names by its id, and perhaps by that only."""
        key = self._keys.of_call(row["tenant"], row["sender"], row["trace_id"], row["call_id"], tool)
        rows = self._places.find(self.stated["call"], key)[:MAX_ALIKE] if key else []
        return [{name: self.stated[name][at] for name in ("id", "ordinal", "bare", "text")} for at in rows]


def _failures(events: pl.DataFrame) -> NDArray[np.uint8]:
    """Which of ``inside.FAILURE`` events say, as bits."""
    found = np.zeros(events.height, dtype=np.uint8)
    for bit, name in enumerate(FAILURE):
        if events[name].null_count() < events.height:
            found |= ~is_null(events[name]) * np.uint8(1 << bit)
    return found


def _lacking(events: pl.DataFrame, told: list[Extra]) -> set[tuple[str, str]]:
    """(event, column) of those that are told something only in case they do not say it."""
    about = events.filter(pl.col(_EVENT).is_in([one.event for one in told if one.fill]))
    calls, handed = (about.filter(pl.col("event.type") == kind) for kind in ("tool_call", "handoff"))
    found = {(row[_EVENT], name) for row in calls.iter_rows(named=True) for name, value in row.items() if value is None}
    ran = {*calls.filter(pl.col("otel_ir.executed") == "yes")[_EVENT]}
    found |= {(event, "otel_ir.executed") for event, name in found if name == "gen_ai.tool.call.result" and event not in ran}
    return found | {(row[_EVENT], name) for row in handed.iter_rows(named=True) for name in _OF_HANDOFF if row[name] is None}


def _set(events: pl.DataFrame, own: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """Events with the columns that others of their own record tell: event -> column -> value."""
    if not own:
        return events
    values = pl.DataFrame([{_EVENT: event} | columns for event, columns in own.items()], schema=_OWN_EXTRAS)
    events = events.update(values, on=_EVENT, how="left")
    return events if values[_ARGUMENTS].null_count() == values.height else _with_arguments(events)


def _without(events: pl.DataFrame, marks: list[Extra]) -> pl.DataFrame:
    """Events that are no duplicates by these marks."""
    if not marks:
        return events
    marked = pl.col(_EVENT).replace_strict({one.event: one.value for one in marks}, default=None, return_dtype=pl.String)
    of = pl.col("otel_ir.duplicate_of")
    return events.with_columns(pl.when(of.ne_missing(marked)).then(of).alias("otel_ir.duplicate_of"))


def _with_arguments(events: pl.DataFrame) -> pl.DataFrame:
    """With the single arguments that rules read."""
    names = [name for name in events.columns if is_argument(name)]
    return events.with_columns(argument_columns(events[_ARGUMENTS], names)) if names else events


def _key(trace: str | pl.Expr, span: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.col("tenant").fill_null(""), pl.col("sender").fill_null(""), trace, span, separator="\x1f")
