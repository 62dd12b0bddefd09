"""One correlation over frames: a vectorized pass proves nearly every group silent, the exact fold (edges.py) takes what remains.

The pass looks at a superset: every row a group holds at any time during the frame, whichever record brought it. More rows never make
``event_count`` or an ordered sequence false, so a group that is silent in the superset was silent after every single record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from otel_ir.detect.baseline import Rates
from otel_ir.detect.edges import Condition, Firing, Group, Mark, Row, insert, judge, take_out
from otel_ir.detect.rows import ROW_SCHEMA, RowStore
from otel_ir.sigma.ruleset import Correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Bounds of what a correlation remembers.

    ``lateness`` (ns): how late a span may come, by the receiver's clock, and still be counted exactly. A BatchSpanProcessor holds spans
    up to 5 s and a Collector retries for 5 minutes by default (OpenTelemetry SDK and exporterhelper); this is twice that.
    """

    lateness: int = 600_000_000_000
    max_rows_per_group: int = 4096
    max_rows: int = 4_000_000


Fire = Callable[[Correlation, int, Firing], str]
"""(correlation, ordinal, edge) -> alert id."""

MOVE_SCHEMA = pl.Schema({"uid": pl.UInt64, "ordinal": pl.Int64, "key": pl.UInt32, "who": pl.UInt32})


class Windows:
    """The state of one correlation, and its fold."""

    def __init__(self, correlation: Correlation, limits: WindowLimits | None = None) -> None:
        self.correlation, self.limits = correlation, limits or WindowLimits()
        ordered = correlation.kind == "temporal_ordered"
        self.condition = Condition(
            timespan=correlation.timespan,
            suppress=correlation.suppress,
            steps=len(correlation.rules) if ordered else 0,
            within_events=correlation.within_events,
        )
        self.store = RowStore()
        self.marks: dict[int, list[Mark]] = {}
        self.hot: set[int] = set()
        self.counts: dict[str, int] = {}
        self.rates = Rates(correlation.baseline, correlation.timespan, correlation.threshold)
        self.evicted = 0

    def fold(self, arrivals: pl.DataFrame, moves: pl.DataFrame, fire: Fire) -> list[tuple[int, str, int]]:
        """Takes new rows and rows whose identity changed; -> (ordinal, alert id, count) where the count of an alert rose.

        ``arrivals`` has ``ROW_SCHEMA`` and the ``ordinal`` of the record that brought each row; ``moves`` has ``MOVE_SCHEMA``,
        sorted by ordinal, and may name events that are not held here.
        """
        moves = self._locate(arrivals, moves)
        if arrivals.is_empty() and moves.is_empty():
            return []
        self.rates.count(arrivals, moves)
        survivors = self._survivors(arrivals, moves)
        if not survivors:
            self._settle(arrivals, moves)
            return []
        inside = pl.col("key").is_in(list(survivors))
        self._settle(arrivals.filter(~inside), moves.filter(~inside))
        return self._exact(survivors, arrivals.filter(inside), moves.filter(inside), fire)

    def _locate(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        """The moves of rows that are held here, with the row's data and the group it comes from."""
        if moves.is_empty():
            return moves
        known = pl.concat([self.store.by_uid(moves["uid"].unique()), arrivals.select(ROW_SCHEMA.names())]).rename(
            {"key": "held", "who": "held_who"}
        )
        found = moves.join(known, on="uid", how="inner", maintain_order="left")
        return found.with_columns(pl.col("key").shift().over("uid").fill_null(pl.col("held")).alias("from"))

    def _survivors(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> set[int]:
        columns = ["key", "time", "seq", "steps"]
        coming = arrivals.select(columns)
        if moves.height:
            coming = pl.concat([coming, moves.filter(pl.col("key") != pl.col("from")).select(columns)])
        keys = coming["key"].unique()
        found = self._not_silent(coming, keys)
        if self.hot:
            found |= self.hot.intersection(keys.to_list())
            if moves.height:
                found |= self.hot.intersection(moves["from"].unique().to_list())
        if found and moves.height:
            found = _connected(found, moves.select("from", "key").unique().rows())
        return found

    def _not_silent(self, coming: pl.DataFrame, keys: pl.Series) -> set[int]:
        if coming.is_empty():
            return set()
        earliest: Any = coming["time"].min()
        since = None if self.condition.within_events else earliest - self.condition.timespan
        rows = pl.concat([self.store.fetch(keys, since).select(coming.columns), coming])
        if self.condition.steps:
            steps = rows.filter(pl.col("steps") != 0).group_by("key").agg(pl.col("steps").bitwise_or())
            return set(steps.filter(pl.col("steps") == (1 << self.condition.steps) - 1)["key"].to_list())
        limits = self.rates.thresholds(keys)
        counts = rows["key"].value_counts(name="n")
        crowded = counts.join(limits, on="key").filter(pl.col("n") > pl.col("limit"))
        if self.condition.within_events or crowded.is_empty():
            return set(crowded["key"].to_list())
        rows = rows.join(crowded, on="key").sort("key", "time", "seq")
        return _dense(rows["key"].to_numpy(), rows["time"].to_numpy(), rows["limit"].to_numpy(), self.condition.timespan)

    def _settle(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> None:
        """Stores rows of silent groups in the form they have at the end of the frame."""
        if moves.is_empty():
            self.store.append(arrivals.select(ROW_SCHEMA.names()))
            return
        last = moves.unique("uid", keep="last", maintain_order=True).select(ROW_SCHEMA.names())
        self.store.remove(last["uid"])
        self.store.append(pl.concat([arrivals.select(ROW_SCHEMA.names()).filter(~pl.col("uid").is_in(last["uid"].implode())), last]))

    def _exact(self, survivors: set[int], arrivals: pl.DataFrame, moves: pl.DataFrame, fire: Fire) -> list[tuple[int, str, int]]:
        held = self.store.fetch(pl.Series(sorted(survivors), dtype=pl.UInt32))
        groups: dict[int, Group] = defaultdict(Group)
        where: dict[int, tuple[int, Row]] = {}
        for key in survivors:
            groups[key].marks = self.marks.pop(key, [])
        for row in self._rows(held):
            key = int(row.data["key"])  # type: ignore[call-overload]
            groups[key].rows.append(row)
            where[row.uid] = (key, row)
        for group in groups.values():
            group.rows.sort(key=lambda row: row.order)
        raised: list[tuple[int, str, int]] = []
        come, go = _by_ordinal(arrivals), _by_ordinal(moves)
        for ordinal in sorted(come.keys() | go.keys()):
            touched: dict[int, list[Row]] = defaultdict(list)
            for move in go.get(ordinal, ()):
                self._move(groups, where, move, touched)
            for row in self._rows_of(come.get(ordinal, [])):
                key = int(row.data["key"])  # type: ignore[call-overload]
                touched[key].append(row)
                where[row.uid] = (key, row)
            for key, rows in touched.items():
                insert(groups[key], rows)
            for key in sorted(touched):
                raised += self._judge(groups[key], touched[key], key, ordinal, fire)
        self._store_back(groups, held)
        return raised

    def _move(
        self, groups: dict[int, Group], where: dict[int, tuple[int, Row]], move: dict[str, Any], touched: dict[int, list[Row]]
    ) -> None:
        key, row = where[move["uid"]]
        to = int(move["key"])
        row.data = row.data | {"who": move["who"], "key": to}
        if to == key:
            return
        for mark in take_out(groups[key], row):
            groups[to].marks.append(mark)
            groups[to].marks.sort(key=lambda one: one.order)
        touched[to].append(row)
        where[row.uid] = (to, row)

    def _judge(self, group: Group, rows: list[Row], key: int, ordinal: int, fire: Fire) -> list[tuple[int, str, int]]:
        firings, raised = judge(self.condition, group, rows, self.rates.threshold(key))
        for firing in firings:
            alert_id = fire(self.correlation, ordinal, firing)
            mark = next(mark for mark in group.marks if mark.uid == firing.row.uid and not mark.alert_id)
            mark.alert_id = alert_id
            self.counts.setdefault(alert_id, 1)
        changed = {}
        for _, mark in raised:
            self.counts[mark.alert_id] = self.counts.get(mark.alert_id, 1) + 1
            changed[mark.alert_id] = self.counts[mark.alert_id]
        return [(ordinal, alert_id, count) for alert_id, count in changed.items()]

    def _store_back(self, groups: dict[int, Group], held: pl.DataFrame) -> None:
        self.store.remove(held["uid"])
        data = []
        for key, group in groups.items():
            data += [row.data | {"hit": row.hit} for row in group.rows]
            if group.marks:
                self.marks[key] = group.marks
            if group.marks or any(row.hit for row in group.rows):
                self.hot.add(key)
            else:
                self.hot.discard(key)
        self.store.append(pl.DataFrame(data, schema=ROW_SCHEMA))

    def _rows(self, frame: pl.DataFrame) -> list[Row]:
        return self._rows_of(frame.select(ROW_SCHEMA.names()).to_dicts())

    def _rows_of(self, data: list[dict[str, Any]]) -> list[Row]:
        journal_order = self.condition.within_events is not None
        return [
            Row(
                (one["seq"], 0) if journal_order else (one["time"], one["seq"]),
                one["time"],
                one["uid"],
                one["steps"],
                one["hit"],
                {name: one[name] for name in ROW_SCHEMA},
            )
            for one in data
        ]

    def end_epoch(self, received: int) -> None:
        """Learns rates, then forgets what no window can reach any more. ``received`` is the newest record's time, ns."""
        self.rates.learn(received - self.limits.lateness)
        condition = self.condition
        rows = self.store.all().filter(pl.col("time") > received - self.limits.lateness - condition.timespan)
        newest_last = ["key", "seq"] if condition.within_events else ["key", "time", "seq"]
        rows = rows.sort(newest_last)
        before = rows.height
        rows = rows.filter(pl.int_range(pl.len()).reverse().over("key") < (condition.within_events or self.limits.max_rows_per_group))
        if not condition.within_events:
            self.evicted += before - rows.height
        if rows.height > self.limits.max_rows:
            self.evicted += rows.height - self.limits.max_rows
            rows = rows.top_k(self.limits.max_rows, by=["time", "seq"]).sort(newest_last)
        self.store.replace(rows)
        reach = received - self.limits.lateness - max(condition.timespan, condition.suppress)
        self.marks = {key: kept for key, marks in self.marks.items() if (kept := [mark for mark in marks if mark.time > reach])}
        alive = {mark.alert_id for marks in self.marks.values() for mark in marks}
        self.counts = {alert_id: count for alert_id, count in self.counts.items() if alert_id in alive}
        self.hot = set(self.marks) | set(rows.filter("hit")["key"].unique().to_list())

    def state(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        """What a checkpoint keeps: the rows, and the rest as plain values."""
        marks = [[key, [[*mark.order, mark.time, mark.uid, mark.alert_id] for mark in marks]] for key, marks in self.marks.items()]
        return self.store.all(), {"marks": marks, "counts": self.counts, "rates": self.rates.state(), "evicted": self.evicted}

    def restore(self, rows: pl.DataFrame, rest: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.store.replace(rows)
        self.marks = {key: [Mark((a, b), time, uid, alert_id) for a, b, time, uid, alert_id in marks] for key, marks in rest["marks"]}
        self.counts, self.evicted = rest["counts"], rest["evicted"]
        self.rates.restore(rest["rates"])
        self.hot = set(self.marks) | set(rows.filter("hit")["key"].unique().to_list())


def _by_ordinal(frame: pl.DataFrame) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in frame.to_dicts():
        found[row["ordinal"]].append(row)
    return found


def _dense(keys: np.ndarray[Any, Any], times: np.ndarray[Any, Any], limits: np.ndarray[Any, Any], timespan: int) -> set[int]:
    """Keys of which some row has more than ``limit`` rows up to itself in ``(t - timespan, t]``. Input sorted by key and time."""
    index = np.arange(len(keys))
    earlier = index - np.floor(limits).astype(np.int64)
    first = np.searchsorted(keys, keys, "left")
    inside = earlier >= first
    inside[inside] = times[index[inside]] - times[earlier[inside]] < timespan
    return set(np.unique(keys[inside]).tolist())


def _connected(found: set[int], edges: list[tuple[int, int]]) -> set[int]:
    """All groups joined to a found one by rows that move between them in this frame."""
    grown = set(found)
    while True:
        size = len(grown)
        for a, b in edges:
            if (a in grown) != (b in grown):
                grown |= {a, b}
        if len(grown) == size:
            return grown
