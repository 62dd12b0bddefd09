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
from typing import Any

import msgspec
import polars as pl

from otel_ir.normalize.calls import Extra
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import Mask, is_among
from otel_ir.normalize.opened import CONTENT_BITS, IDENTITY_BITS, lacks
from otel_ir.normalize.served import Served
from otel_ir.normalize.table import ANYWHERE, DETAIL
from otel_ir.normalize.things import (
    CALL_ID,
    EVENT,
    EXECUTED,
    FACTS,
    SERVER,
    TOOL,
    Rank,
    Thing,
    Told,
    by_arguments,
    by_id,
    by_name,
    call_key,
    compatible,
    contradict,
    facts_of,
    kind_of,
    near,
    place_of,
    rank_of,
    said_of,
    served,
    size_of,
    within,
)

MAX_CALLS = 100_000
"""Calls kept beyond the end of an epoch."""
MAX_HELD = 1 << 27
"""Characters of what parts say of calls that no event describes yet, beyond the end of an epoch: of the oldest they are forgotten."""
MAX_WAITING_CHARACTERS = 1 << 24
"""Characters of what was told of calls that are not there yet."""
_ORDINAL, _DECISION, _DUPLICATE = "otel_ir.journal.ordinal", "otel_ir.approval.decision", "otel_ir.duplicate_of"
_RESULT, _TO = "gen_ai.tool.call.result", "otel_ir.handoff.to"
_OF_APPROVAL = (TOOL, CALL_ID)
_SMALL = (*_OF_APPROVAL, EXECUTED)
_REFUSED = ("rej", "den")
PLACE = "place"
"""``Extra.column``: who called stands where that span stands, (tenant, sender, trace, span)."""
_SPAN = ("otel_ir.tenant", "otel_ir.sender", "trace_id", "span_id")
_MAX_ALIKE = 64
"""Newest calls kept of one name or id, and newest approvals of one call."""
_SEVERAL = frozenset(dialect.name for dialect in DIALECTS if dialect.call)


class Same:
    """State: things by number; by call key, by the id of their events, and what waits for a span.

    ``final``: which call a server's span belongs to is not guessed as it comes, but noted for the end (``served``).
    """

    def __init__(self, *, final: bool = False) -> None:
        self.served = Served() if final else None
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
        for row in sorted(rows, key=lambda row: (row[_ORDINAL], row["call"] == ANYWHERE, row[CALL_ID] is None)):
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
                    found += _fills(event, ordinal, facts)
        return found

    def _call(self, row: Told, found: list[Extra]) -> None:
        thing, early = self._thing(row)
        facts = {} if row["event.type"] == "model_output" else facts_of(row)
        self.events.setdefault(row[EVENT], thing.number)
        if thing.event is None:
            thing.event = row[EVENT]
            before = thing.facts
            thing.facts = {column: (rank, value if column in _SMALL else None) for column, (rank, value) in facts.items()}
            self._tell(thing, before, row[_ORDINAL], found)
        else:
            found.append(Extra(row[EVENT], row[_ORDINAL], _DUPLICATE, thing.event))
            if thing.kinds == [SERVER, kind_of(row)]:
                found.append(Extra(thing.event, row[_ORDINAL], PLACE, tuple(row[name] for name in _SPAN)))
            self._tell(thing, facts, row[_ORDINAL], found)
            self._tell(thing, early, row[_ORDINAL], found)
        for _, approval, waited in self._waited(row[EVENT]):
            if approval is None:
                self._tell(thing, waited, row[_ORDINAL], found)
            elif approval in self.things:
                self._link(self.things[approval], thing, row[_ORDINAL], found)
        self._tell_approvals(thing, row[_ORDINAL], found)

    def _thing(self, row: Told) -> tuple[Thing, Told]:
        """The call that the row describes, a new one if nothing described it before; -> what parts told before it was known which it is."""
        key, kind = call_key(row), kind_of(row)
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
        thing.says(said_of(row))
        alike = () if self.served is not None else (by_name(row), by_arguments(row))
        names = (f"{SERVER} {name}" if name and thing.kinds == [SERVER] else name for name in alike)
        for name in (key, by_id(row), *names):
            if name and thing.number not in (numbers := self.calls.setdefault(name, [])):
                numbers.append(thing.number)
                del numbers[:-_MAX_ALIKE]
        if self.served is not None:
            self.served.note(thing, kind, row)
        return thing, early

    def _known(self, key: str, kind: str, row: Told) -> Thing | None:
        """The oldest call of that id that no record of this kind describes yet."""
        things = (self.things[number] for number in self.calls.get(key, ()))
        return next((thing for thing in things if kind not in thing.kinds and compatible(thing, row)), None)

    def _elsewhere(self, kind: str, row: Told) -> Thing | None:
        """The call that was going on when the row's was, where one of the two does not say which it is."""
        alike = () if self.served is not None else self._alike(kind, row)
        named = [thing for thing in alike if served(thing.kinds, kind) and _within(thing, row, kind)]
        if named:
            said = {name: [digest] for name, digest in said_of(row).items()}
            named = [thing for thing in named if not contradict(thing.said, said)]
        same = [thing for thing in self._under(by_id(row)) if (thing.scope is None or row["call"] == ANYWHERE) and near(thing, row)]
        fitting = [one for one in same or named if one.event and kind not in one.kinds and compatible(one, row)]
        return min(fitting, key=lambda thing: abs(thing.start - row["start_time"]), default=None)

    def _alike(self, kind: str, row: Told) -> list[Thing]:
        """Calls of that tool, or with these arguments, of which only a server told, or, for a server's row, of which none did."""
        found = []
        for name in filter(None, (by_name(row), by_arguments(row))):
            place = name if kind == SERVER else f"{SERVER} {name}"
            if place in self.calls:
                things = [thing for thing in self._under(place) if served(thing.kinds, kind)]
                self.calls[place] = [thing.number for thing in things]
                found += things
        return found

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
        key, facts = call_key(row), facts_of(row)
        if row[_TO] is not None and not key:
            facts[_TO] = (rank_of(_TO, row[_TO], weak=False), row[_TO])
        if key:
            self._tell(self._join(key, DETAIL, row), facts, row[_ORDINAL], found)
        elif row["about"] in self.events:
            self._tell(self.things[self.events[row["about"]]], facts, row[_ORDINAL], found)
        elif row["about"] is not None:
            about, at = row["about"], row[_ORDINAL]
            if _RESULT in facts:
                facts[EXECUTED] = (rank_of(EXECUTED, "yes", weak=False), "yes")
            if came.get(about, at) <= at:
                # The event may have come in an earlier frame; if not, nobody hears this.
                found += _fills(about, at, facts)
            if came.get(about, at + 1) > at:
                self._wait(about, at, None, facts)

    def _approval(self, row: Told, found: list[Extra]) -> None:
        place = place_of(row)
        known = (thing for thing in self._under(f"approval {place}") if _one_id(thing, row))
        approval = next(known, None) or self._new(row[_ORDINAL], f"approval {place}")
        if approval.event is None:
            approval.event = row[EVENT]
        else:
            found.append(Extra(row[EVENT], row[_ORDINAL], _DUPLICATE, approval.event))
        facts = {column: fact for column, fact in facts_of(row).items() if column in _OF_APPROVAL}
        if (row[_DECISION] or "").lower().startswith(_REFUSED):
            facts[EXECUTED] = (rank_of(EXECUTED, "rejected", weak=False), "rejected")
        own = approval.event == row[EVENT]
        if own:
            approval.facts = facts
        else:
            self._tell(approval, facts, row[_ORDINAL], found, only=_OF_APPROVAL)
            approval.facts |= {column: fact for column, fact in facts.items() if column == EXECUTED}
        if approval.of is not None:
            self._link(approval, self.things[approval.of], row[_ORDINAL], found)
        elif key := call_key(row):
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

    def _tell(self, thing: Thing, facts: Told, ordinal: int, found: list[Extra], only: tuple[str, ...] = FACTS) -> None:
        """Takes the facts that say more than what is known."""
        for column, (rank, value) in facts.items():
            known = thing.facts.get(column)
            if column in only and (known is None or known[0] < rank):
                differs = known is None or column == EXECUTED or known[0][1:] != rank[1:]
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
        size = size_of(facts)
        if self.size + size <= MAX_WAITING_CHARACTERS:
            self.size += size
            self.waiting.setdefault(event, []).append((ordinal, approval, facts))

    def _waited(self, event: str) -> list[tuple[int, int | None, Told]]:
        waited = self.waiting.pop(event, [])
        self.size -= sum(size_of(facts) for _, _, facts in waited)
        return waited

    def end_epoch(self, first: int) -> None:
        """Forgets what began before journal record ``first``, and the oldest calls beyond ``MAX_CALLS``."""
        # Both are in journal order: the first is the oldest.
        oldest = next(iter(self.things.values()), None)
        if oldest is not None and (oldest.ordinal < first or len(self.things) > MAX_CALLS):
            newest = [thing for thing in self.things.values() if thing.ordinal >= first][-MAX_CALLS:]
            self.things = {thing.number: thing for thing in newest}
            for thing in newest:
                thing.of = thing.of if thing.of in self.things else None
                thing.approvals = [number for number in thing.approvals if number in self.things]
            self.calls = {key: left for key, numbers in self.calls.items() if (left := [one for one in numbers if one in self.things])}
            self.events = {event: number for event, number in self.events.items() if number in self.things}
        held = 0
        for thing in reversed(self.things.values()):
            held += size_of(thing.facts)
            if held > MAX_HELD:
                thing.facts.clear()
        waits = next(iter(self.waiting.values()), None)
        if waits is None or (waits[0][0] >= first and len(self.waiting) <= MAX_CALLS):
            return
        waiting = {event: kept for event, told in self.waiting.items() if (kept := [one for one in told if one[0] >= first])}
        self.waiting = {event: waiting[event] for event in [*waiting][-MAX_CALLS:]}
        self.size = sum(size_of(facts) for told in self.waiting.values() for _, _, facts in told)

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


def _one_id(approval: Thing, row: Told) -> bool:
    """Whether the two may be of one call: decisions about several may stand in one span."""
    _, known = approval.facts.get(CALL_ID, (None, None))
    return known is None or row[CALL_ID] is None or known == row[CALL_ID]


def _fills(event: str, ordinal: int, facts: Told) -> list[Extra]:
    """What a part tells of a span that it stands in, which describes no call by its id: content that the span lacks."""
    return [Extra(event, ordinal, column, value, fill=True) for column, (_, value) in facts.items() if column in CONTENT_BITS]


def _within(thing: Thing, row: Told, kind: str) -> bool:
    """Whether the server's span lies within the other one."""
    known, new = (thing.start, thing.end), (row["start_time"], row["event_time"])
    return within(new, known) if kind == SERVER else within(known, new)
