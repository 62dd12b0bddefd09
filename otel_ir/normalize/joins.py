"""One logical call, one event: what LLM messages and parent spans add to events, and the calls that only messages know.

* A tool span without a call id takes that of the message call in its trace with the same tool and the same arguments (where both are
  known), its own parent's first, else the oldest one that no span has taken.
* The span of a call may give the bare text of its only argument; its name stands in the message.
* Ids that come again with other arguments are of other calls: what two descriptions both say must not contradict (``calls.agree``).
* A call that no span describes becomes a ``tool_call`` event of its own when another request carries its result back (that is the proof
  that it ran), or, without proof, when everything was read (``at_last.py``). The first span that comes even later is its duplicate, and
  what it says counts.
* So does a call that only later requests repeat, because the model's answers are silent about their calls (``echoes.py``).
* A tool span that stands alone is of a call in another trace (``alone.py``).
* Approvals and the verdicts of guardrails: ``approvals.py``, ``verdicts.py``.

Calls repeat in every later request, and arrive before the tool span (the model's span ends first); but any of them may come in any order.
Works through records in journal order, so framing changes nothing. Rows here are few: dialects whose tool spans say everything give no
calls.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from otel_ir.normalize.aging import forget, oldest, renew
from otel_ir.normalize.alone import Alone, nearest
from otel_ir.normalize.approvals import Decided, approval
from otel_ir.normalize.at_last import Stated, told_last, unanswered
from otel_ir.normalize.by_id import ById, Place
from otel_ir.normalize.calls import Call, Extra, Trace, Waiting, agree, call_key, canonical, enter, fits, key_of, nameless, only, variant
from otel_ir.normalize.early import MAX_EARLY, keep_early
from otel_ir.normalize.echoes import Echoes
from otel_ir.normalize.held import Held, weight
from otel_ir.normalize.join_rows import NAMELESS
from otel_ir.normalize.refusals import Refusals
from otel_ir.normalize.telling import (
    ARGUMENTS,
    TAKER,
    compare,
    is_in_trace,
    mark_changed,
    may_be_told,
    meet,
    replaced,
    says_itself,
    tell,
    tell_again,
    tell_name,
    tell_result,
    told_at_last,
    told_before,
    told_more,
)
from otel_ir.normalize.unasked import MAX_UNASKED_CHARACTERS, Unasked, first_answer
from otel_ir.normalize.verdicts import Verdicts

MAX_CALLS_PER_TRACE = 1024
MAX_TRACES = 100_000
"""Kept beyond the end of an epoch."""
MAX_HELD = 1 << 27
"""Characters of calls, results and spans in all traces, after each record: those of the oldest are forgotten (held.py)."""
MAX_ASKED = 200_000
"""Call ids by which a result in another trace finds its call; kept beyond the end of an epoch."""
_SPAN = ("tenant", "sender", "trace_id")


class Joins:
    """State: calls and events by trace; keys start with tenant and sender. Where its calls are: ``by_id``."""

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}
        self.held = Held()
        self.verdicts = Verdicts()
        self.asked: dict[str, list[Place]] = {}
        self.by_id = ById(self.traces, self.asked)
        self.decided: Decided = {}
        self.refused = Refusals()
        self.unasked = Unasked()
        self.echoes = Echoes()
        self.alone = Alone()
        self.far: list[tuple[str, int, dict[str, Any]]] = []
        """of the last frame: spans that stand alone, journal records, and message rows of their calls (askers.py)"""

    def fold(
        self,
        events: list[dict[str, Any]],
        calls: list[dict[str, Any]],
        tripped: list[dict[str, Any]],
        stated: Stated,
    ) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], list[Extra]]:
        """One frame's tool and guardrail events, message rows, and spans with a verdict, each in journal order.

        ``calls`` say which tool events stated the same id (``stated``: a list of id, journal record, whether arguments or result
        lack, and bare arguments); ``stated`` says it of a message row and a tool that the row does not name.

        -> (columns to set on events of this frame, message rows that became events, what became known about earlier events).
        """
        self._stated = stated
        self.far.clear()
        own: dict[str, dict[str, Any]] = {}
        derived: list[dict[str, Any]] = []
        extras: list[Extra] = []
        came, said, judged = _by_ordinal(events), _by_ordinal(calls), _by_ordinal(tripped)
        for ordinal in sorted({*came, *said, *judged}):
            found: list[Extra] = []
            asked = [row for row in said[ordinal] if row["side"] == "call"]
            for row in asked:
                derived += self._call(row, found)
            for event in came[ordinal]:
                self._event(event, found)
            for row in said[ordinal]:
                if row["side"] == "result":
                    derived += self._result(row, found)
                elif row["side"] == "approval":
                    derived += approval(self.decided, self.refused, row)
            for row in asked:
                derived += self._answered(row, found)
            for row in said[ordinal]:
                if row["begins"] is not None:
                    derived += self._repeated(row, found)
            for node in judged[ordinal]:
                self.verdicts.judge(node["key"], ordinal, found, tripped=node["tripped"])
            for row in said[ordinal]:
                self.held.touch(row["trace"], weight(row))
            self.held.cut(self.traces, MAX_HELD)
            ids = {event["id"]: event for event in came[ordinal]}
            for extra in found:
                here = ids.get(extra.event)
                if here and extra.fill and not may_be_told(here, extra.column):
                    continue
                if extra.event in ids:
                    own.setdefault(extra.event, {})[extra.column] = extra.value
                else:
                    extras.append(extra)
        return own, derived, extras

    def _call(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        trace = self.traces.setdefault(row["trace"], Trace(row["ordinal"]))
        arguments = canonical(row["arguments"])
        key = variant(trace, call_key(row), arguments) or nameless(row, trace)
        if key in trace.calls:
            told_at_last(trace.calls[key], row, found)
            told_more(trace.calls[key], row, found)
            return told_before(trace.calls[key], row)
        if key is None or len(trace.calls) >= MAX_CALLS_PER_TRACE:
            return []
        call = Call(row | {"stated": None}, row["ordinal"], arguments, only=only(arguments))
        enter(trace, key, call)
        self.by_id.enter(call, key)
        known = [stated for stated in row["stated"] or () if stated["ordinal"] <= row["ordinal"]]
        for stated in known:
            if agree(canonical(stated["text"]), call.arguments):
                if call.taken is None:
                    call.taken, call.met, call.bare = stated["id"], True, stated["bare"]
                if stated["bare"]:
                    tell(stated["id"], row["ordinal"], ARGUMENTS, row["arguments"], found)
                tell_name(call, stated["id"], stated["text"], row["ordinal"], found)
        compare(trace, row, known)
        if call.met:
            return []
        for waiting in sorted(trace.waiting, key=lambda one: (one.parent != row["parent"], one.start)):
            if fits(call, waiting.tool, waiting.arguments) and not (waiting.named and row["call_id"] is not None):
                trace.waiting.remove(waiting)
                call.taken, call.met = waiting.event, True
                tell(waiting.event, row["ordinal"], ARGUMENTS, row["arguments"], found)
                tell_name(call, waiting.event, waiting.arguments, row["ordinal"], found)
                if row["call_id"] is not None:
                    found.append(Extra(waiting.event, row["ordinal"], "gen_ai.tool.call.id", row["call_id"]))
                break
        if not call.met and (event := self.alone.of(call)):
            meet(call, event | {"ordinal": row["ordinal"]}, found)
            self.alone.meet(event["id"], call)
            self.far.append((event["id"], row["ordinal"], row))
        return []

    def _event(self, event: dict[str, Any], found: list[Extra]) -> None:
        if event["type"] == "guardrail":
            self.verdicts.guardrail(event, found)
            return
        if event["trace"] is None:
            return
        # Whether spans that name their call come here depends on the frame: a trace begins with what waits, or with messages.
        trace = self.traces.get(event["trace"]) or Trace(event["ordinal"])
        arguments = canonical(event["arguments"])
        if event["call_id"] is not None:
            call = trace.calls.get(variant(trace, key_of(event["call_id"], event["tool"]), arguments) or "")
            if call is None and event["parent"] is None:
                call = self._far(event, found)
            if call is not None and not call.met:
                meet(call, event, found)
            elif call is not None:
                # The id came again; what the span does not say of its call is as likely the same.
                tell(event["id"], event["ordinal"], ARGUMENTS, call.row["arguments"], found)
                tell_name(call, event["id"], event["arguments"], event["ordinal"], found)
            elif (key := key_of(event["call_id"], event["tool"])) in trace.away:
                tell_again(trace.away.pop(key), event, None, found)
            elif not replaced(trace, event, found):
                mark_changed(trace, event["call_id"], event["tool"], [arguments])
            if call is not None or event["dialect"] not in NAMELESS:
                return
        named = event["call_id"] is not None
        fitting = [
            call
            for call in trace.calls.values()
            if fits(call, event["tool"], arguments) and not (named and call.row["call_id"] is not None)
        ]
        if fitting:
            call = min(fitting, key=lambda one: one.row["parent"] != event["parent"])
            if call.row["call_id"] is not None:
                found.append(Extra(event["id"], event["ordinal"], "gen_ai.tool.call.id", call.row["call_id"]))
            meet(call, event, found)
        elif event["tool"] and len(trace.waiting) < MAX_CALLS_PER_TRACE:
            self._wait(trace, event, arguments)

    def _wait(self, trace: Trace, event: dict[str, Any], arguments: str | None) -> None:
        """A span whose call may still come."""
        named, ran, start = event["call_id"] is not None, event["executed"] == "yes", int(event["start"] or 0)
        place = (event["service.name"], event["conversation"])
        self.traces[event["trace"]] = trace
        self.held.touch(event["trace"], weight(event))
        trace.waiting.append(Waiting(event["id"], event["tool"], event["parent"], arguments, named, ran, start, *place))

    def _far(self, event: dict[str, Any], found: list[Extra]) -> Call | None:
        """The call of another trace that a span which stands alone is of (alone.py)."""
        calls = nearest(event, self.by_id.alike(event))
        for other in calls[1:]:
            if other.taken is None:
                meet(other, event, found)
        self.alone.add(event)
        for call in calls:
            self.alone.meet(event["id"], call)
            self.far.append((event["id"], event["ordinal"], call.row))
        return calls[0] if calls else None

    def _result(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        trace = self.traces.setdefault(row["trace"], Trace(row["ordinal"]))
        key = variant(trace, call_key(row), canonical(row["arguments"]))
        if row["call_id"] is None:
            return []
        if key not in trace.calls and (call := self.by_id.elsewhere(row, self.unasked.may_be_of)):
            if key is not None and len(row["result"] or "") <= MAX_UNASKED_CHARACTERS:
                keep_early(trace, row)  # two runs may use one id, and the call of this one may still come
            return self._ran_here(trace, call, row, found)
        said = canonical(row["arguments"])
        stated = [one for one in row["stated"] or () if agree(canonical(one["text"]), said)]
        told = bool(stated) and not any(one["bare"] for one in stated)
        if key not in trace.calls:
            self.unasked.add(row, told=told)
        if key is None or (told and key not in trace.calls):
            return []
        if key not in trace.calls:
            mark_changed(trace, row["call_id"], row["tool"], [said], row["time"])
            # Its call may still come; or the request repeats a call that was made before our time, or in another trace.
            keep_early(trace, row)
            return []
        return tell_result(trace, trace.calls[key], row, found, itself=says_itself(trace.calls[key], row))

    def _ran_here(self, trace: Trace, call: Call, result: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        """The result of a call that was asked for in another trace; a span of this one may describe it, now or later."""
        same = (result["tool"] or result["asked"]) == call.row["tool"]
        for stated in (result["stated"] or ()) if same else self._stated(result, call.row["tool"]):
            if call.taken is None and stated["ordinal"] <= result["ordinal"]:
                call.taken, call.met, call.bare = stated["id"], True, stated["bare"]
                if call.bare:
                    tell(call.taken, result["ordinal"], ARGUMENTS, call.row["arguments"], found)
        if call.met and not is_in_trace(call.taken, result):
            # A span of the call's own trace waited; it is not what ran, if a span of this one comes.
            if call.later is None or result["time"] < call.later["time"]:
                call.later = result | {"stated": None}
                self.held.touch(call.row["trace"])
            return []
        self.held.touch(call.row["trace"])
        derived = tell_result(self.traces[call.row["trace"]], call, result, found)
        if not call.met and call.taken is not None and len(trace.away) < MAX_EARLY:
            trace.away[key_of(result["call_id"], call.row["tool"])] = call.taken
        return derived

    def _answered(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        """The call was new in this record, and its result may be known from an earlier one."""
        trace = self.traces[row["trace"]]
        if row["call_id"] is None:
            return self._answered_unnamed(row, found)
        key = variant(trace, call_key(row), canonical(row["arguments"]))
        if key not in trace.calls:
            return []
        call = trace.calls[key]
        early, other = first_answer(trace.early, row, call), self.unasked.take(row, call)
        if early is not None:
            trace.early.remove(early)
        result = early or other
        if result is None:
            return []
        result = {name: row[name] for name in _SPAN} | result | {"ordinal": row["ordinal"], "position": row["position"]}
        there = self.traces.get(result.get("trace", row["trace"]), trace)
        if there is trace:
            return tell_result(trace, call, result, found, itself=says_itself(call, row))
        return self._ran_here(there, call, result | self._now(result, call), found)

    def _answered_unnamed(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        """Likewise of a call to which the answer gives no id."""
        for place, call in self.by_id.nameless(row):
            if call.row["event"] != row["event"]:
                continue
            result = self.unasked.take(row, call)
            if result is None:
                return []
            self.by_id.name(call, result, place)
            result = result | {"ordinal": row["ordinal"], "position": row["position"]}
            return self._ran_here(self.traces.get(result["trace"], self.traces[place[1]]), call, result | self._now(result, call), found)
        return []

    def _now(self, result: dict[str, Any], call: Call) -> dict[str, Any]:
        """What is known by now of the spans that may be those of a result, whose call was not known when it came."""
        return {"asked": call.row["tool"], "stated": self._stated(result, call.row["tool"])}

    def _repeated(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        """Calls that no answer told of (echoes.py)."""
        derived = []
        for told in self.echoes.fold(row):
            trace = self.traces.setdefault(told["trace"], Trace(row["ordinal"]))
            key = variant(trace, call_key(told), canonical(told["arguments"]))
            # Who takes over repeats the hand-off, but did not make it.
            if key is None or TAKER.fullmatch(told["tool"]):
                continue
            here = {"side": "call", "echo": True, "ordinal": row["ordinal"], "position": row["position"]}
            call = told | here | {"stated": self._stated(told, told["tool"])}
            if key not in trace.calls:
                if self.by_id.elsewhere(call, self.unasked.may_be_of) is None:
                    derived += self._call(call, found) + self._answered(call, found)
            elif "echo" in trace.calls[key].row:
                derived += told_before(trace.calls[key], call)
        return derived

    def finish(self, ordinal: int, stated: Stated) -> tuple[list[dict[str, Any]], list[Extra]]:
        """The calls that nothing ever came back from, in order; and what is told of other events at last (at_last.py)."""
        left = unanswered(self.traces, self.refused, self.decided, ordinal)
        return left, told_last(self.traces, self.unasked.results, stated, ordinal)

    def end_epoch(self, first: int) -> None:
        """Forgets what began before journal record ``first``, and the oldest traces beyond ``MAX_TRACES``."""
        self.held.forget(self.traces, oldest(self.traces, lambda trace: trace.ordinal < first, MAX_TRACES))
        self.held.settle(self.traces)
        self.held.cut(self.traces, MAX_HELD)
        forget(self.decided, oldest(self.decided, lambda at: at[0] < first, MAX_ASKED))
        renew(self.asked, lambda call: call[0] >= first, MAX_ASKED)
        self.verdicts.end_epoch(first)
        self.refused.end_epoch(first)
        self.unasked.end_epoch(first)
        self.echoes.end_epoch(first)
        self.alone.end_epoch(first)

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        own = (self.traces, self.verdicts.guards, self.verdicts.known, self.asked, self.decided)
        return msgspec.msgpack.encode((*own, self.refused.state(), self.unasked.state(), self.echoes.state(), self.alone.state()))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        *own, refused, unasked, echoes, alone = msgspec.msgpack.decode(state, type=_STATE)
        self.traces, self.verdicts.guards, self.verdicts.known, self.asked, self.decided = own
        self.by_id = ById(self.traces, self.asked)
        self.refused.restore(refused)
        self.held.restore(self.traces)
        self.unasked.restore(unasked)
        self.echoes.restore(echoes)
        self.alone.restore(alone)


_STATE = tuple[
    dict[str, Trace],
    dict[str, list[tuple[str, int]]],
    dict[str, tuple[bool, int]],
    dict[str, list[Place]],
    Decided,
    bytes,
    bytes,
    bytes,
    bytes,
]


def _by_ordinal(rows: list[dict[str, Any]]) -> defaultdict[int, list[dict[str, Any]]]:
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["ordinal"]].append(row)
    return found
