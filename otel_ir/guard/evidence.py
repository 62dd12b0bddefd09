"""A refusal is telemetry: a span of its own, and marks on the span of the call that did not run."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_ir import __version__
from otel_ir.guard.decide import CONVERSATION, MODEL, NAME, Call, Refusal
from otel_ir.guard.spans import SCOPE, tool_of

MARK = "otel_ir.guardrail.name"
"""Attribute by which the guard's sampler knows a refusal: it is kept, however little is sampled."""


def record(provider: Any, call: Call, refusal: Refusal, *, span: Any = None) -> str:
    """Writes the refusal below ``span`` (default: the current one), and marks that span where it is the refused call itself.

    Returns the span id, in hex, of the call's own span where there is one, else of the refusal.
    """
    span = trace.get_current_span() if span is None else span
    own = _is_call(span, call.tool)
    if own and span.is_recording():
        mark(span, refusal)
    attributes: dict[str, str | bool] = {
        "otel_ir.event.type": "guardrail", MARK: SCOPE, "otel_ir.guardrail.triggered": True,
        "otel_ir.action.id": refusal.id, "otel_ir.action.verb": refusal.verb, "otel_ir.incident.id": refusal.incident,
        "otel_ir.refusal.reason": refusal.reason, NAME: call.first(NAME), CONVERSATION: call.first(CONVERSATION),
        "gen_ai.tool.name": "" if call.tool == MODEL else call.tool,
    }  # fmt: skip
    given = {key: value for key, value in attributes.items() if value != ""}
    tracer = (provider or trace).get_tracer(SCOPE, __version__)
    written = tracer.start_span(f"otel_ir.guard.refused {call.tool}", context=_below(span), attributes=given)
    written.end()
    return f"{(span if own else written).get_span_context().span_id:016x}"


def mark(span: Any, refusal: Refusal) -> None:
    """On the span of a call: it did not run."""
    span.set_attribute("otel_ir.executed", "rejected")
    if refusal.id:
        span.set_attribute("otel_ir.action.id", refusal.id)


def _is_call(span: Any, tool: str) -> bool:
    scope = getattr(span, "instrumentation_scope", None)
    name = getattr(span, "name", "")
    attributes = getattr(span, "attributes", None) or {}
    return scope is not None and tool_of(scope.name, name, attributes) == tool


def _below(span: Any) -> Context:
    """A context in which ``span`` is a sampled parent: a refusal is not lost because its trace was not chosen."""
    parent = span.get_span_context()
    if not parent.is_valid:
        return Context()
    sampled = SpanContext(parent.trace_id, parent.span_id, False, TraceFlags(parent.trace_flags | TraceFlags.SAMPLED), parent.trace_state)
    return trace.set_span_in_context(NonRecordingSpan(sampled), Context())
