"""One logical call, one event: what LLM messages and parent spans add to events, and the calls that only messages know.

* A tool span without a call id takes that of the message call in its trace with the same tool and the same arguments (where both are
  known), its own parent's first, else the oldest one that no span has taken.
* A call that no span describes becomes a ``tool_call`` event of its own when a later request carries its result back (that is the proof
  that it ran), or, without proof, when everything was read. A span that comes even later is its duplicate.
* A guardrail's verdict may stand on the span above it (``tripped``).

Calls repeat in every later request, and arrive before the tool span (the model's span ends first). Works through records in journal
order, so framing changes nothing. Rows here are few: dialects whose tool spans say everything give no calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

MAX_CALLS_PER_TRACE = 1024
MAX_TRACES = 100_000


@dataclass(slots=True)
class Call:
    """A call seen in messages; ``row`` is the message row it was first seen in, ``taken`` the event that describes it."""

    row: dict[str, Any]
    ordinal: int
    arguments: str | None
    taken: str | None = None


@dataclass(slots=True)
class Waiting:
    """A tool event that has no call id yet."""

    event: str
    tool: str
    parent: str | None
    arguments: str | None


@dataclass(slots=True)
class Trace:
    """Calls and events of one trace that may still find each other."""

    ordinal: int
    calls: dict[str, Call] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)


@dataclass(slots=True)
class Extra:
    """Something that became known about an event: (event, ordinal, column, value)."""

    event: str
    ordinal: int
    column: str
    value: Any


class Joins:
    """State: calls and events by trace, guardrails by the span above them. Keys start with tenant and sender."""

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}
        self.guards: dict[str, list[tuple[str, int]]] = {}

    def fold(
        self, events: list[dict[str, Any]], calls: list[dict[str, Any]], tripped: list[dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], list[Extra]]:
        """One frame's tool and guardrail events, message rows, and spans with a verdict, each in journal order.

        ``calls`` say which tool event stated the same id (``stated_by``, ``stated_at``: its journal record), if one did.

        -> (columns to set on events of this frame, message rows that became events, what became known about earlier events).
        """
        own: dict[str, dict[str, Any]] = {}
        derived: list[dict[str, Any]] = []
        extras: list[Extra] = []
        for ordinal in sorted({row["ordinal"] for row in (*events, *calls, *tripped)}):
            now = [event for event in events if event["ordinal"] == ordinal]
            ids = {event["id"] for event in now}
            found: list[Extra] = []
            for row in calls:
                if row["ordinal"] == ordinal and row["side"] == "call":
                    self._call(row, found)
            for event in now:
                self._event(event, found)
            for row in calls:
                if row["ordinal"] == ordinal and row["side"] == "result":
                    derived += self._result(row)
            for node in tripped:
                if node["ordinal"] == ordinal:
                    guards = self.guards.pop(node["key"], [])
                    found += [Extra(event, ordinal, "otel_ir.guardrail.triggered", node["tripped"]) for event, _ in guards]
            for extra in found:
                if extra.event in ids:
                    own.setdefault(extra.event, {})[extra.column] = extra.value
                else:
                    extras.append(extra)
        return own, derived, extras

    def _trace(self, key: str, ordinal: int) -> Trace:
        if key not in self.traces and len(self.traces) >= MAX_TRACES:
            self.traces.pop(next(iter(self.traces)))
        return self.traces.setdefault(key, Trace(ordinal))

    def _call(self, row: dict[str, Any], found: list[Extra]) -> None:
        trace = self._trace(row["trace"], row["ordinal"])
        key = _call_key(row)
        if key is None or key in trace.calls or len(trace.calls) >= MAX_CALLS_PER_TRACE:
            return
        call = trace.calls[key] = Call(row, row["ordinal"], canonical(row["arguments"]))
        if row["stated_by"] is not None and row["stated_at"] <= row["ordinal"]:
            call.taken = row["stated_by"]
            return
        for waiting in sorted(trace.waiting, key=lambda one: one.parent != row["parent"]):
            if _fits(call, waiting.tool, waiting.arguments):
                trace.waiting.remove(waiting)
                call.taken = waiting.event
                found.append(Extra(waiting.event, row["ordinal"], "gen_ai.tool.call.id", row["call_id"]))
                return

    def _event(self, event: dict[str, Any], found: list[Extra]) -> None:
        if event["type"] == "guardrail":
            if event["triggered"] is None and event["parent_key"] is not None:
                self.guards.setdefault(event["parent_key"], []).append((event["id"], event["ordinal"]))
            return
        trace = self._trace(event["trace"], event["ordinal"])
        if event["call_id"] is not None:
            self._stated(trace, event, found)
            return
        arguments = canonical(event["arguments"])
        fitting = [call for call in trace.calls.values() if call.taken is None and _fits(call, event["tool"], arguments)]
        if fitting:
            call = min(fitting, key=lambda one: one.row["parent"] != event["parent"])
            call.taken = event["id"]
            found.append(Extra(event["id"], event["ordinal"], "gen_ai.tool.call.id", call.row["call_id"]))
        elif event["tool"] and len(trace.waiting) < MAX_CALLS_PER_TRACE:
            trace.waiting.append(Waiting(event["id"], event["tool"], event["parent"], arguments))

    def _stated(self, trace: Trace, event: dict[str, Any], found: list[Extra]) -> None:
        call = trace.calls.get(f"{event['call_id']}/{event['tool']}")
        if call is None:
            return
        if call.taken and "#" in call.taken:
            found.append(Extra(event["id"], event["ordinal"], "otel_ir.duplicate_of", call.taken))
        call.taken = call.taken or event["id"]

    def _result(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        trace = self._trace(row["trace"], row["ordinal"])
        key = _call_key(row)
        call = trace.calls.get(key) if key else None
        if call is None or call.taken:
            # Described by a span already; or the request repeats a call that was made before our time, or in another trace.
            return []
        call.taken = f"{call.row['event']}#{row['call_id']}"
        return [call.row | {name: row[name] for name in ("ordinal", "position", "result", "error", "executed")} | {"id": call.taken}]

    def finish(self, ordinal: int) -> list[dict[str, Any]]:
        """The calls that nothing ever came back from, in order."""
        left = []
        for trace in self.traces.values():
            for call in trace.calls.values():
                if call.taken is None:
                    call.taken = f"{call.row['event']}#{call.row['call_id']}"
                    left.append(call.row | {"ordinal": ordinal, "executed": "unknown", "id": call.taken})
        return left

    def end_epoch(self, first: int) -> None:
        """Forgets traces that began before journal record ``first``."""
        self.traces = {key: trace for key, trace in self.traces.items() if trace.ordinal >= first}
        self.guards = {key: kept for key, waiting in self.guards.items() if (kept := [one for one in waiting if one[1] >= first])}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode((self.traces, self.guards))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.traces, self.guards = msgspec.msgpack.decode(state, type=tuple[dict[str, Trace], dict[str, list[tuple[str, int]]]])


def _call_key(row: dict[str, Any]) -> str | None:
    return f"{row['call_id']}/{row['tool']}" if row["call_id"] is not None and row["tool"] is not None else None


def _fits(call: Call, tool: str | None, arguments: str | None) -> bool:
    return call.taken is None and call.row["tool"] == tool and (arguments is None or call.arguments is None or arguments == call.arguments)


def canonical(arguments: str | None) -> str | None:
    """Arguments in one spelling where they are JSON (sorted keys, no spaces), else as they are."""
    if arguments is None:
        return None
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode()
    except (msgspec.DecodeError, RecursionError):
        return arguments
