"""Correlations that what is still to come can make false: averages, "fewer than", absences.

Their rows wait until the watermark (the newest receive time, less the lateness) has passed the end of what decides about them, and are
judged once. It moves in steps and with records only, so that frames do not matter.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect.edges import Firing
from otel_ir.detect.group import Mark, Row
from otel_ir.detect.rows import NO_VALUE, ROW_SCHEMA, RowStore
from otel_ir.detect.truth import ABSENCE, Arrays, Truth, number_of, reach, truth
from otel_ir.detect.windows import MOVE_SCHEMA, Fire, WindowLimits, apart
from otel_ir.model import MAX_CONTRIBUTING
from otel_ir.sigma.ruleset import Correlation

_NEVER, _FOREVER = -(2**62), 2**62
_ORDER = attrgetter("order")
_SORTED = ["key", "time", "seq", "steps"]
"""One event may be several rows: those that match earlier rules come first."""
_ARRIVALS = pl.Schema(ROW_SCHEMA | {"ordinal": pl.Int64})
_WAITS = pl.col("hit").is_null() & (pl.col("value") != NO_VALUE)
"""``hit`` is null until a row is judged."""


class Deferred:
    """The state of one correlation, and its fold. Methods as those of ``Windows``."""

    def __init__(self, correlation: Correlation, limits: WindowLimits | None = None) -> None:
        self.correlation, self.limits = correlation, limits or WindowLimits()
        self.reach = reach(correlation)
        self.store = RowStore()
        self.marks: dict[int, list[Mark]] = {}
        self.counts: dict[str, int] = {}
        self.watermark = _NEVER
        self.due = _FOREVER
        """No row that waits can be judged before the watermark is above it."""
        self.evicted = 0
        self.settled = 0
        self._advances: list[tuple[int, int]] = []
        """(ordinal, watermark) of the records of this frame at which it moves"""
        self._before = _NEVER

    def come_after(self, behind: int) -> None:
        """Says how long after the watermark (ns) alerts of inner correlations may still come: its own rows wait for these as well."""
        self.reach = reach(self.correlation) + behind
        self.due = _FOREVER
        self._wait_for(self.store.where(_WAITS))

    def threshold(self, key: int) -> float:  # noqa: ARG002 - see Engine
        """What the number of a group is compared with."""
        return self.correlation.threshold

    def waits(self, now: int) -> bool:
        """Whether a record received ``now`` (ns) would make something due."""
        return self.due < self._watermark(now)

    def _watermark(self, received: int) -> int:
        return (received - self.limits.lateness) // self.limits.step * self.limits.step

    def advance(self, received: dict[int, int]) -> bool:
        """Hears of the records of a frame; -> whether something that waits is due at one of them."""
        self._advances, self._before = [], self.watermark
        for ordinal in sorted(received):
            mark = self._watermark(received[ordinal])
            if mark > self.watermark:
                self.watermark = mark
                self._advances.append((ordinal, mark))
        return self.due < self.watermark

    def fold(self, arrivals: pl.DataFrame, moves: pl.DataFrame, fire: Fire) -> list[tuple[int, str, int]]:
        """Takes new rows and moves, and judges what is due at each record of the frame at which the watermark moves."""
        advances, self._advances = self._advances, []
        coming: Any = arrivals["time"].min()
        coming = _FOREVER if coming is None else coming + self.reach
        if moves.height and self.correlation.kind == "value_count":
            coming = _NEVER  # a row whose value becomes known may be long due
        if not advances or min(self.due, coming) >= advances[-1][1]:
            self._take(arrivals, moves)
            return []
        stirred = self._stirred(arrivals, moves, advances)
        apart_from = pl.col("key").is_in(list(stirred))
        self._take(arrivals.filter(~apart_from), moves.clear())
        raised, since, rest = list[tuple[int, str, int]](), -1, arrivals.filter(apart_from)
        for advance in advances if stirred else ():
            self._take(_between(rest, since, advance[0]), _between(moves, since, advance[0]))
            raised += self._judge([advance], fire, apart_from)
            since = advance[0]
        raised += self._judge(advances, fire)
        self._take(_between(rest, since, None), _between(moves, since, None))
        return raised

    def _stirred(self, arrivals: pl.DataFrame, moves: pl.DataFrame, advances: list[tuple[int, int]]) -> set[int]:
        """Groups to which rows come that were due already, or from or to which rows move: these need one record after the other.

        To all others whatever comes after the record in which a row is due makes no difference for it.
        """
        ordinals, marks = np.array(advances).T
        known = np.append(self._before, marks)[np.searchsorted(ordinals, arrivals["ordinal"].to_numpy(), "right")]
        stirred = set(arrivals["key"].filter(pl.Series(arrivals["time"].to_numpy() < known)).to_list())
        if moves.height:
            uids = moves["uid"].unique()
            came = arrivals.filter(pl.col("uid").is_in(uids.implode()))
            stirred.update(*(one["key"].to_list() for one in (self.store.by_uid(uids), came, moves)))
        return stirred

    def fold_few(self, arrivals: list[dict[str, Any]], moves: list[dict[str, Any]], fire: Fire) -> list[tuple[int, str, int]]:
        """``fold`` of a few rows."""
        came = pl.DataFrame([[row[name] for name in _ARRIVALS] for row in arrivals], schema=_ARRIVALS, orient="row")
        moved = pl.DataFrame([[move[name] for name in MOVE_SCHEMA] for move in moves], schema=MOVE_SCHEMA, orient="row")
        return self.fold(came, moved, fire)

    def finish(self, ordinal: int, fire: Fire) -> list[tuple[int, str, int]]:
        """Judges all that waits."""
        return self._judge([(ordinal, _FOREVER)], fire)

    def held(self, uids: list[int]) -> dict[int, dict[str, Any]]:
        """Those of a few events that are held, as rows."""
        return self.store.few(uids)

    def by_uid(self, uids: pl.Series) -> pl.DataFrame:
        """The rows of these events that are held."""
        return self.store.by_uid(uids)

    def _take(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> None:
        """Stores what came, and moves what moved, as at the end of these records."""
        if arrivals.height:
            self.store.append(arrivals.select(ROW_SCHEMA.names()).with_columns(hit=pl.lit(None, dtype=pl.Boolean)))
            self._wait_for(arrivals.filter(pl.col("value") != NO_VALUE))
        if moves.is_empty():
            return
        last = moves.unique("uid", keep="last", maintain_order=True).drop("ordinal")
        held = self.store.by_uid(last["uid"])
        moved = held.drop("key", "who", "value").join(last, on="uid", how="inner", maintain_order="left").select(ROW_SCHEMA.names())
        self.store.remove(moved["uid"])
        self.store.append(moved)
        self._wait_for(moved.filter(_WAITS))
        if self.marks:
            keys = dict(moved.select("uid", "key").iter_rows())
            self._take_along(set(held["key"].to_list()), keys)

    def _take_along(self, left: Iterable[int], keys: dict[int, int]) -> None:
        """Marks go with their rows."""
        for key in sorted(left):
            marks = self.marks.pop(key, [])
            for mark in marks:
                insort(self.marks.setdefault(keys.get(mark.uid, key), []), mark, key=_ORDER)

    def _wait_for(self, rows: pl.DataFrame) -> None:
        earliest: Any = rows["time"].min()
        if earliest is not None:
            self.due = min(self.due, earliest + self.reach)

    def _judge(self, advances: list[tuple[int, int]], fire: Fire, among: pl.Expr | None = None) -> list[tuple[int, str, int]]:
        """Judges the rows (``among`` some groups) of which nothing that decides can come any more, each in the first record it is due."""
        ordinals, marks = np.array(advances).T
        if self.due >= marks[-1]:
            return []
        is_due = pl.col("time") < int(marks[-1]) - self.reach
        waiting = self.store.where(_WAITS).select("key", "time", now=is_due if among is None else is_due & among)
        self.due = _FOREVER
        self._wait_for(waiting.filter(~pl.col("now")))
        due = waiting.filter("now")
        if due.is_empty():
            return []
        earliest: Any = due["time"].min()
        rows = self.store.take(due["key"].unique())
        # What decides about them, and the row before.
        near = (pl.col("value") != NO_VALUE) & pl.col("time").is_between(earliest - self.correlation.timespan, int(marks[-1]))
        known, aside = rows.filter(near).sort(_SORTED, maintain_order=True), rows.filter(~near)
        judged = known.select(pl.col("hit").is_null() & is_due).to_series().to_numpy()
        arrays = Arrays(*(known[name].to_numpy() for name in ("key", "time", "steps", "value")))
        found = truth(self.correlation, arrays)
        now = known.with_columns(hit=pl.when(pl.Series(judged)).then(pl.Series(found.hit)).otherwise(pl.col("hit")))
        self.store.append(pl.concat([aside, now]))
        hits = now["hit"].fill_null(value=False).to_numpy()
        at = np.flatnonzero(judged & hits)
        when = ordinals[np.searchsorted(marks, arrays.time[at] + self.reach, "right")]
        return _Edges(self, now, arrays, found._replace(hit=hits)).fire(at, when, fire)

    def end_epoch(self, received: int, remembered: int = 0) -> None:  # noqa: ARG002 - the watermark knows of it
        """Forgets what no window can reach any more. ``remembered`` as in ``Windows``."""
        horizon = self.watermark - self.correlation.timespan - self.reach
        rows = self.store.all().filter((pl.col("time") > horizon) | _WAITS).sort(_SORTED, maintain_order=True)
        before = rows.height
        rows = rows.filter(pl.int_range(pl.len()).reverse().over("key") < self.limits.max_rows_per_group)
        if rows.height > self.limits.max_rows:
            rows = rows.sort(_SORTED[1:], maintain_order=True).tail(self.limits.max_rows).sort(_SORTED, maintain_order=True)
        self.evicted += before - rows.height
        since, self.settled = self.settled, max(self.settled, remembered)
        self.store.replace(apart(rows, self.marks, since, self.settled))
        self.due = _FOREVER
        self._wait_for(rows.filter(_WAITS))
        horizon = self.watermark - self.reach - max(self.correlation.timespan, self.correlation.suppress)
        self.marks = {key: kept for key, marks in self.marks.items() if (kept := [mark for mark in marks if mark.time > horizon])}
        alive = {mark.alert_id for marks in self.marks.values() for mark in marks}
        self.counts = {alert_id: count for alert_id, count in self.counts.items() if alert_id in alive}

    def used(self) -> tuple[set[int], set[int], set[int]]:
        """The numbers of groups, identities and tools that are still needed."""
        keys, who, tools = (set(self.store.all()[name].unique().to_list()) for name in ("key", "who", "tool"))
        return keys | set(self.marks), who, tools

    def renumber(self, keys: NDArray[np.uint32], who: NDArray[np.uint32], tools: NDArray[np.uint32]) -> None:
        """These got other numbers: ``new[old]``."""
        rows = self.store.all()
        new = {name: numbers[rows[name].to_numpy()] for name, numbers in (("key", keys), ("who", who), ("tool", tools))}
        self.store.replace(rows.with_columns(pl.Series(name, numbers) for name, numbers in new.items()))
        self.marks = {int(keys[key]): marks for key, marks in self.marks.items()}

    def state(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        """What a checkpoint keeps: the rows, and the rest as plain values."""
        marks = [[key, [[*mark.order, mark.time, mark.uid, mark.alert_id] for mark in marks]] for key, marks in self.marks.items()]
        rest = {"marks": marks, "counts": self.counts, "evicted": self.evicted, "settled": self.settled, "watermark": self.watermark}
        return self.store.all(), rest

    def restore(self, rows: pl.DataFrame, rest: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.store.replace(rows)
        self.marks = {key: [Mark(tuple(mark[:-3]), *mark[-3:]) for mark in marks] for key, marks in rest["marks"]}
        self.counts, self.evicted, self.settled, self.watermark = (rest[name] for name in ("counts", "evicted", "settled", "watermark"))
        self.due = _FOREVER
        self._wait_for(rows.filter(_WAITS))


class _Edges:
    """Which of the rows just judged true fire, and which only raise a count: as edges.py has it, each row once."""

    def __init__(self, window: Deferred, rows: pl.DataFrame, arrays: Arrays, found: Truth) -> None:
        self.window, self.rows, self.arrays, self.found = window, rows, arrays, found
        self.seq, self.uid = rows["seq"].to_numpy(), rows["uid"].to_numpy()
        self.seen = np.flatnonzero(found.counts)
        self.firings: list[Firing] = []

    def fire(self, at: NDArray[np.int64], when: NDArray[np.int64], fire: Fire) -> list[tuple[int, str, int]]:
        """-> (ordinal, alert id, count) where a count rose. ``at``: rows judged true, in order; ``when``: the record of each."""
        window, changed = self.window, dict[tuple[int, str], int]()
        for i, ordinal in zip(at.tolist(), when.tolist(), strict=True):
            marks = window.marks.setdefault(int(self.arrays.key[i]), [])
            mark = self._alerted(marks, i)
            if mark is None:
                firing = self._firing(i)
                firing.mark.alert_id = fire(window.correlation, ordinal, firing)
                window.counts.setdefault(firing.mark.alert_id, 1)
                insort(marks, firing.mark, key=_ORDER)
                continue
            window.counts[mark.alert_id] = changed[ordinal, mark.alert_id] = window.counts.get(mark.alert_id, 1) + 1
        return [(ordinal, alert_id, count) for (ordinal, alert_id), count in changed.items()]

    def _alerted(self, marks: list[Mark], i: int) -> Mark | None:
        """The alert that a true row belongs to; None where it is an edge."""
        if not marks:
            return None
        time, correlation = int(self.arrays.time[i]), self.window.correlation
        place = bisect_right(marks, self._order(i), key=_ORDER)
        last = marks[place - 1] if place else None
        if last is not None and time - last.time < correlation.suppress and not self._armed(i):
            return last
        return self._covering(marks[place:], i)

    def _armed(self, i: int) -> bool:
        place = int(np.searchsorted(self.seen, i))
        before = int(self.seen[place - 1]) if place else -1
        if before < 0 or self.arrays.key[before] != self.arrays.key[i] or not self.found.hit[before]:
            return True
        return bool(self.arrays.time[before] <= self.arrays.time[i] - self.window.correlation.timespan)

    def _covering(self, later: list[Mark], i: int) -> Mark | None:
        """The alert that already fired later in the same unbroken run, less than ``suppress`` after a row that came late."""
        by_uid = {mark.uid: mark for mark in later}
        for at in self.seen[np.searchsorted(self.seen, i) + 1 :].tolist() if by_uid else ():
            if self.arrays.key[at] != self.arrays.key[i] or not self.found.hit[at]:
                return None
            if self.arrays.time[at] - self.arrays.time[i] >= self.window.correlation.suppress:
                return None
            if mark := by_uid.get(int(self.uid[at])):
                return mark
        return None

    def _firing(self, i: int) -> Firing:
        """With the rows of its window that match its rules: the newest, or where it begins at the row, the first."""
        first, stop = int(self.found.first[i]), int(self.found.stop[i])
        inside = first + np.flatnonzero(self.arrays.steps[first:stop] & np.uint32(ABSENCE - 1))
        some = inside[:MAX_CONTRIBUTING] if first == i else inside[-MAX_CONTRIBUTING:]
        row = self._row(i)
        number = number_of(self.window.correlation, self.arrays.value[inside])
        return Firing(row, number, [self._row(at) for at in some.tolist()], Mark(row.order, row.time, row.uid, ""))

    def _order(self, at: int) -> tuple[int, ...]:
        return int(self.arrays.time[at]), int(self.seq[at]), int(self.arrays.steps[at])

    def _row(self, at: int) -> Row:
        data = self.rows.row(at, named=True)
        return Row(self._order(at), data["time"], data["uid"], data["steps"], bool(data["hit"]), data)


def _between(rows: pl.DataFrame, since: int, until: int | None) -> pl.DataFrame:
    """Those that came in records after ``since``, up to ``until``."""
    if rows.is_empty():
        return rows
    return rows.filter(pl.col("ordinal") > since if until is None else pl.col("ordinal").is_between(since, until, closed="right"))


__all__ = ["Deferred"]
