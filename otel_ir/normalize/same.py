"""One call, several descriptions: spans, log records, and parts of them that tell about one another, in whatever order they come.

* What describes a call names it by an id that is unique within ``call`` (a session, a sub-agent). The first description becomes the event,
  a later one its duplicate; what a duplicate or a part says beyond that is told of the event.
* Of each kind (span, log record, part) there is one description of a call. A second one of a kind is another call: ids come again.
* Some descriptions do not say what their ids are unique within (``ANYWHERE``), and those of an MCP server have no ids: they are of the call
  of that tool which was going on at the time; where they do not name the tool, of the one with these arguments. Of one record, the
  description that says most is the event.
* An approval belongs to its call: it takes the call's name from it, and a refusal says that the call did not run.
* A part that names no call is about the span in which it stands.

What is told does not depend on the order: of two values the stronger one counts (``Dialect.weak``), then the longer one, because it says
more. Works through records in journal order; only dialects whose tables ask for it give such rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import Any

import msgspec
import polars as pl

from otel_ir.model import TOLD_COLUMNS
from otel_ir.normalize.calls import Extra, canonical
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import Mask, is_among
from otel_ir.normalize.opened import IDENTITY_BITS, lacks
from otel_ir.normalize.table import ANYWHERE, DETAIL

MAX_CALLS = 100_000
"""Calls kept beyond the end of an epoch."""
MAX_HELD = 1 << 27
"""Characters of what parts say of calls that no event describes yet, beyond the end of an epoch: of the oldest they are forgotten."""
MAX_WAITING_CHARACTERS = 1 << 24
"""Characters of what was told of calls that are not there yet."""
_EVENT, _ORDINAL, _CALL_ID, _DECISION = (
    "otel_ir.event.id", "otel_ir.journal.ordinal", "gen_ai.tool.call.id", "otel_ir.approval.decision",
)  # fmt: skip
_EXECUTED, _TOOL, _DUPLICATE = "otel_ir.executed", "gen_ai.tool.name", "otel_ir.duplicate_of"
_ARGUMENTS, _RESULT, _TO = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.handoff.to"
_FACTS = (*(name for name in TOLD_COLUMNS if name != _TO), _EXECUTED, _CALL_ID)
_OF_APPROVAL = (_TOOL, _CALL_ID)
_SMALL = (*_OF_APPROVAL, _EXECUTED)
_FAR = {"unknown": 0, "pending_approval": 1, "rejected": 2, "yes": 3}
_REFUSED = ("rej", "den")
_NEAR, _AFTER = 1_000_000_000, 50_000_000
"""ns: how far apart two descriptions of one call may be; how much of a server's span may lie outside its client's."""
_SERVER = "server"
PLACE = "place"
"""``Extra.column``: who called stands where that span stands, (tenant, sender, trace, span)."""
_SPAN = ("otel_ir.tenant", "otel_ir.sender", "trace_id", "span_id")
_MAX_ALIKE = 64
"""Newest calls kept of one name or id, and newest approvals of one call."""
_SEVERAL = frozenset(dialect.name for dialect in DIALECTS if dialect.call)

Rank = tuple[int, int, bytes]
Told = dict[str, Any]


@dataclass(slots=True)
class Thing:
    """A call, or an approval of one. ``event``: what describes it, None while only parts are known. ``facts``: column -> (rank, value);
    the value is dropped once the event has it. ``of``: of an approval, the number of its call; ``approvals``: the other way.
    ``scope``: what its id is unique within, None where no description says; ``start`` and ``end`` (ns): of what was described so far.
    """

    number: int
    ordinal: int
    event: str | None = None
    kinds: list[str] = field(default_factory=list)
    facts: dict[str, tuple[Rank, Any]] = field(default_factory=dict)
    of: int | None = None
    approvals: list[int] = field(default_factory=list)
    scope: str | None = None
    start: int = 0
    end: int = 0


class Same:
    """State: things by number; by call key, by the id of their events, and what waits for a span."""

    def __init__(self) -> None:
        self.things: dict[int, Thing] = {}
        self.calls: dict[str, list[int]] = {}
        self.events: dict[str, int] = {}
        self.waiting: dict[str, list[tuple[int, int | None, Told]]] = {}
        """id of the event of a span -> (journal record, approval or None, facts)"""
        self.size = 0
        self.count = 0

    def fold(self, rows: Iterable[Told], came: dict[str, int]) -> list[Extra]:
        """``TELL_SCHEMA`` rows in journal order -> what becomes known of events, these or earlier ones, and which are duplicates.

        ``came``: the events of this frame, and their journal records.
        """
        found: list[Extra] = []
        for row in sorted(rows, key=lambda row: (row[_ORDINAL], row["call"] == ANYWHERE, row[_CALL_ID] is None)):
            if row["event.type"] == "approval":
                self._approval(row, found)
            elif row["event.type"] == DETAIL:
                self._detail(row, came, found)
            else:
                self._call(row, found)
        return found

    def opened(self, events: Iterable[tuple[str, int]]) -> list[Extra]:
        """Events (id, journal record) that parts may have waited for: what these told; for dialects that name no calls."""
        found = []
        for event, ordinal in events:
            for at, approval, facts in self._waited(event):
                if approval is None and at <= ordinal:
                    found += [Extra(event, ordinal, column, value, fill=True) for column, (_, value) in facts.items()]
        return found

    def _call(self, row: Told, found: list[Extra]) -> None:
        thing, early = self._thing(row)
        facts = {} if row["event.type"] == "model_output" else _facts(row)
        self.events.setdefault(row[_EVENT], thing.number)
        if thing.event is None:
            thing.event = row[_EVENT]
            before = thing.facts
            thing.facts = {column: (rank, value if column in _SMALL else None) for column, (rank, value) in facts.items()}
            self._tell(thing, before, row[_ORDINAL], found)
        else:
            found.append(Extra(row[_EVENT], row[_ORDINAL], _DUPLICATE, thing.event))
            if thing.kinds == [_SERVER, _kind(row)]:
                found.append(Extra(thing.event, row[_ORDINAL], PLACE, tuple(row[name] for name in _SPAN)))
            self._tell(thing, facts, row[_ORDINAL], found)
            self._tell(thing, early, row[_ORDINAL], found)
        for _, approval, waited in self._waited(row[_EVENT]):
            if approval is None:
                self._tell(thing, waited, row[_ORDINAL], found)
            elif approval in self.things:
                self._link(self.things[approval], thing, row[_ORDINAL], found)
        self._tell_approvals(thing, row[_ORDINAL], found)

    def _thing(self, row: Told) -> tuple[Thing, Told]:
        """The call that the row describes, a new one if nothing described it before; -> what parts told before it was known which it is."""
        key, kind = _call_key(row), _kind(row)
        if row["event.type"] == "model_output":
            return (self._join(key, kind, row) if key else self._new(row[_ORDINAL])), {}
        known = self._known(key, kind, row) if key else None
        other = self._elsewhere(kind, row) if known is None or known.event is None else None
        early: Told = {}
        if key and known and other:
            early = self._one(key, known, other)
        thing = other or known or self._new(row[_ORDINAL])
        thing.kinds.append(kind)
        thing.scope = thing.scope or (row["call"] if key else None)
        thing.start = min(thing.start, row["start_time"]) if thing.end else row["start_time"]
        thing.end = max(thing.end, row["event_time"])
        for name in (key, _by_id(row), _by_name(row), _by_arguments(row)):
            if name and thing.number not in (numbers := self.calls.setdefault(name, [])):
                numbers.append(thing.number)
                del numbers[:-_MAX_ALIKE]
        return thing, early

    def _known(self, key: str, kind: str, row: Told) -> Thing | None:
        """The oldest call of that id that no record of this kind describes yet."""
        things = (self.things[number] for number in self.calls.get(key, ()))
        return next((thing for thing in things if kind not in thing.kinds and _compatible(thing, row)), None)

    def _elsewhere(self, kind: str, row: Told) -> Thing | None:
        """The call that was going on when the row's was, where one of the two does not say which it is."""
        alike = (*self._under(_by_name(row)), *self._under(_by_arguments(row)))
        named = [thing for thing in alike if _served(thing.kinds, kind) and _within(thing, row, kind)]
        same = [thing for thing in self._under(_by_id(row)) if (thing.scope is None or row["call"] == ANYWHERE) and _near(thing, row)]
        fitting = [one for one in same or named if one.event and kind not in one.kinds and _compatible(one, row)]
        return min(fitting, key=lambda thing: abs(thing.start - row["start_time"]), default=None)

    def _under(self, name: str | None) -> list[Thing]:
        return [self.things[number] for number in self.calls.get(name, ())] if name else []

    def _one(self, key: str, parts: Thing, thing: Thing) -> Told:
        """A call of which only parts were known is that other one; -> what they told."""
        del self.things[parts.number]
        self.calls[key].remove(parts.number)
        for number in parts.approvals:
            self.things[number].of = thing.number
        thing.approvals = (thing.approvals + parts.approvals)[-_MAX_ALIKE:]
        thing.kinds += parts.kinds
        return parts.facts

    def _detail(self, row: Told, came: dict[str, int], found: list[Extra]) -> None:
        key, facts = _call_key(row), _facts(row)
        if row[_TO] is not None and not key:
            facts[_TO] = (_rank(_TO, row[_TO], weak=False), row[_TO])
        if key:
            self._tell(self._join(key, DETAIL, row), facts, row[_ORDINAL], found)
        elif row["about"] in self.events:
            self._tell(self.things[self.events[row["about"]]], facts, row[_ORDINAL], found)
        elif row["about"] is not None:
            about, at = row["about"], row[_ORDINAL]
            if _RESULT in facts:
                facts[_EXECUTED] = (_rank(_EXECUTED, "yes", weak=False), "yes")
            if not DIALECTS[row["dialect"]].call and came.get(about, at) <= at:
                # The event may have come in an earlier frame; if not, nobody hears this.
                found += [Extra(about, at, column, value, fill=True) for column, (_, value) in facts.items()]
            if came.get(about, at + 1) > at:
                self._wait(about, at, None, facts)

    def _approval(self, row: Told, found: list[Extra]) -> None:
        place = _place(row)
        known = self.calls.get(f"approval {place}", [])
        approval = self.things[known[0]] if known else self._new(row[_ORDINAL], f"approval {place}")
        if approval.event is None:
            approval.event = row[_EVENT]
        else:
            found.append(Extra(row[_EVENT], row[_ORDINAL], _DUPLICATE, approval.event))
        facts = {column: fact for column, fact in _facts(row).items() if column in _OF_APPROVAL}
        if (row[_DECISION] or "").lower().startswith(_REFUSED):
            facts[_EXECUTED] = (_rank(_EXECUTED, "rejected", weak=False), "rejected")
        own = approval.event == row[_EVENT]
        if own:
            approval.facts = facts
        else:
            self._tell(approval, facts, row[_ORDINAL], found, only=_OF_APPROVAL)
            approval.facts |= {column: fact for column, fact in facts.items() if column == _EXECUTED}
        if approval.of is not None:
            self._link(approval, self.things[approval.of], row[_ORDINAL], found)
        elif key := _call_key(row):
            self._link(approval, self._join(key, "approval", row), row[_ORDINAL], found)
        elif row["about"] in self.events:
            self._link(approval, self.things[self.events[row["about"]]], row[_ORDINAL], found)
        elif row["about"] is not None and own:
            self._wait(row["about"], row[_ORDINAL], approval.number, {})

    def _link(self, approval: Thing, call: Thing, ordinal: int, found: list[Extra]) -> None:
        if approval.of is None:
            approval.of = call.number
            call.approvals = [*call.approvals, approval.number][-_MAX_ALIKE:]
            if "approval" not in call.kinds:
                call.kinds.append("approval")
        self._tell(call, approval.facts, ordinal, found)
        self._tell_approvals(call, ordinal, found)

    def _tell_approvals(self, call: Thing, ordinal: int, found: list[Extra]) -> None:
        for number in call.approvals:
            if number in self.things:
                facts = {column: call.facts[column] for column in _OF_APPROVAL if column in call.facts}
                self._tell(self.things[number], facts, ordinal, found, only=_OF_APPROVAL)

    def _tell(self, thing: Thing, facts: Told, ordinal: int, found: list[Extra], only: tuple[str, ...] = _FACTS) -> None:
        """Takes the facts that say more than what is known."""
        for column, (rank, value) in facts.items():
            known = thing.facts.get(column)
            if column in only and (known is None or known[0] < rank):
                differs = known is None or column == _EXECUTED or known[0][1:] != rank[1:]
                thing.facts[column] = (rank, value if thing.event is None or column in _SMALL else None)
                if thing.event is not None and differs:
                    found.append(Extra(thing.event, ordinal, column, value))

    def _join(self, key: str, kind: str, row: Told) -> Thing:
        """The call that a record of this kind is about; a new one if all that are known have one."""
        if known := self._known(key, kind, row):
            known.kinds.append(kind)
            return known
        return self._new(row[_ORDINAL], key, kind)

    def _new(self, ordinal: int, key: str | None = None, kind: str | None = None) -> Thing:
        self.count += 1
        thing = self.things[self.count] = Thing(self.count, ordinal, kinds=[kind] if kind else [])
        if key:
            numbers = self.calls.setdefault(key, [])
            numbers.append(thing.number)
            del numbers[:-_MAX_ALIKE]
        return thing

    def _wait(self, event: str, ordinal: int, approval: int | None, facts: Told) -> None:
        size = _size(facts)
        if self.size + size <= MAX_WAITING_CHARACTERS:
            self.size += size
            self.waiting.setdefault(event, []).append((ordinal, approval, facts))

    def _waited(self, event: str) -> list[tuple[int, int | None, Told]]:
        waited = self.waiting.pop(event, [])
        self.size -= sum(_size(facts) for _, _, facts in waited)
        return waited

    def end_epoch(self, first: int) -> None:
        """Forgets what began before journal record ``first``, and the oldest calls beyond ``MAX_CALLS``."""
        newest = [thing for thing in self.things.values() if thing.ordinal >= first][-MAX_CALLS:]
        if len(newest) < len(self.things):
            self.things = {thing.number: thing for thing in newest}
            for thing in newest:
                thing.of = thing.of if thing.of in self.things else None
                thing.approvals = [number for number in thing.approvals if number in self.things]
            self.calls = {key: left for key, numbers in self.calls.items() if (left := [one for one in numbers if one in self.things])}
            self.events = {event: number for event, number in self.events.items() if number in self.things}
        held = 0
        for thing in reversed(self.things.values()):
            held += _size(thing.facts)
            if held > MAX_HELD:
                thing.facts.clear()
        waiting = {event: kept for event, told in self.waiting.items() if (kept := [one for one in told if one[0] >= first])}
        self.waiting = {event: waiting[event] for event in [*waiting][-MAX_CALLS:]}
        self.size = sum(_size(facts) for told in self.waiting.values() for _, _, facts in told)

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode((self.things, self.calls, self.events, self.waiting, self.size, self.count))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.things, self.calls, self.events, self.waiting, self.size, self.count = msgspec.msgpack.decode(state, type=_STATE)


def may_be_told(events: pl.DataFrame, *, fills: bool) -> Mask:
    """Events of which another description may tell more; ``fills``: also those that only lack what messages or log records may bring."""
    several = is_among(events["otel_ir.dialect"], _SEVERAL)
    if several.any():
        several &= is_among(events["event.type"], ("tool_call", "handoff", "approval"))
    return several | (lacks(events) > IDENTITY_BITS) if fills else several


_STATE = tuple[
    dict[int, Thing],
    dict[str, list[int]],
    dict[str, int],
    dict[str, list[tuple[int, int | None, dict[str, tuple[Rank, Any]]]]],
    int,
    int,
]


def _facts(row: Told) -> Told:
    weak = DIALECTS[row["dialect"]].weak
    facts = {column: (_rank(column, row[column], weak=column in weak), row[column]) for column in _FACTS if row[column] is not None}
    if row["call"] == ANYWHERE and row["error"] and row[_CALL_ID] is not None:
        facts.pop(_EXECUTED, None)  # that it ran is a guess, others know
    return facts


def _rank(column: str, value: Any, *, weak: bool) -> Rank:
    """Which of two values counts: the greater rank. It does not keep the text itself."""
    if column == _EXECUTED:
        return (_FAR.get(value, 0), 0, b"")
    if isinstance(value, str):
        return (int(not weak), len(value), blake2b(value.encode("utf-8", "replace"), digest_size=8).digest())
    return (int(not weak), int(value), b"")


def _size(facts: Told) -> int:
    return sum(len(value) for _, value in facts.values() if isinstance(value, str))


def _compatible(thing: Thing, row: Told) -> bool:
    """Whether the two may be of one tool: names that differ are of two, unless one of them is a weak one."""
    name = row[_TOOL]
    if name is None or _TOOL not in thing.facts or _TOOL in DIALECTS[row["dialect"]].weak:
        return True
    rank, known = thing.facts[_TOOL]
    return not rank[0] or plain(known) == plain(name)


def plain(tool: str) -> str:
    """A tool's name without the server in front (``mcp__server__tool``)."""
    return tool.rpartition("__")[2] if tool.startswith("mcp__") else tool


def _call_key(row: Told) -> str | None:
    model = row["event.type"] == "model_output"
    call_id = row["gen_ai.response.id"] if model else row[_CALL_ID]
    if row["call"] is None or call_id is None or row["call"] == ANYWHERE:
        return None
    # Ids come from outside: the length keeps two pairs apart that read alike.
    return f"{'model' if model else 'tool'} {_who(row)}{len(row['call'])}:{row['call']}/{call_id}"


def _who(row: Told) -> str:
    return f"{row['otel_ir.tenant'] or ''}\x1f{row['otel_ir.sender'] or ''}\x1f"


def _by_id(row: Told) -> str | None:
    return None if row[_CALL_ID] is None or row["call"] is None else f"id {_who(row)}{row[_CALL_ID]}"


def _by_name(row: Told) -> str | None:
    return None if row[_TOOL] is None or row["call"] is None else f"name {_who(row)}{plain(row[_TOOL])}"


def _by_arguments(row: Told) -> str | None:
    arguments = row[_ARGUMENTS]
    if arguments is None or row["call"] is None or not _unnamed(row["dialect"]):
        return None
    return f"arguments {_who(row)}{blake2b((canonical(arguments) or '').encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


@cache
def _unnamed(dialect: int) -> bool:
    """Whether names of tools may say nothing there."""
    return _TOOL in DIALECTS[dialect].bogus


def _kind(row: Told) -> str:
    """One record of each of these may describe a call: its own emitter's span and log record, somebody else's, the server's."""
    if row["call"] != ANYWHERE:
        return str(row["signal"])
    return _SERVER if row[_CALL_ID] is None else "other"


def _served(kinds: list[str], kind: str) -> bool:
    """Whether one of the two is the span of a server and nothing else."""
    return _SERVER not in kinds if kind == _SERVER else kinds == [_SERVER]


def _within(thing: Thing, row: Told, kind: str) -> bool:
    """Whether the server's span lies within the other one; a log record is written when the call is over."""
    inner: tuple[int, int] = (thing.start, thing.end)
    outer: tuple[int, int] = (row["start_time"], row["event_time"])
    if kind == _SERVER:
        inner, outer = outer, inner
    if outer[0] == outer[1]:
        return -_AFTER <= outer[1] - inner[1] <= _NEAR
    return outer[0] - _AFTER <= inner[0] and inner[1] <= outer[1] + _AFTER


def _near(thing: Thing, row: Told) -> bool:
    start, end = int(row["start_time"]), int(row["event_time"])
    return thing.start - _NEAR <= end and start <= thing.end + _NEAR


def _place(row: Told) -> str:
    """The span of an approval, whether it is that span or a log record of it; else its call."""
    if row["signal"] == "log" and row["about"] is not None:
        return str(row["about"])
    return row[_EVENT] if row["signal"] == "span" else _call_key(row) or row[_EVENT]
