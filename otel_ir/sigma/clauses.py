"""A condition over names of rules (Sigma correlation rules, "temporal" with a condition) as alternatives: its disjunctive normal form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sigma.correlations import CorrelationConditionAND, CorrelationConditionNOT, CorrelationConditionOR

from otel_ir.errors import RuleError
from otel_ir.sigma.ruleset import Clause

MAX_CLAUSES = 64
_Terms = tuple[frozenset[int], frozenset[int]]
"""Steps that occur, and steps that do not."""


def clauses_of(tree: Any, names: Sequence[str]) -> list[Clause]:
    """The alternatives of a condition, without those that cannot be and those that another implies. ``RuleError``: too many, or none."""
    try:
        terms = _terms(tree, names, negated=False)
    except RecursionError:
        raise RuleError("a condition is nested too deep") from None
    if not terms:
        raise RuleError("a condition that is never true")
    return [Clause(tuple(sorted(required)), tuple(sorted(absent))) for required, absent in terms]


def _terms(node: Any, names: Sequence[str], *, negated: bool) -> list[_Terms]:
    if isinstance(node, CorrelationConditionNOT):
        return _terms(node.args[0], names, negated=not negated)
    if isinstance(node, CorrelationConditionAND | CorrelationConditionOR):
        parts = [_terms(child, names, negated=negated) for child in node.args]
        every = isinstance(node, CorrelationConditionAND) is not negated  # De Morgan
        return _both(parts) if every else _simplest(term for part in parts for term in part)
    step = frozenset({names.index(str(node.reference))})
    return [(frozenset(), step)] if negated else [(step, frozenset())]


def _both(parts: Iterable[list[_Terms]]) -> list[_Terms]:
    found: list[_Terms] = [(frozenset(), frozenset())]
    for part in parts:
        found = _simplest((a | c, b | d) for a, b in found for c, d in part)
    return found


def _simplest(terms: Iterable[_Terms]) -> list[_Terms]:
    possible = sorted(
        {(a, b) for a, b in terms if not a & b}, key=lambda term: (len(term[0]) + len(term[1]), sorted(term[0]), sorted(term[1]))
    )
    kept: list[_Terms] = []
    for a, b in possible:
        if not any(c <= a and d <= b for c, d in kept):
            kept.append((a, b))
        if len(kept) > MAX_CLAUSES:
            raise RuleError(f"a condition with more than {MAX_CLAUSES} alternatives", hint="write several correlations")
    return kept
