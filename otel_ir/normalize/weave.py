"""From the spans' own words to events with identity: late identity, one event per call, nothing twice.

``Weaver.fold`` is deterministic and independent of framing: what it gives for a frame of records is what the records give one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from otel_ir.model import EVENT_SCHEMA, PATCH_COLUMNS, PATCH_SCHEMA
from otel_ir.normalize.arguments import argument_columns, is_argument
from otel_ir.normalize.columns import scoped_id
from otel_ir.normalize.identity import Node, TraceLimits, Traces, agent_of, known, provisional, timeline
from otel_ir.normalize.joins import Extra, Joins

_LENDERS = ("model_output", "tool_call")
_SLOT_SCHEMA = pl.Schema(
    {"slot": pl.Int64, "at": pl.Int64} | dict.fromkeys(("s_id", "s_name", "s_agent_id", "s_source", "s_conversation", "s_user"), pl.String)
)
_IDENTITY = PATCH_COLUMNS[:6]
_OWN = {
    "o_id": "otel_ir.agent.id",
    "o_name": "gen_ai.agent.name",
    "o_agent_id": "gen_ai.agent.id",
    "o_conversation": "gen_ai.conversation.id",
    "o_user": "user.id",
}
_OPEN_SCHEMA = pl.Schema(
    {"otel_ir.event.id": pl.String, "slot": pl.Int64, "ordinal": pl.Int64, "provisional": pl.String}
    | dict.fromkeys(_OWN, pl.String)
    | {name: EVENT_SCHEMA[name] for name in PATCH_COLUMNS}
)


_LEARNT = PATCH_COLUMNS[6:]
_POINT_SCHEMA = pl.Schema({name: PATCH_SCHEMA[name] for name in ("otel_ir.event.id", "otel_ir.journal.ordinal", *_LEARNT)})
_OWN_EXTRAS = pl.Schema({"otel_ir.event.id": pl.String, "otel_ir.duplicate_of": pl.String} | {name: EVENT_SCHEMA[name] for name in _LEARNT})
_JOINED = ("tool_call", "guardrail")
_STATED_SCHEMA = pl.Schema({"trace": pl.String, "ordinal": pl.Int64, "id": pl.String, "key": pl.String})
_CALL_KEY = pl.concat_str("call_id", pl.lit("/"), "tool")


@dataclass(slots=True)
class Woven:
    """Events as they first became known, and patches to these and earlier ones; both in journal order."""

    events: pl.DataFrame
    patches: pl.DataFrame


class Weaver:
    """State: the open traces, and the events whose identity may still improve."""

    def __init__(self, limits: TraceLimits | None = None) -> None:
        self.traces = Traces(limits)
        self.joins = Joins()
        self.failed: dict[str, int] = {}
        """key of a span -> first journal record from which on an error below it is known"""
        self.open = _OPEN_SCHEMA.to_frame()
        self.stated = _STATED_SCHEMA.to_frame()

    def fold(self, events: pl.DataFrame, nodes: pl.DataFrame, calls: pl.DataFrame) -> Woven:
        """``events`` (own values only) and ``nodes`` of a frame, as ``extract`` gives them -> events with identity, and patches."""
        keyed = nodes.with_columns(
            key=_key("trace_id", "span_id"), parent=pl.when(pl.col("parent_span_id").is_not_null()).then(_key("trace_id", "parent_span_id"))
        )
        keys = keyed["key"].to_list()
        new = self.traces.add(keys, _nodes(keyed))
        if not all(new):
            keyed = keyed.filter(pl.Series(new, dtype=pl.Boolean))
            events = _first_only(events, nodes, new)
            calls = calls.join(
                nodes.filter(~pl.Series(new, dtype=pl.Boolean)), on=["ordinal", "position"], how="anti", maintain_order="left"
            )
        changed = self.traces.wake(keys)
        changed |= self.traces.lend(_offers(keyed))
        events = self._once(events, keyed)
        events, extras = self._join(events, keyed, calls)
        events = self._place(events)
        woven, waiting = self._first(events)
        before = self.open = pl.concat([self.open, waiting])
        since = nodes["ordinal"].min() if nodes.height else 0
        patches = self._patch(changed | set(waiting["slot"].drop_nulls().unique().to_list()), since)
        return Woven(woven, self._learn(before, patches, extras) if extras else patches)

    def _once(self, events: pl.DataFrame, keyed: pl.DataFrame) -> pl.DataFrame:
        """An error counts once, on the leaf: ``error`` is false on a span under which an error is known already.

        Children end, and so arrive, before their parents; what the parent says of the failure stays in ``error.type`` and ``.message``.
        """
        erring = events.filter("error").select("otel_ir.event.id", "otel_ir.journal.ordinal", key=_key_of_span(), parent=_key_of_event())
        failed, nodes = self.failed, self.traces.nodes
        arrived = keyed["key"].to_list()
        if erring.is_empty() and failed.keys().isdisjoint(arrived):
            return events
        marks: list[tuple[int, str | None]] = list(
            zip(erring["otel_ir.journal.ordinal"].to_list(), erring["parent"].to_list(), strict=True)
        )
        marks += [(nodes[key].ordinal, nodes[key].parent) for key in arrived if key in failed]
        for since, first in sorted(marks, key=lambda mark: mark[0]):
            at, above = since, first
            while above is not None and failed.get(above, at + 1) > at:
                failed[above] = at
                node = nodes.get(above)
                if node is None:
                    break
                at, above = max(at, node.ordinal), node.parent
        passed_on = [event for event, at, key, _ in erring.iter_rows() if failed.get(key, at + 1) <= at]
        return events.with_columns(error=pl.col("error") & ~pl.col("otel_ir.event.id").is_in(passed_on)) if passed_on else events

    def finish(self) -> Woven:
        """What remains to be said when everything was read: calls without an answer, and agents that nobody named (their service)."""
        ordinal = 2**62
        derived = self.joins.finish(ordinal)
        events = self._derived(EVENT_SCHEMA.to_frame(), derived)
        woven, _ = self._first(self._place(events))
        return Woven(woven, PATCH_SCHEMA.to_frame())

    def _join(self, events: pl.DataFrame, keyed: pl.DataFrame, calls: pl.DataFrame) -> tuple[pl.DataFrame, list[Extra]]:
        """Call ids, calls that only messages know, guardrail verdicts (joins.py)."""
        tools = events.filter(pl.col("event.type").is_in(_JOINED)).select(**_join_columns())
        stated = tools.filter(pl.col("call_id").is_not_null()).select("trace", "ordinal", "id", key=_CALL_KEY)
        self.stated = pl.concat([self.stated, stated])
        calls = calls.with_columns(trace=_key("trace_id", pl.lit("")), event=scoped_id("tenant", "sender"), parent=pl.col("parent_span_id"))
        if calls.height:
            asked = calls.with_columns(key=_CALL_KEY)
            first = self.stated.join(asked.select("trace", "key").unique(), on=["trace", "key"], how="semi").unique(
                ["trace", "key"], keep="first", maintain_order=True
            )
            known_calls = first.rename({"id": "stated_by", "ordinal": "stated_at"})
            calls = asked.join(known_calls, on=["trace", "key"], how="left", maintain_order="left")
        about = {*self.joins.traces, *calls["trace"].unique().to_list()}
        tools = tools.filter((pl.col("type") == "guardrail") | pl.col("call_id").is_null() | pl.col("trace").is_in(list(about)))
        tripped = keyed.filter(pl.col("tripped").is_not_null()).select("ordinal", "key", "tripped")
        if tools.is_empty() and calls.is_empty() and tripped.is_empty():
            return events, []
        own, derived, extras = self.joins.fold(tools.to_dicts(), calls.to_dicts(), tripped.to_dicts())
        if own:
            values = pl.DataFrame([{"otel_ir.event.id": event} | columns for event, columns in own.items()], schema=_OWN_EXTRAS)
            events = events.update(values, on="otel_ir.event.id", how="left")
        return self._derived(events, derived), extras

    def _derived(self, events: pl.DataFrame, derived: list[dict[str, Any]]) -> pl.DataFrame:
        """Adds the events that only messages know; who made the model's span made the call."""
        if not derived:
            return events
        rows = []
        for row in derived:
            node = self.traces.nodes.get(
                "\x1f".join((row["tenant"] or "", row["sender"] or "", row["trace_id"] or "", row["span_id"] or ""))
            )
            rows.append(_event_row(row, node))
        new = pl.DataFrame(rows, schema=EVENT_SCHEMA)
        arguments = [name for name in events.columns if is_argument(name)]
        if arguments:
            new = new.with_columns(argument_columns(new["gen_ai.tool.call.arguments"], arguments))
        order = ["otel_ir.journal.ordinal", "otel_ir.journal.position"]
        return pl.concat([events, new], how="diagonal").select(events.columns).sort(order, maintain_order=True)

    def _learn(self, before: pl.DataFrame, patches: pl.DataFrame, extras: list[Extra]) -> pl.DataFrame:
        """Patches that also carry what joins learnt: every patch gives the present value of all columns. ``before``: values so far."""
        by, at = "otel_ir.event.id", "otel_ir.journal.ordinal"
        points = pl.DataFrame([{by: one.event, at: one.ordinal, one.column: one.value} for one in extras], schema=_POINT_SCHEMA)
        told = before.join(points.select(by).unique(), on=by, how="semi")
        identity = pl.struct(_IDENTITY).alias("identity")
        rows = [
            told.select(by, pl.lit(-1, dtype=pl.Int64).alias(at), identity, *_LEARNT),
            patches.select(by, at, identity),
            points,
        ]
        every = pl.concat(rows, how="diagonal").sort(at, maintain_order=True)
        every = every.with_columns(pl.col("identity", *_LEARNT).forward_fill().over(by)).unique([by, at], keep="last", maintain_order=True)
        learnt = every.filter((pl.col(at) >= 0) & pl.col("identity").is_not_null()).unnest("identity").select(PATCH_SCHEMA.names())
        last = learnt.unique(by, keep="last", maintain_order=True).drop(at)
        self.open = self.open.update(last, on=by, how="left", include_nulls=True)
        return learnt

    def _place(self, events: pl.DataFrame) -> pl.DataFrame:
        """Adds ``slot``: null where the event has a root span or says everything itself."""
        parent = pl.when(pl.col("otel_ir.parent_span_id").is_not_null() & _lacks()).then(_key_of_event())
        events = events.with_columns(_parent=parent)
        wanted = (
            events.filter(pl.col("_parent").is_not_null())
            .group_by("_parent", maintain_order=True)
            .agg(pl.col("otel_ir.journal.ordinal").first())
        )
        numbers = self.traces.open_slots(wanted.rows())
        slots = wanted.select("_parent", pl.Series("slot", numbers, dtype=pl.Int64))
        return events.join(slots, on="_parent", how="left", maintain_order="left").drop("_parent")

    def _first(self, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Events with the identity known as of their record; and those of them that may still improve (``_OPEN_SCHEMA``)."""
        own = events.with_columns(pl.col(column).alias(name) for name, column in _OWN.items()).with_columns(
            provisional=provisional(pl.col("service.name"), pl.col("trace_id"), pl.col("otel_ir.parent_span_id"))
        )
        known_by_slot = self._as_of(
            own.filter(pl.col("slot").is_not_null()).select("slot", at="otel_ir.journal.ordinal").unique(maintain_order=True)
        )
        joined = own.join(
            known_by_slot, left_on=["slot", "otel_ir.journal.ordinal"], right_on=["slot", "at"], how="left", maintain_order="left"
        )
        filled = joined.with_columns(**_identity())
        waiting = filled.filter(pl.col("slot").is_not_null() | _awaits_more()).select(
            pl.col("otel_ir.journal.ordinal").alias("ordinal"), *(name for name in _OPEN_SCHEMA.names() if name != "ordinal")
        )
        return filled.select(events.drop("slot").columns), waiting.select(_OPEN_SCHEMA.names())

    def _as_of(self, asked: pl.DataFrame) -> pl.DataFrame:
        """(slot, at) -> what the slot knew as of journal record ``at``."""
        rows = []
        for number, at in asked.iter_rows():
            slot = self.traces.by_number[number]
            agent, source = known(slot, "agent", at)
            rows.append(
                (number, at, *(agent or (None, None, None)), source, known(slot, "conversation", at)[0], known(slot, "user", at)[0])
            )
        return pl.DataFrame(rows, schema=_SLOT_SCHEMA, orient="row")

    def _patch(self, changed: set[int], since: Any) -> pl.DataFrame:
        """Patches for the events of these slots, one for each journal record of this frame at which an event's identity changed."""
        points = [
            (slot.number, at)
            for number in sorted(changed)
            if (slot := self.traces.by_number.get(number))
            for at in timeline(slot)
            if at >= since
        ]
        if not points or self.open.is_empty():
            return PATCH_SCHEMA.to_frame()
        states = self._as_of(pl.DataFrame(points, schema={"slot": pl.Int64, "at": pl.Int64}, orient="row"))
        about = self.open.filter(pl.col("slot").is_in(states["slot"].unique().implode()))
        now = about.join(states, on="slot", how="inner").filter(pl.col("at") > pl.col("ordinal")).sort("otel_ir.event.id", "at")
        before = {name: pl.col(name).shift().over("otel_ir.event.id") for name in _IDENTITY}
        first = pl.col("at") == pl.col("at").first().over("otel_ir.event.id")
        now = now.rename({name: f"was {name}" for name in _IDENTITY}).with_columns(**_identity())
        same = [pl.col(name).eq_missing(pl.when(first).then(pl.col(f"was {name}")).otherwise(before[name])) for name in _IDENTITY]
        now = now.filter(~pl.all_horizontal(same)).sort("at", "otel_ir.event.id")
        patches = now.with_columns(pl.col("at").alias("otel_ir.journal.ordinal")).select(PATCH_SCHEMA.names())
        last = patches.unique("otel_ir.event.id", keep="last", maintain_order=True).drop("otel_ir.journal.ordinal")
        if last.height:
            self.open = self.open.update(last, on="otel_ir.event.id", how="left", include_nulls=True)
        return patches

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "traces": self.traces.state(),
            "joins": self.joins.state(),
            "failed": msgspec.msgpack.encode(self.failed),
            "open": self.open,
            "stated": self.stated,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.traces.restore(state["traces"])
        self.joins.restore(state["joins"])
        self.failed = msgspec.msgpack.decode(state["failed"])
        self.open, self.stated = state["open"], state["stated"]

    def end_epoch(self, epoch: int, received: int) -> None:
        """Called at fixed journal ordinals only; ``received`` is the newest record's receive time, ns."""
        first = self.traces.end_epoch(epoch, received)
        if first is not None:
            self.joins.end_epoch(first)
            self.failed = {key: ordinal for key, ordinal in self.failed.items() if ordinal >= first}
            self.stated = self.stated.filter(pl.col("ordinal") >= first)
            slot = pl.col("slot")
            self.open = self.open.filter(slot.is_in(list(self.traces.by_number)) | (slot.is_null() & (pl.col("ordinal") >= first)))


def _key(trace: str, span: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.col("tenant").fill_null(""), pl.col("sender").fill_null(""), trace, span, separator="\x1f")


def _awaits_more() -> pl.Expr:
    tool = (pl.col("event.type") == "tool_call") & pl.col("gen_ai.tool.call.id").is_null()
    return tool | ((pl.col("event.type") == "guardrail") & pl.col("otel_ir.guardrail.triggered").is_null())


def _join_columns() -> dict[str, pl.Expr]:
    """What joins.py looks at, of tool and guardrail events."""
    scope = [pl.col("otel_ir.tenant").fill_null(""), pl.col("otel_ir.sender").fill_null(""), pl.col("trace_id")]
    return {
        "trace": pl.concat_str([*scope, pl.lit("")], separator="\x1f"),
        "ordinal": pl.col("otel_ir.journal.ordinal"),
        "id": pl.col("otel_ir.event.id"),
        "type": pl.col("event.type"),
        "tool": pl.col("gen_ai.tool.name"),
        "call_id": pl.col("gen_ai.tool.call.id"),
        "arguments": pl.col("gen_ai.tool.call.arguments"),
        "parent": pl.col("otel_ir.parent_span_id"),
        "parent_key": pl.when(pl.col("otel_ir.parent_span_id").is_not_null()).then(_key_of_event()),
        "triggered": pl.col("otel_ir.guardrail.triggered"),
    }


def _event_row(row: dict[str, Any], node: Node | None) -> dict[str, Any]:
    """An event made of a message row; identity is that of the model's own span."""
    agent = (node.agent if node else None) or (None, None, None)
    return {
        "event_time": row["time"],
        "start_time": row["time"],
        "event.type": "tool_call",
        "trace_id": row["trace_id"],
        "span_id": row["span_id"],
        "otel_ir.parent_span_id": row["parent_span_id"],
        "service.name": row["service.name"],
        "otel_ir.tenant": row["tenant"],
        "otel_ir.sender": row["sender"],
        "otel_ir.dialect": "messages",
        "otel_ir.agent.id": agent[0],
        "otel_ir.agent.id_source": "own" if agent[0] else "none",
        "gen_ai.agent.name": agent[1],
        "gen_ai.agent.id": agent[2],
        "gen_ai.conversation.id": node.conversation if node else None,
        "user.id": node.user if node else None,
        "gen_ai.tool.name": row["tool"],
        "gen_ai.tool.call.id": row["call_id"],
        "gen_ai.tool.call.arguments": row["arguments"],
        "gen_ai.tool.call.result": row["result"],
        "otel_ir.arguments.size": len(row["arguments"]) if row["arguments"] is not None else None,
        "otel_ir.result.size": len(row["result"]) if row["result"] is not None else None,
        "otel_ir.executed": row["executed"] or "unknown",
        "error": bool(row["error"]),
        "otel_ir.event.id": row["id"],
        "otel_ir.journal.ordinal": row["ordinal"],
        "otel_ir.journal.position": row["position"],
    }


def _key_of_span() -> pl.Expr:
    columns = [pl.col("otel_ir.tenant").fill_null(""), pl.col("otel_ir.sender").fill_null(""), pl.col("trace_id"), pl.col("span_id")]
    return pl.concat_str(columns, separator="\x1f")


def _key_of_event() -> pl.Expr:
    columns = [
        pl.col("otel_ir.tenant").fill_null(""),
        pl.col("otel_ir.sender").fill_null(""),
        pl.col("trace_id"),
        pl.col("otel_ir.parent_span_id"),
    ]
    return pl.concat_str(columns, separator="\x1f")


def _lacks() -> pl.Expr:
    return pl.any_horizontal(pl.col(name).is_null() for name in ("otel_ir.agent.id", "gen_ai.conversation.id", "user.id"))


def _identity() -> dict[str, pl.Expr]:
    """Own value, else the slot's; the agent as a whole (id, name and stable id come from one span)."""
    own = pl.col("o_id").is_not_null()
    agent = {
        name: pl.when(own).then(pl.col(mine)).otherwise(pl.col(theirs))
        for name, mine, theirs in (("gen_ai.agent.name", "o_name", "s_name"), ("gen_ai.agent.id", "o_agent_id", "s_agent_id"))
    }
    return agent | {
        "otel_ir.agent.id": pl.coalesce("o_id", "s_id", "provisional"),
        "otel_ir.agent.id_source": pl.when(own).then(pl.lit("own")).otherwise(pl.col("s_source").fill_null("none")),
        "gen_ai.conversation.id": pl.coalesce("o_conversation", "s_conversation"),
        "user.id": pl.coalesce("o_user", "s_user"),
    }


def _nodes(keyed: pl.DataFrame) -> list[Node]:
    columns = keyed.select("ordinal", "parent", "service.name", "agent_name", "agent_id", "conversation", "user", "tripped")
    return [
        Node(ordinal, parent, agent_of(service, name, agent_id) if name or agent_id else None, conversation, user, tripped)
        for ordinal, parent, service, name, agent_id, conversation, user, tripped in columns.iter_rows()
    ]


def _offers(keyed: pl.DataFrame) -> list[tuple[str, str, Any, int]]:
    """What spans lend their siblings: spans an agent made (model calls, tool calls) speak for it; an agent's span names itself."""
    lenders = keyed.filter(pl.col("event_type").is_in(_LENDERS) & pl.col("parent").is_not_null())
    named = pl.coalesce("agent_id", "agent_name")
    offers: list[tuple[str, str, Any, int]] = []
    for name, value in (("agent", named), ("conversation", pl.col("conversation")), ("user", pl.col("user"))):
        first = lenders.filter(value.is_not_null()).unique("parent", keep="first", maintain_order=True)
        for one in first.iter_rows(named=True):
            what = agent_of(one["service.name"], one["agent_name"], one["agent_id"]) if name == "agent" else one[name]
            offers.append((one["parent"], name, what, one["ordinal"]))
    return offers


def _first_only(events: pl.DataFrame, nodes: pl.DataFrame, new: list[bool]) -> pl.DataFrame:
    """Events of spans that were not seen before."""
    again = nodes.filter(~pl.Series(new, dtype=pl.Boolean)).select("ordinal", "position")
    return events.join(
        again,
        left_on=["otel_ir.journal.ordinal", "otel_ir.journal.position"],
        right_on=["ordinal", "position"],
        how="anti",
        maintain_order="left",
    )


__all__ = ["Node", "Weaver", "Woven"]
