"""One correlation over frames: a vectorized pass proves nearly every group silent, the exact fold (edges.py) takes what remains.

The pass (silence.py) looks at a superset: every row a group holds at any time during the frame, whichever record brought it.

Groups that were not silent stay unpacked (``live``) until the epoch ends, so that an agent in a long burst costs per row and not per burst.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect.baseline import Rates
from otel_ir.detect.conditions import Condition
from otel_ir.detect.edges import Firing, judge
from otel_ir.detect.group import Group, Mark, Row, insert, split, take_in, take_out
from otel_ir.detect.rows import ROW_SCHEMA, RowStore
from otel_ir.detect.silence import not_silent
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
    max_live: int = 500_000
    """Rows that are kept unpacked (about 700 bytes each)."""
    max_groups: int = 1_000_000
    """Groups whose rate is learnt; those that learnt longest ago go first."""
    step: int = 10_000_000_000
    """The watermark of deferred correlations moves by so much (ns) at least, so that little is judged at a time no matter how often."""


Fire = Callable[[Correlation, int, Firing], str]
"""(correlation, ordinal, edge) -> alert id."""

_ODD = 0x9E3779B97F4A7C15  # as in normalize/hashes.py
MOVE_SCHEMA = pl.Schema({"uid": pl.UInt64, "ordinal": pl.Int64, "key": pl.UInt32, "who": pl.UInt32, "value": pl.UInt64})


class Windows:
    """The state of one correlation, and its fold."""

    def __init__(self, correlation: Correlation, limits: WindowLimits | None = None) -> None:
        self.correlation, self.limits = correlation, limits or WindowLimits()
        self.condition = Condition(
            timespan=correlation.timespan,
            suppress=correlation.suppress,
            kind=correlation.kind,
            op=correlation.op,
            clauses=tuple(clause.required for clause in correlation.clauses),
            within_events=correlation.within_events,
        )
        self.several = bool(correlation.columns or correlation.inner)
        """Whether one event may be several rows."""
        self.store = RowStore()
        self.live: dict[int, Group] = {}
        """Groups whose rows and marks are here and not in ``store`` and ``marks``."""
        self.where: dict[int, tuple[int, Row]] = {}
        """uid -> group and row, of all live rows"""
        self.marks: dict[int, list[Mark]] = {}
        self.hot: set[int] = set()
        self.counts: dict[str, int] = {}
        self.rates = Rates(correlation.baseline, correlation.timespan, correlation.threshold, self.limits.max_groups)
        self.evicted = 0
        self.settled = 0
        """Rows before it (by ``seq``) have a ``uid`` of their own."""

    def threshold(self, key: int) -> float:
        """What the number of a group is compared with."""
        return self.rates.threshold(key)

    def advance(self, received: dict[int, int]) -> bool:  # noqa: ARG002 - see Engine
        """Nothing waits for time to pass."""
        return False

    def finish(self, ordinal: int, fire: Fire) -> list[tuple[int, str, int]]:  # noqa: ARG002 - see Engine
        """Nothing waits for the end."""
        return []

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
        return self._exact(survivors, arrivals.filter(inside).to_dicts(), moves.filter(inside).to_dicts(), fire)

    def fold_few(self, arrivals: list[dict[str, Any]], moves: list[dict[str, Any]], fire: Fire) -> list[tuple[int, str, int]]:
        """``fold`` of a few rows, without the filter: one by one through the exact fold. Moves know where they come ``from`` and their
        ``time``, and are of events that are held here.
        """
        if not arrivals and not moves:
            return []
        self.rates.count_few(arrivals, moves)
        keys = {row["key"] for row in arrivals}.union(*((move["from"], move["key"]) for move in moves))
        return self._exact(keys, arrivals, moves, fire)

    def held(self, uids: list[int]) -> dict[int, dict[str, Any]]:
        """Those of a few events that are held, as rows."""
        found: dict[int, dict[str, Any]] = {uid: self.where[uid][1].data for uid in uids if uid in self.where}
        missing = [uid for uid in uids if uid not in found]
        return found | (self.store.few(missing) if missing else {})

    def _locate(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        """The moves of rows that are held here, with the row's data and the group it comes from."""
        if moves.is_empty():
            return moves
        known = pl.concat([self.by_uid(moves["uid"].unique()), arrivals.select(ROW_SCHEMA.names())]).rename(
            {"key": "held", "who": "held_who", "value": "held_value"}
        )
        found = moves.join(known, on="uid", how="inner", maintain_order="left")
        before = {"from": pl.col("key").shift().over("uid").fill_null(pl.col("held")), "was": pl.col("value")}
        if self.correlation.fields:
            before["was"] = pl.col("value").shift().over("uid").fill_null(pl.col("held_value"))
        return found.with_columns(**before)

    def by_uid(self, uids: pl.Series) -> pl.DataFrame:
        """The rows of these events that are held."""
        stored = self.store.by_uid(uids)
        live = [self.where[uid] for uid in uids.to_list() if uid in self.where] if self.where else []
        return stored.vstack(_packed([row for _, row in live])) if live else stored

    def _survivors(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> set[int]:
        columns = ["key", "time", "seq", "steps", "value"]
        coming = arrivals.select(columns)
        if moves.height:
            changed = moves.filter((pl.col("key") != pl.col("from")) | (pl.col("value") != pl.col("was")))
            coming = pl.concat([coming, changed.select(columns)])
        keys = coming["key"].unique()
        hot = self.hot.union(self.live)
        found = hot.intersection(keys.to_list())
        found |= (
            self._not_silent(coming.filter(~pl.col("key").is_in(list(found))), keys.filter(~keys.is_in(list(found))))
            if found
            else (self._not_silent(coming, keys))
        )
        if moves.height:
            found |= hot.intersection(moves["from"].unique().to_list())
        if found and moves.height:
            found = _connected(found, moves.select("from", "key").unique().rows())
        return found

    def _not_silent(self, coming: pl.DataFrame, keys: pl.Series) -> set[int]:
        if coming.is_empty():
            return set()
        earliest: Any = coming["time"].min()
        since = None if self.condition.within_events else earliest - self.condition.timespan
        rows = pl.concat([self.store.fetch(keys, since).select(coming.columns), coming])
        return not_silent(self.condition, rows, self.rates.thresholds(keys))

    def _settle(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> None:
        """Stores rows of silent groups in the form they have at the end of the frame."""
        if moves.is_empty():
            self.store.append(arrivals.select(ROW_SCHEMA.names()))
            return
        last = moves.unique(["uid", "seq"], keep="last", maintain_order=True).select(ROW_SCHEMA.names())
        self.store.remove(last["uid"])
        self.store.append(pl.concat([arrivals.select(ROW_SCHEMA.names()).filter(~pl.col("uid").is_in(last["uid"].implode())), last]))

    def _exact(
        self, survivors: set[int], arrivals: list[dict[str, Any]], moves: list[dict[str, Any]], fire: Fire
    ) -> list[tuple[int, str, int]]:
        self._unpack(survivors)
        raised: list[tuple[int, str, int]] = []
        come, go = _by_ordinal(arrivals), _by_ordinal(moves)
        for ordinal in sorted(come.keys() | go.keys()):
            touched = self._move(go.get(ordinal, []))
            for row in self._rows_of(come.get(ordinal, [])):
                key = row.data["key"]
                touched[key].append(row)
                self.where[row.uid] = (key, row)
            for key in sorted(touched):
                rows, waiting = split(touched[key])
                self.live[key].aside += waiting
                if rows:
                    insert(self.live[key], rows)
                    raised += self._judge(self.live[key], rows, key, ordinal, fire)
        if len(self.where) > self.limits.max_live:
            self._pack()
        return raised

    def _unpack(self, keys: set[int]) -> None:
        """Makes these groups live."""
        new = keys.difference(self.live)
        if not new:
            return
        held = self.store.take(pl.Series(sorted(new), dtype=pl.UInt32))
        for key in new:
            self.live[key] = Group(marks=self.marks.pop(key, []))
        for row in self._rows_of(held.to_dicts()):
            key = row.data["key"]
            self.live[key].rows.append(row)
            self.where[row.uid] = (key, row)
        for key in new:
            group = self.live[key]
            group.rows, group.aside = split(group.rows)
            group.rows.sort(key=lambda row: row.order)

    def _pack(self) -> None:
        """Puts all live groups back."""
        for key, group in self.live.items():
            if group.marks:
                self.marks[key] = group.marks
            if group.marks or any(row.hit for row in group.rows):
                self.hot.add(key)
            else:
                self.hot.discard(key)
        self.store.append(_packed([row for group in self.live.values() for row in (*group.rows, *group.aside)]))
        self.live, self.where = {}, {}

    def _move(self, moves: list[dict[str, Any]]) -> defaultdict[int, list[Row]]:
        """Takes the rows that one record moves out of their groups; -> by group, the rows that come to it."""
        leaving: dict[int, list[Row]] = defaultdict(list)
        coming: defaultdict[int, list[Row]] = defaultdict(list)
        for move in moves:
            key, row = self.where[move["uid"]]
            to = int(move["key"])
            row.data = row.data | {"who": move["who"], "key": to, "value": move["value"]}
            if to != key or move["value"] != row.value:
                leaving[key].append(row)
                row.value = move["value"]
                coming[to].append(row)
                self.where[row.uid] = (to, row)
        along: dict[int, list[Mark]] = defaultdict(list)
        for key, rows in leaving.items():
            for mark in take_out(self.live[key], rows):
                along[self.where[mark.uid][0]].append(mark)
        for key, marks in along.items():
            take_in(self.live[key], marks)
        return coming

    def _judge(self, group: Group, rows: list[Row], key: int, ordinal: int, fire: Fire) -> list[tuple[int, str, int]]:
        firings, raised = judge(self.condition, group, rows, self.rates.threshold(key))
        for firing in firings:
            firing.mark.alert_id = fire(self.correlation, ordinal, firing)
            self.counts.setdefault(firing.mark.alert_id, 1)
        changed = {}
        for _, mark in raised:
            self.counts[mark.alert_id] = self.counts.get(mark.alert_id, 1) + 1
            changed[mark.alert_id] = self.counts[mark.alert_id]
        return [(ordinal, alert_id, count) for alert_id, count in changed.items()]

    def _rows_of(self, data: list[dict[str, Any]]) -> list[Row]:
        journal_order, several = self.condition.within_events is not None, self.several
        return [
            Row(
                ((one["seq"], 0) if journal_order else (one["time"], one["seq"])) + ((one["steps"],) if several else ()),
                one["time"],
                one["uid"],
                one["steps"],
                one["hit"],
                {name: one[name] for name in ROW_SCHEMA},
                value=one["value"],
            )
            for one in data
        ]

    def end_epoch(self, received: int, remembered: int = 0) -> None:
        """Learns rates, then forgets what no window can reach any more. ``received`` is the newest record's time, ns.

        Events before ``remembered`` (as ``seq``; 0: as before) get a ``uid`` of their own: the same span may come again as a new event.
        """
        self.rates.learn(received - self.limits.lateness)
        self._pack()
        condition = self.condition
        rows = self.store.all().filter(pl.col("time") > received - self.limits.lateness - condition.timespan)
        newest_last = ["key", "seq"] if condition.within_events else ["key", "time", "seq"]
        newest_last += ["steps"] if self.several else []
        rows = rows.sort(newest_last, maintain_order=True)
        before = rows.height
        rows = rows.filter(pl.int_range(pl.len()).reverse().over("key") < (condition.within_events or self.limits.max_rows_per_group))
        if not condition.within_events:
            self.evicted += before - rows.height
        if rows.height > self.limits.max_rows:
            self.evicted += rows.height - self.limits.max_rows
            rows = rows.sort("time", "seq", maintain_order=True).tail(self.limits.max_rows).sort(newest_last, maintain_order=True)
        self.store.replace(self._apart(rows, remembered))
        reach = received - self.limits.lateness - max(condition.timespan, condition.suppress)
        self.marks = {key: kept for key, marks in self.marks.items() if (kept := [mark for mark in marks if mark.time > reach])}
        alive = {mark.alert_id for marks in self.marks.values() for mark in marks}
        self.counts = {alert_id: count for alert_id, count in self.counts.items() if alert_id in alive}
        self.hot = set(self.marks) | set(rows.filter("hit")["key"].unique().to_list())

    def used(self) -> tuple[set[int], set[int], set[int]]:
        """The numbers of groups, identities and tools that are still needed. At the end of an epoch, when no group is live."""
        rows = self.store.all()
        keys = {*self.marks, *self.hot, *self.rates.groups(), *rows["key"].unique().to_list()}
        return keys, set(rows["who"].unique().to_list()), set(rows["tool"].unique().to_list())

    def renumber(self, keys: NDArray[np.uint32], who: NDArray[np.uint32], tools: NDArray[np.uint32]) -> None:
        """These got other numbers: ``new[old]``."""
        rows = self.store.all()
        new = {name: numbers[rows[name].to_numpy()] for name, numbers in (("key", keys), ("who", who), ("tool", tools))}
        self.store.replace(rows.with_columns(pl.Series(name, numbers) for name, numbers in new.items()))
        self.marks = {int(keys[key]): marks for key, marks in self.marks.items()}
        self.hot = {int(keys[key]) for key in self.hot}
        self.rates.renumber(keys)

    def _apart(self, rows: pl.DataFrame, remembered: int) -> pl.DataFrame:
        since, self.settled = self.settled, max(self.settled, remembered)
        return apart(rows, self.marks, since, self.settled, journal_order=self.condition.within_events is not None)

    def state(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        """What a checkpoint keeps: the rows, and the rest as plain values. At the end of an epoch, when no group is live."""
        marks = [[key, [[*mark.order, mark.time, mark.uid, mark.alert_id] for mark in marks]] for key, marks in self.marks.items()]
        rest = {"marks": marks, "counts": self.counts, "rates": self.rates.state(), "evicted": self.evicted, "settled": self.settled}
        return self.store.all(), rest

    def restore(self, rows: pl.DataFrame, rest: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.store.replace(_as_now(rows))
        self.marks = {key: [Mark(tuple(mark[:-3]), *mark[-3:]) for mark in marks] for key, marks in rest["marks"]}
        self.counts, self.evicted, self.settled = rest["counts"], rest["evicted"], rest.get("settled", 0)
        self.rates.restore(rest["rates"])
        self.hot = set(self.marks) | set(rows.filter("hit")["key"].unique().to_list())


def apart(rows: pl.DataFrame, marks: dict[int, list[Mark]], since: int, until: int, *, journal_order: bool = False) -> pl.DataFrame:
    """Gives the rows with ``since <= seq < until``, and their marks, a ``uid`` of their own."""
    seq, uid = rows["seq"].to_numpy(), rows["uid"].to_numpy()
    own = uid ^ (seq.astype(np.uint64) * np.uint64(_ODD))
    for mark in (mark for some in marks.values() for mark in some):
        at = mark.order[0 if journal_order else 1]
        if since <= at < until:
            mark.uid ^= at * _ODD % (1 << 64)
    return rows.with_columns(uid=pl.Series(np.where((seq >= since) & (seq < until), own, uid)))


def _by_ordinal(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["ordinal"]].append(row)
    return found


def _as_now(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a checkpoint that was taken before there were values."""
    rows = rows if "value" in rows.columns else rows.with_columns(value=pl.lit(0, dtype=pl.UInt64))
    return rows.select(ROW_SCHEMA.names())


def _packed(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame([row.data | {"hit": row.hit} for row in rows], schema=ROW_SCHEMA)


def _connected(found: set[int], edges: list[tuple[int, int]]) -> set[int]:
    """All groups joined to a found one by rows that move between them in this frame."""
    beside: dict[int, set[int]] = defaultdict(set)
    for a, b in edges:
        beside[a].add(b)
        beside[b].add(a)
    grown, fresh = set(found), list(found)
    while fresh:
        more = beside[fresh.pop()] - grown
        grown |= more
        fresh += more
    return grown
