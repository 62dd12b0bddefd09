"""Follows values back: from the arguments of a call to the texts that held them before it was made.

An argument *steers* when it is short (an address, a path, a query): what stood in it was told to the agent. A long one *carries* content:
what is in it was taken along. Only steering leads to where it began; carrying shows what left. A match is evidence, not proof: two texts
may hold the same value by chance, so kinds that often do (``values.WEAK``) never decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from otel_ir.investigate.model import Edge, IncidentFacts, Source
from otel_ir.investigate.sources import UNTRUSTED
from otel_ir.provenance import Leaf, Value, find_instruction, leaves, plain, values
from otel_ir.provenance.values import DESTINATIONS, KINDS, WEAK

STEERING = 200
"""Characters up to which an argument steers."""
TEXT = 12
"""Characters from which on an argument that stands in a text word for word is no coincidence."""
MAX_LEAVES = 50
"""Arguments of one call that are followed."""
MAX_PER_LEAF = 4
MAX_CARRIED = 3
ENOUGH = 3
"""Values that a content must share with a source before it is said to come from there, unless it stands there whole."""
MAX_SCANNED = 2_000_000_000
"""Characters that are searched for arguments word for word, in all: some seconds."""
MAX_CITED = 50
MAX_NEEDLES = 20

STRONG = tuple(kind for kind in KINDS if kind not in WEAK)
_PLACES = ("same_conversation", "same_agent", "elsewhere")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Read:
    """A source with everything it is compared by."""

    source: Source
    values: frozenset[Value]
    plain: str


class Tracer:
    """Edges into calls, from sources that were read once."""

    def __init__(self, found: Iterable[Source]) -> None:
        self._read = [_Read(one, frozenset(values(one.text).found), plain(one.text)) for one in found]
        self._scanned = 0

    @property
    def cut(self) -> list[str]:
        """What was not compared, in words."""
        return ["there was too much text to look for every argument word for word"] if self._scanned > MAX_SCANNED else []

    def edges(self, call: Row, *, weak: bool = False) -> list[Edge]:
        """Where the arguments of a call came from; with ``weak`` also by values that may agree by chance (when nothing better does)."""
        arguments = call.get("gen_ai.tool.call.arguments")
        if not arguments:
            return []
        before = sorted(self._before(call), key=lambda one: (_PLACES.index(_place(one.source, call)), one.source.at))
        found: list[Edge] = []
        for leaf in leaves(arguments).found[:MAX_LEAVES]:
            found += self._steered(call, leaf, before) if len(leaf.text) <= STEERING else self._carried(call, leaf, before)
            if weak and not any(edge.argument == leaf.path for edge in found):
                found += self._by_chance(call, leaf, before)
        return found

    def _before(self, call: Row) -> Iterator[_Read]:
        """What was there when the call was made. A call is no source of its own."""
        made = call["start_time"] or call["event_time"] or 0
        return (one for one in self._read if one.source.at <= made and one.source.span_id != call["span_id"])

    def _steered(self, call: Row, leaf: Leaf, before: list[_Read]) -> Iterator[Edge]:
        wanted = _wanted(leaf)
        taken = 0
        covered: set[str] = set()
        for value in wanted:
            if taken >= MAX_PER_LEAF or any(value.text in other for other in covered):
                continue
            holding = [one for one in before if self._holds(one, value)]
            if not holding:
                continue
            covered.add(value.text)
            taken += 1
            first = _edge("steer", value, holding[0].source, call, leaf)
            yield first
            # The earliest text that held it may be innocent, and a later one the order.
            later = () if first.signs else (_edge("steer", value, one.source, call, leaf) for one in holding[1:])
            yield from (edge for edge in _first_order(later))

    def _carried(self, call: Row, leaf: Leaf, before: list[_Read]) -> list[Edge]:
        whole, has = plain(leaf.text), frozenset(values(leaf.text, STRONG).found)
        found: list[tuple[int, Edge]] = []
        for one in before:
            stands = self._stands(whole, one.plain) or (len(one.plain) > STEERING and self._stands(one.plain, whole))
            shared = has & one.values
            if stands or len(shared) >= ENOUGH:
                value = Value("text", "") if stands else min(shared)
                edge = _edge("carry", value, one.source, call, leaf, share=None if stands else (len(shared), len(has)))
                found.append((len(has) + 1 if stands else len(shared), edge))
        found.sort(key=lambda pair: -pair[0])
        return [edge for _, edge in found[:MAX_CARRIED]]

    def _holds(self, one: _Read, value: Value) -> bool:
        return self._stands(value.text, one.plain) if value.kind == "text" else value in one.values

    def _stands(self, text: str, inside: str) -> bool:
        if len(text) > len(inside) or self._scanned > MAX_SCANNED:
            return False
        self._scanned += len(inside)
        return text in inside

    def _by_chance(self, call: Row, leaf: Leaf, before: list[_Read]) -> Iterator[Edge]:
        for value in values(leaf.text, WEAK).found:
            holding = next((one for one in before if value in one.values), None)
            if holding is not None:
                yield _edge("steer", value, holding.source, call, leaf)
                return


def cited_calls(facts: IncidentFacts, events: pl.DataFrame) -> pl.DataFrame:
    """The tool calls that the alerts cite, newest ``MAX_CITED``, in order."""
    cited = {ref.span_id for one in facts.alerts for ref in one.alert.contributing} | {one.alert.span_id for one in facts.alerts}
    calls = events.filter(pl.col("event.type") == "tool_call", pl.col("otel_ir.duplicate_of").is_null())
    calls = calls.filter(pl.col("span_id").is_in(list(cited)))
    return calls.sort("event_time", "otel_ir.event.id").tail(MAX_CITED)


def needles(facts: IncidentFacts, events: pl.DataFrame) -> tuple[str, ...]:
    """Texts to look for in what other conversations were given: the destinations that the cited calls were steered to."""
    found: dict[str, None] = {}
    for arguments in cited_calls(facts, events)["gen_ai.tool.call.arguments"]:
        for leaf in leaves(arguments or "").found[:MAX_LEAVES]:
            if len(leaf.text) <= STEERING:
                found |= dict.fromkeys(_told(value) for value in values(leaf.text, ("url", "email", "ip", "account")).found)
    return tuple(text for text in found if len(text) >= 6)[:MAX_NEEDLES]


def _told(value: Value) -> str:
    # A host that came with an address is that of many innocent ones, one of a URL is the place itself.
    return "" if value.kind == "host" else value.text


def _wanted(leaf: Leaf) -> list[Value]:
    found = list(values(leaf.text, STRONG).found)
    whole = plain(leaf.text)
    inside = any(value.text.casefold() == whole for value in found)
    return found if inside or len(whole) < TEXT else [*found, Value("text", whole)]


def _first_order(edges: Iterable[Edge]) -> list[Edge]:
    """The first edge from an instruction-like text, if there is one."""
    return next(([edge] for edge in edges if edge.signs), [])


def _place(source: Source, call: Row) -> str:
    if (source.conversation_id and source.conversation_id == call["gen_ai.conversation.id"]) or source.trace_id == call["trace_id"]:
        return "same_conversation"
    return "same_agent" if source.agent_id == call["otel_ir.agent.id"] else "elsewhere"


def _edge(role: str, value: Value, source: Source, call: Row, leaf: Leaf, share: tuple[int, int] | None = None) -> Edge:
    order = find_instruction(source.text, _position(source.text, value, leaf)) if role == "steer" and source.kind != "system" else None
    return Edge(
        role=role,
        value=value,
        source=source,
        call=call["otel_ir.event.id"] or "",
        tool=call["gen_ai.tool.name"] or "",
        span_id=call["span_id"] or "",
        at=int(call["start_time"] or call["event_time"] or 0),
        argument=leaf.path,
        place=_place(source, call),
        shown=leaf.text if value.kind == "text" and role == "steer" else value.text,
        signs=order.signs if order else (),
        excerpt=order.excerpt if order else "",
        share=share,
        size=len(leaf.text),
    )


def _position(text: str, value: Value, leaf: Leaf) -> int:
    """Where the value stands in the text, as it is written there; the beginning where its writing differs."""
    lower = text.lower()
    tries = (leaf.text.lower(), value.text.lower(), " ".join(value.text.split()[:3]))
    return next((at for at in (lower.find(one) for one in tries if one) if at >= 0), 0)


def rank(edge: Edge) -> tuple[int, int, int]:
    """How well an edge explains where it began, best first: an order in untrusted text, then a destination from there, then the user."""
    untrusted = edge.source.kind in UNTRUSTED
    telling = edge.value.kind in DESTINATIONS or edge.value.kind == "text"
    classes = (untrusted and bool(edge.signs), untrusted and telling, edge.source.kind == "user", untrusted)
    return next((place for place, holds in enumerate(classes) if holds), len(classes)), _PLACES.index(edge.place), edge.source.at
