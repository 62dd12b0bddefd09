"""Which spans can be events at all. The others only say who stands above whom, and may wait for company."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otel_ir.normalize.assign import of_scope
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import EVENT_TYPE, NO_EVENT, Dialect, condition

_MARKERS = tuple((marker, dialect) for dialect in DIALECTS for marker in dialect.markers)


def may_be_event(span: ReadableSpan) -> bool:
    """False only for a span of which normalizing makes no event: no framework's, no marker, or none that means anything.

    The same decision as ``assign`` and ``classify`` take, for one span and without a frame. In doubt it says True.
    """
    attributes = dict(span.attributes or ())
    if EVENT_TYPE in attributes:
        return True
    scope = span.instrumentation_scope
    if scope is not None and len(scope.name) < 256 and of_scope(scope.name) >= 0:
        return True
    dialect = next((dialect for marker, dialect in _MARKERS if marker in attributes), None)
    return dialect is not None and _any_rule(dialect, span, attributes)


def _any_rule(dialect: Dialect, span: ReadableSpan, attributes: Mapping[str, Any]) -> bool:
    return any(
        event != NO_EVENT and all(_may_hold(text, span, attributes) for text in conditions) for event, *conditions in dialect.classify
    )


def _may_hold(text: str, span: ReadableSpan, attributes: Mapping[str, Any]) -> bool:
    source, mark, values = condition(text)
    if source == "@kind":
        value: Any = span.kind.value + 1
    elif source.startswith(("@", "event:", "resource:")) or "#" in source:
        return True
    else:
        value = attributes.get(source)
    if mark in "?!":
        return (value is not None) == (mark == "?")
    if mark != "=":
        return True
    return value is not None and (type(value) not in (str, int) or str(value) in values)
