"""An alert as OpenTelemetry sees it: a child span of the offending span, and a log record. Pure; nothing is sent here.

Names: event ``agent.threat.detection`` and its five attributes from the proposal open-telemetry/semantic-conventions-genai#165,
``gen_ai.*`` and ``user.id`` from the semantic conventions; what they have no word for lives under ``otel_ir.``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_ir import __version__
from otel_ir.model import MAX_CONTRIBUTING, SCOPE_NAME, Alert, SpanRef

EVENT_NAME = "agent.threat.detection"
"""Of the span event and of the log record: one name in both, since span events are being phased out for log-based events."""

MAX_TEXT = 4096
"""Characters of one attribute value. Descriptions quote tool arguments, and those may be any size."""


Told = TypeVar("Told")


class Attribute(NamedTuple, Generic[Told]):
    """Where an attribute of an alert (or a change) comes from, and what it means. ``None`` and empty values are left out."""

    read: Callable[[Told], AttributeValue | None]
    meaning: str


ATTRIBUTES: dict[str, Attribute[Alert]] = {
    "agent.threat.detection.rule_id": Attribute(lambda a: a.rule_id, "id of the rule that fired"),
    "agent.threat.detection.ruleset": Attribute(lambda a: a.ruleset, "digest of the rule set"),
    "agent.threat.detection.severity": Attribute(lambda a: a.severity, "low, medium, high or critical"),
    # The verdict on the call itself, one of allow, block, warn, ask. A span reaches us after its call has run, so
    # "block" would be untrue; what was done about the agent afterwards is the ledger's to tell.
    "agent.threat.detection.action": Attribute(lambda a: "warn", "always warn: the call had run when its span arrived"),  # noqa: ARG005
    # "optional and opaque", to join the finding with the producer's own records (the proposal's words).
    "agent.threat.detection.correlation_id": Attribute(lambda a: a.alert_id, "the alert's id, to join with `otel-ir alerts`"),
    "otel_ir.alert.id": Attribute(lambda a: a.alert_id, "the alert's id, the same over restarts and repeated exports"),
    "otel_ir.alert.signal": Attribute(lambda a: a.signal, "name of the rule"),
    "otel_ir.alert.stage": Attribute(lambda a: a.stage, "attempt, compromise or anomaly"),
    "otel_ir.alert.title": Attribute(lambda a: a.title, "title of the rule"),
    "otel_ir.alert.description": Attribute(lambda a: a.description, "why it fired"),
    "otel_ir.alert.tags": Attribute(lambda a: a.tags, "tags of the rule: OWASP ASI, MITRE ATLAS"),
    "otel_ir.agent.id": Attribute(lambda a: a.agent_id, "agent, as known when the alert was exported"),
    "otel_ir.agent.id_source": Attribute(lambda a: a.agent_id_source, "how the agent became known"),
    "otel_ir.service": Attribute(lambda a: a.service, "`service.name` of the agent; the resource is our own"),
    "otel_ir.tenant": Attribute(lambda a: a.tenant, "tenant, as authenticated by the receiver"),
    "otel_ir.sender": Attribute(lambda a: a.sender, "sender, as authenticated by the receiver"),
    "gen_ai.agent.name": Attribute(lambda a: a.agent_name, "name of the agent"),
    "gen_ai.conversation.id": Attribute(lambda a: a.conversation_id, "conversation"),
    "gen_ai.tool.name": Attribute(lambda a: a.tool_name, "tool of the offending call"),
    "user.id": Attribute(lambda a: a.user_id, "user on whose behalf"),
}
COUNT = "otel_ir.alert.count"
"""How often the condition had been met when the alert was exported (1 when it fired)."""

_SEVERITY = {
    "low": SeverityNumber.INFO,
    "medium": SeverityNumber.WARN,
    "high": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
"""OpenTelemetry logs data model, severity fields: an erroneous situation is ERROR or above; critical levels elsewhere map to FATAL."""


def alert_attributes(alert: Alert, count: int = 1) -> Mapping[str, AttributeValue]:
    """Attributes of an alert: the same on its span, its span event and its log record."""
    return {**attributes_of(alert, ATTRIBUTES), COUNT: count}


def attributes_of(told: Told, table: Mapping[str, Attribute[Told]]) -> dict[str, AttributeValue]:
    """What a table says of one alert or change, bounded, without what is empty."""
    values = {name: bounded(attribute.read(told)) for name, attribute in table.items()}
    return {name: value for name, value in values.items() if value}


def alert_span(alert: Alert, resource: Resource, *, count: int = 1, more: Mapping[str, AttributeValue] | None = None) -> ReadableSpan:
    """Child span of the offending span, with the span event, and links to the contributing spans. ``more``: further attributes.

    Its span id is derived from the alert id, so that an export repeated after a crash is the same span and not a second one.
    Without a usable trace id (an alert from a log without one) it is the root of a trace derived in the same way.

    The status stays unset: it tells whether *our* operation failed ("Error: The operation contains an error", trace API), and
    the detection did not. Error status would turn every alert into an error rate of otel_ir and mark the agent's healthy trace
    as failed. To keep or find such traces, use the attribute ``agent.threat.detection.severity``, which is on the span itself.
    """
    attributes = {**alert_attributes(alert, count), **(more or {})}
    return ReadableSpan(
        name=f"{EVENT_NAME} {alert.signal}"[:256],
        context=alert_context(alert),
        parent=remote_context(alert.trace_id, alert.span_id),
        resource=resource,
        attributes=attributes,
        events=[Event(EVENT_NAME, attributes, timestamp=alert.event_time)],
        links=_links(alert.contributing),
        kind=SpanKind.INTERNAL,
        start_time=alert.event_time,
        end_time=alert.event_time,
        instrumentation_scope=SCOPE,
    )


def alert_log(alert: Alert, resource: Resource, *, count: int = 1) -> ReadableLogRecord:
    """The alert as a log record of the offending span, by OTLP ``event_name`` ``agent.threat.detection``."""
    record = LogRecord(
        timestamp=alert.event_time,
        observed_timestamp=alert.received or alert.event_time,
        context=log_context(remote_context(alert.trace_id, alert.span_id) or alert_context(alert)),
        severity_text=alert.severity,
        severity_number=_SEVERITY.get(alert.severity, SeverityNumber.WARN),
        body=str(bounded(": ".join(part for part in (alert.title or alert.signal, alert.description) if part))),
        attributes=alert_attributes(alert, count),
        event_name=EVENT_NAME,
    )
    return ReadableLogRecord(record, resource, SCOPE)


def derived_id(kind: str, key: str, size: int) -> int:
    """A span (8 bytes) or trace (16 bytes) id which is the same whenever it is derived again. Never 0, which W3C forbids."""
    return int.from_bytes(hashlib.sha256(f"otel_ir.{kind}:{key}".encode()).digest()[:size]) or 1


SCOPE = InstrumentationScope(SCOPE_NAME, __version__)


def alert_context(alert: Alert) -> SpanContext:
    """The alert's own span."""
    parent = remote_context(alert.trace_id, alert.span_id)
    trace_id = parent.trace_id if parent else derived_id("alert.trace", alert.alert_id, 16)
    return SpanContext(trace_id, derived_id("alert.span", alert.alert_id, 8), is_remote=False, trace_flags=SAMPLED)


SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def remote_context(trace_id: str, span_id: str) -> SpanContext | None:
    """A remote span by its ids in hex; ``None`` when they are not ids that OTLP allows (16 and 8 bytes, not zero)."""
    try:
        context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=SAMPLED)
    except ValueError:
        return None
    return context if context.is_valid else None


def log_context(context: SpanContext) -> Context:
    """Where a log record says it belongs."""
    return set_span_in_context(NonRecordingSpan(context), Context())


def _links(contributing: Iterable[SpanRef]) -> list[Link]:
    contexts = (remote_context(*ref) for ref in tuple(contributing)[-MAX_CONTRIBUTING:])
    return [Link(context, {"otel_ir.link": "contributing"}) for context in contexts if context]


def bounded(value: AttributeValue | None) -> AttributeValue | None:
    """``value`` as OTLP can carry it: texts cut, lists of texts only."""
    if isinstance(value, str):
        # protobuf refuses lone surrogates, and would lose the whole attribute.
        return value[:MAX_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, tuple):
        return [str(bounded(item)) for item in value[:64] if isinstance(item, str)]
    return value
