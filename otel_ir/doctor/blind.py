"""Which rules cannot fire on an agent, because its telemetry leaves out what they read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    """

    rule_id: str
    signal: str
    severity: str
    events: int
    of: int
    needs: tuple[str, ...]
    attribute: bool = False

    @property
    def wholly(self) -> bool:
        """Whether it can never fire."""
        return self.events == self.of


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


def blind_rules(library: Library, cover: AgentCover) -> list[Blind]:
    """The rules that alert, and the correlations, which cannot fire on some or all events of this agent; the most severe first."""
    found = [one for rule in library.ruleset.rules if rule.alerts and (one := _blind(library, rule, cover)) is not None]
    found += [one for item in library.ruleset.correlations if (one := _correlation(library, item, cover)) is not None]
    order = ("critical", "high", "medium", "low")
    return sorted(found, key=lambda one: (not one.wholly, order.index(one.severity), one.signal))


def _blind(library: Library, rule: Rule, cover: AgentCover, group_by: tuple[str, ...] = ()) -> Blind | None:
    """None where the rule sees every event, or where there is none that it looks at."""
    trees = [condition.parsed for condition in library.entry(rule.id).sigma.detection.parsed_condition]
    attributes = {name for name in (*rule.fields, *group_by) if name not in EVENT_COLUMNS and not _computed(name)}
    mine = [one for one in cover.patterns if rule.service in (None, one.event)]
    never = {name for name in attributes if not any((one.event, name) in cover.came for one in mine)}
    events, needs, by_content = 0, set[str](), True
    for pattern in mine:
        gone = _gone(pattern.missing)
        lost = [name for name in group_by if name in never or gone(name)]
        content = bool(lost and not never.issuperset(lost)) or not any(can_match(tree, gone) for tree in trees)
        if content or lost or not any(can_match(tree, lambda name, gone=gone: name in never or gone(name)) for tree in trees):  # type: ignore[misc]
            events += pattern.count
            by_content &= content
            needs.update(lost or (name for name in rule.fields if gone(name) or name in never))
    if not events:
        return None
    of = sum(one.count for one in mine)
    return Blind(rule.id, rule.signal, rule.severity, events, of, tuple(sorted(needs)), attribute=not by_content)


def _gone(missing: frozenset[str]) -> Callable[[str], bool]:
    # An agent that is not known has a provisional id: never null, so rules and correlations see it.
    return lambda name: name != AGENT and base_of(name) in missing


def _computed(name: str) -> bool:
    return is_argument(name) or name.startswith("otel_ir.")


def _correlation(library: Library, item: Correlation, cover: AgentCover) -> Blind | None:
    """An ordered one needs every rule, a count needs any of them."""
    rules = [rule for rule in library.ruleset.rules if rule.id in item.rules]
    if any(not _looked_at(rule, cover) for rule in rules):
        return None
    parts = [_blind(library, rule, cover, item.group_by) for rule in rules]
    chosen = list(_seen(parts, ordered=item.kind != "event_count"))
    if not chosen:
        return None
    worst = max(chosen, key=lambda one: one.events / one.of)
    return Blind(item.id, item.signal, item.severity, worst.events, worst.of, worst.needs, worst.attribute)


def _looked_at(rule: Rule, cover: AgentCover) -> bool:
    return any(rule.service in (None, one.event) for one in cover.patterns)


def _seen(parts: list[Blind | None], *, ordered: bool) -> Iterator[Blind]:
    if ordered:
        yield from (one for one in parts if one is not None)
    elif all(parts):
        yield from sorted((one for one in parts if one is not None), key=lambda one: one.events / one.of)[:1]
