"""Activity that containment should have made impossible: one alert per action, however much there is of it.

What is in force comes in by control records. Nothing is looked at while nothing is in force, and then only calls of the services
concerned, by joins. docs/semantics.md says exactly what is impossible when.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
import polars as pl

from otel_ir.detect import raise_alert
from otel_ir.detect.late import KEEP
from otel_ir.model import EVENT_SCHEMA, PATCH_COLUMNS, WHO_COLUMNS, Alert, SpanRef
from otel_ir.model_lifecycle import ActionState
from otel_ir.normalize.slots import solid

CONTAINMENT_VIOLATED = "33ce6ed0-a686-46fa-a167-d78de27524f2"
"""Rule id of these alerts. Their rule is this module; no file has it and no policy can switch it off."""
SIGNAL, TITLE = "containment_violated", "Containment violated"
SEVERITY, STAGE, TAGS = "critical", "compromise", ("owasp.asi10", "atlas.aml.t0053")
_DIGEST = f"{CONTAINMENT_VIOLATED}/1"

WATCHED = (ActionState.VERIFIED, ActionState.UNVERIFIED, ActionState.VIOLATED, ActionState.ESCALATED)
"""States in which activity is judged; any other ends that."""
SELECTORS = ("otel_ir.agent.id", "gen_ai.conversation.id", "trace_id")
"""Columns that a selector may name."""

ACTION, GUARD = "otel_ir.action.id", "otel_ir.guard"
_TOOL_CALL, _MODEL_OUTPUT = "tool_call", "model_output"
_STOPPED = ("rejected", "pending_approval")
_EVENT, _ORDINAL, _POSITION = "otel_ir.event.id", "otel_ir.journal.ordinal", "otel_ir.journal.position"
_OWNER = ("otel_ir.tenant", "service.name")
_CALL = ("otel_ir.tenant", "otel_ir.sender", "trace_id", "gen_ai.tool.name")
_READ = (_EVENT, _ORDINAL, _POSITION, "event.type", "span_id", "event_time", "otel_ir.dialect", "otel_ir.executed", *_CALL)
_ROW_SCHEMA = pl.Schema(
    {name: EVENT_SCHEMA[name] for name in dict.fromkeys((*_READ, *WHO_COLUMNS))} | {"start": pl.Int64, "received": pl.Int64}
)
_PATCHED = [name for name in PATCH_COLUMNS if name in _ROW_SCHEMA]
_REFUSAL_SCHEMA = pl.Schema(dict.fromkeys((*_OWNER, *_CALL), pl.String) | {"refused": pl.Int64, "received": pl.Int64})
_COUNTED_SCHEMA = pl.Schema({_EVENT: pl.String, "action": pl.String})
_MAX_CHUNKS = 32

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Names = Annotated[list[_Text], msgspec.Meta(max_length=1000)]


class Containment(msgspec.Struct, frozen=True, kw_only=True, tag="containment"):
    """Control record ``containment``: from here on this action is in force, or no longer. The newest one of an action says all.

    ``selectors``: who is meant; any may match, of one all keys must be equal. ``since``: when it was applied, Unix ns. ``tools``: which
    tools are revoked, None for all. ``read_only``: patterns of tools that stay allowed by ``read_only_tools``.
    """

    action_id: _Id
    state: ActionState
    verb: _Id
    service: _Text = ""
    tenant: _Text = ""
    incident_id: _Text = ""
    since: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0
    selectors: Annotated[list[dict[str, _Text]], msgspec.Meta(max_length=100)] = []
    tools: _Names | None = None
    read_only: _Names | None = None

    def __post_init__(self) -> None:
        if any(not one or not one.keys() <= {*SELECTORS} for one in self.selectors):
            raise ValueError(f"a selector names some of {', '.join(SELECTORS)}")
        if self.state in WATCHED and not (self.selectors and self.since):
            raise ValueError(f"{self.state} takes selectors (a whole service is never contained) and since")

    def forbids(self, kind: str, tool: str | None) -> bool:
        """Whether an event of type ``kind`` should have been impossible."""
        if self.verb == "pause_agent":
            return True
        if kind != _TOOL_CALL or self.verb not in ("revoke_tools", "read_only_tools"):
            return False
        if self.tools is not None and tool not in self.tools:
            return False
        return self.verb == "revoke_tools" or not any(fnmatchcase(tool or "", pattern) for pattern in self.read_only or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """``allowance``: how much later (ns) than ``since`` an activity must have begun, as clocks of agents and of otel_ir differ.

    ``keep``: how long (ns of receive time) calls and refusals wait for what is still to become known, ``max_waiting``: how many of each;
    the oldest go first, at fixed ordinals.
    """

    allowance: int = 2_000_000_000
    keep: int = KEEP
    max_actions: int = 10_000
    max_waiting: int = 200_000


class _Watched(msgspec.Struct):
    """An action, the journal record from which each of its selectors counts, and the alert it raised."""

    said: Containment
    heard: list[int]
    alert_id: str | None = None
    count: int = 0


class Contained:
    """State: what is in force, and recent calls of those services that may yet turn out to be the contained agent's."""

    def __init__(self, limits: WatchLimits | None = None) -> None:
        self.limits = limits or WatchLimits()
        self.actions: dict[str, _Watched] = {}
        self.evicted = 0
        self._waiting, self._fresh = _ROW_SCHEMA.to_frame(), _ROW_SCHEMA.to_frame()
        self._refused = _REFUSAL_SCHEMA.to_frame()
        self._counted = _COUNTED_SCHEMA.to_frame()
        """violations of waiting calls that are in a count already"""
        self._index()

    def control(self, said: Containment, ordinal: int) -> None:
        """What journal record ``ordinal`` says of an action holds for all later records."""
        before = self.actions.get(said.action_id)
        if said.state in WATCHED:
            heard = dict(zip(map(_key, before.said.selectors), before.heard, strict=True)) if before and _in_force(before) else {}
            known = (before.alert_id, before.count) if before else (None, 0)
            self.actions[said.action_id] = _Watched(said, [heard.get(_key(one), ordinal) for one in said.selectors], *known)
        elif before and before.alert_id:
            before.said = said  # in force again, it raises no second alert
            before.heard = [ordinal] * len(said.selectors)
        elif before:
            del self.actions[said.action_id]
        while len(self.actions) > self.limits.max_actions:
            ended = (action_id for action_id, one in self.actions.items() if not _in_force(one))
            self.evicted += 1
            del self.actions[next(ended, next(iter(self.actions)))]
        self._index()

    def _index(self) -> None:
        """The selectors in force as tables to join with, one for each combination of columns."""
        self._ids = [action_id for action_id, one in self.actions.items() if _in_force(one)]
        rows: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for number, action_id in enumerate(self._ids):
            said, heard = self.actions[action_id].said, self.actions[action_id].heard
            for selector, since in zip(said.selectors, heard, strict=True):
                keys = tuple(sorted(selector))
                values = (selector[key] for key in keys)
                rows.setdefault(keys, []).append((said.tenant, said.service, *values, number, since, said.since + self.limits.allowance))
        numbers: dict[str, Any] = {"action": pl.UInt32, "heard": pl.Int64, "after": pl.Int64}
        self._tables = {
            keys: pl.LazyFrame(found, schema=dict.fromkeys((*_OWNER, *keys), pl.String) | numbers, orient="row")
            for keys, found in rows.items()
        }
        owners = [(one.said.tenant, one.said.service) for one in self.actions.values() if _in_force(one)]
        self._owners = pl.DataFrame([*dict.fromkeys(owners)], schema=dict.fromkeys(_OWNER, pl.String), orient="row")

    def fold(
        self, events: pl.DataFrame, patches: pl.DataFrame, ruleset: str, received: dict[int, int]
    ) -> tuple[list[Alert], list[tuple[int, str, int]]]:
        """Events and patches of a frame in which no control record is -> alerts, and (journal record, alert id, count) of what rose."""
        if not self._tables:
            return [], []
        near = events.select(self._near().any()).item()
        if near:
            self._refusals(events, received)
        rows = self._keep(self._calls(events, received) if near else _ROW_SCHEMA.to_frame()).with_columns(pl.col(_ORDINAL).alias("at"))
        if patches.height and self._waiting.height + self._fresh.height:
            now = patches.lazy().select(_EVENT, pl.col(_ORDINAL).alias("at"), *_PATCHED)
            held = pl.concat([self._waiting, self._fresh]).lazy().drop(_PATCHED)
            again = held.join(now, on=_EVENT, how="inner").select(rows.columns).collect()
            rows = rows.vstack(again)
        return self._raise(self._violations(rows), ruleset, received) if rows.height else ([], [])

    def _calls(self, events: pl.DataFrame, received: dict[int, int]) -> pl.DataFrame:
        """The tool and model calls of the services concerned (``_ROW_SCHEMA``)."""
        kinds = pl.col("event.type").is_in([_TOOL_CALL, _MODEL_OUTPUT])
        start = pl.when(pl.col("start_time") > 0).then(pl.min_horizontal("start_time", "event_time")).otherwise("event_time")
        found = self._owned(events.lazy().filter(kinds & self._near()))
        return found.with_columns(start.alias("start"), _received(received)).select(_ROW_SCHEMA.names()).collect()

    def _keep(self, calls: pl.DataFrame) -> pl.DataFrame:
        if calls.height:
            self._fresh = self._fresh.vstack(calls)
            if self._fresh.n_chunks() > _MAX_CHUNKS:
                self._fresh = self._fresh.rechunk()
        return calls

    def _refusals(self, events: pl.DataFrame, received: dict[int, int]) -> None:
        """Remembers which tools a guard refused in which trace."""
        if events["otel_ir.guardrail.name"].null_count() == events.height:
            return
        refused = (
            (pl.col("event.type") == "guardrail") & (pl.col("otel_ir.guardrail.name") == GUARD) & pl.col("otel_ir.guardrail.triggered")
        )
        found = self._owned(events.lazy().filter(refused & self._near())).with_columns(
            pl.col(_ORDINAL).alias("refused"), _received(received)
        )
        every = pl.concat([self._refused, found.select(_REFUSAL_SCHEMA.names()).collect()])
        self._refused = every.unique(_CALL, keep="first", maintain_order=True)

    def _near(self) -> pl.Expr:
        return pl.col("service.name").fill_null("").is_in(self._owners["service.name"].implode())

    def _owned(self, found: pl.LazyFrame) -> pl.LazyFrame:
        """Those of a tenant and service in which something is in force."""
        named = found.with_columns(pl.col(name).fill_null("") for name in _OWNER)
        return named.join(self._owners.lazy(), on=_OWNER, how="semi", maintain_order="left")

    def _violations(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows (``at``: the record by which they were so) that should have been impossible, with the action, each pair once, in order."""
        ran = (pl.col("event.type") != _TOOL_CALL) | ~pl.col("otel_ir.executed").is_in(_STOPPED).fill_null(value=False)
        met = (pl.col(_ORDINAL) > pl.col("heard")) & (pl.col("start") > pl.col("after"))
        judged = rows.lazy().filter(ran)
        joined = [judged.join(table, on=[*_OWNER, *keys], how="inner").filter(met) for keys, table in self._tables.items()]
        meant = self._unrefused(pl.concat(joined).collect())
        if meant.is_empty():
            return meant
        kinds = meant.select("action", "event.type", "gen_ai.tool.name").unique()
        impossible = [self.actions[self._ids[number]].said.forbids(kind, tool) for number, kind, tool in kinds.iter_rows()]
        kinds = kinds.filter(pl.Series(impossible, dtype=pl.Boolean))
        found = meant.join(kinds, on=kinds.columns, how="semi", nulls_equal=True)
        found = found.with_columns(action=pl.lit(pl.Series(self._ids, dtype=pl.String)).gather(pl.col("action")))
        found = found.join(self._counted, on=_COUNTED_SCHEMA.names(), how="anti")
        return found.sort("at", _ORDINAL, _POSITION, _EVENT).unique([_EVENT, "action"], keep="first", maintain_order=True)

    def _unrefused(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Without calls known from messages alone whose tool a guard refused in that trace: what came back was the refusal."""
        derived = pl.col("otel_ir.dialect") == "messages"
        if self._refused.is_empty() or not rows.select(derived.any()).item():
            return rows
        refused = self._refused.select(*_CALL, "refused")
        joined = rows.join(refused, on=_CALL, how="left", nulls_equal=True)
        return joined.filter(~(derived & (pl.col("refused") <= pl.col("at"))).fill_null(value=False)).drop("refused")

    def _raise(self, found: pl.DataFrame, ruleset: str, received: dict[int, int]) -> tuple[list[Alert], list[tuple[int, str, int]]]:
        if found.is_empty():
            return [], []
        self._counted = self._counted.vstack(found.select(_COUNTED_SCHEMA.names()))
        alerts, raised = [], []
        firsts = found.unique("action", keep="first", maintain_order=True)
        totals = found.group_by("action").agg(pl.len(), pl.col("at").max())
        for first in firsts.join(totals.rename({"at": "last"}), on="action", maintain_order="left").iter_rows(named=True):
            action = self.actions[first["action"]]
            action.count += first["len"]
            if action.alert_id is None:
                alerts.append(_alert(action.said, first, ruleset, received[first["at"]]))
                action.alert_id = alerts[-1].alert_id
            if action.count > 1:
                raised.append((first["last"], action.alert_id, action.count))
        return alerts, raised

    def end_epoch(self, received: int) -> None:
        """Forgets what can no longer change. ``received`` is the newest record's receive time, ns."""
        if not self._tables and self._waiting.is_empty() and self._fresh.is_empty() and self._refused.is_empty():
            return
        recent, most = pl.col("received") > received - self.limits.keep, self.limits.max_waiting
        fresh = solid(self._fresh) if self._fresh.height else self._fresh
        waiting = self._owned(self._waiting.vstack(fresh).lazy().filter(recent)).collect()
        refused = self._owned(self._refused.lazy().filter(recent)).collect()
        self.evicted += max(0, waiting.height - most) + max(0, refused.height - most)
        self._waiting, self._fresh = waiting.tail(most).rechunk(), _ROW_SCHEMA.to_frame()
        self._refused = refused.tail(most)
        self._counted = self._counted.join(self._waiting, on=_EVENT, how="semi", maintain_order="left")

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; at the end of an epoch only."""
        head = msgspec.msgpack.encode((list(self.actions.values()), self.evicted))
        frames = {"waiting": self._waiting, "refused": self._refused, "counted": self._counted}
        return {"contained": head} | {f"contained.{name}": frame for name, frame in frames.items() if frame.height}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.__init__(self.limits)  # type: ignore[misc]
        if "contained" in state:
            actions, self.evicted = msgspec.msgpack.decode(state["contained"], type=tuple[list[_Watched], int])
            self.actions = {one.said.action_id: one for one in actions}
        self._waiting = state.get("contained.waiting", self._waiting)
        self._refused = state.get("contained.refused", self._refused)
        self._counted = state.get("contained.counted", self._counted)
        self._index()


def _in_force(one: _Watched) -> bool:
    return one.said.state in WATCHED


def _key(selector: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(selector.items()))


def _received(received: dict[int, int]) -> pl.Expr:
    return pl.col(_ORDINAL).replace_strict(received, return_dtype=pl.Int64).alias("received")


def _alert(said: Containment, event: dict[str, Any], ruleset: str, received: int) -> Alert:
    trace_id, span_id = event["trace_id"] or "", event["span_id"] or ""
    scope = (event["otel_ir.tenant"] or "", event["otel_ir.sender"] or "")
    tool = event["gen_ai.tool.name"]
    what = f"tool {tool} was called" if tool else "a tool was called" if event["event.type"] == _TOOL_CALL else "the model answered"
    return Alert(
        alert_id=raise_alert.alert_id(scope, _DIGEST, trace_id, span_id, (said.action_id,)),
        rule_id=CONTAINMENT_VIOLATED,
        signal=SIGNAL,
        ruleset=ruleset,
        severity=SEVERITY,
        stage=STAGE,
        title=TITLE,
        tags=TAGS,
        **raise_alert.addressed(event[name] for name in WHO_COLUMNS),
        description=f"{TITLE}: {what} while {said.verb} was in force"[: raise_alert.MAX_TEXT],
        tool_name=tool,
        trace_id=trace_id,
        span_id=span_id,
        event_time=event["event_time"],
        received=received,
        ordinal=event["at"],
        contributing=(SpanRef(trace_id, span_id),),
        group=((ACTION, said.action_id),),
    )


__all__ = ["CONTAINMENT_VIOLATED", "Contained", "Containment"]
