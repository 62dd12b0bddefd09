"""Calls without an id that ran in another trace than they were asked for in, because they waited for an approval.

Such a call is that of a span of the same service and tool with the same arguments, in no other conversation, that began within
``MAX_WAIT``. Where both name the same conversation, it may begin at any later time, and one of the two may lack the arguments.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from otel_ir.normalize.by_conversation import may_be_one
from otel_ir.normalize.calls import Call, Waiting

MAX_WAIT = 600_000_000_000
"""ns."""
_EARLIER = 60_000_000_000
"""ns that a span may begin before its model's answer ends: clocks differ."""
_MAX_ALIKE = 64
"""Spans that say the same and are looked at for one call: the first ones that may be it."""
_Key = tuple[str | None, ...]
_Spans = defaultdict[_Key, list[tuple[int, str]]]


def ran_away(calls: list[tuple[str, Call]], spans: list[tuple[str, Waiting]]) -> dict[int, str]:
    """Calls and spans, each with the key of its trace -> ``id()`` of a call: the event of the span that it is."""
    if not calls:
        return {}
    known, places = {one.event: one for _, one in spans}, _Spans(list)
    for name, one in sorted(spans, key=lambda each: (int(each[1].start or 0), each[1].event)):
        for key in _keys(name, one.service, one.tool, one.conversation, one.arguments):
            places[key].append((int(one.start or 0), one.event))
    found: dict[int, str] = {}
    taken: set[str] = set()
    for name, call in sorted(calls, key=lambda each: (int(each[1].row["time"]), each[1].row["event"], each[1].arguments or "")):
        fitting = [(start, event) for start, event in _near(places, name, call, taken) if _is_of(known[event], call)]
        time = int(call.row["time"])
        if fitting:
            found[id(call)] = min(fitting, key=lambda each: (abs(each[0] - time), each[1]))[1]
            taken.add(found[id(call)])
    return found


def _near(places: _Spans, name: str, call: Call, taken: set[str]) -> Iterator[tuple[int, str]]:
    said = {call.arguments, call.only} - {None} or {None}
    for key in {key for one in said for key in _keys(name, call.row["service.name"], call.row["tool"], call.row["conversation"], one)}:
        alike = places.get(key, [])
        at = bisect_left(alike, (int(call.row["time"]) - _EARLIER, ""))
        alike[at : at + _MAX_ALIKE] = [one for one in alike[at : at + _MAX_ALIKE] if one[1] not in taken]
        yield from alike[at : at + _MAX_ALIKE]


def _keys(trace: str, service: str | None, tool: str, conversation: str | None, arguments: str | None) -> list[_Key]:
    sender = trace.rsplit("\x1f", 2)[0]
    keys: list[_Key] = [] if arguments is None else [(sender, service, tool, arguments)]
    return keys if conversation is None else [*keys, (sender, service, tool, conversation, "")]


def _is_of(span: Waiting, call: Call) -> bool:
    if not may_be_one(span.conversation, call.row["conversation"]):
        return False
    same = span.conversation is not None and call.row["conversation"] is not None
    if span.arguments is None or call.arguments is None:
        return same
    return span.arguments in (call.arguments, call.only) and (same or int(span.start or 0) - int(call.row["time"]) <= MAX_WAIT)
