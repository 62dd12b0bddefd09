"""From the spans' own words to events with identity: late identity, one event per call, nothing twice.

``Weaver.fold`` is deterministic and independent of framing: what it gives for a frame of records is what the records give one by one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, TOLD_COLUMNS
from otel_ir.normalize.arguments import argument_columns, bare_texts, is_argument
from otel_ir.normalize.calls import MAX_ALIKE, Extra
from otel_ir.normalize.columns import LOG_MARK, scoped_id
from otel_ir.normalize.few import FEW, Mask, is_among, is_null
from otel_ir.normalize.hashes import Keys, Numbers, hashed, mixed
from otel_ir.normalize.identity import NOBODY, Identity, TraceLimits, Traces, agent_of
from otel_ir.normalize.inside import INSIDE, Inside
from otel_ir.normalize.join_rows import NAMELESS, SCOPE, join_rows, trace_keys
from otel_ir.normalize.joins import Joins, taker
from otel_ir.normalize.once import Erring, Once
from otel_ir.normalize.opened import IDENTITY_BITS, LACKS, LEARNT, OPEN_SCHEMA, Opened, identity, lacks, nobody, with_nobody
from otel_ir.normalize.rows import DESCRIBES
from otel_ir.normalize.same import PLACE, Same
from otel_ir.normalize.slots import AGENT, CONVERSATION, FIELDS, SAID, SLOT, USER
from otel_ir.normalize.sources import pick
from otel_ir.normalize.table import DETAIL
from otel_ir.normalize.twice import INNER, NESTED, PROVIDERS, Answer, Twice

_LENDERS = ("model_output", "tool_call")
_OWN_EXTRAS = pl.Schema({name: EVENT_SCHEMA[name] for name in ("otel_ir.event.id", "otel_ir.duplicate_of", *LEARNT, *TOLD_COLUMNS)})
_JOINED = ("tool_call", "handoff", "guardrail")
_CALLS = ("tool_call", "handoff")
_INNER = (pl.col("signal") == "span") & ((pl.col("event.type") == DETAIL) | pl.col("otel_ir.dialect").is_in(INSIDE))
_STATED_SCHEMA = pl.Schema(
    {"call": pl.UInt64, "ordinal": pl.Int64, "id": pl.String, "tool": pl.String, "bare": pl.Boolean, "text": pl.String}
)
_SELF = ("agent_name", "agent_id", "conversation", "user")
_SPAN = ("tenant", "sender", "trace_id", "span_id")
_EVENT, _ARGUMENTS, _TO = "otel_ir.event.id", "gen_ai.tool.call.arguments", "otel_ir.handoff.to"
_OF_HANDOFF = (_ARGUMENTS, "gen_ai.tool.call.result", "otel_ir.arguments.size", "otel_ir.result.size", _TO)
_PLACE = ("trace_id", "span_id", "otel_ir.parent_span_id")
_ANSWER = (_EVENT, "otel_ir.journal.ordinal", "start_time", "event_time")
_MAX_CHUNKS = 64
_FIELDS = np.array(FIELDS, dtype=np.uint8)[:, None]


@dataclass(slots=True)
class Woven:
    """Events as they first became known, and patches to these and earlier ones; both in journal order."""

    events: pl.DataFrame
    patches: pl.DataFrame


class Weaver:
    """State: the open traces, and the events whose identity may still improve."""

    def __init__(self, limits: TraceLimits | None = None) -> None:
        self.seed = secrets.randbits(63)
        self.traces = Traces(limits)
        self.joins = Joins()
        self.same = Same()
        self.inside = Inside()
        self.twice = Twice()
        self.once = Once()
        self.described: dict[int, list[tuple[int, int]]] = {}
        """key of a span that is not there yet -> what log records say about it: (number of an identity, journal record)"""
        self.opened = Opened()
        self.stated = _STATED_SCHEMA.to_frame()

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
        events, within = self._inside(events, tells)
        events, passed_on = self._once(events, keys)
        events = self._twice(events)
        events, told, moved = self._same(events, tells)
        again = self.traces.reopen(*self.opened.move(moved)) if moved else lent[:0]
        events, extras = self._join(events, nodes, calls, None if rows is None else scopes[rows])
        extras = passed_on + within + told + extras
        woven, touched = self._first(*self._place(events, None if rows is None else parents[rows], moved))
        patches = self.opened.patch(self.traces.changes(np.concatenate([changed, lent, again, touched]), since))
        if extras:
            learnt = [(one.event, one.ordinal, one.column, one.value, one.fill) for one in extras]
            patches = self.opened.learn(self.traces, patches, learnt, since)
        return Woven(woven, patches)

    def _twice(self, events: pl.DataFrame) -> pl.DataFrame:
        """Model calls that two instrumentations describe (twice.py)."""
        model = is_among(events["event.type"], ("model_output",)) & is_null(events["otel_ir.duplicate_of"])
        calls: list[tuple[str, Answer]] = []
        names = ("otel_ir.tenant", "otel_ir.sender", "gen_ai.response.id", "otel_ir.dialect", *_ANSWER)
        if events["gen_ai.response.id"].null_count() < events.height:
            shared = is_among(events["gen_ai.provider.name"], PROVIDERS) & ~is_null(events["gen_ai.response.id"])
            rows = np.flatnonzero(model & shared)
            for tenant, sender, answer, dialect, event, ordinal, start, end in _some(events[list(names)], rows).iter_rows():
                calls.append((f"{tenant or ''}\x1f{sender or ''}\x1f{answer}", Answer(event, ordinal, dialect in INNER, start, end)))
        rows = np.flatnonzero(model & is_among(events["otel_ir.dialect"], NESTED))
        for tenant, sender, trace, span, parent, *answer in _some(events[[*names[:2], *_PLACE, *_ANSWER]], rows).iter_rows():
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
        came: dict[str, int] = dict(events.select(_EVENT, "otel_ir.journal.ordinal").rows())
        found = self.same.fold(tells.iter_rows(named=True), came) if tells is not None else []
        found += self.same.opened([(event, at) for event, at in came.items() if event in self.same.waiting])
        places = {one.event: one.value for one in found if one.column == PLACE}
        spans = pl.DataFrame([*places.values()], schema=dict.fromkeys(_SPAN, pl.String), orient="row")
        moved = dict(zip(places, self._keys_of(spans, "span_id").tolist(), strict=True)) if places else {}
        return *self._told(events, [one for one in found if one.column != PLACE]), moved

    def _inside(self, events: pl.DataFrame, tells: pl.DataFrame | None) -> tuple[pl.DataFrame, list[Extra]]:
        """Calls inside calls (inside.py)."""
        rows = tells if tells is None or tells.is_empty() else tells.filter(_INNER)
        if (rows is None or rows.is_empty()) and not self.inside.waiting:
            return events, []
        tools = events.filter(pl.col("event.type").is_in(_CALLS))
        if rows is None or rows.is_empty():
            tools = tools.filter(pl.col(_EVENT).is_in([*self.inside.waiting]))
        calls = {row[_EVENT]: row for row in tools.iter_rows(named=True)}
        return self._told(events, self.inside.fold(() if rows is None else rows.iter_rows(named=True), calls, self._tools))

    def _tools(self, events: list[str]) -> dict[str, str | None]:
        """Which of these are tool calls that came in earlier frames, and their tools."""
        return dict(self.stated.filter(pl.col("id").is_in(events)).select("id", "tool").rows())

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

    def _add(self, nodes: pl.DataFrame) -> tuple[pl.DataFrame, Keys, Keys, Keys, Numbers, pl.DataFrame | None]:
        """The spans that are new, with keys of them, of their parents and their traces, and the numbers of what they say; and those that
        are not.
        """
        tenant, sender, trace, span, parent = hashed(self.seed, *(nodes[name] for name in (*_SPAN, "parent_span_id")))
        scope = mixed(self.seed, tenant, sender, trace)
        keys = mixed(self.seed, scope, span)
        parents = _where(nodes["parent_span_id"], mixed(self.seed, scope, parent))
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
        said = _some(nodes[SAID], rows)
        numbers = np.zeros(nodes.height, dtype=np.int64)
        numbers[rows] = self.traces.identities.enter(self.seed, mixed(self.seed, *(said[name] for name in SAID)), said)
        return numbers

    def _once(self, events: pl.DataFrame, arrived: Keys) -> tuple[pl.DataFrame, list[Extra]]:
        """An error counts once, on the leaf (once.py)."""
        passed = self.once.passed(arrived)
        errs = bool(events["error"].any())
        if not errs and not passed:
            return events, []
        # What is told a second time is no error below the span that it describes.
        erring = events.filter(pl.col("error") & pl.col("otel_ir.duplicate_of").is_null()) if errs else events.clear()
        keys, parents = self._keys_of(erring, "span_id"), self._keys_of(erring, "otel_ir.parent_span_id")
        # A log record stands in its span, and is a leaf itself.
        keys = np.where(erring[_EVENT].str.contains(LOG_MARK, literal=True).to_numpy(), np.uint64(0), keys)
        columns = (erring[_EVENT].to_list(), keys.tolist(), parents.tolist(), erring["otel_ir.journal.ordinal"].to_list())
        again, found = self.once.fold([Erring(*row) for row in zip(*columns, strict=True)], passed, self.traces.above)
        if again:
            events = events.with_columns(error=pl.col("error") & ~pl.col(_EVENT).is_in(pl.Series(again).implode()))
        return events, found

    def finish(self) -> Woven:
        """What remains to be said when everything was read: calls without an answer, and agents that nobody named (their service)."""
        ordinal = 2**62
        events = self._derived(EVENT_SCHEMA.to_frame(), self.joins.finish(ordinal))
        woven, _ = self._first(*self._place(events))
        return Woven(woven, PATCH_SCHEMA.to_frame())

    def _join(
        self, events: pl.DataFrame, nodes: pl.DataFrame, calls: pl.DataFrame, scopes: Keys | None
    ) -> tuple[pl.DataFrame, list[Extra]]:
        """Call ids, calls that only messages know, guardrail verdicts (joins.py)."""
        joined = is_among(events["event.type"], _JOINED)
        if joined.any():
            self._state(events, joined, scopes)
        if calls.height:
            calls = calls.with_columns(
                trace=_key(pl.col("trace_id").fill_null(""), pl.lit("")),
                event=scoped_id("tenant", "sender"),
                parent=pl.col("parent_span_id"),
            )
            calls = self._stated_by(calls)
        tools = self._joining(events, joined, calls)
        tripped = nodes.clear()
        if nodes["tripped"].null_count() < nodes.height:
            tripped = nodes.filter(pl.col("tripped").is_not_null()).select("ordinal", "tripped", key=_key("trace_id", "span_id"))
        if not tools and calls.is_empty() and tripped.is_empty():
            return events, []
        own, derived, extras = self.joins.fold(tools, calls.to_dicts(), tripped.to_dicts(), self._stated)
        return self._derived(_set(events, own), derived), extras

    def _state(self, events: pl.DataFrame, joined: Mask, scopes: Keys | None) -> None:
        """Remembers which events stated the id of their call."""
        made = self._calls_of(events, "gen_ai.tool.call.id", "gen_ai.tool.name", scopes)
        rows = np.flatnonzero(joined & is_among(events["event.type"], _CALLS))
        if not len(rows):
            return
        named = (("otel_ir.journal.ordinal", "ordinal"), (_EVENT, "id"), ("gen_ai.tool.name", "tool"))
        columns = [pick(events[name], rows).alias(to) for name, to in named]
        bare = is_null(events["otel_ir.handoff.to"]) & is_among(events["event.type"], ("handoff",))
        bare |= is_null(events["gen_ai.tool.call.arguments"]) | is_null(events["gen_ai.tool.call.result"])
        text = bare_texts(pick(events["gen_ai.tool.call.arguments"], rows)).alias("text")
        self.stated = self.stated.vstack(pl.DataFrame([pl.Series("call", made[rows]), *columns, pl.Series("bare", bare[rows]), text]))
        if self.stated.n_chunks() > _MAX_CHUNKS:
            self.stated = self.stated.rechunk()

    def _joining(self, events: pl.DataFrame, joined: Mask, calls: pl.DataFrame) -> list[dict[str, Any]]:
        """What joins.py looks at: guardrails, tool calls without an id, and those in whose trace messages told of calls."""
        wanted = is_among(events["event.type"], ("guardrail",)) | is_null(events["gen_ai.tool.call.id"])
        wanted |= is_among(events["otel_ir.dialect"], NAMELESS)
        if joined.any() and (calls.height or self.joins.traces):
            rows = np.flatnonzero(joined)
            traces = _some(events[SCOPE], rows)
            named = {*calls["trace"]} if calls.height else set()
            known = [trace is not None and (trace in named or trace in self.joins.traces) for trace in trace_keys(traces)]
            wanted[rows] |= np.array(known, dtype=np.bool_)
        rows = np.flatnonzero(joined & wanted)
        if not len(rows):
            return []
        return join_rows(_some(events, rows))

    def _stated_by(self, calls: pl.DataFrame) -> pl.DataFrame:
        """Adds the tool events that stated the same call: ids may come again."""
        calls = calls.with_columns(call=pl.Series(self._calls_of(calls, "call_id", "tool")).replace(0, None))
        found = self.stated.filter(pl.col("call").is_in(calls["call"].drop_nulls().unique().implode()))
        found = found.group_by("call", maintain_order=True).agg(pl.struct("id", "ordinal", "bare", "text").head(MAX_ALIKE).alias("stated"))
        return calls.join(found, on="call", how="left", maintain_order="left")

    def _stated(self, row: dict[str, Any], tool: str | None) -> list[dict[str, Any]]:
        """The tool events that stated the call which a message row names by its id, and perhaps by that only."""
        named = {name: row[name] for name in ("tenant", "sender", "trace_id", "call_id")} | {"tool": tool}
        return self._stated_by(pl.DataFrame([named], schema=dict.fromkeys(named, pl.String)))["stated"].to_list()[0] or []

    def _calls_of(self, frame: pl.DataFrame, call_id: str, tool: str, scopes: Keys | None = None) -> Keys:
        """A number for the call that a row describes, 0 where it does not say which. ``scopes``: of the rows, where they are known."""
        if frame[call_id].null_count() == frame.height:
            return np.zeros(frame.height, dtype=np.uint64)
        if scopes is None:
            scopes = mixed(self.seed, *_scope(frame))
        calls = mixed(self.seed, scopes, *hashed(self.seed, frame[call_id], frame[tool]))
        return _where(frame[tool], _where(frame[call_id], calls))

    def _derived(self, events: pl.DataFrame, derived: list[dict[str, Any]]) -> pl.DataFrame:
        """Adds the events that only messages know; who made the model's span made the call."""
        if not derived:
            return events
        spans = pl.DataFrame(
            [[row[name] for name in _SPAN] for row in derived], schema=dict.fromkeys(_SPAN, pl.String), orient="row"
        )  # fmt: skip
        nodes = self.traces.above(self._keys_of(spans, "span_id").tolist())
        who = [self.traces.identities.one(node.identity) if node else NOBODY for node in nodes]
        new = pl.DataFrame([_event_row(row, one) for row, one in zip(derived, who, strict=True)], schema=EVENT_SCHEMA)
        names = [name for name in events.columns if is_argument(name)]
        if names:
            new = new.with_columns(argument_columns(new[_ARGUMENTS], names))
        order = ["otel_ir.journal.ordinal", "otel_ir.journal.position"]
        return pl.concat([events, new], how="diagonal").select(events.columns).sort(order, maintain_order=True)

    def _place(
        self, events: pl.DataFrame, parents: Keys | None = None, moved: dict[str, int] | None = None
    ) -> tuple[pl.DataFrame, Numbers, Numbers]:
        """Adds the helper columns of ``opened.py``; -> the events that have a slot as well, and these slots."""
        if parents is None or len(parents) != events.height:  # calls of messages became events
            parents = self._keys_of(events, "otel_ir.parent_span_id")
        lacking = lacks(events)
        wants = lacking & np.uint8(IDENTITY_BITS)
        slots = np.where(wants != 0, _where(events["trace_id"], parents), np.uint64(0))
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
            self.opened.add(_some(events, _opens(events)))
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

    def _keys_of(self, events: pl.DataFrame, span: str) -> Keys:
        """Keys of spans that events name, 0 for none."""
        tenant, sender, trace, spans = hashed(self.seed, *_scope(events), events[span])
        keys = mixed(self.seed, mixed(self.seed, tenant, sender, trace), spans)
        return _where(events["trace_id"], _where(events[span], keys))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        opened, rest = self.opened.state()
        return {
            **self.traces.state(),
            "joins": self.joins.state(),
            "same": self.same.state(),
            "inside": self.inside.state(),
            "twice": self.twice.state(),
            "once": self.once.state(),
            "weave": msgspec.msgpack.encode((self.seed, self.described, rest)),
            "opened": opened,
            "stated": self.stated,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.traces.restore(state)
        self.joins.restore(state["joins"])
        self.same.restore(state["same"])
        self.inside.restore(state["inside"])
        self.twice.restore(state["twice"])
        self.once.restore(state["once"])
        self.seed, described, rest = msgspec.msgpack.decode(state["weave"], strict=False)
        self.described = {key: [(number, at) for number, at in said] for key, said in described.items()}
        self.opened.restore(state["opened"], rest)
        self.stated = state["stated"]

    def end_epoch(self, epoch: int, received: int) -> int | None:
        """Called at fixed journal ordinals only; ``received`` is the newest record's receive time, ns.

        -> first ordinal still remembered, None where nothing was forgotten now; an earlier span that is sent again is a new one.
        """
        first = self.traces.end_epoch(epoch, received)
        self.opened.end_epoch((epoch + 1) * self.traces.limits.epoch - 1, first)
        self.joins.end_epoch(first or 0)  # their own bounds hold at every epoch
        self.same.end_epoch(first or 0)
        self.inside.end_epoch(first or 0)
        self.twice.end_epoch(first or 0)
        if first is not None:
            self.once.forget(first)
            self.described = {key: kept for key, said in self.described.items() if (kept := [one for one in said if one[1] >= first])}
            self.stated = self.stated.filter(pl.col("ordinal") >= first)
        return first


def _lacking(events: pl.DataFrame, told: list[Extra]) -> set[tuple[str, str]]:
    """(event, column) of those that are told something only in case they do not say it."""
    about = events.filter(pl.col(_EVENT).is_in([one.event for one in told if one.fill]))
    calls, handed = (about.filter(pl.col("event.type") == kind) for kind in ("tool_call", "handoff"))
    found = {(row[_EVENT], name) for row in calls.iter_rows(named=True) for name, value in row.items() if value is None}
    found |= {(event, "otel_ir.executed") for event, name in found if name == "gen_ai.tool.call.result"}
    return found | {(row[_EVENT], name) for row in handed.iter_rows(named=True) for name in _OF_HANDOFF if row[name] is None}


def _set(events: pl.DataFrame, own: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """Events with the columns that others of their own record tell: event -> column -> value."""
    if not own:
        return events
    values = pl.DataFrame([{_EVENT: event} | columns for event, columns in own.items()], schema=_OWN_EXTRAS)
    events = events.update(values, on=_EVENT, how="left")
    return events if values[_ARGUMENTS].null_count() == values.height else _with_arguments(events)


def _with_arguments(events: pl.DataFrame) -> pl.DataFrame:
    """With the single arguments that rules read."""
    names = [name for name in events.columns if is_argument(name)]
    return events.with_columns(argument_columns(events[_ARGUMENTS], names)) if names else events


def _key(trace: str | pl.Expr, span: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.col("tenant").fill_null(""), pl.col("sender").fill_null(""), trace, span, separator="\x1f")


def _scope(frame: pl.DataFrame) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Tenant, sender and trace of each row."""
    prefix = "otel_ir." if "otel_ir.tenant" in frame.columns else ""
    return frame[f"{prefix}tenant"], frame[f"{prefix}sender"], frame["trace_id"]


def _where(stated: pl.Series, keys: Keys) -> Keys:
    """The keys, 0 where nothing is stated."""
    return np.where(is_null(stated), np.uint64(0), keys) if stated.null_count() else keys


def _awaits_more() -> pl.Expr:
    unnamed = ~pl.col(_ARGUMENTS).str.starts_with("{")
    tool = (pl.col("event.type") == "tool_call") & (pl.col("gen_ai.tool.call.id").is_null() | unnamed)
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
        )
    )
    rows = zip(*(column.to_list() for column in columns), strict=True)
    open_ = [
        slot
        or lack > IDENTITY_BITS
        or kind == "approval"
        or (kind == "tool_call" and (call is None or not (arguments or "{").startswith("{")))
        or (kind == "guardrail" and verdict is None)
        or error
        or dialect == "messages"
        for slot, lack, kind, call, arguments, verdict, error, dialect in rows
    ]
    return np.flatnonzero(np.array(open_, dtype=np.bool_))


def _some(events: pl.DataFrame, rows: Numbers) -> pl.DataFrame:
    return events if len(rows) == events.height else events[pl.Series(rows.astype(np.uint32))]


def _event_row(row: dict[str, Any], who: Identity) -> dict[str, Any]:
    """An event made of a message row; identity is that of the model's own span."""
    agent = agent_of(row["service.name"], row["agent"], None) or who[AGENT] or (None, None, None)
    return {
        "event_time": row["time"],
        "start_time": row["time"],
        "event.type": row["event_type"],
        "trace_id": row["trace_id"],
        "span_id": row["span_id"],
        "otel_ir.parent_span_id": row["parent_span_id"],
        "service.name": row["service.name"],
        "otel_ir.tenant": row["tenant"],
        "otel_ir.sender": row["sender"],
        "otel_ir.dialect": "messages",
        "otel_ir.duplicate_of": row.get("duplicate_of"),
        "otel_ir.agent.id": agent[0],
        "otel_ir.agent.id_source": "own" if agent[0] else "none",
        "gen_ai.agent.name": agent[1],
        "gen_ai.agent.id": agent[2],
        "gen_ai.conversation.id": who[CONVERSATION],
        "user.id": who[USER],
        "gen_ai.tool.name": row["tool"],
        "gen_ai.tool.call.id": row["call_id"],
        "gen_ai.tool.call.arguments": row["arguments"],
        "gen_ai.tool.call.result": row["result"],
        "otel_ir.arguments.size": len(row["arguments"]) if row["arguments"] is not None else None,
        "otel_ir.result.size": len(row["result"]) if row["result"] is not None else None,
        "otel_ir.executed": row["executed"] or "unknown" if row["event_type"] == "tool_call" else None,
        "error": bool(row["error"]),
        "error.message": row["result"] if row["error"] else None,
        "otel_ir.handoff.to": taker(row["tool"], row["arguments"]) if row["event_type"] == "handoff" else None,
        "otel_ir.approval.decision": row.get("decision"),
        "otel_ir.event.id": row["id"],
        "otel_ir.journal.ordinal": row["ordinal"],
        "otel_ir.journal.position": row["position"],
    }


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
