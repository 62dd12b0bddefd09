"""One logical call, one event: what LLM messages and parent spans add to events, and the calls that only messages know.

* A tool span without a call id takes that of the message call in its trace with the same tool and the same arguments (where both are
  known), its own parent's first, else the oldest one that no span has taken.
* The span of a call may give the bare text of its only argument; its name stands in the message.
* Ids that come again with other arguments are of other calls: what two descriptions both say must not contradict (``calls.agree``).
* A call that no span describes becomes a ``tool_call`` event of its own when another request carries its result back (that is the proof
  that it ran), or, without proof, when everything was read. The first span that comes even later is its duplicate, and what it says counts.
* So does a call that only later requests repeat, because the model's answers are silent about their calls (``echoes.py``).
* A tool span that stands alone is of a call in another trace (``alone.py``); what is known of others at last: ``left_over.py``.
* A guardrail's verdict may stand on the span above it (``tripped``).

Calls repeat in every later request, and arrive before the tool span (the model's span ends first); but any of them may come in any order.
Works through records in journal order, so framing changes nothing. Rows here are few: dialects whose tool spans say everything give no
calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import takewhile
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from otel_ir.normalize.alone import Alone, nearest
from otel_ir.normalize.away import ran_away
from otel_ir.normalize.by_conversation import find, put
from otel_ir.normalize.calls import (
    Call,
    Extra,
    Trace,
    Waiting,
    agree,
    call_key,
    canonical,
    enter,
    fits,
    id_key,
    keep,
    key_of,
    may_answer,
    nameless,
    only,
    said_key,
    variant,
)
from otel_ir.normalize.echoes import Echoes
from otel_ir.normalize.held import Held, weight
from otel_ir.normalize.join_rows import NAMELESS
from otel_ir.normalize.left_over import left_over
from otel_ir.normalize.refusals import Refusals
from otel_ir.normalize.telling import (
    ARGUMENTS,
    BY_CALL,
    EXECUTED,
    RESULT,
    TAKER,
    as_event,
    by_result,
    is_in_trace,
    mark_changed,
    may_be_told,
    meet,
    replaced,
    tell,
    tell_again,
    tell_name,
    tell_result,
    told_at_last,
    told_before,
    told_more,
)
from otel_ir.normalize.unasked import MAX_UNASKED_CHARACTERS, Unasked, first_answer

MAX_CALLS_PER_TRACE = 1024
MAX_TRACES = 100_000
"""Kept beyond the end of an epoch."""
MAX_EARLY = 64
"""Results per trace that may wait for their call; requests that only repeat what was asked in another trace bring such, too."""
MAX_EARLY_CHARACTERS = 1 << 20
MAX_HELD = 1 << 27
"""Characters of calls, results and spans in all traces, after each record: those of the oldest are forgotten (held.py)."""
MAX_ASKED = 200_000
"""Call ids by which a result in another trace finds its call; kept beyond the end of an epoch."""
_EARLY = (*BY_CALL, "call_id", "tool", "arguments", "time")
_SPAN = ("tenant", "sender", "trace_id")
Place = tuple[int, str, str, str | None]
"""Of a call: journal record, trace, key in it, conversation."""
_OF = itemgetter(3)


class Joins:
    """State: calls and events by trace, guardrails and verdicts by the span above them. Keys start with tenant and sender."""

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}
        self.held = Held()
        self.guards: dict[str, list[tuple[str, int]]] = {}
        self.verdicts: dict[str, tuple[bool, int]] = {}
        self.asked: dict[str, list[Place]] = {}
        """sender's call id (by_conversation.py) -> where such a call is, of all traces"""
        self.decided: dict[str, tuple[int, int, str]] = {}
        """call of a trace, and what messages say of its approval -> (journal record, time of the earliest of them, first event)"""
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
        stated: Callable[[dict[str, Any], str | None], list[dict[str, Any]]],
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
                    derived += self._approval(row)
            for row in asked:
                derived += self._answered(row, found)
            for row in said[ordinal]:
                if row["begins"] is not None:
                    derived += self._repeated(row, found)
            for node in judged[ordinal]:
                self.verdicts.setdefault(node["key"], (node["tripped"], ordinal))
                guards = self.guards.pop(node["key"], [])
                found += [Extra(event, ordinal, "otel_ir.guardrail.triggered", node["tripped"]) for event, _ in guards]
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
        place = (row["ordinal"], row["trace"], key, row["conversation"])
        self._put(id_key(row) if row["call_id"] is not None else said_key(row, arguments), place)
        known = [stated for stated in row["stated"] or () if stated["ordinal"] <= row["ordinal"]]
        for stated in known:
            if agree(canonical(stated["text"]), call.arguments):
                if call.taken is None:
                    call.taken, call.met, call.bare = stated["id"], True, stated["bare"]
                if stated["bare"]:
                    tell(stated["id"], row["ordinal"], ARGUMENTS, row["arguments"], found)
                tell_name(call, stated["id"], stated["text"], row["ordinal"], found)
        self._compare(trace, row, known)
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

    def _compare(self, trace: Trace, row: dict[str, Any], stated: list[dict[str, Any]]) -> None:
        """Whether what spans and results say of a new call's id is of it, or of another one with that id."""
        if row["call_id"] is not None:
            said = [canonical(one["text"]) for one in stated]
            early = [one for one in trace.early if (one["call_id"], one["tool"]) == (row["call_id"], row["tool"])]
            said += [canonical(one["arguments"]) for one in early]
            if said and None not in said:
                mark_changed(trace, row["call_id"], row["tool"], said)

    def _event(self, event: dict[str, Any], found: list[Extra]) -> None:
        if event["type"] == "guardrail":
            self._guardrail(event, found)
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
            ran, start = event["executed"] == "yes", int(event["start"] or 0)
            place = (event["service.name"], event["conversation"])
            self.traces[event["trace"]] = trace
            self.held.touch(event["trace"], weight(event))
            trace.waiting.append(Waiting(event["id"], event["tool"], event["parent"], arguments, named, ran, start, *place))

    def _far(self, event: dict[str, Any], found: list[Extra]) -> Call | None:
        """The call of another trace that a span which stands alone is of (alone.py)."""
        calls = nearest(event, self._asked(event))
        for other in calls[1:]:
            if other.taken is None:
                meet(other, event, found)
        self.alone.add(event)
        for call in calls:
            self.alone.meet(event["id"], call)
            self.far.append((event["id"], event["ordinal"], call.row))
        return calls[0] if calls else None

    def _guardrail(self, event: dict[str, Any], found: list[Extra]) -> None:
        key = event["parent_key"]
        if event["triggered"] is not None or key is None:
            return
        if key in self.verdicts:
            found.append(Extra(event["id"], event["ordinal"], "otel_ir.guardrail.triggered", self.verdicts[key][0]))
        else:
            self.guards.setdefault(key, []).append((event["id"], event["ordinal"]))

    def _result(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        trace = self.traces.setdefault(row["trace"], Trace(row["ordinal"]))
        key = variant(trace, call_key(row), canonical(row["arguments"]))
        if row["call_id"] is None:
            return []
        if key not in trace.calls and (call := self._elsewhere(row)):
            if key is not None and len(row["result"] or "") <= MAX_UNASKED_CHARACTERS:
                _keep_early(trace, row)  # two runs may use one id, and the call of this one may still come
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
            _keep_early(trace, row)
            return []
        return tell_result(trace, trace.calls[key], row, found, itself=_says_itself(trace.calls[key], row))

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

    def _approval(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The event of an approval that is asked for, or decided: requests repeat it."""
        key, decision = call_key(row), row["result"]
        if key is None or decision is None:
            return []
        if decision == "rejected":
            self.refused.add(row)
        known = f"{row['trace']}{key} {decision}"
        told = row | {"result": None, "decision": decision, "id": f"{row['event']}#{decision}:{row['call_id']}"}
        _, earliest, first = self.decided.get(known, (0, row["time"], None))
        if first is not None and row["time"] >= earliest:
            return []
        self.decided.pop(known, None)
        self.decided[known] = (row["ordinal"], row["time"], first or told["id"])
        return [told | {"duplicate_of": first}]

    def tool_of(self, tenant: str | None, sender: str | None, service: str | None, call_id: str, *, conversation: str | None) -> str | None:
        """Of the newest call with this id."""
        key = id_key({"tenant": tenant, "sender": sender, "service.name": service, "call_id": call_id})
        tools: list[str] = [call.row["tool"] for place in find(self.asked, key, conversation, _OF) if (call := self._at(place))]
        return tools[-1] if tools else None

    def _put(self, key: str, place: Place) -> None:
        put(self.asked, key, place[-1], place, lambda one: (call := self._at(one)) is None or call.answered)

    def _at(self, place: Place) -> Call | None:
        _, trace, key, _ = place
        return self.traces[trace].calls.get(key) if trace in self.traces else None

    def _elsewhere(self, row: dict[str, Any]) -> Call | None:
        """The newest call with this id, in its own trace or another one of the same service, that the row may be the result of."""
        fitting = [call for call in self._asked(row) if may_answer(row, call)]
        if not fitting and row["tool"] is not None and row["arguments"] is not None:
            return self._unnamed(row)
        own = [call for call in fitting if call.row["trace"] == row["trace"]]
        return next(reversed(own or [call for call in fitting if not call.answered] or fitting), None)

    def _asked(self, row: dict[str, Any]) -> list[Call]:
        """The calls with this id in all traces of the same service, of no other conversation."""
        calls = [self._at(place) for place in find(self.asked, id_key(row), row["conversation"], _OF)]
        return [call for call in calls if call is not None]

    def _unnamed(self, row: dict[str, Any]) -> Call | None:
        """The oldest unanswered call without an id that says the same; it has that of the result from now on."""
        for place in find(self.asked, said_key(row, canonical(row["arguments"])), row["conversation"], _OF):
            call = self._at(place)
            if call is not None and not call.answered and call.row["call_id"] is None and self.unasked.may_be_of(row, call):
                self._name(call, row, place)
                return call
        return None

    def _name(self, call: Call, result: dict[str, Any], place: Place) -> None:
        """A call without an id has that of its result from now on."""
        call.row = call.row | {"call_id": result["call_id"]}
        self._put(id_key(result), place)

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
            return tell_result(trace, call, result, found, itself=_says_itself(call, row))
        return self._ran_here(there, call, result | self._now(result, call), found)

    def _answered_unnamed(self, row: dict[str, Any], found: list[Extra]) -> list[dict[str, Any]]:
        """Likewise of a call to which the answer gives no id."""
        for place in find(self.asked, said_key(row, canonical(row["arguments"])), row["conversation"], _OF):
            call = self._at(place)
            if call is None or call.answered or call.row["call_id"] is not None or call.row["event"] != row["event"]:
                continue
            result = self.unasked.take(row, call)
            if result is None:
                return []
            self._name(call, result, place)
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
                if self._elsewhere(call) is None:
                    derived += self._call(call, found) + self._answered(call, found)
            elif "echo" in trace.calls[key].row:
                derived += told_before(trace.calls[key], call)
        return derived

    def finish(self, ordinal: int) -> tuple[list[dict[str, Any]], list[Extra]]:
        """The calls that nothing ever came back from, in order; and what results in other traces than the calls' tell."""
        open_ = [
            (name, key, call)
            for name, trace in self.traces.items()
            for key, call in trace.calls.items()
            if call.taken is None and not call.changed
        ]
        loose = [(name, one) for name, trace in self.traces.items() for one in trace.waiting if one.named]
        away, left = ran_away([(name, call) for name, _, call in open_ if call.row["call_id"] is None], loose), []
        for name, key, call in open_:
            more = {"executed": self._came(name, key, call), "duplicate_of": away.get(id(call))}
            more |= by_result(call.later) if call.later is not None else {}
            left += as_event(self.traces[name], call, more | {"ordinal": ordinal})
        late = left_over(self.traces, self.unasked.results, ordinal)
        told = {one.event for one in late}
        return left, self._later(ordinal) + late + [one for one in self._again(ordinal) if one.event not in told]

    def _again(self, ordinal: int) -> list[Extra]:
        """The id of the only call that says the same as a span without one, though another span describes that call: it was tried again."""
        found: list[Extra] = []
        for trace in self.traces.values():
            loose = [one for one in trace.waiting if not one.named and one.arguments is not None]
            met: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
            for call in trace.calls.values() if loose else ():
                if call.met and call.row["call_id"] is not None:
                    met[call.row["tool"], call.arguments].add(call.row["call_id"])
            same = ((one.event, met.get((one.tool, one.arguments), ())) for one in loose)
            found += [Extra(event, ordinal, "gen_ai.tool.call.id", min(ids)) for event, ids in same if len(ids) == 1]
        return found

    def _later(self, ordinal: int) -> list[Extra]:
        """The spans of the results' own traces are told, else those that waited."""
        found: list[Extra] = []
        for call in [call for trace in self.traces.values() for call in trace.calls.values()]:
            if call.later is not None and call.taken is not None:
                ran = [stated["id"] for stated in self._stated(call.later, call.row["tool"])]
                for event in ran or [call.taken]:
                    tell(event, ordinal, ARGUMENTS, call.row["arguments"], found)
                    tell(event, ordinal, RESULT, call.later["result"], found)
                    tell(event, ordinal, EXECUTED, call.later["executed"], found)
        return found

    def _came(self, trace: str, key: str, call: Call) -> str:
        """How far a call came from which nothing came back."""

        def is_asked(where: str, arguments: str | None) -> bool:
            other = self.traces.get(where)
            return other is not None and variant(other, call_key(call.row), arguments) in other.calls

        if self.refused.has(trace, call, is_asked):
            return "rejected"
        return "pending_approval" if f"{trace}{key} pending" in self.decided else "unknown"

    def end_epoch(self, first: int) -> None:
        """Forgets what began before journal record ``first``, and the oldest traces beyond ``MAX_TRACES``."""
        self.held.forget(self.traces, _oldest(self.traces, lambda trace: trace.ordinal < first, MAX_TRACES))
        self.held.settle(self.traces)
        self.held.cut(self.traces, MAX_HELD)
        _forget(self.verdicts, _oldest(self.verdicts, lambda verdict: verdict[1] < first))
        _forget(self.decided, _oldest(self.decided, lambda at: at[0] < first, MAX_ASKED))
        _renew(self.asked, lambda call: call[0] >= first, MAX_ASKED)
        _renew(self.guards, lambda guard: guard[1] >= first)
        self.refused.end_epoch(first)
        self.unasked.end_epoch(first)
        self.echoes.end_epoch(first)
        self.alone.end_epoch(first)

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        own = (self.traces, self.guards, self.verdicts, self.asked, self.decided)
        return msgspec.msgpack.encode((*own, self.refused.state(), self.unasked.state(), self.echoes.state(), self.alone.state()))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        *own, refused, unasked, echoes, alone = msgspec.msgpack.decode(state, type=_STATE)
        self.traces, self.guards, self.verdicts, self.asked, self.decided = own
        self.refused.restore(refused)
        self.held.restore(self.traces)
        self.unasked.restore(unasked)
        self.echoes.restore(echoes)
        self.alone.restore(alone)


_T = TypeVar("_T")
_STATE = tuple[
    dict[str, Trace],
    dict[str, list[tuple[str, int]]],
    dict[str, tuple[bool, int]],
    dict[str, list[Place]],
    dict[str, tuple[int, int, str]],
    bytes,
    bytes,
    bytes,
    bytes,
]


def _keep_early(trace: Trace, row: dict[str, Any]) -> None:
    size = sum(len(one["result"] or "") for one in trace.early) + len(row["result"] or "")
    if size <= MAX_EARLY_CHARACTERS:
        keep(trace.early, {name: row[name] for name in _EARLY}, MAX_EARLY)


def _says_itself(call: Call, row: dict[str, Any]) -> bool:
    """Whether another span than the first one that describes a call says its result: the call was made again."""
    spans = [one for one in row["stated"] or () if one["ordinal"] <= row["ordinal"] and one["id"] != call.taken and not one["bare"]]
    return call.met and any(agree(canonical(one["text"]), call.arguments) for one in spans)


def _oldest(kept: dict[str, _T], is_old: Callable[[_T], bool], most: int | None = None) -> list[str]:
    """The keys of what is old, or more than ``most``, where all stands in the order in which it came: the others are not looked at."""
    more = 0 if most is None else len(kept) - most
    return [key for _, (key, _) in takewhile(lambda one: one[0] < more or is_old(one[1][1]), enumerate(kept.items()))]


def _forget(kept: dict[str, _T], keys: list[str]) -> None:
    for key in keys:
        del kept[key]


def _renew(kept: dict[str, list[_T]], is_new: Callable[[_T], bool], most: int | None = None) -> None:
    """Forgets what is old in lists that stand in the order in which they began; one that goes on begins again."""
    more = 0 if most is None else len(kept) - most
    for at, key in enumerate(_oldest(kept, lambda items: not all(map(is_new, items)), most)):
        left = [one for one in kept.pop(key) if is_new(one)]
        if left and at >= more:
            kept[key] = left


def _by_ordinal(rows: list[dict[str, Any]]) -> defaultdict[int, list[dict[str, Any]]]:
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["ordinal"]].append(row)
    return found
