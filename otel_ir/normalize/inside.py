"""A tool call inside a tool call: what a framework, a client and a server say of one call, one below the other.

The tool span of an agent framework and, below it, the span of an MCP server for a tool of that name are one call (``Dialect.inside`` names
the dialects of such inner ones). The first that came is the event, of one record the outer one; the other is its duplicate, and what it
says beyond that is told of the event. Spans that are parts of a call (a client's request, the execution) may lie between the two. A call
of another name, a second one, or one under an agent, is one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from otel_ir.normalize.calls import Extra, leads
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import DETAIL
from otel_ir.normalize.things import plain

MAX_WAITING = 100_000
"""Inner calls, and spans between, that are kept beyond the end of an epoch."""
MAX_WAITING_CHARACTERS = 1 << 24
MAX_HOPS = 4
_MAX_ALIKE = 64
_INSIDE = frozenset(number for number, dialect in enumerate(DIALECTS) if dialect.inside)
_EVENT, _ORDINAL, _TOOL, _EXECUTED = "otel_ir.event.id", "otel_ir.journal.ordinal", "gen_ai.tool.name", "otel_ir.executed"
_DUPLICATE = "otel_ir.duplicate_of"
_FILLS = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.arguments.size", "otel_ir.result.size")
FAILURE = ("error.type", "error.message")
"""What a call says of its failure itself: the one inside does not say it again."""
_SAID = (_TOOL, "gen_ai.tool.call.id", "error", *FAILURE)
_SEPARATORS = "_-./:"

Row = Mapping[str, Any]
Inner = tuple[str, int, str, dict[str, Any]]
"""Event, journal record, tool, and what it says."""
Outer = tuple[str | None, int]
"""Tool, and bits of ``FAILURE``."""


class Inside:
    """State. ``between``: id of a span that is a part -> (id of its parent, journal record); ``waiting``: id of a span that is not there
    yet -> the calls inside it; ``met``: call -> journal record in which the one inside it came: a second one is another call.

    ``final``: nothing is told, linked.py decides at the end; only for that the spans between are kept for as long as the fold lives.
    """

    def __init__(self, *, final: bool = False) -> None:
        self._final = final
        self.between: dict[str, tuple[str, int]] = {}
        self.waiting: dict[str, list[Inner]] = {}
        self.met: dict[str, int] = {}
        self.size = 0

    def fold(self, tells: Iterable[Row], calls: Mapping[str, Row], before: Callable[[set[str]], Mapping[str, Outer]]) -> list[Extra]:
        """``tells``: ``rows.TELL_SCHEMA`` rows of spans in journal order; ``calls``: the tool calls of this frame by id; ``before``: ids ->
        those that came in earlier frames. -> what is told of events, and which are duplicates.
        """
        found: list[Extra] = []
        duplicates: dict[str, str] = {}
        rows = [*tells]
        earlier = before(self._candidates(rows) - calls.keys())
        steps: list[tuple[int, int, Row]] = [(row[_ORDINAL], 0 if row["event.type"] == DETAIL else 2, row) for row in rows]
        steps += [(row[_ORDINAL], 1, row) for row in calls.values()]
        for ordinal, kind, row in sorted(steps, key=lambda one: one[:2]):
            if kind == 0 and row["about"] is not None:
                self.between.setdefault(row[_EVENT], (row["about"], ordinal))
                for one in self._waited(row[_EVENT]):
                    self._wait(self._above(row["about"]), one)
            elif kind == 1:
                for one in self._waited(row[_EVENT]):
                    self._later(row, one, found, duplicates)
            elif kind == 2 and _inner(row):
                self._inside(row, calls, earlier, found, duplicates)
        return [one for one in found if one.column == _DUPLICATE] if self._final else found

    def _candidates(self, rows: list[Row]) -> set[str]:
        """Spans that the calls of these rows may be inside of."""
        parts = {row[_EVENT]: row["about"] for row in rows if row["event.type"] == DETAIL}
        found = set()
        for row in filter(_inner, rows):
            span: str | None = row["about"]
            for _ in range(MAX_HOPS + 1):
                if span is None:
                    break
                found.add(span)
                span = self.between[span][0] if span in self.between else parts.get(span)
        return found

    def _above(self, span: str) -> str:
        for _ in range(MAX_HOPS):
            if span not in self.between:
                break
            span, _ = self.between[span]
        return span

    def _inside(
        self, row: Row, calls: Mapping[str, Row], earlier: Mapping[str, Outer], found: list[Extra], duplicates: dict[str, str]
    ) -> None:
        outer = self._above(row["about"])
        known = calls.get(outer)
        tool, failure = _outer(known) if known else earlier.get(outer, (None, 0))
        said = {name: row[name] for name in (*_FILLS, *_SAID, _EXECUTED) if row[name] is not None}
        if (known is None and outer not in earlier) or (known and known[_ORDINAL] > row[_ORDINAL]):
            self._wait(outer, (row[_EVENT], row[_ORDINAL], row[_TOOL], said))
        elif alike(tool, row[_TOOL]) and outer not in self.met and not leads(duplicates, outer, row[_EVENT]):
            self.met[outer], duplicates[row[_EVENT]] = row[_ORDINAL], outer
            found.append(Extra(row[_EVENT], row[_ORDINAL], _DUPLICATE, outer))
            if said.get("error"):
                failed: dict[str, Any] = {"error": True, _EXECUTED: "yes"}
                failed |= {name: said[name] for bit, name in enumerate(FAILURE) if name in said and not failure >> bit & 1}
                found += [Extra(outer, row[_ORDINAL], name, value) for name, value in failed.items()]
            found += [
                Extra(outer, row[_ORDINAL], name, said[name], fill=True)
                for name in (*_FILLS, _EXECUTED)
                if said.get(name) not in (None, "unknown")
            ]

    def _later(self, row: Row, inner: Inner, found: list[Extra], duplicates: dict[str, str]) -> None:
        """The outer call comes after the inner one."""
        event, _, tool, said = inner
        if not alike(row[_TOOL], tool) or row[_EVENT] in self.met or leads(duplicates, event, row[_EVENT]):
            return
        at = row[_ORDINAL]
        self.met[row[_EVENT]], duplicates[row[_EVENT]] = at, event
        found.append(Extra(row[_EVENT], at, _DUPLICATE, event))
        told = {name: row[name] for name in _SAID if row[name] is not None and (name != "error" or row[name])}
        if row[_EXECUTED] not in (None, "unknown") and said.get(_EXECUTED) != "yes":
            told[_EXECUTED] = row[_EXECUTED]
        found += [Extra(event, at, name, value) for name, value in told.items()]
        found += [Extra(event, at, name, row[name], fill=name in said) for name in _FILLS if row[name] is not None]

    def _wait(self, outer: str, inner: Inner) -> None:
        kept = self.waiting.setdefault(outer, [])
        size = _size(inner)
        if len(kept) < _MAX_ALIKE and self.size + size <= MAX_WAITING_CHARACTERS:
            self.size += size
            kept.append(inner)

    def _waited(self, outer: str) -> list[Inner]:
        waited = self.waiting.pop(outer, [])
        self.size -= sum(map(_size, waited))
        return waited

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``, and the oldest beyond ``MAX_WAITING``."""
        if not self._final:
            between = {span: parent for span, parent in self.between.items() if parent[1] >= first}
            self.between = {span: between[span] for span in [*between][-MAX_WAITING:]}
        waiting = {span: kept for span, inner in self.waiting.items() if (kept := [one for one in inner if one[1] >= first])}
        self.waiting = {span: waiting[span] for span in [*waiting][-MAX_WAITING:]}
        self.size = sum(_size(one) for kept in self.waiting.values() for one in kept)
        met = {call: ordinal for call, ordinal in self.met.items() if ordinal >= first}
        self.met = {call: met[call] for call in [*met][-MAX_WAITING:]}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode((self.between, self.waiting, self.met, self.size))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.between, self.waiting, self.met, self.size = msgspec.msgpack.decode(state, type=_STATE)


_STATE = tuple[dict[str, tuple[str, int]], dict[str, list[Inner]], dict[str, int], int]


def _inner(row: Row) -> bool:
    return row["event.type"] != DETAIL and row["dialect"] in _INSIDE and row["about"] is not None and bool(row[_TOOL])


def _outer(row: Row) -> Outer:
    return row[_TOOL], sum(1 << bit for bit, name in enumerate(FAILURE) if row[name] is not None)


def _size(inner: Inner) -> int:
    return sum(len(value) for value in inner[3].values() if isinstance(value, str))


def alike(outer: str | None, inner: str) -> bool:
    """Whether the two names are of one tool: frameworks put the server's name in front of the tool's."""
    if outer is None:
        return False
    return plain(outer) == inner or (outer.endswith(inner) and outer[-len(inner) - 1] in _SEPARATORS)


INSIDE = tuple(DIALECTS[number].name for number in sorted(_INSIDE))
"""Dialects whose tool calls may be the inside of others."""

__all__ = ["FAILURE", "INSIDE", "MAX_HOPS", "Inside", "Outer", "alike"]
