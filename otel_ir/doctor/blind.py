"""Which rules cannot fire on an agent, or fire falsely, because its telemetry leaves out what they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sigma import conditions, types

from otel_ir.doctor.coverage import AGENT, AgentCover, base_of
from otel_ir.model import EVENT_COLUMNS
from otel_ir.normalize.arguments import is_argument
from otel_ir.sigma.load import Library
from otel_ir.sigma.ruleset import Correlation, Rule


@dataclass(frozen=True, slots=True)
class Blind:
    """A rule that cannot match ``events`` of the ``of`` events it looks at; ``needs`` are the columns that it reads in vain.

    ``attribute``: not content is missing, but an attribute that is no canonical column never came.
    ``falsely``: what it does not see is what should keep it from firing.
    """

    rule_id: str
    signal: str
    severity: str
    events: int
    of: int
    needs: tuple[str, ...]
    attribute: bool = False
    falsely: bool = False

    @property
    def wholly(self) -> bool:
        """Whether it can never fire."""
        return self.events == self.of and not self.falsely


def can_match(tree: Any, gone: Callable[[str], bool]) -> bool:
    """Whether a condition (pySigma's tree) can hold for an event in which the columns that are ``gone`` are null."""
    return _possible(tree, gone)[0]


def _possible(node: Any, gone: Callable[[str], bool]) -> tuple[bool, bool]:
    """-> whether it may be true, whether it may be false."""
    if isinstance(node, conditions.ConditionNOT):
        true, false = _possible(node.args[0], gone)
        return false, true
    if isinstance(node, conditions.ConditionAND | conditions.ConditionOR):
        parts = [_possible(child, gone) for child in node.args if child is not None]
        if isinstance(node, conditions.ConditionAND):
            return all(true for true, _ in parts), any(false for _, false in parts)
        return any(true for true, _ in parts), all(false for _, false in parts)
    return _leaf(getattr(node, "field", None), node.value, gone)


def _leaf(field: str | None, value: Any, gone: Callable[[str], bool]) -> tuple[bool, bool]:
    if isinstance(value, types.SigmaExpansion):
        parts = [_leaf(field, one, gone) for one in value.values]
        return any(true for true, _ in parts), all(false for _, false in parts)
    if field is None:  # a keyword: any column of words will do
        return True, True
    if isinstance(value, types.SigmaFieldReference) and gone(str(value.field)):
        return False, True
    if not gone(field):
        return True, True
    if isinstance(value, types.SigmaNull):
        return True, False
    if isinstance(value, types.SigmaExists):
        return not value.exists, bool(value.exists)
    return False, True


class _Sight(NamedTuple):
    """``events`` out of ``of`` cannot be seen. ``of`` 0: there is nothing to look at, the rule is idle."""

    events: int
    of: int
    needs: tuple[str, ...] = ()
    attribute: bool = False

    @property
    def share(self) -> float:
        return self.events / self.of


_IDLE = _Sight(0, 0)


def _any(parts: Iterable[_Sight]) -> _Sight:
    """One that sees is enough."""
    return min((one for one in parts if one.of), key=lambda one: one.share, default=_IDLE)


def _all(parts: Iterable[_Sight]) -> _Sight:
    """Each must see."""
    found = list(parts)
    return _IDLE if any(not one.of for one in found) else max(found, key=lambda one: one.share, default=_Sight(0, 1))


def blind_rules(library: Library, cover: AgentCover) -> list[Blind]:
    """The rules that alert, and the correlations, which cannot fire on some or all events of this agent; the most severe first.

    After them those which may fire falsely.
    """
    looks = Looks(library, cover)
    found = []
    for item in alerting(library):
        for sight, falsely in ((looks.at(item.id), False), (looks.away(item), True)):
            if sight.events:
                found.append(Blind(item.id, item.signal, item.severity, *sight, falsely=falsely))
    order = ("critical", "high", "medium", "low")
    return sorted(found, key=lambda one: (one.falsely, not one.wholly, order.index(one.severity), one.signal))


def alerting(library: Library) -> list[Rule | Correlation]:
    """What can raise an alert by itself."""
    every: list[Rule | Correlation] = [*library.ruleset.rules, *library.ruleset.correlations]
    return [one for one in every if one.alerts]


@dataclass(slots=True)
class Looks:
    """What each rule sees of one agent."""

    library: Library
    cover: AgentCover
    known: dict[tuple[str, tuple[str, ...]], _Sight] = field(default_factory=dict)

    def at(self, identity: str, required: tuple[str, ...] = ()) -> _Sight:
        """What this rule or correlation does not see; of a rule also where one of the ``required`` columns is missing."""
        key = identity, required
        if key not in self.known:
            item = self.library.compiled[identity]
            self.known[key] = self._rule(item, required) if isinstance(item, Rule) else self._correlation(item)
        return self.known[key]

    def away(self, item: Rule | Correlation) -> _Sight:
        """What keeps a correlation from firing, and is not seen: rules whose absence it asks for."""
        if isinstance(item, Rule) or not self.at(item.id).of or self.at(item.id).share == 1:
            return _IDLE
        steps = {step for clause in item.clauses for step in clause.absent}
        parts = [self.at(item.rules[step], item.read_from(step)) for step in sorted(steps)]
        parts += [self.at(item.absence.rule, item.group_by)] if item.absence else []
        parts += [self.at(item.id)] if item.op in ("lt", "lte", "eq", "neq") else []
        return max((one for one in parts if one.of), key=lambda one: one.share, default=_IDLE)

    def _correlation(self, item: Correlation) -> _Sight:
        """A count needs any of its rules, an order every one, a condition those of one alternative."""
        values = (*item.fields, *(item.new_terms.fields if item.new_terms else ()))
        parts = [self.at(one, (*item.read_from(step), *values)) for step, one in enumerate(item.rules)]
        if item.clauses:
            return _any(_all(parts[step] for step in clause.required) for clause in item.clauses)
        return _any(parts)

    def _rule(self, rule: Rule, required: tuple[str, ...]) -> _Sight:
        trees = [condition.parsed for condition in self.library.entry(rule.id).sigma.detection.parsed_condition]
        attributes = {name for name in (*rule.fields, *required) if name not in EVENT_COLUMNS and not _computed(name)}
        mine = [one for one in self.cover.patterns if rule.service in (None, one.event)]
        never = {name for name in attributes if not any((one.event, name) in self.cover.came for one in mine)}
        events, needs, by_content = 0, set[str](), True
        for pattern in mine:
            gone = _gone(pattern.missing)
            lost = [name for name in required if name in never or gone(name)]
            content = bool(lost and not never.issuperset(lost)) or not any(can_match(tree, gone) for tree in trees)
            if content or lost or not any(can_match(tree, lambda name, gone=gone: name in never or gone(name)) for tree in trees):  # type: ignore[misc]
                events += pattern.count
                by_content &= content
                needs.update(lost or (name for name in rule.fields if gone(name) or name in never))
        return _Sight(events, sum(one.count for one in mine), tuple(sorted(needs)), bool(events) and not by_content)


def _gone(missing: frozenset[str]) -> Callable[[str], bool]:
    # An agent that is not known has a provisional id: never null, so rules and correlations see it.
    return lambda name: name != AGENT and base_of(name) in missing


def _computed(name: str) -> bool:
    return is_argument(name) or name.startswith("otel_ir.")
