"""Events in, alerts out: every rule of the set over every event, and what their state is."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect import raise_alert
from otel_ir.detect.contained import Contained, WatchLimits
from otel_ir.detect.edges import Firing
from otel_ir.detect.late import LateIdentity
from otel_ir.detect.rows import FEW, ROW_SCHEMA, Interner
from otel_ir.detect.windows import MOVE_SCHEMA, WindowLimits, Windows
from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, Alert, AlertUpdate
from otel_ir.sigma import matches
from otel_ir.sigma.ruleset import Correlation, Rule, RuleSet

MANY_WORDS = 1 << 16
"""Groups, identities and tools that are remembered before those that no row needs any more are looked for."""
_POSITIONS = 1 << 24
"""More than the spans of any request the receivers take (16 MiB)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one correlation wants of the events of a frame: mask of the rows, and of each row which of its rules match (bits)."""

    rows: NDArray[np.bool_]
    steps: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Rows:
    """The events that some correlation wants, numeric; which of the frame they are; and, once asked for, their groups."""

    frame: pl.DataFrame
    take: NDArray[np.int64]
    keys: dict[tuple[str, ...], pl.Series] = field(default_factory=dict)
    read: dict[int, dict[str, Any]] = field(default_factory=dict)

    def one(self, at: int) -> dict[str, Any]:
        """One row; read once, however many correlations want it."""
        if at not in self.read:
            self.read[at] = self.frame.row(at, named=True)
        return self.read[at]


_NO_ARRIVALS = pl.DataFrame(schema=ROW_SCHEMA | {"ordinal": pl.Int64})
_NO_ROWS = pl.DataFrame()
_ROW_COLUMNS = ("event_time", "otel_ir.journal.ordinal", "otel_ir.journal.position", "otel_ir.event.id", "trace_id", "span_id")


class Detector:
    """The fold of the detect stage. Deterministic: state and alerts depend on the journal records alone, not on how they were framed."""

    def __init__(self, ruleset: RuleSet, limits: WindowLimits | None = None, watch: WatchLimits | None = None) -> None:
        self.limits = limits
        self.seed = secrets.randbits(63)  # event ids come from outside: nobody shall be able to make two of them collide
        self.who, self.tools = Interner(), Interner()
        self.keys: dict[tuple[str, ...], Interner] = {}
        self.windows: dict[str, Windows] = {}
        self.late = LateIdentity()
        self.contained = Contained(watch)
        self._many = MANY_WORDS
        self.activate(ruleset)

    def activate(self, ruleset: RuleSet) -> None:
        """Switches to another rule set; a correlation that did not change keeps its state."""
        self.ruleset = ruleset
        self.rules = {rule.id: rule for rule in ruleset.rules}
        self.windows = {one.digest: self.windows.get(one.digest) or Windows(one, self.limits) for one in ruleset.correlations}
        for one in ruleset.correlations:
            self.keys.setdefault(one.group_by, Interner())
        self.late.activate([rule for rule in ruleset.rules if rule.alerts])

    def fold(self, events: pl.DataFrame, patches: pl.DataFrame, received: dict[int, int]) -> tuple[list[Alert], list[AlertUpdate]]:
        """Events and patches of one frame (``EVENT_SCHEMA`` and what rules name; ``PATCH_SCHEMA``) -> alerts and updates.

        ``received`` gives the receive time (ns) of each record in the frame. Alerts come sorted by (ordinal, rule id, alert id).
        """
        if events["otel_ir.duplicate_of"].null_count() < events.height:
            events = events.filter(pl.col("otel_ir.duplicate_of").is_null())
        matched = self._match(events)
        alerts = self._plain(events, matched, received)
        alerts += self.late.fold(events, patches, self.ruleset.digest, received)
        violations, raised = self.contained.fold(events, patches, self.ruleset.digest, received)
        for alert in violations:
            self.late.address(alert)
        alerts += violations
        if self.windows:
            masks = {rule: matched[rule].to_numpy() for rule in self.rules} if events.height else {}
            wanted = {digest: _wanted(window.correlation, events, masks) for digest, window in self.windows.items()}
            rows = self._rows(events, wanted.values(), few=events.height <= FEW and patches.height <= FEW)
            moves = self._moves(patches)
            for digest, window in self.windows.items():
                raised += self._window(window, rows, wanted[digest], moves, alerts, received)
        alerts.sort(key=lambda alert: (alert.ordinal, alert.rule_id, alert.alert_id))
        return alerts, self._updates(patches, raised)

    def _match(self, events: pl.DataFrame) -> pl.DataFrame:
        return matches(self.ruleset.rules, events) if self.ruleset.rules and events.height else pl.DataFrame()

    def _plain(self, events: pl.DataFrame, matched: pl.DataFrame, received: dict[int, int]) -> list[Alert]:
        alerts = []
        for rule in self.rules.values():
            if rule.alerts and matched.height and matched[rule.id].any():
                for event in events.filter(matched[rule.id]).iter_rows(named=True):
                    ordinal = event["otel_ir.journal.ordinal"]
                    alerts.append(raise_alert.of_rule(rule, self.ruleset.digest, event, ordinal, received[ordinal]))
        return self.late.suppressed(self.rules, alerts)

    def _rows(self, events: pl.DataFrame, wanted: Iterable[Wanted], *, few: bool) -> Rows:
        """The numeric part of the events that some correlation wants, and the columns that groups are made of."""
        take = np.flatnonzero(np.logical_or.reduce([one.rows for one in wanted]))
        if not len(take):
            return Rows(_NO_ROWS, take)
        grouping = {name for group_by in self.keys for name in group_by}
        columns = {*_ROW_COLUMNS, *grouping, *raise_alert.WHO_COLUMNS, "gen_ai.tool.name", "event.type"}
        events = events[sorted(columns)]
        if len(take) < events.height:
            events = events[pl.Series(take.astype(np.uint32))]
        if few:
            return self._rows_few(events, take)
        trace = pl.col("trace_id").str.decode("hex", strict=False)
        rows = events.select(
            pl.col("event_time").alias("time"),
            (pl.col("otel_ir.journal.ordinal") * _POSITIONS + pl.col("otel_ir.journal.position").cast(pl.Int64)).alias("seq"),
            pl.col("otel_ir.event.id").hash(self.seed).alias("uid"),
            pl.lit(value=False).alias("hit"),
            trace.bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("trace_high"),
            trace.bin.slice(8, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("trace_low"),
            pl.col("span_id").str.decode("hex", strict=False).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("span"),
            pl.col("otel_ir.journal.ordinal").alias("ordinal"),
            *sorted({*grouping, "otel_ir.tenant"}),
        )
        who = self.who.column(events, raise_alert.WHO_COLUMNS).alias("who")
        tool = self.tools.column(events, ["gen_ai.tool.name"]).alias("tool")
        return Rows(rows.hstack([who, tool]), take)

    def _rows_few(self, events: pl.DataFrame, take: NDArray[np.int64]) -> Rows:
        """The same for a few events, row by row: numbers in ``read``, and the columns that groups are made of as they are."""
        uids = events[["otel_ir.event.id"]].select_seq(pl.first().hash(self.seed)).to_series()
        who = self.who.column(events, raise_alert.WHO_COLUMNS)
        tools = self.tools.column(events, ["gen_ai.tool.name"])
        read = {}
        rows = zip(events[list(_ROW_COLUMNS)].iter_rows(), uids, who, tools, strict=True)
        for at, ((time, ordinal, position, _, trace, span), uid, number, tool) in enumerate(rows):
            traced = _raw(trace)
            read[at] = {
                "time": time, "seq": ordinal * _POSITIONS + position, "uid": uid, "hit": False, "who": number, "tool": tool,
                "trace_high": _number(traced[:8]), "trace_low": _number(traced[8:16]), "span": _number(_raw(span)), "ordinal": ordinal,
            }  # fmt: skip
        return Rows(events, take, read=read)

    def _moves(self, patches: pl.DataFrame) -> pl.DataFrame:
        """Patches, numeric: the event, when, and its identity from then on (tenant, sender and service stay the event's own)."""
        if patches.is_empty():
            return patches
        moves = patches.select(
            pl.col("otel_ir.event.id").hash(self.seed).alias("uid"),
            pl.col("otel_ir.journal.ordinal").alias("ordinal"),
            *PATCH_SCHEMA.names()[2:],
        )
        return moves if moves.height <= FEW else moves.sort("ordinal", maintain_order=True)

    def _window(
        self,
        window: Windows,
        rows: Rows,
        wanted: Wanted,
        moves: pl.DataFrame,
        alerts: list[Alert],
        received: dict[int, int],
    ) -> list[tuple[int, str, int]]:
        index = np.flatnonzero(wanted.rows[rows.take])
        if not len(index) and moves.is_empty():
            return []

        def fire(one: Correlation, ordinal: int, firing: Firing) -> str:
            group = self.keys[one.group_by].values[firing.row.data["key"]]  # type: ignore[call-overload]
            names = raise_alert.Names(self.who.values, self.tools.values)
            threshold = window.rates.threshold(firing.row.data["key"])  # type: ignore[arg-type]
            alert = raise_alert.of_window(one, self.ruleset.digest, firing, names, group, threshold, ordinal, received[ordinal])
            if alert.alert_id not in window.counts:
                alerts.append(alert)
                self.late.address(alert)
            return alert.alert_id

        if len(index) <= FEW and moves.height <= FEW:
            came = self._arrivals_few(window.correlation, rows, wanted, index)
            return window.fold_few(came, self._regroup_few(window, came, moves), fire)
        arrivals = self._arrivals(window.correlation, rows, wanted, index)
        return window.fold(arrivals, self._regroup(window, arrivals, moves), fire)

    def _groups(self, group_by: tuple[str, ...], rows: Rows) -> pl.Series:
        """The number of the group of each row."""
        if group_by not in rows.keys:
            rows.keys[group_by] = self.keys[group_by].column(rows.frame, ["otel_ir.tenant", *group_by])
        return rows.keys[group_by]

    def _arrivals(self, correlation: Correlation, rows: Rows, wanted: Wanted, index: NDArray[np.int64]) -> pl.DataFrame:
        """Rows of one correlation (``ROW_SCHEMA`` and ``ordinal``)."""
        if not len(index):
            return _NO_ARRIVALS
        found = {"key": self._groups(correlation.group_by, rows), "steps": pl.Series(wanted.steps[rows.take])}
        every = pl.DataFrame([found[name].alias(name) if name in found else rows.frame[name] for name in _NO_ARRIVALS.columns])
        return every if len(index) == every.height else every[pl.Series(index.astype(np.uint32))]

    def _arrivals_few(self, correlation: Correlation, rows: Rows, wanted: Wanted, index: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The same for a few rows, one by one."""
        if not len(index):
            return []
        keys, steps = self._groups(correlation.group_by, rows), wanted.steps[rows.take]
        return [rows.one(at) | {"key": keys[at], "steps": int(steps[at])} for at in index.tolist()]

    def _regroup(self, window: Windows, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        """The moves of this correlation's rows, with their new group and identity."""
        if moves.is_empty():
            return MOVE_SCHEMA.to_frame()
        held = pl.concat([window.by_uid(moves["uid"].unique()), arrivals.select(ROW_SCHEMA.names())])
        moving = moves.join(held.select("uid", "key", "who"), on="uid", how="inner", maintain_order="left")
        if moving.is_empty():
            return MOVE_SCHEMA.to_frame()
        interner, group_by = self.keys[window.correlation.group_by], window.correlation.group_by
        # What no patch changes stands in the old numbers: tenant, sender, service, and other columns it is grouped by.
        fixed = [name for name in raise_alert.WHO_COLUMNS if name not in PATCH_SCHEMA]
        moving = moving.join(_words(self.who, "who", raise_alert.WHO_COLUMNS, fixed, moving), on="who", how="left", maintain_order="left")
        other = [name for name in group_by if name not in PATCH_SCHEMA and name not in fixed]
        if other:
            words = _words(interner, "key", ("otel_ir.tenant", *group_by), other, moving)
            moving = moving.join(words, on="key", how="left", maintain_order="left")
        return moving.select("uid", "ordinal").with_columns(
            interner.column(moving, ["otel_ir.tenant", *group_by]).alias("key"),
            self.who.column(moving, raise_alert.WHO_COLUMNS).alias("who"),
        )

    def _regroup_few(self, window: Windows, came: list[dict[str, Any]], moves: pl.DataFrame) -> list[dict[str, Any]]:
        """The same for a few rows, one by one; with the group that each comes ``from``, and its ``time``."""
        if moves.is_empty():
            return []
        moving = sorted(moves.iter_rows(named=True), key=lambda move: int(move["ordinal"]))
        held = window.held([move["uid"] for move in moving]) | {row["uid"]: row for row in came}
        interner, group = self.keys[window.correlation.group_by], ("otel_ir.tenant", *window.correlation.group_by)
        known = [move for move in moving if move["uid"] in held]
        at: dict[int, int] = {}
        for move in known:
            row = held[move["uid"]]
            # A patch gives what may change; tenant, sender and service stand in the old identity, other columns in the old group.
            now = dict(zip(group, interner.values[row["key"]], strict=True))
            now |= dict(zip(raise_alert.WHO_COLUMNS, self.who.values[row["who"]], strict=True)) | move
            move["key"] = interner.number(tuple(now[name] for name in group))
            move["who"] = self.who.number(tuple(now[name] for name in raise_alert.WHO_COLUMNS))
            move["from"], move["time"] = at.get(move["uid"], row["key"]), row["time"]
            at[move["uid"]] = move["key"]
        return known

    def _updates(self, patches: pl.DataFrame, raised: list[tuple[int, str, int]]) -> list[AlertUpdate]:
        counts = {alert_id: AlertUpdate(alert_id=alert_id, ordinal=ordinal, count=count) for ordinal, alert_id, count in sorted(raised)}
        updates = [*counts.values(), *self.late.readdress(patches)]
        return sorted(updates, key=lambda update: (update.ordinal, update.alert_id, update.count is None))

    def end_epoch(self, received: int, remembered: int | None = None) -> None:
        """Called at fixed journal ordinals only, with the newest record's receive time (ns), and what ``Weaver.end_epoch`` gave."""
        for window in self.windows.values():
            window.end_epoch(received, (remembered or 0) * _POSITIONS)
        self.late.end_epoch(received)
        self.contained.end_epoch(received)
        if len(self.who.values) + len(self.tools.values) + sum(len(one.values) for one in self.keys.values()) > self._many:
            self._forget()

    def _forget(self) -> None:
        """Drops the words that no row needs any more. Seldom, because every row gets new numbers."""
        used = {digest: window.used() for digest, window in self.windows.items()}
        who = self.who.keep(_sorted(one for _, one, _ in used.values()))
        tools = self.tools.keep(_sorted(one for _, _, one in used.values()))
        for group_by, interner in self.keys.items():
            mine = [digest for digest, window in self.windows.items() if window.correlation.group_by == group_by]
            keys = interner.keep(_sorted(used[digest][0] for digest in mine))
            for digest in mine:
                self.windows[digest].renumber(keys, who, tools)
        kept = len(self.who.values) + len(self.tools.values) + sum(len(one.values) for one in self.keys.values())
        self._many = max(MANY_WORDS, 2 * kept)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; windows stand under the digest of their correlation."""
        parts: dict[str, Any] = self.late.state() | self.contained.state()
        rest = {}
        for digest, window in self.windows.items():
            parts[f"rows.{digest}"], rest[digest] = window.state()
        keys = [[list(group_by), interner.values] for group_by, interner in self.keys.items()]
        parts["head"] = msgspec.msgpack.encode((self.seed, self.who.values, self.tools.values, keys, rest))
        return parts

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``, for the same rule set."""
        self.seed, who, tools, keys, rest = msgspec.msgpack.decode(state["head"])
        self.who, self.tools = Interner(map(tuple, who)), Interner(map(tuple, tools))
        self.keys |= {tuple(group_by): Interner(map(tuple, values)) for group_by, values in keys}
        for digest, window in self.windows.items():
            if digest in rest:
                window.restore(state[f"rows.{digest}"], rest[digest])
        self.late.restore(state)
        self.contained.restore(state)

    @property
    def evicted(self) -> int:
        """Rows and containments forgotten because a bound was reached, since the start."""
        return self.contained.evicted + sum(window.evicted for window in self.windows.values())


def _wanted(correlation: Correlation, events: pl.DataFrame, matched: dict[str, NDArray[np.bool_]]) -> Wanted:
    """Events that match one of the rules, or stand between such in the last N events of the rules' service; never without a group."""
    steps = np.zeros(events.height, dtype=np.uint32)
    if not events.height:
        return Wanted(steps.astype(np.bool_), steps)
    for step, rule in enumerate(correlation.rules):
        bit = 1 << step if correlation.kind == "temporal_ordered" else 1
        steps |= matched[rule] * np.uint32(bit)
    rows = steps != 0
    if correlation.within_events:
        rows |= _is(events["event.type"], correlation.service) if correlation.service else True
    for name in correlation.group_by:
        if events[name].null_count():
            rows &= events[name].is_not_null().to_numpy()
    return Wanted(rows, steps)


def _raw(text: str | None) -> bytes:
    """The bytes of an id in hex, none where it is no hex."""
    try:
        return bytes.fromhex(text) if text and text.isalnum() else b""
    except ValueError:
        return b""


def _number(raw: bytes) -> int:
    """Eight bytes as a number, 0 where there are more or less."""
    return int.from_bytes(raw) if len(raw) == 8 else 0


def _sorted(used: Iterable[set[int]]) -> NDArray[np.int64]:
    return np.array(sorted(set().union(*used)), dtype=np.int64)


def _is(column: pl.Series, word: str) -> NDArray[np.bool_]:
    """Rows with this text; the column has no nulls."""
    if len(column) <= FEW:
        return np.array([text == word for text in column.to_list()], dtype=np.bool_)
    return (column == word).to_numpy()


def _words(interner: Interner, number: str, columns: Sequence[str], wanted: Sequence[str], rows: pl.DataFrame) -> pl.DataFrame:
    """The wanted columns of the interned tuples that occur in ``rows``, by their number."""
    used = rows[number].unique().to_list()
    places = [(name, columns.index(name)) for name in wanted]
    found = {name: [interner.values[one][at] for one in used] for name, at in places}
    return pl.DataFrame({number: used, **found}, schema_overrides={number: pl.UInt32})


def run_events(ruleset: RuleSet, events: pl.DataFrame) -> list[Alert]:
    """The rules over events that are complete (``EVENT_SCHEMA``): what rule tests and ``rules eval`` use."""
    ordinals: Sequence[Any] = events["otel_ir.journal.ordinal"].to_list()
    times = dict(zip(ordinals, events["event_time"].to_list(), strict=True))
    empty = PATCH_SCHEMA.to_frame()
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in EVENT_SCHEMA.items() if name not in events.columns]
    alerts, _ = Detector(ruleset).fold(events.with_columns(missing), empty, times)
    return alerts


__all__ = ["Detector", "Rule", "run_events"]
