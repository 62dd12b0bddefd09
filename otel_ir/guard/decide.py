"""The decision about one tool call: pure, a few microseconds, the same whatever stopped or asked it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from otel_ir.guard.restriction import CANARY, Restriction, Verb

AGENT, NAME, CONVERSATION, TRACE = "otel_ir.agent.id", "gen_ai.agent.name", "gen_ai.conversation.id", "trace_id"

Pair = tuple[str, str]
MODEL = "otel_ir.model"
"""In place of a tool's name: the agent asks its model. Only ``pause_agent`` speaks of that."""
MAX_REMEMBERED = 1024
"""Tool names per restriction whose patterns were tried already; then it is forgotten and begun anew."""


class Call(NamedTuple):
    """A tool call before it runs. ``identity``: what is known of the caller as (key, value), where a key may come several times."""

    tool: str
    identity: tuple[Pair, ...] = ()

    def first(self, key: str) -> str:
        """The best known value of ``key``, or nothing."""
        return next((value for name, value in self.identity if name == key), "")


class Refusal(NamedTuple):
    """The call must not run. ``message`` is for the model or the person who asked for it."""

    id: str
    verb: Verb | str
    tool: str
    incident: str
    reason: str

    @property
    def message(self) -> str:
        """One line that a model can act on."""
        why = " ".join(part for part in (self.reason, self.incident and f"({self.incident})") if part)
        what = "The model was not asked" if self.tool == MODEL else f"The tool {self.tool} was not run"
        return f"{what}: {_WHAT.get(self.verb, 'it is blocked')}{': ' + why if why else ''}. Do not try again."


class Hold(NamedTuple):
    """The call must wait until ``restriction`` is lifted."""

    restriction: Restriction


Decision = Refusal | Hold | None


class Stopped(BaseException):
    """A refusal for instrumentations that swallow every ``Exception``. It ends the run: nothing softer would stop the call."""


_WHAT = {
    "revoke_tools": "this agent's access to it is revoked",
    "read_only_tools": "this agent may only read",
    "pause_agent": "this agent is paused",
}


class _Rule:
    """A restriction under one of its selectors; ``rest`` is what else the selector asks for."""

    __slots__ = ("_patterns", "_seen", "expires", "rest", "restriction")

    def __init__(self, restriction: Restriction, rest: frozenset[Pair]) -> None:
        self.restriction, self.rest = restriction, rest
        self.expires = restriction.expires or 0
        self._seen: dict[str, bool] = {}
        # translate() makes patterns that cannot backtrack exponentially.
        self._patterns = tuple(re.compile(fnmatch.translate(one)) for one in restriction.read_only)

    def covers(self, tool: str) -> bool:
        """Of a rule that names no tools."""
        verb = self.restriction.verb
        if verb == "pause_agent" or tool == MODEL:
            return verb == "pause_agent"
        if verb == "revoke_tools" or tool == CANARY:
            return True
        found = self._seen.get(tool)
        if found is None:
            if len(self._seen) >= MAX_REMEMBERED:
                self._seen.clear()
            found = self._seen[tool] = not any(pattern.match(tool) for pattern in self._patterns)
        return found


class _Rules:
    """The rules for whoever has one identity pair: those that name tools by tool, and the others."""

    __slots__ = ("by_tool", "others")

    def __init__(self) -> None:
        self.by_tool: dict[str, list[_Rule]] = {}
        self.others: list[_Rule] = []

    def add(self, rule: _Rule) -> None:
        one = rule.restriction
        if one.verb != "revoke_tools" or one.tools is None:
            self.others.append(rule)
            return
        for tool in dict.fromkeys((*one.tools, CANARY)):
            if tool != MODEL:
                self.by_tool.setdefault(tool, []).append(rule)

    def of(self, tool: str) -> Iterator[_Rule]:
        yield from self.by_tool.get(tool, ())
        for rule in self.others:
            if rule.covers(tool):
                yield rule


class State:
    """Restrictions made ready for deciding: immutable, so that threads share it without a lock.

    ``static`` is what is true of every call of this process (service.name and the like).
    """

    def __init__(self, restrictions: Iterable[Restriction] = (), static: frozenset[Pair] = frozenset()) -> None:
        self.restrictions = tuple(sorted(restrictions, key=lambda one: (one.since, one.id)))
        self.named = frozenset(tool for one in self.restrictions for tool in one.tools or ())
        self._index: dict[Pair, _Rules] = {}
        for one in self.restrictions:
            for selector in one.selectors:
                pairs = frozenset(selector.items()) - static
                if not pairs:
                    # Only true of the whole service, which is never a target.
                    continue
                key = min(pairs, key=lambda pair: (_ORDER.get(pair[0], 9), pair))
                self._index.setdefault(key, _Rules()).add(_Rule(one, pairs - {key}))

    def __bool__(self) -> bool:
        return bool(self._index)

    def matching(self, call: Call, now: int) -> Iterator[Restriction]:
        """The restrictions that stop ``call`` at ``now`` (Unix nanoseconds); one may come once for each of its selectors."""
        identity = call.identity
        for pair in identity:
            rules = self._index.get(pair)
            if rules is None:
                continue
            for rule in rules.of(call.tool):
                if (not rule.expires or now < rule.expires) and (not rule.rest or rule.rest.issubset(identity)):
                    yield rule.restriction

    def decide(self, call: Call, now: int) -> Decision:
        """Refusal before hold; of several refusals the first that is found."""
        held: Restriction | None = None
        for one in self.matching(call, now):
            if one.verb != "pause_agent":
                return Refusal(one.id, one.verb, call.tool, one.incident, one.reason)
            held = held or one
        return Hold(held) if held else None


_ORDER = {TRACE: 0, CONVERSATION: 1, AGENT: 2, NAME: 3}
"""Which key of a selector with several finds it in the index: the rarest first."""
