"""Tool spans that name no call, once everything was read, and results that requests bring back: a run that goes on after a person decided
begins a trace of its own, with what was said before.

* A call that was asked for in one trace and ran in another: the span beside the request that has its result has that call's id.
* Where no answer told of the call at all, its result is that of the only span it may be of: of the same tool, with no other arguments.
  The one in its own trace ran; else the one that waited in another trace, and does not say that it ran, is what was decided about.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from otel_ir.normalize.calls import Call, Extra, Trace, Waiting, canonical
from otel_ir.normalize.telling import ARGUMENTS, EXECUTED, RESULT, tell

_CALL_ID = "gen_ai.tool.call.id"
Row = dict[str, Any]


def left_over(traces: dict[str, Trace], unasked: dict[str, list[Row]], ordinal: int) -> list[Extra]:
    """What is known at last of the spans that still wait for their call. ``unasked``: message rows of results without a call."""
    waiting = {name: spans for name, trace in traces.items() if (spans := [one for one in trace.waiting if not one.named])}
    if not waiting:
        return []
    found = [extra for name, spans in waiting.items() for extra in _ran_here(traces[name], spans, traces, ordinal)]
    taken = {extra.event for extra in found}
    left = {name: [one for one in spans if one.event not in taken] for name, spans in waiting.items()}
    return found + _decided(left, [row for rows in unasked.values() for row in rows if not row.get("stated")], ordinal)


def _ran_here(trace: Trace, spans: list[Waiting], traces: dict[str, Trace], ordinal: int) -> list[Extra]:
    """``Trace.away``: calls with a result here, which have an event made of the messages of another trace."""
    if not trace.away:
        return []
    events = {*trace.away.values()}
    away = [call for other in traces.values() for call in other.calls.values() if call.taken in events and not call.met]
    return [Extra(span.event, ordinal, _CALL_ID, call.row["call_id"]) for call, span in _pairs(away, spans)]


def _pairs(calls: list[Call], spans: list[Waiting]) -> list[tuple[Call, Waiting]]:
    """Calls and spans that say the same, each once, as they came."""
    found, free = [], sorted(spans, key=lambda one: one.event)
    for call in sorted(calls, key=lambda one: (one.row["time"], one.taken)):
        said = (call.row["tool"], call.arguments)
        fitting = next((one for one in free if call.arguments is not None and (one.tool, one.arguments) == said), None)
        if fitting is not None:
            free.remove(fitting)
            found.append((call, fitting))
    return found


def _decided(waiting: dict[str, list[Waiting]], rows: list[Row], ordinal: int) -> list[Extra]:
    """What the results say of the spans; nothing where two spans, or two results, may be each other's."""
    results: defaultdict[tuple[str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda one: (one["time"], one["event"])):
        if row["tool"] is not None and row["arguments"] is not None:
            results[_scope(row["trace"]), row["tool"]].setdefault((row["call_id"], canonical(row["arguments"]) or ""), row)
    spans: defaultdict[tuple[str, str], list[tuple[str, Waiting]]] = defaultdict(list)
    for name, listed in waiting.items():
        for one in listed:
            spans[_scope(name), one.tool].append((name, one))
    found: list[Extra] = []
    for key, told in results.items():
        for (_, arguments), row in told.items():
            alike = [(name == row["trace"], one) for name, one in spans[key] if one.arguments in (None, arguments)]
            own = [one for here, one in alike if here]
            others = [one for here, one in alike if not here and not one.ran and one.start <= row["time"]]
            for place in (own, others):
                if len(place) == 1 and sum(place[0].arguments in (None, said) for _, said in told) == 1:
                    found += _told(place[0], row, ordinal, ran=place is own or not own)
    return found


def _told(span: Waiting, row: Row, ordinal: int, *, ran: bool) -> list[Extra]:
    found = [Extra(span.event, ordinal, _CALL_ID, row["call_id"])]
    tell(span.event, ordinal, ARGUMENTS, None if row.get("brief") else row["arguments"], found)
    if ran:
        tell(span.event, ordinal, RESULT, row["result"], found)
        tell(span.event, ordinal, EXECUTED, row["executed"], found)
    return found


def _scope(trace: str) -> str:
    """Tenant and sender of a trace's key."""
    return trace.rsplit("\x1f", 2)[0]
