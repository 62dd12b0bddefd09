"""A compiled rule in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sigma import conditions, types

from otel_ir.errors import RuleError
from otel_ir.sigma.extensions import NS
from otel_ir.sigma.load import Library
from otel_ir.sigma.operators import string_kind
from otel_ir.sigma.parse import Entry
from otel_ir.sigma.regex import shorten
from otel_ir.sigma.ruleset import Correlation, Rule

_STRING = {
    "equals": "is {}",
    "contains": "contains {}",
    "startswith": "starts with {}",
    "endswith": "ends with {}",
    "any": "has a value",
    "pattern": "fits the pattern {}",
}
_COMPARE = {
    "LT": "is less than",
    "LTE": "is at most",
    "GT": "is greater than",
    "GTE": "is at least",
    "NEQ": "is a number other than",
}
_MAX_VALUES = 12


def explain(library: Library, entry: Entry) -> str:
    """What the document does, in a few lines. It must have been compiled."""
    compiled = library.compiled[entry.id]
    lines = [f"{compiled.title}  ({compiled.signal}, {compiled.severity}, {compiled.stage})", f"  {compiled.description}", ""]
    if isinstance(compiled, Rule):
        lines += _rule_lines(entry, compiled)
    else:
        lines += _correlation_lines(library, compiled)
    return "\n".join(lines)


def _rule_lines(entry: Entry, rule: Rule) -> Iterator[str]:
    yield f"Looks at {rule.service or 'all'} events and matches where"
    trees = [condition.parsed for condition in entry.sigma.detection.parsed_condition]
    yield from _tree(trees[0] if len(trees) == 1 else conditions.ConditionOR(trees), 1)
    if not entry.ours:
        yield "It is a rule for another product: it never matches agent events; 'rules eval' runs it over any events."
    elif not rule.alerts:
        yield "It does not alert by itself: a correlation refers to it."
    elif rule.suppress is None:
        yield "Every match alerts."
    else:
        yield f"A match alerts; further ones are counted for {span(rule.suppress)}."
    yield from _response(rule)


def _correlation_lines(library: Library, item: Correlation) -> Iterator[str]:
    group = "for each " + " and ".join(item.group_by) if item.group_by else "over all events"
    matched = [library.compiled[rule].title for rule in item.rules]
    if item.kind == "event_count":
        yield f"Fires when, {group}, more than {item.threshold} matches of"
        yield from (f"  - {title}" for title in matched)
        yield f"fall within {span(item.timespan)}."
        if item.baseline:
            yield (
                f"Once {item.baseline.learn} such windows of a group are known, more than {item.baseline.multiple:g} times its own "
                f"rate; until then {item.baseline.multiple:g} times {item.baseline.default:g}."
            )
    else:
        within = f", among the last {item.within_events} {item.service or ''} events".replace("  ", " ") if item.within_events else ""
        yield f"Fires when, {group}, within {span(item.timespan)}{within}, in this order,"
        yield from (f"  {number}. {title}" for number, title in enumerate(matched, 1))
        yield "have matched."
    yield f"While it stays true, what comes is counted; it may fire again after {span(item.suppress)}, or once it was false."
    yield from _response(item)
    for rule in dict.fromkeys(item.rules):
        base = library.entry(rule)
        yield ""
        yield f"{library.compiled[rule].title}:"
        compiled = library.compiled[rule]
        if isinstance(compiled, Rule):
            yield from (f"  {line}" for line in _rule_lines(base, compiled))


def _response(item: Rule | Correlation) -> Iterator[str]:
    if item.response:
        yield f"It asks for the playbook {item.response!r}."


def span(nanoseconds: int) -> str:
    """Nanoseconds in the largest unit that fits."""
    seconds = nanoseconds // NS
    units = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    count, unit = next((seconds // size, unit) for size, unit in units if seconds % size == 0)
    return f"{count} {unit}{'s' if count != 1 else ''}"


def _tree(node: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(node, conditions.ConditionNOT):
        yield f"{indent}not"
        yield from _tree(node.args[0], depth + 1)
    elif isinstance(node, conditions.ConditionAND | conditions.ConditionOR):
        together = _one_field(node)
        if together:
            yield indent + together
            return
        yield indent + ("all of" if isinstance(node, conditions.ConditionAND) else "any of")
        for child in node.args:
            yield from _tree(child, depth + 1)
    else:
        yield indent + phrase(getattr(node, "field", None), node.value)


def _one_field(node: Any) -> str:
    """``a is x`` or ``a is y`` as ``a is x or y``, where all parts test one field in one way."""
    leaves = [child for child in node.args if not hasattr(child, "args")]
    fields = {getattr(child, "field", None) for child in leaves}
    if len(leaves) != len(node.args) or len(fields) != 1:
        return ""
    parts = [_parts(child.value, keyword=None in fields) for child in leaves]
    if len({template for template, _ in parts}) != 1 or "{}" not in parts[0][0]:
        return ""
    values = [value for _, value in parts[:_MAX_VALUES]]
    if len(parts) > _MAX_VALUES:
        values.append(f"one of {len(parts) - _MAX_VALUES} more")
    link = " or " if isinstance(node, conditions.ConditionOR) else " and "
    return f"{fields.pop() or 'any text of the event'} {parts[0][0].format(link.join(values))}"


def phrase(field: str | None, value: Any) -> str:
    """One test in words."""
    template, operand = _parts(value, keyword=field is None)
    return f"{field or 'any text of the event'} {template.format(operand)}"


def _parts(value: Any, *, keyword: bool) -> tuple[str, str]:
    if isinstance(value, types.SigmaString):
        cased, kind, operand = string_kind(value, keyword=keyword)
        shown = value.to_plain() if kind == "pattern" else operand
        return _STRING[kind] + (" (in this case)" if cased else ""), repr(shorten(shown))
    describe = _WORDS.get(type(value))
    if describe is None:
        raise RuleError(f"{type(value).__name__} values are not part of a rule here")
    return describe(value)


def _reference(value: Any) -> tuple[str, str]:
    kinds = {(True, True): "contains {}", (True, False): "starts with {}", (False, True): "ends with {}"}
    return kinds.get((value.starts_with, value.ends_with), "is {}"), f"the value of {value.field}"


def _expression(value: Any) -> tuple[str, str]:
    flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    return "matches {}" + (f" ({flags})" if flags else ""), "/" + shorten(str(value.regexp)) + "/"


_WORDS: dict[type, Callable[[Any], tuple[str, str]]] = {
    types.SigmaRegularExpression: _expression,
    types.SigmaNumber: lambda value: ("is {}", str(value.number)),
    types.SigmaCompareExpression: lambda value: (_COMPARE[value.op.name] + " {}", str(value.number)),
    types.SigmaBool: lambda value: ("is {}", str(value.boolean).lower()),
    types.SigmaNull: lambda _: ("has no value", ""),
    types.SigmaExists: lambda value: ("is there" if value.exists else "is not there", ""),
    types.SigmaTimestampPart: lambda value: (value.timestamp_part.name.lower() + " of it is {}", str(value.number)),
    types.SigmaFieldReference: _reference,
    types.SigmaCIDRExpression: lambda value: ("is an address in {}", str(value.cidr)),
    types.SigmaExpansion: lambda value: ("is one of: {}", "; ".join(phrase("it", item) for item in value.values)),
}
