"""What calls and spans that may still find each other hold in all, in characters: beyond a bound the oldest traces lose it.

Their texts go first: what is told of a call later lacks the arguments, but the call is found by what is kept of them in brief. If that is
not enough, the oldest traces go.
"""

from __future__ import annotations

from typing import Any

from otel_ir.normalize.calls import Call, Trace

_KEPT = 3, 4
"""What is held after a cut, as a part of what may be: a cut looks at every trace, and so they shall be few."""
_OF_CALL = 256
"""For a call or a span itself, beside its texts."""
_LONG = ("arguments", "result", "call_id", "tool", "conversation", "agent", "service.name")
Row = dict[str, Any]


class Held:
    """State, all of which follows from the traces at the end of an epoch. ``total``: characters, as of then; of traces that were touched
    since, at least what came since is in ``new``.
    """

    def __init__(self) -> None:
        self.total = self.new = 0
        self._touched: dict[str, None] = {}

    def touch(self, trace: str, size: int = 0) -> None:
        """A trace may hold so much more now."""
        self._touched[trace] = None
        self.new += size

    def cut(self, traces: dict[str, Trace], most: int) -> None:
        """Forgets the oldest, if it may be more than ``most``; ``traces``: as they came."""
        if self.total + self.new <= most:
            return
        self.settle(traces)
        if self.total <= most:
            return
        kept = most * _KEPT[0] // _KEPT[1]
        for trace in traces.values():
            if self.total <= kept:
                return
            if trace.texts:
                _strip(trace)
                self.total -= trace.texts
                trace.size, trace.texts = trace.size - trace.texts, 0
        over, oldest = self.total - kept, []
        for name, trace in traces.items():
            if over <= 0:
                break
            oldest.append(name)
            over -= trace.size
        self.forget(traces, oldest)

    def settle(self, traces: dict[str, Trace]) -> None:
        """Measures the traces that were touched."""
        for name in self._touched:
            if (trace := traces.get(name)) is not None:
                self.total -= trace.size
                trace.size, trace.texts = _measured(trace)
                self.total += trace.size
        self.new, self._touched = 0, {}

    def forget(self, traces: dict[str, Trace], names: list[str]) -> None:
        """Takes out some traces."""
        for name in names:
            self.total -= traces.pop(name).size

    def restore(self, traces: dict[str, Trace]) -> None:
        """As after ``settle``."""
        self.total, self.new, self._touched = sum(trace.size for trace in traces.values()), 0, {}


def weight(row: Row) -> int:
    """Characters of a row's texts that may be long; not of what the frame, in which it came, adds to it."""
    return sum([len(value) for name in _LONG if (value := row.get(name))])


def _texts(row: Row | None) -> int:
    return 0 if row is None else len(row["arguments"] or "") + len(row["result"] or "")


def _measured(trace: Trace) -> tuple[int, int]:
    """All that a trace holds, and the texts of it."""
    size = texts = 0
    for key, call in trace.calls.items():
        size += _OF_CALL + len(key) + weight(call.row) + weight(call.later or {}) + len(call.arguments or "") + len(call.only or "")
        texts += _texts(call.row) + _texts(call.later)
    for one in trace.waiting:
        size += _OF_CALL + len(one.event) + len(one.tool) + len(one.arguments or "")
    early = sum(weight(row) for row in trace.early)
    size += sum(len(key) + len(event) for key, event in trace.away.items())
    return size + early, texts + early


def _strip(trace: Trace) -> None:
    for call in trace.calls.values():
        _forget_texts(call)
    trace.early.clear()


def _forget_texts(call: Call) -> None:
    call.row = call.row | {"arguments": None, "result": None}
    if call.later is not None:
        call.later = call.later | {"arguments": None, "result": None}
