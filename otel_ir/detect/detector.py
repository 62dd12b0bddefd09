"""Events in, alerts out: every rule of the set over every event, and what their state is."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from otel_ir.detect import raise_alert
from otel_ir.detect.edges import Firing
from otel_ir.detect.late import LateIdentity
from otel_ir.detect.rows import ROW_SCHEMA, Interner
from otel_ir.detect.windows import MOVE_SCHEMA, WindowLimits, Windows
from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, Alert, AlertUpdate
from otel_ir.sigma import matches
from otel_ir.sigma.ruleset import Correlation, Rule, RuleSet

_POSITIONS = 1 << 24
"""More than the spans of any request the receivers take (16 MiB)."""


class Detector:
    """The fold of the detect stage. Deterministic: state and alerts depend on the journal records alone, not on how they were framed."""

    def __init__(self, ruleset: RuleSet, limits: WindowLimits | None = None) -> None:
        self.limits = limits
        self.seed = secrets.randbits(63)  # event ids come from outside: nobody shall be able to make two of them collide
        self.who, self.tools = Interner(), Interner()
        self.keys: dict[tuple[str, ...], Interner] = {}
        self.windows: dict[str, Windows] = {}
        self.late = LateIdentity()
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
        events = events.filter(pl.col("otel_ir.duplicate_of").is_null())
        matched = self._match(events)
        alerts = self._plain(events, matched, received)
        alerts += self.late.fold(events, patches, self.ruleset.digest, received)
        raised: list[tuple[int, str, int]] = []
        if self.windows:
            rows = self._rows(events)
            moves = self._moves(patches)
            for window in self.windows.values():
                raised += self._window(window, rows, matched, moves, alerts, received)
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

    def _rows(self, events: pl.DataFrame) -> pl.DataFrame:
        """The numeric part of the rows, and the columns that groups are made of."""
        trace = pl.col("trace_id").str.decode("hex", strict=False)
        grouping = {name for group_by in self.keys for name in group_by}
        rows = events.select(
            pl.col("event_time").alias("time"),
            (pl.col("otel_ir.journal.ordinal") * _POSITIONS + pl.col("otel_ir.journal.position").cast(pl.Int64)).alias("seq"),
            pl.col("otel_ir.event.id").hash(self.seed).alias("uid"),
            pl.lit(value=False).alias("hit"),
            trace.bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("trace_high"),
            trace.bin.slice(8, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("trace_low"),
            pl.col("span_id").str.decode("hex", strict=False).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("span"),
            pl.col("otel_ir.journal.ordinal").alias("ordinal"),
            "event.type",
            *sorted({*grouping, "otel_ir.tenant"} - {"event.type"}),
        )
        return rows.with_columns(
            who=self.who.column(events, raise_alert.WHO_COLUMNS),
            tool=self.tools.column(events, ["gen_ai.tool.name"]),
        )

    def _moves(self, patches: pl.DataFrame) -> pl.DataFrame:
        """Patches, numeric: the event, when, and its identity from then on (tenant, sender and service stay the event's own)."""
        if patches.is_empty():
            return patches
        return patches.select(
            pl.col("otel_ir.event.id").hash(self.seed).alias("uid"),
            pl.col("otel_ir.journal.ordinal").alias("ordinal"),
            *PATCH_SCHEMA.names()[2:],
        ).sort("ordinal", maintain_order=True)

    def _window(
        self,
        window: Windows,
        rows: pl.DataFrame,
        matched: pl.DataFrame,
        moves: pl.DataFrame,
        alerts: list[Alert],
        received: dict[int, int],
    ) -> list[tuple[int, str, int]]:
        correlation = window.correlation
        arrivals = self._arrivals(correlation, rows, matched)
        moving = self._regroup(window, arrivals, moves)

        def fire(one: Correlation, ordinal: int, firing: Firing) -> str:
            group = self.keys[one.group_by].values[firing.row.data["key"]]  # type: ignore[call-overload]
            names = raise_alert.Names(self.who.values, self.tools.values)
            threshold = window.rates.threshold(firing.row.data["key"])  # type: ignore[arg-type]
            alert = raise_alert.of_window(one, self.ruleset.digest, firing, names, group, threshold, ordinal, received[ordinal])
            if alert.alert_id not in window.counts:
                alerts.append(alert)
                self.late.address(alert)
            return alert.alert_id

        return window.fold(arrivals, moving, fire)

    def _arrivals(self, correlation: Correlation, rows: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
        if rows.is_empty():
            return pl.DataFrame(schema=ROW_SCHEMA | {"ordinal": pl.Int64})
        steps = pl.zeros(rows.height, dtype=pl.UInt32, eager=True)
        for step, rule in enumerate(correlation.rules):
            bit = 1 << step if correlation.kind == "temporal_ordered" else 1
            steps |= matched[rule].cast(pl.UInt32) * bit
        wanted = steps != 0
        if correlation.within_events:
            wanted |= pl.Series(rows["event.type"] == correlation.service) if correlation.service else True
        grouped = (
            pl.all_horizontal(pl.col(name).is_not_null() for name in correlation.group_by) if correlation.group_by else pl.lit(value=True)
        )
        found = rows.with_columns(steps=steps).filter(wanted & rows.select(grouped).to_series())
        key = self.keys[correlation.group_by].column(found, ["otel_ir.tenant", *correlation.group_by])
        return found.with_columns(key=key).select(*ROW_SCHEMA.names(), "ordinal")

    def _regroup(self, window: Windows, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        """The moves of this correlation's rows, with their new group and identity."""
        if moves.is_empty():
            return MOVE_SCHEMA.to_frame()
        held = pl.concat([window.store.by_uid(moves["uid"].unique()), arrivals.select(ROW_SCHEMA.names())])
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

    def _updates(self, patches: pl.DataFrame, raised: list[tuple[int, str, int]]) -> list[AlertUpdate]:
        counts = {alert_id: AlertUpdate(alert_id=alert_id, ordinal=ordinal, count=count) for ordinal, alert_id, count in sorted(raised)}
        updates = [*counts.values(), *self.late.readdress(patches)]
        return sorted(updates, key=lambda update: (update.ordinal, update.alert_id, update.count is None))

    def end_epoch(self, received: int) -> None:
        """Called at fixed journal ordinals only, with the newest record's receive time (ns)."""
        for window in self.windows.values():
            window.end_epoch(received)
        self.late.end_epoch(received)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; windows stand under the digest of their correlation."""
        parts: dict[str, Any] = self.late.state()
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

    @property
    def evicted(self) -> int:
        """Rows forgotten because a bound was reached, since the start."""
        return sum(window.evicted for window in self.windows.values())


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
