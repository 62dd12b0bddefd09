"""Correlations over whole files, read row by row: slow, obvious, and independent of the engine. Nothing is imported from ``otel_ir``.

An event is a dict with ``t`` (seconds), ``rules`` (the set of names that match it) and its fields. A correlation is the YAML document.
"""

from __future__ import annotations

import itertools
import math
import operator
from fractions import Fraction
from typing import Any

OPERATORS = {name: getattr(operator, {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le", "eq": "eq", "neq": "ne"}[name]) for name in (
    "gt", "gte", "lt", "lte", "eq", "neq",
)}  # fmt: skip
Row = dict[str, Any]


def fires(document: dict[str, Any], events: list[dict[str, Any]]) -> list[tuple[int, tuple[Any, ...]]]:
    """(index of the completing event, group) of each alert, by time, then by index."""
    correlation = document["correlation"]
    rows = [row for index, event in enumerate(events) for row in rows_of(document, index, event)]
    rows.sort(key=lambda row: (row["t"], row["index"]))
    found = []
    for group in dict.fromkeys(row["group"] for row in rows):
        mine = [row for row in rows if row["group"] == group]
        if "new_terms" in document:
            found += [(row["t"], row["index"], group) for row in new_terms(document, mine)]
            continue
        seen = [row for row in mine if correlation["rules"][-1] in row["steps"]] if "absence" in document else mine
        found += [(row["t"], row["index"], group) for row in edges(document, mine, seen)]
    return [(index, group) for _, index, group in sorted(found)]


def rows_of(document: dict[str, Any], index: int, event: dict[str, Any]) -> list[Row]:
    correlation = document["correlation"]
    group_by, aliases = correlation.get("group-by", []), correlation.get("aliases", {})
    columns: dict[tuple[str, ...], set[str]] = {}
    for rule in correlation["rules"]:
        columns.setdefault(tuple(aliases.get(name, {}).get(rule, name) for name in group_by), set()).add(rule)
    if "absence" in document:
        columns.setdefault(tuple(group_by), set()).add(document["absence"]["rule"])
    found = []
    for read, rules in columns.items():
        steps = rules & event["rules"]
        group = tuple(text(event.get(name)) for name in read)
        value = value_of(document, event)
        if (steps or "within-events" in document) and None not in group and value is not None:
            found.append({"t": event["t"], "index": index, "steps": steps, "group": group, "value": value})
    return found


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def value_of(document: dict[str, Any], event: dict[str, Any]) -> Any:
    condition, kind = document["correlation"].get("condition"), document["correlation"]["type"]
    fields = document["new_terms"]["fields"] if "new_terms" in document else condition.get("field") if isinstance(condition, dict) else None
    if fields is None:
        return ()
    values = [event.get(name) for name in ([fields] if isinstance(fields, str) else fields)]
    if None in values:
        return None
    if kind in ("value_count", "event_count"):
        return tuple(map(text, values))
    if isinstance(values[0], bool):
        return None
    try:
        return Fraction(float(values[0]))
    except (ValueError, OverflowError):
        return None


def span(written: str) -> float:
    return int(written[:-1]) * {"s": 1, "m": 60, "h": 3600}[written[-1]]


def window(document: dict[str, Any], rows: list[Row], at: int) -> list[Row]:
    correlation, t = document["correlation"], rows[at]["t"]
    timespan = span(correlation["timespan"])
    condition = correlation.get("condition")
    few = isinstance(condition, dict) and any(name in condition for name in ("lt", "lte", "eq", "neq"))
    if few and correlation["type"] in ("event_count", "value_count", "value_sum"):
        return [row for row in rows[at:] if row["t"] < t + timespan]
    first = max(0, at + 1 - document["within-events"]) if "within-events" in document else 0
    return [row for row in rows[first : at + 1] if row["t"] > t - timespan]


def true(document: dict[str, Any], rows: list[Row], at: int) -> bool:
    correlation = document["correlation"]
    kind, condition, rules = correlation["type"], correlation.get("condition"), correlation["rules"]
    inside = window(document, rows, at)
    if "absence" in document:
        return absent(document, rows, at, inside)
    if kind in ("temporal", "temporal_ordered"):
        present = {name for row in inside for name in row["steps"]}
        if isinstance(condition, str):
            for wanted, unwanted in alternatives(condition, rules):
                there = in_order(wanted, inside) if kind == "temporal_ordered" else set(wanted) <= present
                if there and not unwanted & present:
                    return True
            return False
        least = len(rules) if condition is None else condition.get("gte", condition.get("eq", condition.get("gt", 0) + 1))
        chosen = itertools.combinations(rules, int(least))
        return any(in_order(one, inside) if kind == "temporal_ordered" else set(one) <= present for one in chosen)
    name, limit = next((name, limit) for name, limit in condition.items() if name in OPERATORS)
    values = sorted(row["value"] for row in inside)
    number = {
        "event_count": lambda: len(values),
        "value_count": lambda: len(set(values)),
        "value_sum": lambda: sum(values),
        "value_avg": lambda: sum(values) / len(values),
        "value_median": lambda: (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2,
        "value_percentile": lambda: values[math.ceil(Fraction(condition["percentile"] * len(values), 100)) - 1],
    }[kind]()
    return bool(OPERATORS[name](float(number), limit))


def alternatives(condition: str, rules: list[str]) -> list[tuple[tuple[str, ...], set[str]]]:
    """Every way to be true, from the table of truth: which rules are needed, and which must not be there."""
    python = condition
    found = []
    for states in itertools.product([True, False, None], repeat=len(rules)):
        free = [rule for rule, state in zip(rules, states, strict=True) if state is None]
        fixed = {rule: state for rule, state in zip(rules, states, strict=True) if state is not None}
        if all(eval(python, {}, fixed | dict(zip(free, rest, strict=True))) for rest in itertools.product([True, False], repeat=len(free))):
            found.append((tuple(rule for rule in rules if fixed.get(rule)), {rule for rule, state in fixed.items() if not state}))
    return found


def in_order(steps: tuple[str, ...], rows: list[Row]) -> bool:
    wanted = list(steps)
    for row in rows:
        if wanted and wanted[0] in row["steps"]:
            wanted.pop(0)
    return not wanted


def absent(document: dict[str, Any], rows: list[Row], at: int, inside: list[Row]) -> bool:
    rules, unwanted = document["correlation"]["rules"], document["absence"]["rule"]
    *before, last = rules
    if last not in rows[at]["steps"]:
        return False
    starts = [i for i in range(len(inside)) if in_order((*before, "\x00end"), [*inside[i:-1], {"steps": {"\x00end"}}])]
    first = max((i for i in starts if not before or before[0] in inside[i]["steps"]), default=None)
    if before and first is None:
        return False
    if document["absence"].get("where", "between") == "between":
        return not any(unwanted in row["steps"] for row in inside[first + 1 : -1])  # type: ignore[operator]
    t, timespan = rows[at]["t"], span(document["correlation"]["timespan"])
    return not any(t < row["t"] < t + timespan and unwanted in row["steps"] for row in rows)


def edges(document: dict[str, Any], rows: list[Row], seen: list[Row]) -> list[Row]:
    timespan = span(document["correlation"]["timespan"])
    suppress = span(document["suppress"]) if "suppress" in document else timespan
    found: list[Row] = []
    previous, was = None, False
    for row in seen:
        now = true(document, rows, next(i for i, one in enumerate(rows) if one is row))
        gap = previous is not None and "within-events" not in document and previous["t"] <= row["t"] - timespan
        if now and (not was or gap or row["t"] - found[-1]["t"] >= suppress):
            found.append(row)
        previous, was = row, now
    return [row for row in found if row["steps"]]


def new_terms(document: dict[str, Any], rows: list[Row]) -> list[Row]:
    timespan, learn = span(document["correlation"]["timespan"]), document["new_terms"].get("learn", 1)
    suppress = span(document["suppress"]) if "suppress" in document else 0
    found: list[Row] = []
    for at, row in enumerate(rows):
        known = {one["value"] for one in rows[:at] if one["t"] > row["t"] - timespan}
        if row["value"] not in known and len(known) >= learn and (not found or row["t"] - found[-1]["t"] >= suppress):
            found.append(row)
    return found
