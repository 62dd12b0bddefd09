"""Events, patches and alerts of inner correlations as the numeric rows and moves that engines fold.

Every text stands in an interner. A correlation reads its events in *parts*: one for each set of columns that its groups are made of
(several where an alias is used), and one for each inner correlation. The ``uid`` of a row is that of its event, with a salt for the
part, so that patches find each row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect.rows import ABSENCE, FEW, ROW_SCHEMA, Interner
from otel_ir.detect.values import Values
from otel_ir.detect.windows import MOVE_SCHEMA
from otel_ir.model import PATCH_COLUMNS, WHO_COLUMNS
from otel_ir.sigma.ruleset import Correlation

TENANT, TOOL = "otel_ir.tenant", "gen_ai.tool.name"
POSITIONS = 1 << 24
"""More than the spans of any request the receivers take (16 MiB)."""
MAX_SALTS = 64
"""Ways in which events may come to a correlation through others; what comes by more of them keeps the group it came to."""
NO_ARRIVALS = pl.DataFrame(schema=ROW_SCHEMA | {"ordinal": pl.Int64})
_NO_ROWS = pl.DataFrame()
_HELD = ["uid", "key", "who", "tool", "value"]
_ROW_COLUMNS = ("event_time", "otel_ir.journal.ordinal", "otel_ir.journal.position", "otel_ir.event.id", "trace_id", "span_id")


class Part(NamedTuple):
    """Rules of a correlation whose groups are read from the same ``columns``, each with its bit; or one ``inner`` correlation.

    ``salts``: what the ``uid`` of an event may be combined with in its rows.
    """

    columns: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]
    salts: tuple[int, ...] = (0,)
    inner: str | None = None

    @property
    def steps(self) -> int:
        """The bits of all its rules."""
        return sum({bit for _, bit in self.rules})


class Wanted(NamedTuple):
    """What one part wants of the events of a frame: which, which of its rules each matches (bits), and its value."""

    rows: NDArray[np.bool_]
    steps: NDArray[np.uint32]
    value: NDArray[np.uint64] | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """The events that some correlation wants: numeric, and what their groups are made of (``words``, as they are); which of the events
    they are; and, once asked for, their groups and tools.
    """

    frame: pl.DataFrame
    words: pl.DataFrame
    take: NDArray[np.int64]
    keys: dict[tuple[tuple[str, ...], ...], pl.Series] = field(default_factory=dict)
    tools: dict[tuple[str, ...], pl.Series] = field(default_factory=dict)
    read: dict[int, dict[str, Any]] = field(default_factory=dict)
    few: bool = False
    """Whether the numbers stand in ``read`` alone."""

    def one(self, at: int) -> dict[str, Any]:
        """One row; read once, however many correlations want it."""
        if at not in self.read:
            self.read[at] = self.frame.row(at, named=True)
        return self.read[at]


class Words:
    """The interners, and the secret that makes numbers of ids and values."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.who, self.tools = Interner(), Interner()
        self.keys: dict[tuple[str, ...], Interner] = {}

    def __len__(self) -> int:
        return len(self.who.values) + len(self.tools.values) + sum(len(one.values) for one in self.keys.values())

    def rows(self, events: pl.DataFrame, intakes: Iterable[Intake], take: NDArray[np.int64], *, few: bool) -> Rows:
        """The events that some correlation wants."""
        if not len(take):
            return Rows(_NO_ROWS, _NO_ROWS, take)
        grouping = {TENANT, TOOL}.union(*(intake.columns for intake in intakes))
        columns = {*_ROW_COLUMNS, *grouping, *WHO_COLUMNS, "event.type"}
        events = events[sorted(columns)]
        if len(take) < events.height:
            events = events[pl.Series(take.astype(np.uint32))]
        if few:
            return self._rows_few(events, take)
        trace = pl.col("trace_id").str.decode("hex", strict=False)
        rows = events.select(
            pl.col("event_time").alias("time"),
            (pl.col("otel_ir.journal.ordinal") * POSITIONS + pl.col("otel_ir.journal.position").cast(pl.Int64)).alias("seq"),
            pl.col("otel_ir.event.id").hash(self.seed).alias("uid"),
            pl.lit(value=False).alias("hit"),
            pl.lit(0, dtype=pl.UInt64).alias("value"),
            trace.bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("trace_high"),
            trace.bin.slice(8, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("trace_low"),
            pl.col("span_id").str.decode("hex", strict=False).bin.reinterpret(dtype=pl.UInt64, endianness="big").fill_null(0).alias("span"),
            pl.col("otel_ir.journal.ordinal").alias("ordinal"),
        )
        who = self.who.column(events, WHO_COLUMNS).alias("who")
        tool = self.tools.column(events, [TOOL]).alias("tool")
        return Rows(rows.hstack([who, tool]), events, take)

    def _rows_few(self, events: pl.DataFrame, take: NDArray[np.int64]) -> Rows:
        """The same for a few events, row by row: numbers in ``read`` alone."""
        uids = events[["otel_ir.event.id"]].select_seq(pl.first().hash(self.seed)).to_series()
        who = self.who.column(events, WHO_COLUMNS)
        tools = self.tools.column(events, [TOOL])
        read = {}
        rows = zip(events[list(_ROW_COLUMNS)].iter_rows(), uids, who, tools, strict=True)
        for at, ((time, ordinal, position, _, trace, span), uid, number, tool) in enumerate(rows):
            traced = _raw(trace)
            read[at] = {
                "time": time, "seq": ordinal * POSITIONS + position, "uid": uid, "hit": False, "value": 0, "who": number, "tool": tool,
                "trace_high": _number(traced[:8]), "trace_low": _number(traced[8:16]), "span": _number(_raw(span)), "ordinal": ordinal,
            }  # fmt: skip
        return Rows(_NO_ROWS, events, take, read=read, few=True)

    def moves(self, patches: pl.DataFrame) -> pl.DataFrame:
        """Patches, numeric: the event, when, and its identity from then on (tenant, sender and service stay the event's own)."""
        if patches.is_empty():
            return patches
        moves = patches.select(
            pl.col("otel_ir.event.id").hash(self.seed).alias("uid"),
            pl.col("otel_ir.journal.ordinal").alias("ordinal"),
            *PATCH_COLUMNS,
        )
        return moves if moves.height <= FEW else moves.sort("ordinal", maintain_order=True)


class Intake:
    """What one correlation takes of events, of patches, and of the alerts of its inner correlations."""

    def __init__(self, correlation: Correlation, inner: Mapping[str, Intake], words: Words) -> None:
        self.correlation, self.words = correlation, words
        self.values = Values(correlation)
        self.parts = tuple(_followed(_parts(correlation, inner)))
        self.plain = tuple(part for part in self.parts if not part.inner)
        self.by_inner = {part.inner: part for part in self.parts if part.inner}
        self.salts = tuple(dict.fromkeys(salt for part in self.parts for salt in part.salts))
        self.columns = {name for part in self.plain for name in part.columns}.union(self.values.fixed)
        self.interner = words.keys.setdefault(correlation.group_by, Interner())

    def wanted(self, events: pl.DataFrame, matched: dict[str, NDArray[np.bool_]]) -> list[Wanted]:
        """For each part: events that match one of the rules, or stand between such in the last N events of the rules' service; never
        without a group, nor without the value that is needed.
        """
        return [self._wanted(part, events, matched) for part in self.plain]

    def _wanted(self, part: Part, events: pl.DataFrame, matched: dict[str, NDArray[np.bool_]]) -> Wanted:
        correlation, steps = self.correlation, np.zeros(events.height, dtype=np.uint32)
        if not events.height:
            return Wanted(steps.astype(np.bool_), steps)
        for rule, bit in part.rules:
            steps |= matched[rule] * np.uint32(bit)
        rows = steps != 0
        if correlation.within_events:
            rows |= _is(events["event.type"], correlation.service) if correlation.service else True
        for name in part.columns:
            if events[name].null_count():
                rows &= events[name].is_not_null().to_numpy()
        if not self.values.fields or not rows.any():
            return Wanted(rows, steps)
        at = np.flatnonzero(rows)
        found, possible = self.values.of(events[list(dict.fromkeys(self.values.columns))][pl.Series(at.astype(np.uint32))], self.words.seed)
        value = np.zeros(events.height, dtype=np.uint64)
        value[at], rows[at] = found, possible
        return Wanted(rows, steps, value)

    def few(self, rows: Rows, wanted: list[Wanted]) -> list[dict[str, Any]]:
        """The rows that came (``ROW_SCHEMA`` and ``ordinal``), one by one."""
        came = []
        for part, mine in zip(self.plain, wanted, strict=True):
            index = np.flatnonzero(mine.rows[rows.take])
            if not len(index):
                continue
            keys, steps, salt = self._groups(part, rows), mine.steps[rows.take], part.salts[0]
            for at in index.tolist():
                row = rows.one(at) | {"key": keys[at], "steps": int(steps[at])}
                if salt:
                    row["uid"] ^= salt
                if mine.value is not None:
                    row["value"] = int(mine.value[rows.take[at]])
                if self.values.fixed:
                    row["tool"] = self._tools(rows)[at]
                came.append(row)
        return came

    def many(self, rows: Rows, wanted: list[Wanted]) -> pl.DataFrame:
        """The same as a frame."""
        if rows.few:
            return pl.DataFrame(self.few(rows, wanted), schema=NO_ARRIVALS.schema)
        found = [self._many(part, rows, mine) for part, mine in zip(self.plain, wanted, strict=True)]
        return found[0] if len(found) == 1 else pl.concat([NO_ARRIVALS, *found])

    def _many(self, part: Part, rows: Rows, wanted: Wanted) -> pl.DataFrame:
        index = np.flatnonzero(wanted.rows[rows.take])
        if not len(index):
            return NO_ARRIVALS
        found = {"key": self._groups(part, rows), "steps": pl.Series(wanted.steps[rows.take])}
        if part.salts[0]:
            found["uid"] = pl.Series(rows.frame["uid"].to_numpy() ^ np.uint64(part.salts[0]))
        if wanted.value is not None:
            found["value"] = pl.Series(wanted.value[rows.take])
        if self.values.fixed:
            found["tool"] = self._tools(rows)
        every = pl.DataFrame([found[name].alias(name) if name in found else rows.frame[name] for name in NO_ARRIVALS.columns])
        return every if len(index) == every.height else every[pl.Series(index.astype(np.uint32))]

    def _groups(self, part: Part, rows: Rows) -> pl.Series:
        """The number of the group of each row."""
        place = (self.correlation.group_by, part.columns)
        if place not in rows.keys:
            rows.keys[place] = self.interner.column(rows.words, [TENANT, *part.columns])
        return rows.keys[place]

    def _tools(self, rows: Rows) -> pl.Series:
        """The number of each row's tool, with the columns of its value that do not change."""
        fixed = self.values.fixed
        if fixed not in rows.tools:
            rows.tools[fixed] = self.words.tools.column(rows.words, [TOOL, *fixed])
        return rows.tools[fixed]

    def alerted(self, inner: Correlation, row: dict[str, Any], group: tuple[Any, ...], ordinal: int) -> dict[str, Any] | None:
        """An alert of an inner correlation, as the row it is here. ``row`` completed it; ``group`` is (tenant, values of group_by)."""
        part, words = self.by_inner[inner.id], self.words
        known = dict(zip(WHO_COLUMNS, words.who.values[row["who"]], strict=True))
        known |= {TOOL: words.tools.values[row["tool"]][0], **dict(zip(inner.group_by, group[1:], strict=True))}
        key = (group[0], *(known[name] for name in part.columns))
        if None in key[1:]:
            return None
        came = row | {"ordinal": ordinal, "uid": row["uid"] ^ _salt(inner.digest), "hit": False, "value": 0, "steps": part.steps}
        if self.values.fields:
            came["value"], possible = self.values.of_one(known, words.seed)
            if not possible:
                return None
        came["tool"] = words.tools.number((known[TOOL], *(known[name] for name in self.values.fixed)))
        came["key"] = self.interner.number(key)
        return came

    def moved_few(self, held: Any, came: list[dict[str, Any]], moves: pl.DataFrame) -> list[dict[str, Any]]:
        """The moves of this correlation's rows, one by one: each with its new group, identity and value, the group it comes ``from``,
        the value that it ``was`` and its ``time``. ``held`` finds rows by uid.
        """
        if moves.is_empty():
            return []
        asked = [(move, part, move["uid"] ^ salt) for move in moves.iter_rows(named=True) for part in self.parts for salt in part.salts]
        found = held([uid for _, _, uid in asked]) | {row["uid"]: row for row in came}
        known, at = [], dict[int, tuple[int, int]]()
        # A patch says nothing of a row that the same record or a later one brought.
        asked = [one for one in asked if one[2] in found and found[one[2]].get("ordinal", -1) < one[0]["ordinal"]]
        for patch, part, uid in sorted(asked, key=lambda one: int(one[0]["ordinal"])):
            row, move = found[uid], dict(patch)
            # A patch gives what may change; tenant, sender and service stand in the old identity, other columns in the old group.
            now = dict(zip((TENANT, *part.columns), self.interner.values[row["key"]], strict=True))
            now |= dict(zip(WHO_COLUMNS, self.words.who.values[row["who"]], strict=True)) | patch
            move["uid"], move["value"] = uid, row["value"]
            if self.values.late:
                now |= dict(zip(self.values.fixed, self.words.tools.values[row["tool"]][1:], strict=True))
                move["value"], _ = self.values.of_one(now, self.words.seed)
            move["key"] = self.interner.number(tuple(now[name] for name in (TENANT, *part.columns)))
            move["who"] = self.words.who.number(tuple(now[name] for name in WHO_COLUMNS))
            move["from"], move["was"] = at.get(uid, (row["key"], row["value"]))
            move["time"] = row["time"]
            at[uid] = (move["key"], move["value"])
            known.append(move)
        return known

    def moved(self, by_uid: Any, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        """The same as a frame (``MOVE_SCHEMA``)."""
        if moves.is_empty():
            return MOVE_SCHEMA.to_frame()
        found = [self._moved(part, salt, by_uid, arrivals, moves) for part in self.parts for salt in part.salts]
        return found[0] if len(found) == 1 else pl.concat(found).sort("ordinal", maintain_order=True)

    def _moved(self, part: Part, salt: int, by_uid: Any, arrivals: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
        if salt:
            moves = moves.with_columns(uid=pl.Series(moves["uid"].to_numpy() ^ np.uint64(salt)))
        held = pl.concat([by_uid(moves["uid"].unique()).select(_HELD), arrivals.select(_HELD)])
        moving = moves.join(held, on="uid", how="inner", maintain_order="left")
        if part.inner and moving.height:
            # A patch says nothing of a row that the same record or a later one brought.
            came = arrivals.select("uid", came="ordinal")
            moving = moving.join(came, on="uid", how="left", maintain_order="left").filter(
                (pl.col("came") < pl.col("ordinal")).fill_null(value=True)
            )
        if moving.is_empty():
            return MOVE_SCHEMA.to_frame()
        # What no patch changes stands in the old numbers: tenant, sender, service, and other columns it is grouped by.
        now = moving.select(PATCH_COLUMNS)
        for interner, number, names in (
            (self.words.who, "who", WHO_COLUMNS),
            (self.interner, "key", (TENANT, *part.columns)),
            (self.words.tools, "tool", (TOOL, *self.values.fixed) if self.values.fixed else ()),
        ):
            now = now.hstack(_words(interner, moving[number], names, known=now.columns))
        if self.values.late:
            moving = moving.with_columns(value=pl.Series(self.values.of(now, self.words.seed)[0]))
        key = self.interner.column(now, [TENANT, *part.columns]).alias("key")
        who = self.words.who.column(now, WHO_COLUMNS).alias("who")
        return pl.DataFrame([moving["uid"], moving["ordinal"], key, who, moving["value"]])


def _parts(correlation: Correlation, inner: Mapping[str, Intake]) -> Iterator[Part]:
    bits: dict[str, int] = {}
    columns: dict[tuple[str, ...], list[str]] = {}
    for step, rule in enumerate(correlation.rules):
        bits[rule] = bits.get(rule, 0) | 1 << step
        if rule not in correlation.inner and rule not in columns.setdefault(correlation.read_from(step), []):
            columns[correlation.read_from(step)].append(rule)
    columns = {read: rules for read, rules in columns.items() if rules}
    if correlation.absence:
        columns.setdefault(correlation.group_by, []).append(correlation.absence.rule)
        bits[correlation.absence.rule] = bits.get(correlation.absence.rule, 0) | ABSENCE
    for read, rules in columns.items():
        yield Part(read, tuple((rule, bits[rule]) for rule in rules), (_salt(*read) if correlation.columns else 0,))
    for step, rule in enumerate(correlation.rules):
        if rule in correlation.inner and correlation.rules.index(rule) == step:
            below = inner[rule]
            salt = _salt(below.correlation.digest)
            yield Part(correlation.read_from(step), ((rule, bits[rule]),), tuple(one ^ salt for one in below.salts), rule)


def _followed(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts with at least one salt each, and no more than ``MAX_SALTS`` where that is possible."""
    left = MAX_SALTS
    for part in parts:
        yield part._replace(salts=part.salts[: max(1, left)])
        left -= len(part.salts)


def _salt(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(words).encode()).digest()[:8])


def _raw(text: str | None) -> bytes:
    """The bytes of an id in hex, none where it is no hex."""
    try:
        return bytes.fromhex(text) if text and text.isalnum() else b""
    except ValueError:
        return b""


def _number(raw: bytes) -> int:
    """Eight bytes as a number, 0 where there are more or less."""
    return int.from_bytes(raw) if len(raw) == 8 else 0


def _is(column: pl.Series, word: str) -> NDArray[np.bool_]:
    """Rows with this text; the column has no nulls."""
    if len(column) <= FEW:
        return np.array([text == word for text in column.to_list()], dtype=np.bool_)
    return (column == word).to_numpy()


def _words(interner: Interner, numbers: pl.Series, names: Sequence[str], known: Sequence[str]) -> list[pl.Series]:
    """What these numbers stand for, a row each: the columns that are not known yet."""
    wanted = {name: at for at, name in enumerate(names) if name not in known}
    if not wanted:
        return []
    used = numbers.unique().to_list()
    columns = {str(at): [interner.values[one][at] for one in used] for at in wanted.values()}
    every = pl.DataFrame({"n": used, **columns}, schema_overrides={"n": pl.UInt32})
    found = pl.DataFrame({"n": numbers}).join(every, on="n", how="left", maintain_order="left")
    return [found[str(at)].alias(name) for name, at in wanted.items()]


__all__ = ["NO_ARRIVALS", "POSITIONS", "Intake", "Part", "Rows", "Wanted", "Words"]
