"""Who called? Identity that stands on other spans, and arrives later than the call.

A *slot* is the parent of events that lack a field. A slot takes each field from the nearest ancestor that has it, and until that is known
from the first sibling that may lend it. What a slot knows is a short timeline: which value, from which journal record on. So a frame of
many records gives exactly what its records would have given one by one.

Most tool spans do not say who called and the agent's span ends last (reference: of 152 tool spans with an identifiable agent ancestor
148 were exported before it), so nothing here waits: an event goes out at once with the best identity known, and is patched.

Spans are rows of one numeric table, found by the hash of their ids (``hashes.py``). Python steps are taken per slot, never per span.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.model import EPOCH
from otel_ir.normalize.hashes import HashIndex, Keys

AGENT, CONVERSATION, USER = FIELDS = range(3)
"""The fields of an identity. As bits of a mask: ``1 << AGENT`` and so on."""
Identity = tuple[tuple[str, str | None, str | None] | None, str | None, str | None]
"""What one span says: agent (id, name, ``gen_ai.agent.id``), conversation, user."""
Known = list[Any]
"""By field the value, then by field the journal record from which on it is known."""
NOBODY: Identity = (None, None, None)
MANY_IDENTITIES = 1 << 16
"""Identities that are remembered before those that no span has any more are looked for."""


@dataclass(slots=True)
class Slot:
    """What is known for the children of one span: from above (``found``) and from siblings (``lent``).

    ``at`` is where the walk upwards stands (0: at its end), ``ordinal`` the record of the first event that asked. Masks of fields:
    ``wants`` what some event lacks, ``has`` what is known.
    """

    key: int
    at: int
    ordinal: int
    hops: int = 0
    reach: int = 0
    wants: int = 0
    has: int = 0
    found: Known | None = None
    lent: Known | None = None

    def times(self, since: int) -> list[int]:
        """Journal records, from ``since`` on, at which something that is wanted became known."""
        wanted = [name for name in FIELDS if self.wants >> name & 1]
        known = [values[name + 3] for values in (self.found, self.lent) if values for name in wanted if values[name] is not None]
        return sorted({ordinal for ordinal in known if ordinal >= since})

    @property
    def since(self) -> int:
        """Journal record at which it began to know something."""
        known: list[int] = [values[name + 3] for values in (self.found, self.lent) if values for name in FIELDS if values[name] is not None]
        return min(known)

    def known(self, name: int, ordinal: int) -> tuple[Any, str]:
        """What was known of a field as of a journal record: (value or None, source)."""
        for source, values in (("ancestor", self.found), ("sibling", self.lent)):
            if values and values[name] is not None and values[name + 3] <= ordinal:
                return values[name], source
        return None, "none"

    def find(self, values: Identity, ordinal: int) -> None:
        """Takes what an ancestor says and nearer ones did not."""
        self.found, mask = _filled(self.found, values, ordinal)
        self.has |= mask

    def borrow(self, values: Identity, ordinal: int) -> int:
        """Takes what a sibling says and no earlier one did; -> mask of what is new."""
        self.lent, mask = _filled(self.lent, values, ordinal)
        self.has |= mask
        return mask


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
    identity: Identity


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

    def look(self, keys: Sequence[int]) -> Iterator[tuple[int, int, int] | None]:
        """(parent, ordinal, identity) of each of these spans, None for one that is not known."""
        numbers = self._index.find(np.array(keys, dtype=np.uint64), self.first)
        columns = self._rows[1:, np.maximum(numbers - self.first, 0)].tolist()
        for number, parent, ordinal, identity in zip(numbers.tolist(), *columns, strict=True):
            yield None if number < 0 else (parent, ordinal, identity)

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
        self.identities: dict[int, Identity] = {0: NOBODY}
        self.slots: dict[int, Slot] = {}
        self.lent: dict[int, Known] = {}
        self.epochs: deque[tuple[int, int, int]] = deque()
        """(epoch, number of the first span after it, receive time of its last record)"""
        self._waiting: dict[int, list[int]] = {}
        self._awaited = HashIndex()
        self._many = MANY_IDENTITIES

    def lend(self, offers: Iterable[tuple[int, int, int]]) -> dict[int, Slot]:
        """(parent, identity, ordinal) in journal order: the first one that has a field counts. -> slots that learnt something."""
        changed: dict[int, Slot] = {}
        for parent, identity, ordinal in offers:
            values = self.identities[identity]
            self.lent[parent], _ = _filled(self.lent.get(parent), values, ordinal)
            slot = self.slots.get(parent)
            if slot is not None and slot.borrow(values, ordinal):
                changed[parent] = slot
        return changed

    def open(self, wanted: Iterable[tuple[int, int, int]]) -> dict[int, Slot]:
        """(parent, ordinal of the first event that asks, mask of what is lacking) -> the slots of these parents."""
        touched: dict[int, Slot] = {}
        fresh = []
        for key, ordinal, wants in wanted:
            slot = self.slots.get(key)
            if slot is None:
                slot = self.slots[key] = Slot(key, key, ordinal)
                if lent := self.lent.get(key):
                    slot.lent, slot.has = lent.copy(), _mask(lent)
                fresh.append(slot)
            slot.wants |= wants
            touched[key] = slot
        self._walk(fresh)
        return touched

    def wake(self, arrived: Keys) -> dict[int, Slot]:
        """Spans that arrived: walks on for the slots that waited for them. -> those slots."""
        woken: dict[int, Slot] = {}
        if self._waiting:
            for key in arrived[self._awaited.find(arrived) >= 0].tolist():
                for number in self._waiting.pop(key, ()):
                    if slot := self.slots.get(number):
                        woken[number] = slot
            self._walk(list(woken.values()))
        return woken

    def _walk(self, slots: list[Slot]) -> None:
        """Upwards, all of them one step at a time, until a span is not there yet."""
        stuck = []
        while slots:
            further = []
            for slot, node in zip(slots, self.nodes.look([slot.at for slot in slots]), strict=True):
                if node is None:
                    self._waiting.setdefault(slot.at, []).append(slot.key)
                    stuck.append(slot.at)
                    continue
                parent, ordinal, identity = node
                slot.reach, slot.at, slot.hops = max(slot.reach, ordinal), parent, slot.hops + 1
                if identity:
                    slot.find(self.identities[identity], slot.reach)
                if slot.at and slot.hops < self.limits.max_hops:
                    further.append(slot)
                else:
                    slot.at = 0
            slots = further
        if stuck:
            self._awaited.claim(np.array(stuck, dtype=np.uint64), np.zeros(len(stuck), dtype=np.int64))

    def above(self, keys: Sequence[int]) -> list[Node | None]:
        """These spans, None for one that is not known."""
        return [node and Node(node[0], node[1], self.identities[node[2]]) for node in self.nodes.look(keys)]

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
        self.slots = {key: slot for key, slot in self.slots.items() if slot.ordinal >= first}
        self.lent = {key: kept for key, lent in self.lent.items() if (kept := _since(lent, first))}
        self._wait_again()
        self._tidy()
        return first

    def _wait_again(self) -> None:
        self._waiting = {}
        for slot in self.slots.values():
            if slot.at:
                self._waiting.setdefault(slot.at, []).append(slot.key)
        self._awaited = HashIndex(len(self._waiting))
        self._awaited.claim(np.array(list(self._waiting), dtype=np.uint64), np.zeros(len(self._waiting), dtype=np.int64))

    def _tidy(self) -> None:
        """Drops identities that no span has any more; seldom, because it looks at all spans."""
        if len(self.identities) > self._many:
            used = np.unique(self.nodes.rows[3]).tolist()
            self.identities = {0: NOBODY} | {number: self.identities[number] for number in used}
            self._many = max(MANY_IDENTITIES, 2 * len(self.identities))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps. The indexes, and who waits, follow from the rest."""
        rest = (self.nodes.first, self.identities, list(self.slots.values()), self.lent, list(self.epochs), self._many)
        # The orientation is said: of four spans by four columns it would be guessed.
        spans = pl.DataFrame(self.nodes.rows.copy().T, schema=_SPANS, orient="row")
        return {"spans": spans, "traces": msgspec.msgpack.encode(rest)}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        first, self.identities, slots, self.lent, epochs, self._many = msgspec.msgpack.decode(state["traces"], type=_STATE)
        self.nodes = Nodes(np.ascontiguousarray(state["spans"].to_numpy().T), first)
        self.epochs = deque(epochs)
        for known in (*self.lent.values(), *(known for slot in slots for known in (slot.found, slot.lent) if known)):
            known[AGENT] = known[AGENT] and tuple(known[AGENT])
        self.slots = {slot.key: slot for slot in slots}
        self._wait_again()


_SPANS = pl.Schema(dict.fromkeys(("key", "parent", "ordinal", "identity"), pl.UInt64))
_STATE = tuple[int, dict[int, Identity], list[Slot], dict[int, Known], list[tuple[int, int, int]], int]


def _filled(known: Known | None, values: Identity, ordinal: int) -> tuple[Known, int]:
    """With what is not known yet; -> mask of that, too."""
    if known is None:
        known = [*values, ordinal, ordinal, ordinal]
        return known, _mask(known)
    mask = 0
    for name in FIELDS:
        if known[name] is None and values[name] is not None:
            known[name], known[name + 3] = values[name], ordinal
            mask |= 1 << name
    return known, mask


def _mask(known: Known) -> int:
    return (known[0] is not None) | (known[1] is not None) << 1 | (known[2] is not None) << 2


def _since(known: Known, first: int) -> Known | None:
    """A copy without what became known before journal record ``first``."""
    kept = [known[name] if known[name + 3] >= first else None for name in FIELDS]
    return [*kept, *known[3:]] if any(one is not None for one in kept) else None


def agent_of(service: str | None, name: str | None, agent_id: str | None) -> tuple[str, str | None, str | None] | None:
    """``otel_ir.agent.id`` = service.name/stable id or name (DESIGN, canonical event)."""
    known = agent_id or name
    return None if known is None else (f"{service or ''}/{known}", name, agent_id)


def provisional(service: pl.Expr, trace: pl.Expr, parent: pl.Expr) -> pl.Expr:
    """``service.name/~trace/parent`` stands for an agent that is not known yet: never coarser than what comes out."""
    return pl.concat_str(service.fill_null(""), pl.lit("/~"), trace.fill_null(""), pl.lit("/"), parent.fill_null(""))
