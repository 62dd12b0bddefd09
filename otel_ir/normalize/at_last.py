"""What is said once everything was read, of calls that still lack something.

* A call that nothing ever came back from is an event, and says how far it came: refused, waiting for an approval, or nobody knows.
* A result in another trace than its call's is told of what ran: the spans of its own trace, else the one that waited in the call's.
* A span without an id that says the same as one call only, which another span describes, has that call's id: it was tried again.
* Other spans that name no call: ``left_over.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container
from typing import Any

from otel_ir.normalize.approvals import is_pending
from otel_ir.normalize.away import ran_away
from otel_ir.normalize.calls import Call, Extra, Trace, call_key, variant
from otel_ir.normalize.left_over import left_over
from otel_ir.normalize.refusals import Refusals
from otel_ir.normalize.telling import ARGUMENTS, EXECUTED, RESULT, as_event, by_result, tell

Row = dict[str, Any]
Stated = Callable[[Row, str | None], list[Row]]
"""A message row, and the tool if the row does not name it -> the tool events that stated the same id."""


def unanswered(traces: dict[str, Trace], refused: Refusals, decided: Container[str], ordinal: int) -> list[Row]:
    """The calls that nothing ever came back from, in order, as events. ``decided``: see ``approvals.approval``."""
    open_ = [
        (name, key, call) for name, trace in traces.items() for key, call in trace.calls.items() if call.taken is None and not call.changed
    ]
    loose = [(name, one) for name, trace in traces.items() for one in trace.waiting if one.named]
    away, left = ran_away([(name, call) for name, _, call in open_ if call.row["call_id"] is None], loose), []
    for name, key, call in open_:
        waits = "pending_approval" if is_pending(decided, name, key) else "unknown"
        more = {"executed": "rejected" if _is_refused(traces, refused, name, call) else waits, "duplicate_of": away.get(id(call))}
        more |= by_result(call.later) if call.later is not None else {}
        left += as_event(traces[name], call, more | {"ordinal": ordinal})
    return left


def told_last(traces: dict[str, Trace], unasked: dict[str, list[Row]], stated: Stated, ordinal: int) -> list[Extra]:
    """What is told of other events. ``unasked``: message rows of results without a call."""
    late = left_over(traces, unasked, ordinal)
    told = {one.event for one in late}
    return _later(traces, stated, ordinal) + late + [one for one in _again(traces, ordinal) if one.event not in told]


def _is_refused(traces: dict[str, Trace], refused: Refusals, trace: str, call: Call) -> bool:
    def is_asked(where: str, arguments: str | None) -> bool:
        other = traces.get(where)
        return other is not None and variant(other, call_key(call.row), arguments) in other.calls

    return refused.has(trace, call, is_asked)


def _later(traces: dict[str, Trace], stated: Stated, ordinal: int) -> list[Extra]:
    """The spans of the results' own traces are told, else those that waited."""
    found: list[Extra] = []
    for call in [call for trace in traces.values() for call in trace.calls.values()]:
        if call.later is not None and call.taken is not None:
            ran = [one["id"] for one in stated(call.later, call.row["tool"])]
            for event in ran or [call.taken]:
                tell(event, ordinal, ARGUMENTS, call.row["arguments"], found)
                tell(event, ordinal, RESULT, call.later["result"], found)
                tell(event, ordinal, EXECUTED, call.later["executed"], found)
    return found


def _again(traces: dict[str, Trace], ordinal: int) -> list[Extra]:
    """The id of the only call that says the same as a span without one, though another span describes that call: it was tried again."""
    found: list[Extra] = []
    for trace in traces.values():
        loose = [one for one in trace.waiting if not one.named and one.arguments is not None]
        met: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
        for call in trace.calls.values() if loose else ():
            if call.met and call.row["call_id"] is not None:
                met[call.row["tool"], call.arguments].add(call.row["call_id"])
        same = ((one.event, met.get((one.tool, one.arguments), ())) for one in loose)
        found += [Extra(event, ordinal, "gen_ai.tool.call.id", min(ids)) for event, ids in same if len(ids) == 1]
    return found
