"""Advice on rules that can be used as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import polars as pl
from sigma import conditions, types
from sigma.correlations import SigmaCorrelationRule

from otel_ir.errors import RuleError
from otel_ir.model import EVENT_SCHEMA
from otel_ir.normalize.reference import filled_columns, made_events
from otel_ir.sigma.columns import Columns
from otel_ir.sigma.extensions import CORRELATION_EXTENSIONS, CORRELATION_KEYS, RULE_KEYS, suggest
from otel_ir.sigma.load import Library
from otel_ir.sigma.operators import operator, string_kind
from otel_ir.sigma.parse import NEW_ID, Entry
from otel_ir.sigma.regex import shorten
from otel_ir.sigma.ruleset import Correlation, Rule
from otel_ir.sigma.tags import fault_of

_KNOWN_OURS = re.compile(r"otel_ir\.(arguments\..+|origin\..+)")
"""Columns beyond ``EVENT_SCHEMA`` that the system fills on demand."""


def lint(library: Library) -> list[RuleError]:
    """Advice for every document, in the order of the files. Errors of loading are not repeated here."""
    advice = [item for entry in library.entries for item in _lint(library, entry)]
    return sorted(advice, key=lambda item: (item.path, item.line, item.column))


def _lint(library: Library, entry: Entry) -> Iterator[RuleError]:
    document, compiled = entry.document, library.compiled.get(entry.id)
    if compiled is None:
        return
    data = document.data
    known = (*CORRELATION_KEYS, *RULE_KEYS, *CORRELATION_EXTENSIONS)
    for key in data:
        if key not in known:
            yield document.error(f"the key {key!r} is neither Sigma's nor otel_ir's", str(key), hint="it is ignored")
    if isinstance(data.get("detection"), dict) and isinstance(data["detection"].get("timeframe"), str | int):
        yield document.error("a timeframe without an aggregation says nothing", "detection", "timeframe", hint="write a correlation")
    if "id" not in data:
        yield document.error("no id", hint=f"alerts are found again by the id of their rule; print one with: {NEW_ID}")
    if isinstance(compiled, Correlation) or compiled.alerts:
        yield from _lint_alerting(entry)
    yield from _lint_tags(entry)
    if isinstance(compiled, Rule):
        yield from _lint_expressions(entry)
        yield from _lint_rule(entry, compiled)
    elif isinstance(entry.sigma, SigmaCorrelationRule):
        for name, place in _columns(compiled):
            yield from _lint_column(entry, name, place)
        if not compiled.group_by:
            yield document.error("no group-by", "correlation", hint="it counts over all agents together")


def _columns(item: Correlation) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The columns that a correlation reads, and where they are written."""
    for index, name in enumerate(item.group_by):
        read = dict.fromkeys(item.read_from(step)[index] for step in range(len(item.rules)))
        place = ("correlation", "group-by", index) if set(read) <= {name} else ("correlation", "aliases", name)
        yield from ((column, place) for column in read)
    yield from ((name, ("correlation", "condition", "field")) for name in item.fields)
    yield from ((name, ("new_terms", "fields", index)) for index, name in enumerate(item.new_terms.fields if item.new_terms else ()))


def _lint_alerting(entry: Entry) -> Iterator[RuleError]:
    wanted = {
        "level": "its alerts count as medium",
        "description": "the responder reads it at 3 a.m.",
        "falsepositives": "say what harmless activity looks like this",
        "tests": "add one that fires and one that stays silent",
    }
    for key, why in wanted.items():
        if not entry.document.data.get(key):
            yield entry.document.error(f"no {key}", "title", hint=why)


def _lint_tags(entry: Entry) -> Iterator[RuleError]:
    for index, tag in enumerate(entry.sigma.tags):
        if hint := fault_of(str(tag.namespace), str(tag)):
            yield entry.document.error(f"no such tag: {tag}", "tags", index, hint=hint)


def _lint_rule(entry: Entry, rule: Rule) -> Iterator[RuleError]:
    document = entry.document
    if not entry.ours:
        hint = "agent events are product: opentelemetry, category: ai_agent; 'rules eval' runs any rule over any events"
        yield document.error("the logsource is of another product: it never matches agent events", "logsource", hint=hint)
        return
    for name in sorted(rule.fields):
        yield from _lint_column(entry, name, ("detection",))
    trees = [condition.parsed for condition in entry.sigma.detection.parsed_condition]
    if rule.alerts and any(_matches_all(tree) for tree in trees):
        yield document.error("the condition holds for nearly every event", "detection", "condition", hint="test for something present")
    if rule.service is None:
        return
    if rule.service not in made_events():
        what = f"no dialect makes events of type {rule.service!r}"
        yield document.error(what, "logsource", "service", hint="only applications that state otel_ir.event.type themselves")
    for node in (leaf for tree in trees for leaf in _leaves(tree)):
        if getattr(node, "field", None) == "event.type" and str(node.value) != rule.service:
            yield document.error(f"event.type is {rule.service!r} by its logsource", "detection", hint="the test can never hold")


def _lint_expressions(entry: Entry) -> Iterator[RuleError]:
    for condition in entry.sigma.detection.parsed_condition:
        for node in _leaves(condition.parsed):
            if isinstance(node.value, types.SigmaRegularExpression) and _fits(node.value, "", "x", "\n \u00e9"):
                what = f"the regular expression {shorten(str(node.value.regexp))!r} matches everything"
                yield entry.document.error(what, *_where(entry, str(getattr(node, "field", "")), ("detection",)), hint="use 'exists'")


def _lint_column(entry: Entry, name: str, place: tuple[str | int, ...]) -> Iterator[RuleError]:
    if name in EVENT_SCHEMA and name not in filled_columns():
        what = f"no dialect fills {name!r}"
        yield entry.document.error(what, *_where(entry, name, place), hint="only applications that state it themselves")
    if name in EVENT_SCHEMA or _KNOWN_OURS.fullmatch(name):
        return
    near = suggest(name, EVENT_SCHEMA, cutoff=0.8)
    if name.startswith("otel_ir.") or near:
        what = f"nothing fills {name!r}" if name.startswith("otel_ir.") else f"{name!r} is no column of events, only an attribute"
        yield entry.document.error(what, *_where(entry, name, place), hint=near or "see: otel-ir events --schema")


def _where(entry: Entry, name: str, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The first test of that field, as far as it stands directly in a detection."""
    detection = entry.document.data.get("detection")
    for section, tests in detection.items() if isinstance(detection, dict) and place == ("detection",) else ():
        for key in tests if isinstance(tests, dict) else ():
            if str(key).split("|")[0] == name:
                return "detection", section, key
    return place


def _leaves(node: Any) -> Iterator[Any]:
    if hasattr(node, "args"):
        for child in node.args:
            yield from _leaves(child)
    else:
        yield node


def _matches_all(node: Any) -> bool:
    """Whether nothing in it asks for a particular value: ``*``, a pattern that fits the empty text, or only negations."""
    if isinstance(node, conditions.ConditionNOT):
        return not _matches_all(node.args[0])
    if isinstance(node, conditions.ConditionAND):
        return all(_matches_all(child) for child in node.args)
    if isinstance(node, conditions.ConditionOR):
        return any(_matches_all(child) for child in node.args)
    if isinstance(node.value, types.SigmaString):
        return string_kind(node.value, keyword=not hasattr(node, "field"))[1] == "any"
    if isinstance(node.value, types.SigmaRegularExpression):
        return _fits(node.value, "")
    return False


def _fits(value: Any, *texts: str) -> bool:
    probe = pl.DataFrame({"text": texts})
    return bool(probe.select(operator(value)(Columns(), "text", value)).to_series().all())
