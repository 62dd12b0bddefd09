"""Which spans are open, and which of them stands nearest above a span that has ended."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AttributeValue

from otel_ir.export import EVENT_NAME
from otel_ir.model import Alert

MAX_SPANS = 10_000
"""Open spans that are known, and as many ended ones; the oldest go first. An alert whose ancestors are forgotten gets its own span."""
MAX_HOPS = 64

Key = tuple[int, int]
"""Trace id, span id."""


class OpenSpans:
    """Spans from their start to their end, by id. Thread-safe. Holds no span alive: one that nobody ends is the application's to forget."""

    def __init__(self, limit: int = MAX_SPANS) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._open: OrderedDict[Key, tuple[weakref.ref[Span], int]] = OrderedDict()
        self._ended: OrderedDict[Key, int] = OrderedDict()
        """Parents of spans that have ended, for what ends after them; 0 for a root."""

    def start(self, span: Span) -> None:
        """A span was started."""
        with self._lock:
            if len(self._open) >= self._limit:
                self._make_room()
            self._open[_key(span.get_span_context())] = (weakref.ref(span), _parent(span))

    def end(self, span: ReadableSpan) -> None:
        """A span has ended; no event can be added to it any more."""
        context = span.get_span_context()
        if context is None:
            return
        with self._lock:
            self._open.pop(_key(context), None)
            self._ended[_key(context)] = _parent(span)
            if len(self._ended) > self._limit:
                self._ended.popitem(last=False)

    def above(self, trace_id: int, span_id: int) -> Iterator[Span]:
        """The open, sampled spans above (or at) a span, nearest first."""
        for _ in range(MAX_HOPS):
            with self._lock:
                found = self._open.get((trace_id, span_id))
                parent = found[1] if found else self._ended.get((trace_id, span_id), 0)
            span = found[0]() if found else None
            if span is not None and span.is_recording() and span.get_span_context().trace_flags.sampled:
                yield span
            if not parent:
                return
            span_id = parent

    def __len__(self) -> int:
        return len(self._open)

    def _make_room(self) -> None:
        """A tenth of it at once, since looking through all of them is not cheap; those that are gone without an end first."""
        for key in [key for key, (span, _) in self._open.items() if span() is None]:
            del self._open[key]
        while len(self._open) > self._limit * 9 // 10:
            self._open.popitem(last=False)


def put_event(spans: OpenSpans, alert: Alert, attributes: Mapping[str, AttributeValue]) -> bool:
    """Adds the alert's event to the nearest open ancestor of its span; False when there is none that will carry it.

    An ancestor may end in another thread meanwhile, and an event on an ended span is lost without a word. So it is looked for.
    """
    try:
        trace_id, span_id = int(alert.trace_id, 16), int(alert.span_id, 16)
    except ValueError:
        return False
    for span in spans.above(trace_id, span_id):
        span.add_event(EVENT_NAME, attributes, timestamp=alert.event_time)
        if any(_is_it(event, alert) for event in reversed(span.events)):
            return True
    return False


def _is_it(event: object, alert: Alert) -> bool:
    attributes = getattr(event, "attributes", None) or {}
    return getattr(event, "name", "") == EVENT_NAME and attributes.get("otel_ir.alert.id") == alert.alert_id


def _key(context: SpanContext) -> Key:
    return context.trace_id, context.span_id


def _parent(span: ReadableSpan) -> int:
    """Id of the parent in this trace; 0 for a root."""
    return span.parent.span_id if span.parent is not None else 0
