"""Tool spans that stand alone: where an application calls its tools by hand, each span begins a trace of its own.

A root span that names its call by id is the call that a model of the same sender and service asked for in another trace, about the same
time, by that id, of that tool, in no other conversation, and with arguments that do not contradict. The id alone is no proof: some models
count their calls. Another call is the same one only if it is of no other conversation and has the same arguments: an agent's span may
repeat what its model's says, in yet another trace.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import msgspec

from otel_ir.normalize.by_conversation import find, may_be_one, put
from otel_ir.normalize.calls import Call, agree, id_key

MAX_SPANS, MAX_CHARACTERS = 20_000, 4096
"""Spans that are remembered, and how long their arguments may be."""
NEAR = 60_000_000_000
"""ns between the model's answer and the start of the tool."""
_KEPT = ("id", "trace", "tool", "ordinal", "arguments", "start", "conversation")
_OF = itemgetter("conversation")
Said = tuple[str | None, str | None]
"""Of a call: its conversation and its arguments."""


class Alone:
    """State: root spans of tools by sender, service and call id; what is said of the calls that they are of, by event."""

    def __init__(self) -> None:
        self.spans: dict[str, list[dict[str, Any]]] = {}
        self.met: dict[str, Said] = {}

    def add(self, event: dict[str, Any]) -> None:
        """A root span that names its call; a row of ``join_rows``."""
        if len(event["arguments"] or "") <= MAX_CHARACTERS:
            put(self.spans, id_key(event), event["conversation"], {name: event[name] for name in _KEPT})
            while len(self.spans) > MAX_SPANS:
                del self.spans[next(iter(self.spans))]

    def meet(self, event: str, call: Call) -> None:
        """The call that a span is of; from now on it is of none that differs."""
        of, _ = self.met.get(event, _said(call))
        self.met[event] = (call.row["conversation"] if of is None else of, call.arguments)
        if len(self.met) > MAX_SPANS:
            del self.met[next(iter(self.met))]

    def of(self, call: Call) -> dict[str, Any] | None:
        """The span that is the call's, of another trace than its model's."""
        if call.row["call_id"] is None:
            return None
        alike = find(self.spans, id_key(call.row), call.row["conversation"], _OF)
        free = (one for one in alike if one["trace"] != call.row["trace"] and _repeats(call, self.met.get(one["id"], _said(call))))
        return min((one for one in free if is_of(one, call)), key=lambda one: (_distance(one, call), one["id"]), default=None)

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``."""
        self.spans = {key: left for key, alike in self.spans.items() if (left := [one for one in alike if one["ordinal"] >= first])}
        kept = {one["id"] for alike in self.spans.values() for one in alike}
        self.met = {event: said for event, said in self.met.items() if event in kept}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode((self.spans, self.met))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.spans, self.met = msgspec.msgpack.decode(state, type=tuple[dict[str, list[dict[str, Any]]], dict[str, Said]])


def is_of(event: dict[str, Any], call: Call) -> bool:
    """Whether a span may be that of the call, whose id it has."""
    return event["tool"] == call.row["tool"] and _distance(event, call) <= NEAR and agree(event["arguments"], call.arguments)


def nearest(event: dict[str, Any], calls: list[Call]) -> list[Call]:
    """The calls with the span's id that no span describes and which it is of: the nearest one, then those that repeat it."""
    near = [call for call in calls if not call.met and is_of(event, call)]
    near.sort(key=lambda call: (_distance(event, call), call.row["event"]))
    found: list[Call] = []
    for call in near:
        of = next((one.row["conversation"] for one in found if one.row["conversation"] is not None), None)
        if not found or _repeats(call, (of, found[0].arguments)):
            found.append(call)
    return found


def _repeats(call: Call, said: Said) -> bool:
    return call.arguments == said[1] and may_be_one(call.row["conversation"], said[0])


def _said(call: Call) -> Said:
    return call.row["conversation"], call.arguments


def _distance(event: dict[str, Any], call: Call) -> int:
    return abs(int(event["start"]) - int(call.row["time"]))
