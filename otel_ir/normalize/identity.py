"""Who called? Identity that stands on other spans, and arrives later than the call.

A *slot* is the parent of events that lack a field. A slot takes each field from the nearest ancestor that has it, and until that is known
from the first sibling that may lend it. What a slot knows is a short timeline: which value, from which journal record on. So a
frame of many records gives exactly what its records would have given one by one.

Most tool spans do not say who called and the agent's span ends last (reference: of 152 tool spans with an identifiable agent ancestor
148 were exported before it), so nothing here waits: an event goes out at once with the best identity known, and is patched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import polars as pl

from otel_ir.model import EPOCH

FIELDS = ("agent", "conversation", "user")


class Node(NamedTuple):
    """A span: which record brought it, its parent's key, and its own identity (agent: id, name, ``gen_ai.agent.id``)."""

    ordinal: int
    parent: str | None
    agent: tuple[str, str | None, str | None] | None
    conversation: str | None
    user: str | None
    tripped: bool | None


@dataclass(slots=True)
class Slot:
    """What is known for the children of one span. ``found`` and ``lent``: field -> (value, journal record from which on it is known)."""

    number: int
    key: str
    at: str | None
    ordinal: int
    hops: int = 0
    reach: int = 0
    found: dict[str, tuple[Any, int]] = field(default_factory=dict)
    lent: dict[str, tuple[Any, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLimits:
    """Bounds of what is remembered of open traces. ``ttl`` in ns of receive time; ``epoch`` in journal records."""

    epoch: int = EPOCH
    ttl: int = 3_600_000_000_000
    max_nodes: int = 1_000_000
    max_hops: int = 64


class Traces:
    """Open traces: spans, slots, and what siblings lend."""

    def __init__(self, limits: TraceLimits | None = None) -> None:
        self.limits = limits or TraceLimits()
        self.nodes: dict[str, Node] = {}
        self.slots: dict[str, Slot] = {}
        self.by_number: dict[int, Slot] = {}
        self.lent: dict[tuple[str, str], tuple[Any, int]] = {}
        self.waiting: dict[str, list[int]] = {}
        self.epochs: deque[tuple[int, list[str], int]] = deque()
        self._keys: list[str] = []
        self._next = 0

    def add(self, keys: list[str], nodes: Iterable[Node]) -> list[bool]:
        """Adds spans in journal order; -> per span whether it is new (an at-least-once sender repeats itself)."""
        known = self.nodes
        if len(set(keys)) == len(keys) and known.keys().isdisjoint(keys):
            known.update(zip(keys, nodes, strict=True))
            self._keys += keys
            return [True] * len(keys)
        new = []
        for key, node in zip(keys, nodes, strict=True):
            new.append(key not in known)
            if new[-1]:
                known[key] = node
                self._keys.append(key)
        return new

    def lend(self, offers: Iterable[tuple[str, str, Any, int]]) -> set[int]:
        """(parent's key, field, value, ordinal) in journal order: the first one counts. -> numbers of the slots that learnt something."""
        changed = set()
        for parent, name, value, ordinal in offers:
            self.lent.setdefault((parent, name), (value, ordinal))
            slot = self.slots.get(parent)
            if slot and name not in slot.lent:
                slot.lent[name] = (value, ordinal)
                changed.add(slot.number)
        return changed

    def open_slots(self, wanted: Iterable[tuple[str, int]]) -> list[int]:
        """The slot numbers of these parents; ``ordinal`` is that of the first event that asks."""
        numbers = []
        for key, ordinal in wanted:
            slot = self.slots.get(key)
            if slot is None:
                slot = self.slots[key] = self.by_number[self._next] = Slot(self._next, key, key, ordinal)
                self._next += 1
                slot.lent = {name: self.lent[key, name] for name in FIELDS if (key, name) in self.lent}
                self._walk(slot)
            numbers.append(slot.number)
        return numbers

    def wake(self, keys: list[str]) -> set[int]:
        """Spans that arrived: walks on for the slots that waited for them. -> numbers of those slots."""
        woken: set[int] = set()
        for key in self.waiting.keys() & set(keys):
            for number in self.waiting.pop(key):
                if slot := self.by_number.get(number):
                    woken.add(number)
                    self._walk(slot)
        return woken

    def _walk(self, slot: Slot) -> None:
        while slot.at is not None and slot.hops < self.limits.max_hops:
            node = self.nodes.get(slot.at)
            if node is None:
                self.waiting.setdefault(slot.at, []).append(slot.number)
                return
            slot.reach = max(slot.reach, node.ordinal)
            for name, value in (("agent", node.agent), ("conversation", node.conversation), ("user", node.user)):
                if value is not None and name not in slot.found:
                    slot.found[name] = (value, slot.reach)
            slot.at, slot.hops = node.parent, slot.hops + 1
        slot.at = None

    def end_epoch(self, epoch: int, received: int) -> int | None:
        """Evicts whole epochs: those past ``ttl``, and the oldest beyond ``max_nodes``. -> first ordinal kept, None: nothing went."""
        self.epochs.append((epoch, self._keys, received))
        self._keys = []
        total, cut = 0, 0
        for index in range(len(self.epochs) - 1, -1, -1):
            _, keys, last = self.epochs[index]
            total += len(keys)
            if total > self.limits.max_nodes or last < received - self.limits.ttl:
                cut = index + 1
                break
        if not cut:
            return None
        for _ in range(cut):
            for key in self.epochs.popleft()[1]:
                del self.nodes[key]
        first = (self.epochs[0][0] if self.epochs else epoch + 1) * self.limits.epoch
        self.slots = {key: slot for key, slot in self.slots.items() if slot.ordinal >= first}
        self.by_number = {slot.number: slot for slot in self.slots.values()}
        self.lent = {at: lent for at, lent in self.lent.items() if lent[1] >= first}
        self.waiting = {key: kept for key, numbers in self.waiting.items() if (kept := [n for n in numbers if n in self.by_number])}
        return first

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack). ``by_number`` and ``waiting`` follow from the slots."""
        lent = [(*at, *lent) for at, lent in self.lent.items()]
        return msgspec.msgpack.encode((self.nodes, list(self.slots.values()), lent, list(self.epochs), self._keys, self._next))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        nodes, slots, lent, epochs, self._keys, self._next = msgspec.msgpack.decode(state, type=_STATE)
        self.nodes, self.epochs = nodes, deque(epochs)
        self.slots = {slot.key: slot for slot in slots}
        self.by_number = {slot.number: slot for slot in slots}
        self.lent = {(key, name): (_agent(name, value), ordinal) for key, name, value, ordinal in lent}
        self.waiting = {}
        for slot in slots:
            for values in (slot.found, slot.lent):
                values.update({name: (_agent(name, value), ordinal) for name, (value, ordinal) in values.items()})
            if slot.at is not None and slot.hops < self.limits.max_hops:
                self.waiting.setdefault(slot.at, []).append(slot.number)


_STATE = tuple[dict[str, Node], list[Slot], list[tuple[str, str, Any, int]], list[tuple[int, list[str], int]], list[str], int]


def _agent(name: str, value: Any) -> Any:
    return tuple(value) if name == "agent" else value


def timeline(slot: Slot) -> list[int]:
    """Journal records at which something about the slot became known."""
    return sorted({ordinal for _, ordinal in (*slot.found.values(), *slot.lent.values())})


def known(slot: Slot, name: str, ordinal: int) -> tuple[Any, str]:
    """What was known of a field as of a journal record: (value or None, source)."""
    for source, values in (("ancestor", slot.found), ("sibling", slot.lent)):
        if name in values and values[name][1] <= ordinal:
            return values[name][0], source
    return None, "none"


def agent_of(service: str | None, name: str | None, agent_id: str | None) -> tuple[str, str | None, str | None] | None:
    """``otel_ir.agent.id`` = service.name/stable id or name (DESIGN, canonical event)."""
    known = agent_id or name
    return None if known is None else (f"{service or ''}/{known}", name, agent_id)


def provisional(service: pl.Expr, trace: pl.Expr, parent: pl.Expr) -> pl.Expr:
    """``service.name/~trace/parent`` stands for an agent that is not known yet: never coarser than what comes out."""
    return pl.concat_str(service.fill_null(""), pl.lit("/~"), trace.fill_null(""), pl.lit("/"), parent.fill_null(""))
