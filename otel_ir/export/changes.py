"""What was done about an alert, as OpenTelemetry sees it: spans beside the offending span, and log records. Pure; nothing is sent here.

No semantic convention has a word for containment, so everything here is under ``otel_ir.``, except what names the agent, and
``log.record.uid``: log records of the same uid are the same record.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from otel_ir.export.records import SAMPLED, SCOPE, Attribute, alert_context, attributes_of, bounded, derived_id, log_context, remote_context
from otel_ir.model_lifecycle import ActionChange, ActionState, IncidentChange, IncidentState

SPAN_NAME = "agent.containment"
"""Of the span of a step; the verb follows."""
STEP_NAME = "otel_ir.containment.step"
"""Of the span events: the steps so far."""
CONTAINMENT_CHANGED, INCIDENT_CHANGED = "otel_ir.containment.changed", "otel_ir.incident.changed"
"""Event names of the log records."""
UID = "log.record.uid"
_STEP_TEXT = 256
"""Characters of the detail of an earlier step."""

ACTION_ATTRIBUTES: dict[str, Attribute[ActionChange]] = {
    "otel_ir.action.id": Attribute(
        lambda c: c.request.action_id, "id of the action, to join with `otel-ir actions`; what its adapter was given"
    ),
    "otel_ir.action.verb": Attribute(lambda c: c.request.verb, "what is done to the agent"),
    "otel_ir.action.adapter": Attribute(lambda c: c.request.adapter, "through which adapter"),
    "otel_ir.action.state": Attribute(lambda c: c.steps[-1].state.value, "the state that began with this step"),
    "otel_ir.action.mode": Attribute(lambda c: c.request.mode, "enforce or dry-run"),
    "otel_ir.action.cause": Attribute(lambda c: c.request.cause, "why it was asked for: alert, escalation, similar or person"),
    "otel_ir.action.reason": Attribute(lambda c: c.request.reason, "the same in a sentence"),
    "otel_ir.action.detail": Attribute(lambda c: c.steps[-1].detail, "what is known about this step: the proof, the fault, who let go"),
    "otel_ir.incident.id": Attribute(lambda c: c.request.incident_id, "incident that the action belongs to"),
    # The alert's id under the name that alerts have it, so that a finding and what was done about it can be joined.
    "agent.threat.detection.correlation_id": Attribute(lambda c: c.request.alert_id, "id of the alert; none where a person asked"),
    "otel_ir.alert.id": Attribute(lambda c: c.request.alert_id, "id of the alert; none where a person asked"),
    "otel_ir.agent.id": Attribute(
        lambda c: c.request.target.get("otel_ir.agent.id"), "agent that is meant, as known when the step was exported"
    ),
    "otel_ir.agent.id_source": Attribute(lambda c: c.request.target.get("otel_ir.agent.id_source"), "how the agent became known"),
    "otel_ir.service": Attribute(lambda c: c.request.target.get("service.name"), "`service.name` of the agent; the resource is our own"),
    "otel_ir.tenant": Attribute(lambda c: c.request.target.get("otel_ir.tenant"), "tenant, as authenticated by the receiver"),
    "gen_ai.agent.name": Attribute(lambda c: c.request.target.get("gen_ai.agent.name"), "name of the agent"),
    "gen_ai.conversation.id": Attribute(lambda c: c.request.target.get("gen_ai.conversation.id"), "conversation that is meant"),
}

INCIDENT_ATTRIBUTES: dict[str, Attribute[IncidentChange]] = {
    "otel_ir.incident.id": Attribute(lambda c: c.incident_id, "id of the incident, to join with `otel-ir incidents`"),
    "otel_ir.incident.state": Attribute(lambda c: c.state.value, "the state that began: open, contained, recovering or closed"),
    "otel_ir.incident.detail": Attribute(lambda c: c.detail, "what made it so"),
    "otel_ir.incident.by": Attribute(lambda c: c.who, "the person who made it so, if it was one"),
    "otel_ir.incident.severity": Attribute(lambda c: c.severity, "severity of its worst alert"),
    "otel_ir.incident.title": Attribute(lambda c: c.title, "title of its first alert"),
    "otel_ir.incident.drill": Attribute(lambda c: c.drill, "true for a drill, else left out"),
    "otel_ir.agent.id": Attribute(lambda c: c.agent_id, "agent, as known when the change was exported"),
    "otel_ir.agent.id_source": Attribute(lambda c: c.agent_id_source, "how the agent became known"),
    "otel_ir.service": Attribute(lambda c: c.service, "`service.name` of the agent; the resource is our own"),
    "otel_ir.tenant": Attribute(lambda c: c.tenant, "tenant, as authenticated by the receiver"),
}

OUR_FAULT = frozenset({ActionState.FAILED, ActionState.VIOLATED})
"""States in which an operation of ours did not do what it was to do: the only ones whose span has status error."""

ACTION_SEVERITY: Mapping[ActionState, SeverityNumber] = {
    ActionState.VERIFIED: SeverityNumber.INFO,
    ActionState.DRY_RUN: SeverityNumber.INFO,
    ActionState.RELEASED: SeverityNumber.INFO,
    ActionState.EXPIRED: SeverityNumber.INFO,
    ActionState.UNVERIFIED: SeverityNumber.WARN,
    ActionState.ESCALATED: SeverityNumber.ERROR,
    ActionState.FAILED: SeverityNumber.ERROR,
    ActionState.VIOLATED: SeverityNumber.FATAL,
}
INCIDENT_SEVERITY: Mapping[IncidentState, SeverityNumber] = {
    IncidentState.OPEN: SeverityNumber.ERROR,
    IncidentState.CONTAINED: SeverityNumber.WARN,
    IncidentState.RECOVERING: SeverityNumber.INFO,
    IncidentState.CLOSED: SeverityNumber.INFO,
}


def action_span(change: ActionChange, resource: Resource) -> ReadableSpan:
    """A step of an action: from when it was asked for (or letting go was decided) until the step, with the steps so far as events.

    Child of the offending span, where the alert has one, and linked to it. Its span id is derived from action, state and step, so
    that an export repeated after a crash is the same span and not a second one.
    """
    parent, step = _parent(change), change.steps[-1]
    fault = Status(StatusCode.ERROR, str(bounded(step.detail or step.state.value))) if step.state in OUR_FAULT else Status()
    return ReadableSpan(
        name=f"{SPAN_NAME} {change.request.verb}"[:256],
        context=_own_context(change),
        parent=parent,
        resource=resource,
        attributes=attributes_of(change, ACTION_ATTRIBUTES),
        events=[
            Event(
                STEP_NAME, {"otel_ir.action.state": one.state.value, "otel_ir.action.detail": str(bounded(one.detail[:_STEP_TEXT]))}, one.at
            )
            for one in change.steps
        ],
        links=[Link(parent, {"otel_ir.link": "offending"})] if parent else [],
        kind=SpanKind.INTERNAL,
        status=fault,
        start_time=min(_began(change), step.at),
        end_time=step.at,
        instrumentation_scope=SCOPE,
    )


def action_log(change: ActionChange, resource: Resource) -> ReadableLogRecord:
    """The same step as a log record of the offending span, by OTLP ``event_name``."""
    request, step = change.request, change.steps[-1]
    record = LogRecord(
        timestamp=step.at,
        observed_timestamp=step.at,
        context=log_context(_parent(change) or _own_context(change)),
        severity_text=ACTION_SEVERITY[step.state].name,
        severity_number=ACTION_SEVERITY[step.state],
        body=_body(f"{request.verb} through {request.adapter} is {step.state}", step.detail),
        attributes={**attributes_of(change, ACTION_ATTRIBUTES), UID: _uid("action", _key(change))},
        event_name=CONTAINMENT_CHANGED,
    )
    return ReadableLogRecord(record, resource, SCOPE)


def incident_log(change: IncidentChange, resource: Resource) -> ReadableLogRecord:
    """An incident in another state: a log record in the trace of its first alert."""
    trace_id = remote_context(change.trace_id, "1")
    context = SpanContext(trace_id.trace_id if trace_id else 0, 0, is_remote=True, trace_flags=SAMPLED)
    record = LogRecord(
        timestamp=change.at,
        observed_timestamp=change.at,
        context=log_context(context),
        severity_text=INCIDENT_SEVERITY[change.state].name,
        severity_number=INCIDENT_SEVERITY[change.state],
        body=_body(f"{change.incident_id} is {change.state}", change.detail),
        attributes={
            **attributes_of(change, INCIDENT_ATTRIBUTES),
            UID: _uid("incident", f"{change.incident_id}:{change.state}:{change.number}"),
        },
        event_name=INCIDENT_CHANGED,
    )
    return ReadableLogRecord(record, resource, SCOPE)


def _key(change: ActionChange) -> str:
    return f"{change.request.action_id}:{change.steps[-1].state}:{change.number}"


def _uid(kind: str, key: str) -> str:
    return f"{derived_id(f'{kind}.record', key, 16):032x}"


def _body(what: str, detail: str) -> str:
    return str(bounded(f"{what}: {detail}" if detail else what))


def _began(change: ActionChange) -> int:
    """When the action was asked for, or when letting go of it was decided, whichever came last."""
    began, before = change.request.requested_at, None
    for one in change.steps:
        if one.state is ActionState.RELEASING and before is not ActionState.RELEASING:
            began = one.at
        before = one.state
    return began


def _parent(change: ActionChange) -> SpanContext | None:
    """The offending span, or where the alert knows of none, the alert's own span."""
    if change.alert is None:
        return None
    return remote_context(change.alert.trace_id, change.alert.span_id) or alert_context(change.alert)


def _own_context(change: ActionChange) -> SpanContext:
    parent = _parent(change)
    trace_id = parent.trace_id if parent else derived_id("incident.trace", change.request.incident_id, 16)
    return SpanContext(trace_id, derived_id("action.span", _key(change), 8), is_remote=False, trace_flags=SAMPLED)
