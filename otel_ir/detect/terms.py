"""``new_terms``: values that a group did not have within a timespan before, told at once and in journal order.

What a group had is one last time per value, so a timespan of months costs what the number of values costs. A vectorized pass finds the
groups in which all that came is known; the others are looked at row by row and stay unpacked (``live``) until the epoch ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect.edges import Firing
from otel_ir.detect.group import Mark, Row
from otel_ir.detect.rows import NO_VALUE, ROW_SCHEMA, RowStore
from otel_ir.detect.windows import MOVE_SCHEMA, Fire, WindowLimits, apart
from otel_ir.model import PATCH_SCHEMA
from otel_ir.sigma.ruleset import Correlation, NewTerms

SETTLED = 3_600_000_000_000
"""Identity becomes known, and changes, within an hour (the weaver forgets traces then): rows are kept for so long (ns)."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ARRIVALS = pl.Schema(ROW_SCHEMA | {"ordinal": pl.Int64})
_JUDGED = ["ordinal", "came", "seq", "steps"]
"""The order in which a group hears of rows: in each record first those that became known or moved, then those that came."""
_TERMS = pl.Schema({"key": pl.UInt32, "value": pl.UInt64, "last": pl.Int64, "seq": pl.Int64})
Seen = tuple[int, int]
"""(event time, seq) of the latest event that had a value."""


class Terms:
    """The state of one correlation, and its fold. Methods as those of ``Windows``."""

    def __init__(self, correlation: Correlation, limits: WindowLimits | None = None) -> None:
        self.correlation, self.limits = correlation, limits or WindowLimits()
        self.learn = (correlation.new_terms or NewTerms((), 1)).learn
        read = {name for step in range(len(correlation.rules)) for name in correlation.read_from(step)}
        read.update(correlation.new_terms.fields if correlation.new_terms else ())
        self.moving = not read.isdisjoint(PATCH_SCHEMA)
        """Whether group or value may become known late, so that rows are kept."""
        self.store = RowStore()
        self.live: dict[int, dict[int, Seen]] = {}
        """Groups whose terms are here and not in the base: value -> when it was seen."""
        self.marks: dict[int, Mark] = {}
        """By group, its latest alert."""
        self.counts: dict[str, int] = {}
        self.evicted = 0
        self.settled = 0
        self._keep(_TERMS.to_frame())

    def _keep(self, terms: pl.DataFrame) -> None:
        """The base: terms (one row each) sorted by group, and found by a number that stands for group and value."""
        terms = terms.sort("key", maintain_order=True)
        self._keys, self._values = terms["key"].to_numpy(), terms["value"].to_numpy()
        self._last, self._seq = terms["last"].to_numpy().copy(), terms["seq"].to_numpy().copy()
        self._alive = np.ones(terms.height, dtype=np.bool_)
        codes = _codes(self._keys, self._values)
        self._order = np.argsort(codes)
        self._codes = codes[self._order]

    def threshold(self, key: int) -> float:  # noqa: ARG002 - see Engine
        """Nothing is compared."""
        return self.correlation.threshold

    def advance(self, received: dict[int, int]) -> bool:  # noqa: ARG002 - see Engine
        """Nothing waits for time to pass."""
        return False

    def finish(self, ordinal: int, fire: Fire) -> list[tuple[int, str, int]]:  # noqa: ARG002 - see Engine
        """What nobody has said until the end is not known."""
        return []

    def fold_few(self, arrivals: list[dict[str, Any]], moves: list[dict[str, Any]], fire: Fire) -> list[tuple[int, str, int]]:
        """``fold`` of a few rows."""
        came = pl.DataFrame([[row[name] for name in _ARRIVALS] for row in arrivals], schema=_ARRIVALS, orient="row")
        moved = pl.DataFrame([[move[name] for name in MOVE_SCHEMA] for move in moves], schema=MOVE_SCHEMA, orient="row")
        return self.fold(came, moved, fire)

    def fold(self, arrivals: pl.DataFrame, moves: pl.DataFrame, fire: Fire) -> list[tuple[int, str, int]]:
        """Takes new rows and rows that became known or moved; -> (ordinal, alert id, count) where the count of an alert rose."""
        came = arrivals.filter(pl.col("value") != NO_VALUE).with_columns(came=pl.lit(value=True), judge=pl.lit(value=True), left="key")
        if moves.height:
            came = self._moved(arrivals, moves).vstack(came)
        if self.moving:
            self._store(arrivals, moves)
        if came.is_empty():
            return []
        exact = self._exact(came)
        rows = came.filter(pl.Series(exact)).sort(_JUDGED, maintain_order=True)
        self._unpack(rows["key"].unique())
        changed = dict[tuple[int, str], int]()
        for row in rows.iter_rows(named=True):
            raised = self._row(row, fire)
            if raised:
                changed[row["ordinal"], raised] = self.counts[raised]
        if sum(map(len, self.live.values())) > self.limits.max_live:
            self._pack()
        return [(ordinal, alert_id, count) for (ordinal, alert_id), count in changed.items()]

    def _moved(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        """Moves that tell a group of a value, as rows that come. ``judge``: it was not known before; ``left``: the group it was in."""
        held = pl.concat([self.store.by_uid(moves["uid"].unique()), arrivals.select(ROW_SCHEMA.names())])
        held = held.drop("who").rename({"key": "from", "value": "was"})
        found = moves.join(held, on="uid", how="inner", maintain_order="left")
        before = {"left": ("key", "from"), "was": ("value", "was")}
        found = found.with_columns(
            pl.col(now).shift().over("uid").fill_null(pl.col(at_first)).alias(name) for name, (now, at_first) in before.items()
        ).with_columns(came=pl.lit(value=False), judge=pl.col("was") == NO_VALUE)
        new = (pl.col("key") != pl.col("left")) | (pl.col("value") != pl.col("was"))
        return found.filter((pl.col("value") != NO_VALUE) & new).select(*_ARRIVALS.names(), "came", "judge", "left")

    def _store(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> None:
        """Keeps rows in the form they have at the end of the frame."""
        self.store.append(arrivals.select(ROW_SCHEMA.names()))
        if moves.height:
            last = moves.unique("uid", keep="last", maintain_order=True).drop("ordinal")
            held = self.store.by_uid(last["uid"])
            moved = held.drop("key", "who", "value").join(last, on="uid", how="inner", maintain_order="left").select(ROW_SCHEMA.names())
            self.store.remove(moved["uid"])
            self.store.append(moved)

    def _exact(self, came: pl.DataFrame) -> NDArray[np.bool_]:
        """Which rows are of groups where something may be new; notes those of the others."""
        keys, times = came["key"].to_numpy(), came["time"].to_numpy()
        at, found = self._find(keys, came["value"].to_numpy())
        last = np.full(len(keys), -(2**62))
        last[found] = self._last[at[found]]
        silent = found & ((last > times - self.correlation.timespan) | ~came["judge"].to_numpy())
        if self.marks:
            silent &= ~came["uid"].is_in([mark.uid for mark in self.marks.values()]).to_numpy()
        exact = np.isin(keys, np.unique(keys[~silent]))
        if self.live:
            exact |= np.isin(keys, np.fromiter(self.live, dtype=np.uint32))
        seq = came["seq"].to_numpy()
        known = np.flatnonzero(~exact)
        known = known[np.lexsort((seq[known], times[known]))]
        later = (times[known] > self._last[at[known]]) | ((times[known] == self._last[at[known]]) & (seq[known] > self._seq[at[known]]))
        known = known[later]
        self._last[at[known]], self._seq[at[known]] = times[known], seq[known]  # ascending: the latest of several stays
        return exact

    def _find(self, keys: NDArray[np.uint32], values: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where the base has these terms, and whether it does."""
        if not len(self._codes):
            return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
        codes = _codes(keys, values)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        at = self._order[place]
        return at, (self._codes[place] == codes) & self._alive[at]

    def _unpack(self, keys: pl.Series) -> None:
        """Makes these groups live."""
        for key in keys.to_list():
            if key not in self.live:
                start, stop = np.searchsorted(self._keys, key, "left"), np.searchsorted(self._keys, key, "right")
                at = np.arange(start, stop)[self._alive[start:stop]]
                seen = zip(self._last[at].tolist(), self._seq[at].tolist(), strict=True)
                self.live[key] = dict(zip(self._values[at].tolist(), seen, strict=True))
                self._alive[at] = False

    def _pack(self) -> None:
        """Puts all live groups back."""
        if self.live:
            self._keep(self._all())
            self.live = {}

    def _all(self) -> pl.DataFrame:
        """Every term."""
        base = [self._keys, self._values, self._last, self._seq]
        kept = pl.DataFrame([pl.Series(name, column[self._alive]) for name, column in zip(_TERMS, base, strict=True)], schema=_TERMS)
        rows = [(key, value, *seen) for key, terms in self.live.items() for value, seen in terms.items()]
        return kept.vstack(pl.DataFrame(rows, schema=_TERMS, orient="row"))

    def _row(self, row: dict[str, Any], fire: Fire) -> str:
        """One row of a live group. -> the alert of which it raised the count."""
        key, time, terms = row["key"], row["time"], self.live[row["key"]]
        if row["left"] != key:
            self._take_along(row["left"], key, row["uid"])
        since = time - self.correlation.timespan
        seen = terms.get(row["value"])
        new = row["judge"] and (seen is None or seen[0] <= since) and self._learnt(terms, since)
        terms[row["value"]] = max((time, row["seq"]), seen or (time, row["seq"]))
        return self._tell(row, fire) if new else ""

    def _learnt(self, terms: dict[int, Seen], since: int) -> bool:
        """Whether the group had ``learn`` terms."""
        missing = self.learn
        alive: Iterator[Seen] = (seen for seen in terms.values() if seen[0] > since)
        while missing and next(alive, None):
            missing -= 1
        return not missing

    def _tell(self, row: dict[str, Any], fire: Fire) -> str:
        mark = self.marks.get(row["key"])
        if mark is None or abs(row["time"] - mark.time) >= self.correlation.suppress:
            data = {name: row[name] for name in ROW_SCHEMA}
            one = Row((row["time"], row["seq"]), row["time"], row["uid"], row["steps"], hit=True, data=data)
            mark = Mark(one.order, one.time, one.uid, "")
            mark.alert_id = fire(self.correlation, row["ordinal"], Firing(one, 1, [one], mark))
            self.marks[row["key"]] = mark
            if mark.alert_id not in self.counts:
                self.counts[mark.alert_id] = 1
                return ""
        self.counts[mark.alert_id] = self.counts.get(mark.alert_id, 1) + 1
        return mark.alert_id

    def _take_along(self, left: int, key: int, uid: int) -> None:
        """An alert goes with its row, unless the group that it comes to has one."""
        mark = self.marks.get(left)
        if mark is not None and mark.uid == uid:
            self.marks.setdefault(key, self.marks.pop(left))

    def held(self, uids: list[int]) -> dict[int, dict[str, Any]]:
        """Those of a few events that are held, as rows."""
        return self.store.few(uids)

    def by_uid(self, uids: pl.Series) -> pl.DataFrame:
        """The rows of these events that are held."""
        return self.store.by_uid(uids)

    def end_epoch(self, received: int, remembered: int = 0) -> None:
        """Forgets what no row can reach any more. ``remembered`` as in ``Windows``."""
        correlation, limits = self.correlation, self.limits
        horizon = received - limits.lateness
        terms = self._all().filter(pl.col("last") > horizon - correlation.timespan)
        self._keep(self._newest(terms, ["last", "seq"]))
        self.live = {}
        rows = self.store.all().filter(pl.col("time") > horizon - min(correlation.timespan, SETTLED))
        since, self.settled = self.settled, max(self.settled, remembered)
        marks = {key: [mark] for key, mark in self.marks.items()}
        self.store.replace(apart(self._newest(rows, ["time", "seq", "steps"]), marks, since, self.settled))
        reach = horizon - max(min(correlation.timespan, SETTLED), correlation.suppress)
        self.marks = {key: mark for key, mark in self.marks.items() if mark.time > reach}
        alive = {mark.alert_id for mark in self.marks.values()}
        self.counts = {alert_id: count for alert_id, count in self.counts.items() if alert_id in alive}

    def _newest(self, rows: pl.DataFrame, order: list[str]) -> pl.DataFrame:
        """No more than the limits allow, the newest; what goes is counted."""
        before, limits = rows.height, self.limits
        rows = rows.sort("key", *order, maintain_order=True)
        rows = rows.filter(pl.int_range(pl.len()).reverse().over("key") < limits.max_rows_per_group)
        if rows.height > limits.max_rows:
            rows = rows.sort(*order, maintain_order=True).tail(limits.max_rows)
        self.evicted += before - rows.height
        return rows

    def used(self) -> tuple[set[int], set[int], set[int]]:
        """The numbers of groups, identities and tools that are still needed."""
        keys, who, tools = (set(self.store.all()[name].unique().to_list()) for name in ("key", "who", "tool"))
        return keys | set(self.marks) | set(self._all()["key"].unique().to_list()), who, tools

    def renumber(self, keys: NDArray[np.uint32], who: NDArray[np.uint32], tools: NDArray[np.uint32]) -> None:
        """These got other numbers: ``new[old]``."""
        rows, terms = self.store.all(), self._all()
        new = {name: numbers[rows[name].to_numpy()] for name, numbers in (("key", keys), ("who", who), ("tool", tools))}
        self.store.replace(rows.with_columns(pl.Series(name, numbers) for name, numbers in new.items()))
        self._keep(terms.with_columns(key=pl.Series(keys[terms["key"].to_numpy()])))
        self.live = {}
        self.marks = {int(keys[key]): mark for key, mark in self.marks.items()}

    def state(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        """What a checkpoint keeps: the rows, and the rest as plain values."""
        marks = [[key, [*mark.order, mark.time, mark.uid, mark.alert_id]] for key, mark in self.marks.items()]
        terms = [column.to_numpy().tobytes() for column in self._all()]
        return self.store.all(), {"marks": marks, "counts": self.counts, "evicted": self.evicted, "settled": self.settled, "terms": terms}

    def restore(self, rows: pl.DataFrame, rest: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.store.replace(rows)
        self.marks = {key: Mark(tuple(mark[:-3]), *mark[-3:]) for key, mark in rest["marks"]}
        self.counts, self.evicted, self.settled = rest["counts"], rest["evicted"], rest["settled"]
        kinds = (np.uint32, np.uint64, np.int64, np.int64)
        columns = zip(_TERMS, rest["terms"], kinds, strict=True)
        self.live = {}
        self._keep(pl.DataFrame([pl.Series(name, np.frombuffer(raw, dtype=kind)) for name, raw, kind in columns], schema=_TERMS))


def _codes(keys: NDArray[np.uint32], values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number for group and value; values are hashes, so that two get the same one once in 2^64."""
    codes: NDArray[np.uint64] = (keys.astype(np.uint64) + np.uint64(1)) * _ODD ^ values
    return codes


__all__ = ["Terms"]
