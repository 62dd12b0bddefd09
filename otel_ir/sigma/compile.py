"""A Sigma condition into one Polars expression. Nothing is interpreted row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
from sigma import conditions, types

from otel_ir.errors import RuleError
from otel_ir.sigma.columns import Columns
from otel_ir.sigma.operators import alternatives, any_of, operator

MAX_VALUES = 20_000
"""Values and conditions of one rule, written out."""
MAX_NESTING = 64


def compile_detection(detection: Any, columns: Columns) -> pl.Expr:
    """The ``detection`` of a rule (pySigma's SigmaDetections). Boolean, never null. ``columns.used`` receives what it reads.

    A rule with several conditions matches where any does (Sigma specification, "Condition"). ``RuleError`` where it cannot be compiled.
    """
    try:
        parsed = [condition.parsed for condition in detection.parsed_condition]
    except RecursionError:
        raise RuleError("a condition is nested too deep") from None
    except (ValueError, TypeError, AttributeError) as error:  # pySigma reads conditions only now
        raise RuleError(str(error.args[0] if error.args else error)) from None
    if any(tree is None for tree in parsed):
        raise RuleError("a condition is empty")
    for tree in parsed:
        _check_size(tree)
    return any_of([_compile(tree, columns) for tree in parsed]).fill_null(value=False)


def needed(detection: Any) -> frozenset[str]:
    """Columns without which a detection that was compiled can match no event: where one of them is null, so is what it is compared with."""
    trees = [_needed(condition.parsed) for condition in detection.parsed_condition]
    return frozenset.intersection(*trees)


def _needed(node: Any) -> frozenset[str]:
    if isinstance(node, conditions.ConditionNOT):
        return frozenset()
    if isinstance(node, conditions.ConditionAND | conditions.ConditionOR):
        parts = [_needed(child) for child in node.args if child is not None]
        join = frozenset.union if isinstance(node, conditions.ConditionAND) else frozenset.intersection
        return join(*parts)
    return _needed_value(getattr(node, "field", None), node.value)


def _needed_value(field: str | None, value: Any) -> frozenset[str]:
    if isinstance(value, types.SigmaExpansion):
        return frozenset.intersection(*(_needed_value(field, item) for item in value.values)) if value.values else frozenset()
    if field is None or isinstance(value, types.SigmaNull) or (isinstance(value, types.SigmaExists) and not value.exists):
        return frozenset()
    return frozenset({field, str(value.field)}) if isinstance(value, types.SigmaFieldReference) else frozenset({field})


def compile_item(item: Any, columns: Columns) -> pl.Expr:
    """One test of a detection (pySigma's SigmaDetectionItem), by itself."""
    return _compile(item.postprocess(None), columns)


def _check_size(tree: Any) -> None:
    total, stack = 0, [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        total += 1
        if depth > MAX_NESTING:
            raise RuleError(f"a condition nested more than {MAX_NESTING} deep")
        if total > MAX_VALUES:
            raise RuleError(f"more than {MAX_VALUES} values and conditions", hint="split the rule, or use a regular expression")
        stack.extend((child, depth + 1) for child in getattr(node, "args", ()) if child is not None)


def _compile(node: Any, columns: Columns) -> pl.Expr:
    """Null (nothing there to compare) may stand for False below AND and OR, which only grow with their parts, but not below NOT."""
    if isinstance(node, conditions.ConditionOR):
        return any_of(list(_alternatives(node.args, columns)))
    if isinstance(node, conditions.ConditionAND):
        parts = [_compile(child, columns) for child in node.args if child is not None]
        return parts[0] if len(parts) == 1 else pl.all_horizontal(parts)
    if isinstance(node, conditions.ConditionNOT):
        return ~_compile(node.args[0], columns).fill_null(value=False)
    return operator(node.value)(columns, getattr(node, "field", None), node.value)


def _alternatives(nodes: list[Any], columns: Columns) -> Iterator[pl.Expr]:
    leaves = list[tuple[str | None, Any]]()
    for node in nodes:
        if isinstance(node, conditions.ConditionFieldEqualsValueExpression | conditions.ConditionValueExpression):
            leaves.append((getattr(node, "field", None), node.value))
        elif node is not None:
            yield _compile(node, columns)
    yield from alternatives(columns, leaves)
