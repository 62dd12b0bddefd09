"""Who called? Identity that stands on other spans, and arrives later than the call.

A *slot* is the parent of events that lack a field. A slot takes each field from the nearest ancestor that has it, and until that is known
from the first sibling that may lend it. What a slot knows is a short timeline: which value, from which journal record on. So a frame of
many records gives exactly what its records would have given one by one.

Most tool spans do not say who called and the agent's span ends last (reference: of 152 tool spans with an identifiable agent ancestor
148 were exported before it), so nothing here waits: an event goes out at once with the best identity known, and is patched.

Spans and slots are rows of numeric tables, found by the hash of their ids (``hashes.py``, ``slots.py``). No Python step is taken for one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.model import EPOCH
from otel_ir.normalize.hashes import HashIndex, Keys, Numbers
from otel_ir.normalize.slots import AGENT, FIELDS, SLOT, Identities, Table, take_first

Identity = tuple[tuple[str, str | None, str | None] | None, str | None, str | None]
"""What one span says: agent (id, name, ``gen_ai.agent.id``), conversation, user."""
NOBODY: Identity = (None, None, None)
KEY, AT, ORDINAL, REACH, HOPS, WANTS, NEXT, WHO, WHEN = (*range(8), 13)
"""Columns of a slot. ``AT``: where the walk upwards stands (0: at its end); ``ORDINAL``: the record of the first event that asked;
``REACH``: the newest record on the way so far; ``WANTS``: mask of what some event lacks; ``NEXT``: 1 + number of the next slot that waits
for the same span. What is known from above, then from siblings, by field: ``WHO`` says so, and ``WHEN`` that became known."""
_WIDTH, _LENT = WHEN + 6, 3
_LENT_WIDTH = 1 + 2 * _LENT
"""Columns of what siblings lend: key, who says each field, and from which record on."""
MANY_IDENTITIES = 1 << 16
"""Identities that are remembered before those that no span has any more are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLimits:
    """Bounds of what is remembered of open traces. ``ttl`` in ns of receive time; ``epoch`` in journal records."""

    epoch: int = EPOCH
    ttl: int = 3_600_000_000_000
    max_nodes: int = 1_000_000
    max_hops: int = 64


class Node(NamedTuple):
    """A span: its parent's key (0: it has none), the record that brought it, what it says itself."""

    parent: int
    ordinal: int
    identity: int


class Nodes:
    """Spans, numbered in the order in which they came; those below ``first`` are forgotten. Identities are numbers, too."""

    def __init__(self, rows: Keys | None = None, first: int = 0) -> None:
        size = 0 if rows is None else rows.shape[1]
        self.first, self.end = first, first + size
        self._rows = np.empty((4, max(1 << 10, 2 * size)), dtype=np.uint64)
        self._index = HashIndex(size)
        if rows is not None:
            self._rows[:, :size] = rows
            self._index.claim(rows[0], np.arange(first, self.end))

    @property
    def rows(self) -> Keys:
        """Key, parent, ordinal, identity, from ``first`` on."""
        return self._rows[:, : self.end - self.first]

    def add(self, *columns: Keys) -> NDArray[np.bool_]:
        """Columns as in ``rows`` -> per span whether it is new; of equal ones only the first is kept."""
        numbers = np.arange(self.end, self.end + len(columns[0]))
        new: NDArray[np.bool_] = self._index.claim(columns[0], numbers, self.first) == numbers
        if not new.all():
            columns = tuple(column[new] for column in columns)
            numbers = numbers[: len(columns[0])]
            self._index.move(columns[0], numbers)
        start, end = self.end - self.first, self.end - self.first + len(numbers)
        if end > self._rows.shape[1]:
            self._rows = np.concatenate([self.rows, np.empty((4, end), dtype=np.uint64)], axis=1)
        for row, column in zip(self._rows, columns, strict=True):
            row[start:end] = column
        self.end += len(numbers)
        return new

    def look(self, keys: Keys) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which of these spans are known, and of these parent, ordinal and identity."""
        numbers = self._index.find(keys, self.first)
        known = numbers >= 0
        return known, self._rows[1:, numbers[known] - self.first].view(np.int64)

    def forget(self, first: int) -> None:
        """Spans with smaller numbers."""
        kept = self._rows[:, first - self.first : self.end - self.first]
        self._rows = np.concatenate([kept, np.empty_like(kept)], axis=1)
        self.first = first


class Traces:
    """Open traces: spans, slots, and what siblings lend."""

    def __init__(self, limits: TraceLimits | None = None) -> None:
        self.limits = limits or TraceLimits()
        self.nodes = Nodes()
        self.identities = Identities()
        self.slots = Table(_WIDTH)
        self.lent = Table(_LENT_WIDTH)
        self.epochs: deque[tuple[int, int, int]] = deque()
        """(epoch, number of the first span after it, receive time of its last record)"""
        self._awaited = HashIndex()
        """key of a span that is not there yet -> number of the first slot that waits for it"""
        self._many = MANY_IDENTITIES

    def lend(self, parents: Keys, said: Numbers, at: Numbers) -> Numbers:
        """What spans say to their siblings, in journal order: the first one that has a field counts. -> slots that learnt something."""
        if not len(parents):
            return _NONE
        lent, _ = self.lent.claim(parents)
        lenders, slots = self.lent.rows, self.slots.find(parents)
        asked = np.flatnonzero(slots >= 0)
        slots, rows = slots[asked], self.slots.rows
        changed = np.zeros(len(asked), dtype=np.bool_)
        for field in FIELDS:
            who = np.where(self.identities.values(field, said) != 0, said, 0)
            take_first(lenders[1 + field], lenders[1 + _LENT + field], lent, who, at)
            if len(asked):
                place = 3 + field
                changed |= take_first(rows[WHO + place], rows[WHEN + place], slots - self.slots.first, who[asked], at[asked])
        return slots[changed]

    def open(self, keys: Keys, at: Numbers, wants: NDArray[np.uint8]) -> Numbers:
        """Parents of events, the records of these (ascending), and masks of what they lack -> their slots."""
        slots, fresh = self.slots.claim(keys)
        rows, place = self.slots.rows, slots - self.slots.first
        if len(fresh):
            new = place[fresh]
            rows[AT, new], rows[ORDINAL, new] = rows[KEY, new], at[fresh]
            lent = self.lent.find(keys[fresh])
            known = np.flatnonzero(lent >= 0)
            if len(known):
                lenders, lent = self.lent.rows, lent[known]
                for column in range(_LENT):
                    rows[WHO + 3 + column, new[known]] = lenders[1 + column, lent]
                    rows[WHEN + 3 + column, new[known]] = lenders[1 + _LENT + column, lent]
        for field in FIELDS:
            asking = place[(wants >> field & 1).astype(np.bool_)]
            rows[WANTS, asking] |= 1 << field
        self._walk(slots[fresh])
        return slots

    def reopen(self, keys: Keys, at: Numbers, wants: NDArray[np.uint8]) -> Numbers:
        """``open`` for events of earlier records, whose caller is found to stand elsewhere."""
        slots = self.open(keys, at, wants)
        np.minimum.at(self.slots.rows[ORDINAL], slots - self.slots.first, at)
        return slots

    def wake(self, arrived: Keys) -> Numbers:
        """Spans that arrived: walks on for the slots that waited for them. -> those slots."""
        if not self._awaited.used:
            return _NONE
        heads = self._awaited.find(arrived)
        keys, slots = arrived[heads >= 0], heads[heads >= 0]
        if not len(slots):
            return _NONE
        self._awaited.move(keys, np.full(len(keys), -1))
        woken = []
        while len(slots):
            woken.append(slots)
            slots = self.slots.rows[NEXT, slots - self.slots.first] - 1
            slots = slots[slots >= 0]
        found = np.concatenate(woken)
        self._walk(found)
        return found

    def _walk(self, slots: Numbers) -> None:
        """Upwards, all of them one step at a time, until a span is not there yet."""
        rows, at = self.slots.rows, slots - self.slots.first
        stuck = []
        while len(at):
            known, (parent, ordinal, identity) = self.nodes.look(rows[AT, at].view(np.uint64))
            if len(parent) < len(at):
                stuck.append(at[~known])
                at = at[known]
            reach, hops = np.maximum(rows[REACH, at], ordinal), rows[HOPS, at] + 1
            rows[REACH, at], rows[HOPS, at] = reach, hops
            if identity.any():
                for field in FIELDS:
                    who = np.where(self.identities.values(field, identity) != 0, identity, 0)
                    take_first(rows[WHO + field], rows[WHEN + field], at, who, reach)
            further = (parent != 0) & (hops < self.limits.max_hops)
            rows[AT, at] = np.where(further, parent, 0)
            at = at[further]
        if stuck:
            self._await(np.concatenate(stuck))

    def _await(self, stuck: Numbers) -> None:
        """Slots (rows of the table) that wait for the span at which they stand: a chain for each span, the newest in front."""
        rows = self.slots.rows
        stuck = stuck[np.argsort(rows[AT, stuck], kind="stable")]
        keys, numbers = rows[AT, stuck].view(np.uint64), stuck + self.slots.first
        same = keys[1:] == keys[:-1]
        last = np.flatnonzero(np.append(~same, True))
        rows[NEXT, stuck[:-1]] = np.where(same, numbers[1:] + 1, 0)
        rows[NEXT, stuck[last]] = self._awaited.find(keys[last]) + 1
        first = np.flatnonzero(np.append(True, ~same))
        self._awaited.claim(keys[first], numbers[first])
        self._awaited.move(keys[first], numbers[first])

    def known(self, slots: Numbers, at: Numbers) -> tuple[Numbers, Numbers]:
        """What slots knew as of journal records -> by field who said so (0: nobody), and whether the agent stands above (2), beside (1)."""
        rows, place = self.slots.rows, slots - self.slots.first
        who = np.zeros((3, len(slots)), dtype=np.int64)
        source = np.zeros(len(slots), dtype=np.int64)
        for field in FIELDS:
            for near, column in ((1, 3 + field), (2, field)):
                said = rows[WHO + column, place]
                hit = (said != 0) & (rows[WHEN + column, place] <= at)
                who[field] = np.where(hit, said, who[field])
                if field == AGENT:
                    source[hit] = near
        return who, source

    def as_of(self, keys: Keys, at: Numbers) -> pl.DataFrame:
        """What the slots of these keys knew as of journal records: ``slot``, ``at`` and the texts of it (``Identities.texts``)."""
        texts = self.identities.texts(*self.known(self.slots.find(keys), at))
        return pl.DataFrame([pl.Series(SLOT, keys), pl.Series("at", at), *texts])

    def alive(self, keys: Keys, at: Numbers) -> NDArray[np.bool_]:
        """Whether a slot is still the one that an event of that record asked; key 0 is always alive."""
        slots = self.slots.find(keys)
        found: NDArray[np.bool_] = (slots >= 0) & (keys != 0)
        found[found] = self.slots.rows[ORDINAL, slots[found] - self.slots.first] <= at[found]
        found |= keys == 0
        return found

    def changes(self, slots: Numbers, since: int) -> pl.DataFrame | None:
        """The journal records, from ``since`` on, at which these slots learnt something that is wanted; None where there is none.

        As ``as_of``, with ``opened``, the record of the first event that asked, and ``better``: a mask of the fields that got better then.
        """
        slots = np.unique(slots)
        rows, place = self.slots.rows, slots - self.slots.first
        wants = rows[WANTS, place]
        when = np.where((rows[WHO:WHEN, place] != 0) & (wants >> _FIELD_OF & 1 != 0), rows[WHEN:, place], -1)
        column, row = np.nonzero(when >= max(since, 0))
        if not len(row):
            return None
        at = when[column, row]
        order = np.lexsort((at, row))
        row, at = row[order], at[order]
        kept = np.append(True, (row[1:] != row[:-1]) | (at[1:] != at[:-1]))
        row, at = row[kept], at[kept]
        now, before = self.known(slots[row], at), self.known(slots[row], at - 1)
        better = (now[1] != before[1]).astype(np.int64) << AGENT
        for field in FIELDS:
            values = (self.identities.values(field, who[field]) for who in (now[0], before[0]))
            better |= np.not_equal(*values).astype(np.int64) << field
        told = np.flatnonzero(better & wants[row])
        if not len(told):
            return None
        row, at = row[told], at[told]
        texts = self.identities.texts(now[0][:, told], now[1][told])
        place = place[row]
        return pl.DataFrame(
            [
                pl.Series("opened", rows[ORDINAL, place]),
                pl.Series("better", better[told].astype(np.uint8)),
                pl.Series(SLOT, rows[KEY, place].view(np.uint64)),
                pl.Series("at", at),
                *texts,
            ]
        )

    def above(self, keys: Sequence[int]) -> list[Node | None]:
        """These spans, None for one that is not known."""
        known, columns = self.nodes.look(np.array(keys, dtype=np.uint64))
        nodes = iter(columns.T.tolist())
        found = []
        for is_known in known.tolist():
            parent, ordinal, identity = next(nodes) if is_known else (0, 0, 0)
            found.append(Node(parent & _UNSIGNED, ordinal, identity) if is_known else None)
        return found

    def end_epoch(self, epoch: int, received: int) -> int | None:
        """Evicts whole epochs: those past ``ttl``, and the oldest beyond ``max_nodes``. -> first ordinal kept, None: nothing went."""
        self.epochs.append((epoch, self.nodes.end, received))
        evicted = None
        while self.epochs and (
            self.nodes.end - (evicted or self.nodes.first) > self.limits.max_nodes or self.epochs[0][2] < received - self.limits.ttl
        ):
            evicted = self.epochs.popleft()[1]
        if evicted is None:
            return None
        self.nodes.forget(evicted)
        first = (self.epochs[0][0] if self.epochs else epoch + 1) * self.limits.epoch
        # Slots are numbered in the order of the records that opened them; what was reopened stays with its neighbors.
        opened = np.maximum.accumulate(self.slots.rows[ORDINAL])
        self.slots.forget(self.slots.first + int(np.searchsorted(opened, first)))
        rows = self.lent.rows
        rows[1 : 1 + _LENT][rows[1 + _LENT :] < first] = 0
        self.lent = Table(_LENT_WIDTH, rows[:, rows[1 : 1 + _LENT].any(axis=0)])
        self._wait_again()
        self._tidy()
        return first

    def _wait_again(self) -> None:
        waiting = np.flatnonzero(self.slots.rows[AT])
        self._awaited = HashIndex(len(waiting))
        if len(waiting):
            self._await(waiting)

    def _tidy(self) -> None:
        """Drops identities that nobody has any more; seldom, because it looks at all spans."""
        if len(self.identities) > self._many:
            rows, slots, lent = self.nodes.rows[3], self.slots.rows[WHO:WHEN], self.lent.rows[1 : 1 + _LENT]
            used = np.unique(np.concatenate([[0], rows.view(np.int64), slots.ravel(), lent.ravel()]))
            for numbers in (rows, slots, lent):
                numbers[...] = np.searchsorted(used, numbers.view(np.int64))
            self.identities.keep(used)
            self._many = max(MANY_IDENTITIES, 2 * len(self.identities))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps. The indexes, and who waits, follow from the rest."""
        # The orientation is said: of as many rows as columns it would be guessed.
        tables = {"spans": self.nodes.rows.view(np.int64), "slots": self.slots.rows, "lent": self.lent.rows}
        frames = {name: pl.DataFrame(rows.copy().T, schema=_columns(len(rows)), orient="row") for name, rows in tables.items()}
        rest = (self.nodes.first, self.slots.first, list(self.epochs), self._many)
        return {**frames, "identities": self.identities.state(), "traces": msgspec.msgpack.encode(rest)}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        first, opened, epochs, self._many = msgspec.msgpack.decode(state["traces"], type=_STATE)
        spans, slots, lent = (np.ascontiguousarray(state[name].to_numpy().T) for name in ("spans", "slots", "lent"))
        self.nodes, self.slots, self.lent = Nodes(spans.view(np.uint64), first), Table(_WIDTH, slots, opened), Table(_LENT_WIDTH, lent)
        self.identities = Identities(state["identities"])
        self.epochs = deque(epochs)
        self._wait_again()


def _columns(width: int) -> pl.Schema:
    return pl.Schema({str(place): pl.Int64() for place in range(width)})


_NONE = np.empty(0, dtype=np.int64)
_FIELD_OF = np.array([*FIELDS, *FIELDS])[:, None]
_UNSIGNED = (1 << 64) - 1
_STATE = tuple[int, int, list[tuple[int, int, int]], int]


def agent_of(service: str | None, name: str | None, agent_id: str | None) -> tuple[str, str | None, str | None] | None:
    """``otel_ir.agent.id`` = service.name/stable id or name (DESIGN, canonical event)."""
    known = agent_id or name
    return None if known is None else (f"{service or ''}/{known}", name, agent_id)


def provisional(service: pl.Expr, trace: pl.Expr, parent: pl.Expr) -> pl.Expr:
    """``service.name/~trace/parent`` stands for an agent that is not known yet: never coarser than what comes out."""
    return pl.concat_str(service.fill_null(""), pl.lit("/~"), trace.fill_null(""), pl.lit("/"), parent.fill_null(""))
