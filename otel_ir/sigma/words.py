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
from otel_ir.sigma.ruleset import IMMEDIATE, Correlation, NewTerms, Rule

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
_SUBJECTS = {
    "event_count": "the number of matches",
    "value_count": "the number of different values of {fields}",
    "value_sum": "the sum of {fields}",
    "value_avg": "the average of {fields}",
    "value_percentile": "the {percentile}th percentile of {fields}",
    "value_median": "the median of {fields}",
}
_THAN = {"gt": "more than", "gte": "at least", "lt": "less than", "lte": "at most", "eq": "exactly", "neq": "other than"}
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
    titles = [library.compiled[rule].title for rule in item.rules]
    alerts = [" (each alert of it)" if rule in item.inner else "" for rule in item.rules]
    named = [f"{title}{each}" for title, each in zip(titles, alerts, strict=True)]
    if item.new_terms:
        yield from _new_terms(item, group, named)
    elif item.clauses:
        yield from _steps(library, item, group, named)
    else:
        yield from _number(item, group, named)
    for alias in (name for at, name in enumerate(item.group_by) if any(read[at] != name for read in item.columns)):
        read = (f"{columns[item.group_by.index(alias)]} of {title}" for columns, title in zip(item.columns, titles, strict=True))
        yield f"There {alias} is {', '.join(read)}."
    if item.deferred:
        yield "It waits until nothing more can come that makes it false: 10 minutes of lateness, in any case."
    if not item.new_terms:
        yield f"While it stays true, what comes is counted; it may fire again after {span(item.suppress)}, or once it was false."
    yield from _response(item)
    for rule in dict.fromkeys([*item.rules, *([item.absence.rule] if item.absence else [])]):
        base = library.entry(rule)
        yield ""
        yield f"{library.compiled[rule].title}:"
        compiled = library.compiled[rule]
        if isinstance(compiled, Rule):
            yield from (f"  {line}" for line in _rule_lines(base, compiled))


def _new_terms(item: Correlation, group: str, named: list[str]) -> Iterator[str]:
    terms = item.new_terms or NewTerms((), 0)
    yield f"Fires when, {group}, a match of"
    yield from (f"  - {title}" for title in named)
    yield f"has a value of {' and '.join(terms.fields)} that the group did not have within {span(item.timespan)} before."
    if terms.learn:
        yield f"It must have had {terms.learn} other{'s' if terms.learn != 1 else ''} by then."
    yield f"After an alert, further ones are counted for {span(item.suppress)}." if item.suppress else "Each new value alerts."


def _number(item: Correlation, group: str, named: list[str]) -> Iterator[str]:
    subject = _SUBJECTS[item.kind].format(fields=" and ".join(item.fields), percentile=item.percentile)
    ahead = item.kind in ("event_count", "value_count", "value_sum") and item.op not in IMMEDIATE
    where = f"within {span(item.timespan)} from one of them on" if ahead else f"within {span(item.timespan)}"
    if item.kind == "event_count" and item.op == "gt":
        yield f"Fires when, {group}, more than {item.threshold:g} matches of"
        yield from (f"  - {title}" for title in named)
        yield f"fall {where}."
    else:
        yield f"Fires when, {group}, {subject} is {_THAN[item.op]} {item.threshold:g}, {where}, over matches of"
        yield from (f"  - {title}" for title in named)
    if item.baseline:
        yield (
            f"Once {item.baseline.learn} such windows of a group are known, more than {item.baseline.multiple:g} times its own "
            f"rate; until then {item.baseline.multiple:g} times {item.baseline.default:g}."
        )


def _steps(library: Library, item: Correlation, group: str, named: list[str]) -> Iterator[str]:
    within = f", among the last {item.within_events} {item.service or ''} events".replace("  ", " ") if item.within_events else ""
    order = ", in this order," if item.kind == "temporal_ordered" else ", in whatever order,"
    yield f"Fires when, {group}, within {span(item.timespan)}{within}{order}"
    for number, clause in enumerate(item.clauses[:_MAX_VALUES]):
        yield from ["or"] if number else []
        yield from (f"  {place}. {named[step]}" for place, step in enumerate(clause.required, 1))
        yield from (f"  and no match of {named[step]}" for step in clause.absent)
    if len(item.clauses) > _MAX_VALUES:
        yield f"or one of {len(item.clauses) - _MAX_VALUES} more combinations"
    yield "have matched."
    if item.absence:
        where = "between the first and the last" if item.absence.where == "between" else f"within {span(item.timespan)} after that"
        yield f"And no match of {library.compiled[item.absence.rule].title} lies {where}."


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
