"""Tool spans that stand alone: where an application calls its tools by hand, each span begins a trace of its own.

A root span that names its call by id is the call that a model of the same sender and service asked for in another trace, about the same
time, by that id, of that tool, and with arguments that do not contradict. The id alone is no proof: some models count their calls.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_ir.normalize.calls import MAX_ALIKE, Call, agree, id_key

MAX_SPANS, MAX_CHARACTERS = 20_000, 4096
"""Spans that are remembered, and how long their arguments may be."""
NEAR = 60_000_000_000
"""ns between the model's answer and the start of the tool."""
_KEPT = ("id", "trace", "tool", "ordinal", "arguments", "start")


class Alone:
    """State: root spans of tools by sender, service and call id."""

    def __init__(self) -> None:
        self.spans: dict[str, list[dict[str, Any]]] = {}

    def add(self, event: dict[str, Any]) -> None:
        """A root span that names its call; a row of ``join_rows``."""
        if len(event["arguments"] or "") <= MAX_CHARACTERS:
            alike = self.spans.setdefault(id_key(event), [])
            alike.append({name: event[name] for name in _KEPT})
            del alike[:-MAX_ALIKE]
            if len(self.spans) > MAX_SPANS:
                del self.spans[next(iter(self.spans))]

    def of(self, call: Call) -> dict[str, Any] | None:
        """The span that is the call's, of another trace than its model's."""
        if call.row["call_id"] is None:
            return None
        fitting = [one for one in self.spans.get(id_key(call.row), ()) if one["trace"] != call.row["trace"] and is_of(one, call)]
        return min(fitting, key=lambda one: _distance(one, call), default=None)

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``."""
        self.spans = {key: left for key, alike in self.spans.items() if (left := [one for one in alike if one["ordinal"] >= first])}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode(self.spans)

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.spans = msgspec.msgpack.decode(state, type=dict[str, list[dict[str, Any]]])


def is_of(event: dict[str, Any], call: Call) -> bool:
    """Whether a span may be that of the call, whose id it has."""
    return event["tool"] == call.row["tool"] and _distance(event, call) <= NEAR and agree(event["arguments"], call.arguments)


def nearest(event: dict[str, Any], calls: list[Call]) -> list[Call]:
    """The calls with the span's id that no span describes and which it may be of, the nearest first: an agent's span may repeat what its
    model's says, in yet another trace.
    """
    return sorted((call for call in calls if not call.met and is_of(event, call)), key=lambda call: _distance(event, call))


def _distance(event: dict[str, Any], call: Call) -> int:
    return abs(int(event["start"]) - int(call.row["time"]))
