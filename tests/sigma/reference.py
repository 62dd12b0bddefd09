"""The Sigma specification, read event by event: slow, obvious, and independent of the compiled engine.

It walks pySigma's parse tree with Python's own strings, ``re`` and ``ipaddress``. Nothing is imported from ``otel_ir``.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from sigma import conditions, types
from sigma.rule import SigmaDetections

MISSING: list[Any] = []


def matches(detections: SigmaDetections, event: dict[str, Any]) -> bool:
    """A rule with several conditions matches where any does."""
    return any(holds(condition.parsed, event) for condition in detections.parsed_condition)


def holds(node: Any, event: dict[str, Any]) -> bool:
    if isinstance(node, conditions.ConditionNOT):
        return not holds(node.args[0], event)
    if isinstance(node, conditions.ConditionAND):
        return all(holds(child, event) for child in node.args)
    if isinstance(node, conditions.ConditionOR):
        return any(holds(child, event) for child in node.args)
    if isinstance(node, conditions.ConditionValueExpression):
        return any(keyword(node.value, text) for text in texts_of(event))
    return field_test(node.field, node.value, event)


# Events


def look_up(event: Any, name: str) -> list[Any]:
    """All values of a field: as a key, else along its dots; through lists to each item."""
    if isinstance(event, list):
        return [value for item in event for value in look_up(item, name)]
    if not isinstance(event, dict):
        return MISSING
    if name in event:
        return [event[name]]
    for at in (index for index, char in enumerate(name) if char == "."):
        if name[:at] in event and (found := look_up(event[name[:at]], name[at + 1 :])):
            return found
    return MISSING


def scalars(value: Any) -> list[Any]:
    """What there is to compare: the elements of a list, but neither null nor objects."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if item is not None and not isinstance(item, dict | list)]


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for item in (value.values() if isinstance(value, dict) else value) for text in texts_of(item)]
    return [] if value is None else [as_text(value)]


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


NUMERIC = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not NUMERIC.fullmatch(value):
        return None
    number = float(value)
    return number if abs(number) != float("inf") else None


# Tests


def field_test(field: str, wanted: Any, event: dict[str, Any]) -> bool:
    found = look_up(event, field)
    if isinstance(wanted, types.SigmaExpansion):
        return any(field_test(field, one, event) for one in wanted.values)
    if isinstance(wanted, types.SigmaNull):
        return all(value is None for value in found)
    if isinstance(wanted, types.SigmaExists):
        return bool(found) is wanted.exists
    values = [scalar for value in found for scalar in scalars(value)]
    if isinstance(wanted, types.SigmaFieldReference):
        others = [scalar for value in look_up(event, wanted.field) for scalar in scalars(value)]
        return reference(wanted, [lower(as_text(one)) for one in values], [lower(as_text(one)) for one in others])
    return any(value_test(wanted, value) for value in values)


def value_test(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, types.SigmaString):
        return string(wanted, as_text(value))
    if isinstance(wanted, types.SigmaRegularExpression):
        return expression(wanted, as_text(value))
    if isinstance(wanted, types.SigmaBool):
        return as_text(value).lower() == ("true" if wanted.boolean else "false")
    if isinstance(wanted, types.SigmaTimestampPart):
        return time_part(wanted, as_text(value))
    if isinstance(wanted, types.SigmaNumber):
        return as_number(value) == wanted.number
    if isinstance(wanted, types.SigmaCompareExpression):
        number, limit = as_number(value), wanted.number.number
        tests = {"LT": lambda: number < limit, "LTE": lambda: number <= limit, "GT": lambda: number > limit, "GTE": lambda: number >= limit}
        return number is not None and tests[wanted.op.name]()
    if isinstance(wanted, types.SigmaCIDRExpression):
        try:
            return ip_address(as_text(value)) in wanted.network
        except ValueError:
            return False
    raise AssertionError(type(wanted))


def keyword(wanted: Any, text: str) -> bool:
    """A part of any text of the event; an expression anywhere in it."""
    if isinstance(wanted, types.SigmaExpansion):
        return any(keyword(one, text) for one in wanted.values)
    if isinstance(wanted, types.SigmaString):
        star = types.SpecialChars.WILDCARD_MULTI
        return fits([star, *wanted.s, star], text, cased=isinstance(wanted, types.SigmaCasedString))
    if isinstance(wanted, types.SigmaNumber):
        return str(wanted.number) in text
    if isinstance(wanted, types.SigmaBool):
        return ("true" if wanted.boolean else "false") in text.lower()
    return value_test(wanted, text)


def string(wanted: types.SigmaString, text: str) -> bool:
    return fits(wanted.s, text, cased=isinstance(wanted, types.SigmaCasedString))


def fits(parts: Any, text: str, *, cased: bool) -> bool:
    pattern = ""
    for part in parts:
        if isinstance(part, str):
            pattern += re.escape(part if cased else lower(part))
        else:
            pattern += ".*" if part is types.SpecialChars.WILDCARD_MULTI else "."
    return re.fullmatch(pattern, text if cased else lower(text), re.DOTALL) is not None


def lower(text: str) -> str:
    """One sigma, wherever it stands in its word."""
    return text.lower().replace("\u03c2", "\u03c3")


def expression(wanted: types.SigmaRegularExpression, text: str) -> bool:
    flags = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
    return re.search(str(wanted.regexp), text, sum(flags[wanted.sigma_to_re_flag[flag]] for flag in wanted.flags)) is not None


def reference(wanted: types.SigmaFieldReference, values: list[str], others: list[str]) -> bool:
    """Of several values any may be equal; a part is compared where both are one."""
    if not wanted.starts_with and not wanted.ends_with:
        return bool(set(values) & set(others))
    if len(values) != 1 or len(others) != 1:
        return False
    (value,), (other,) = values, others
    if wanted.starts_with and wanted.ends_with:
        return other in value
    return value.startswith(other) if wanted.starts_with else value.endswith(other)


def time_part(wanted: types.SigmaTimestampPart, text: str) -> bool:
    """As written: no zone is converted."""
    try:
        time = datetime.strptime(text[:19].replace(" ", "T", 1), "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return False
    name = wanted.timestamp_part.name.lower()
    return (time.isocalendar().week if name == "week" else getattr(time, name)) == int(wanted.number)
