"""Calls as LLM messages tell of them, and when two descriptions are of the same one: by id, tool, and arguments that do not contradict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from otel_ir.normalize.brief import brief, head, same, short
from otel_ir.normalize.columns import SCRUBBED
from otel_ir.normalize.json_text import members

MAX_ALIKE = 16
"""Newest calls with one id that are looked through where arguments are not the same, but may be: of most models no id comes again."""
_STARTS = ("", "{", "[", '"')
"""Of JSON, or of a Python literal: no bare text."""
_MAX_HOPS = 64
_MIN_CUT = 8
"""Characters from which on one text that begins with the other may be the same, cut."""


@dataclass(slots=True)
class Call:
    """A call seen in messages; ``row`` is the message row it was first seen in, ``taken`` the event that describes it.

    ``met``: whether a span describes it; while false, ``taken`` is an event made of messages. ``answered``: a result was seen.
    ``later``: the message row of a result in another trace, where a span of the call's own describes it.
    ``bare``: whether the event may lack arguments or result. ``changed``: the call was made with other arguments than the model asked for,
    for a person may edit what they approve. ``arguments``: to compare with (``canonical``). ``only``: the value of its only argument.
    ``until``: when a result was seen first, ns.
    """

    row: dict[str, Any]
    ordinal: int
    arguments: str | None
    taken: str | None = None
    met: bool = False
    answered: bool = False
    bare: bool = True
    changed: bool = False
    later: dict[str, Any] | None = None
    only: str | None = None
    until: int | None = None


@dataclass(slots=True)
class Waiting:
    """A tool event that has no call id yet; or one that has (``named``), whose call messages may tell of without an id.

    ``ran``: whether it says so itself; ``start``: ns.
    """

    event: str
    tool: str
    parent: str | None
    arguments: str | None
    named: bool = False
    ran: bool = False
    start: int = 0
    service: str | None = None
    conversation: str | None = None


@dataclass(slots=True)
class Trace:
    """Calls and events of one trace that may still find each other. ``early``: message rows of results that came before their call.
    ``away``: calls that ran here and were asked for in another trace (they waited for an approval) -> the event made of the messages.
    ``alike``: key of a call -> those of further calls with that id and tool, whose arguments are others; in the order in which they came.
    ``size``, ``texts``: characters that it holds, and those of arguments and results (held.py).
    """

    ordinal: int
    calls: dict[str, Call] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    early: list[dict[str, Any]] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    alike: dict[str, list[str]] = field(default_factory=dict)
    size: int = 0
    texts: int = 0


@dataclass(slots=True)
class Extra:
    """Something that became known about an event: (event, ordinal, column, value). ``fill``: counts only if the event lacks it."""

    event: str
    ordinal: int
    column: str
    value: Any
    fill: bool = False


def key_of(call_id: str, tool: str | None) -> str:
    # Ids and names come from outside: the length keeps two pairs apart that read alike.
    return f"{len(call_id)}:{short(call_id)}/{tool and short(tool)}"


def call_key(row: dict[str, Any]) -> str | None:
    return key_of(row["call_id"], row["tool"]) if row["call_id"] is not None and row["tool"] is not None else None


def nameless(row: dict[str, Any], trace: Trace) -> str | None:
    """The key of a call to which the model's answer gives no id: the answer itself, and the how many-eth of them it is."""
    if row["call_id"] is not None or row["tool"] is None:
        return None
    start = f"-:{row['event']}/{short(row['tool'])}/"
    return start + str(sum(key.startswith(start) for key in trace.calls))


def variant(trace: Trace, key: str | None, arguments: str | None) -> str | None:
    """The key of the call with this id and tool that the arguments are of: one that is known, else a new one."""
    if key is None or key not in trace.calls:
        return key
    own = f"{key}~{blake2b((arguments or '').encode('utf-8', 'replace'), digest_size=16).hexdigest()}"
    if own in trace.calls:
        return own
    near = (key, *trace.alike.get(key, ())[-MAX_ALIKE:])
    return next((name for name in near if agree(arguments, trace.calls[name].arguments)), own)


def enter(trace: Trace, key: str, call: Call) -> None:
    """Remembers a new call, whose key is that of ``variant``, or of ``nameless``."""
    trace.calls[key] = call
    first = call_key(call.row)
    if first is not None and first != key:
        trace.alike.setdefault(first, []).append(key)


def agree(one: str | None, other: str | None) -> bool:
    """Whether two descriptions may be of the same call: of no argument that both give whole they say different things.

    One of them may be the bare text of a single argument, cut, or scrubbed; may lack arguments, or have some that the framework added.
    """
    if one is None or other is None or one == other:
        return True
    ours, theirs = members(one), members(other)
    if ours and theirs:
        return all(_alike(ours[name], theirs[name]) for name in ours.keys() & theirs.keys())
    bare, named = (one, theirs) if theirs else (other, ours)
    return not named or bare.lstrip()[:1] in _STARTS or any(_alike(bare, value) for value in named.values())


def _alike(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one == other
    return one == other or _scrubbed(one) or _scrubbed(other) or same(one, other) or _cut(one, other)


def _cut(one: str, other: str) -> bool:
    (ours, size), (theirs, length) = head(one), head(other)
    return size != length and min(size, length) >= _MIN_CUT and (ours.startswith(theirs) or theirs.startswith(ours))


def _scrubbed(value: str) -> bool:
    return any(mark in value for mark in SCRUBBED)


def others(trace: Trace, call_id: str, tool: str | None) -> list[Call]:
    """The calls with this id, whatever their arguments."""
    key = key_of(call_id, tool)
    return [trace.calls[name] for name in (key, *trace.alike.get(key, ())) if name in trace.calls]


def fits(call: Call, tool: str | None, arguments: str | None) -> bool:
    if call.met or call.row["tool"] != tool:
        return False
    if arguments is None or call.arguments is None or arguments in (call.arguments, call.only):
        return True
    return call.only is not None and same(arguments, call.only)


def only(arguments: str | None) -> str | None:
    """The value of a single argument."""
    values = [*members(arguments or "").values()]
    return values[0] if len(values) == 1 else None


def is_only(text: str | None, arguments: str | None) -> bool:
    """Whether a text, as it came, is the value of a single argument."""
    value = only(arguments)
    return text is not None and value is not None and same(text, value)


def leads(duplicates: Mapping[str, str], event: str, other: str) -> bool:
    """Whether the event is the other one, or its duplicate already: spans may name each other as parents."""
    for _ in range(_MAX_HOPS):
        if event == other:
            return True
        if event not in duplicates:
            return False
        event = duplicates[event]
    return True


def id_key(row: dict[str, Any]) -> str:
    return f"{row['tenant'] or ''}\x1f{row['sender'] or ''}\x1f{short(row['service.name'] or '')}\x1f{short(row['call_id'])}"


def said_key(row: dict[str, Any], arguments: str | None) -> str:
    """Of a call without an id: what is said of it."""
    text = f"{row['tool']}\x1f{arguments or ''}".encode("utf-8", "replace")
    return id_key(row | {"call_id": f"\x1f{blake2b(text, digest_size=16).hexdigest()}"})


def may_answer(result: dict[str, Any], call: Call) -> bool:
    """Whether the result may be that of the call, as far as both say."""
    tool = result["tool"] is None or result["tool"] == call.row["tool"]
    return tool and agree(canonical(result["arguments"]), call.arguments)


def canonical(arguments: str | None) -> str | None:
    """Arguments in one spelling where they are JSON (sorted keys, no spaces), else as they are; long ones in brief (brief.py)."""
    if arguments is None:
        return None
    try:
        return brief(msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode())
    except (msgspec.DecodeError, RecursionError):
        return brief(arguments)
