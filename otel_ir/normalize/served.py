"""Which call the span of an MCP server belongs to, once everything was read: the one of that tool which was going on at the time.

Such a span names no call, so this is a guess; which calls fit, and which fits best, depends on all of them. While spans come in, same.py
takes the best of those that came; in the final form the spans do not depend on their order: all that fit are found here, and linked.py
takes the nearest ones, after what is certain. Two that name different conversations, users, agents or arguments never fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from otel_ir.normalize.things import AFTER, NEAR, SERVER, TOOL, Thing, Told, by_arguments, by_name, contradict, plain, within

_MAX_ALIKE = 64
"""Servers' spans that are looked at for one call."""


class Fit(NamedTuple):
    """The server's event may be of that call: ns between their starts, their events, and what the server says better (columns)."""

    apart: int
    server: str
    call: str
    better: tuple[str, ...]


class Served:
    """Calls by tool or arguments: those of servers' spans, and the others."""

    def __init__(self) -> None:
        self._servers: defaultdict[str, dict[int, Thing]] = defaultdict(dict)
        self._others: defaultdict[str, dict[int, Thing]] = defaultdict(dict)

    def note(self, thing: Thing, kind: str, row: Told) -> None:
        """A description (``TELL_SCHEMA`` row) of that kind is one of the call."""
        for name in (by_name(row), by_arguments(row)):
            if name:
                (self._servers if kind == SERVER else self._others)[name][thing.number] = thing

    def events(self) -> set[str]:
        """Those of servers."""
        return {thing.event for things in self._servers.values() for thing in things.values() if thing.event}

    def fits(self) -> list[Fit]:
        """Every server's event with every call that it may be of, the nearest first."""
        found = set()
        for name, listed in self._servers.items():
            servers = {number: thing for number, thing in listed.items() if thing.event}
            # A log record only knows when the call was over.
            starts, ends = (sorted(servers.values(), key=attrgetter(when, "event")) for when in ("start", "end"))
            for call in self._others.get(name, {}).values():
                if call.start == call.end:
                    near = _between(ends, "end", call.end - NEAR, call.end + AFTER)
                else:
                    near = _between(starts, "start", call.start - AFTER, call.end + AFTER)
                found |= {_fit(server, call) for server in near if _one_tool(server, call)}
        return sorted(found)


def _between(things: list[Thing], when: str, first: int, last: int) -> Iterator[Thing]:
    at = bisect_left(things, first, key=attrgetter(when))
    return (thing for thing in things[at : at + _MAX_ALIKE] if getattr(thing, when) <= last)


def _one_tool(server: Thing, call: Thing) -> bool:
    if server.event is None or call.event is None or not within((server.start, server.end), (call.start, call.end)):
        return False
    if contradict(server.said, call.said):
        return False
    (strength, name), (others, known) = (thing.facts.get(TOOL, ((0, 0, b""), None)) for thing in (server, call))
    return not strength[0] or not others[0] or plain(name) == plain(known)


def _fit(server: Thing, call: Thing) -> Fit:
    better = sorted(name for name, (rank, _) in server.facts.items() if name in call.facts and call.facts[name][0] < rank)
    return Fit(abs(server.start - call.start), str(server.event), str(call.event), tuple(better))
