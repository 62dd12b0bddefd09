"""The facts of a report as plain JSON data: the article's fields first. No argument, result or message is in it as a whole."""

from __future__ import annotations

from typing import Any

from otel_ir.investigate import article
from otel_ir.investigate.model import Edge, Investigation, Statement
from otel_ir.provenance import mask_secrets
from otel_ir.timefmt import rfc3339


def to_facts(found: Investigation) -> dict[str, Any]:
    """Everything that was found, under stable names. Texts are as they were: whoever shows them must escape them."""
    facts = found.facts
    return article(found) | {
        "state": facts.state,
        "severity": facts.severity,
        "title": facts.title,
        "service": facts.service,
        "drill": facts.drill,
        "opened_at": _time(facts.opened_at),
        "contained_at": _time(facts.contained_at),
        "recovering_at": _time(facts.recovering_at),
        "closed_at": _time(facts.closed_at),
        "window": [_time(at) for at in found.window],
        "initial_compromise": _compromise(found),
        "events": [{"at": _time(one.at), "kind": one.kind, "mark": one.mark, **said(one.statement)} for one in found.timeline],
        "data_flow": [_edge(one) for one in found.edges],
        "tools": [
            {"tool": one.tool, "calls": one.calls, "failed": one.failed, "refused": one.refused, "first_span": one.first_span}
            for one in found.tools
        ],
        "destinations": [
            {"kind": one.kind, "value": one.text, "tools": list(one.tools), "spans": list(one.spans), "calls": one.calls,
             "from_outside": one.from_outside} for one in found.destinations
        ],
        "conversations": list(found.conversations),
        "users": list(found.users),
        "similar_agents": [
            {"agent_id": one.agent_id, "exposed": one.exposed, "reasons": [said(reason) for reason in one.reasons]} for one in found.similar
        ],
        "recommendations": [
            {"key": one.key, "action": one.action.text, "because": said(one.because), "hours": one.hours} for one in found.recommendations
        ],
        "durations": {one.key: None if one.nanos is None else one.nanos / 1e9 for one in found.durations},
        "alerts": [one.alert.to_row() | {"otel_ir.alert.count": one.count, "recorded_at": _time(one.recorded_at)} for one in facts.alerts],
        "actions": [_action(one) for one in facts.actions],
        "evidence": {span: what.text for span, what in found.evidence},
        "left_out": list(found.cut),
        "notes": list(found.notes),
    }  # fmt: skip


def said(one: Statement) -> dict[str, Any]:
    """A statement with the spans it rests on."""
    return {"text": one.text, "spans": list(one.spans)}


def _time(nanos: int | None) -> str | None:
    return None if nanos is None else rfc3339(nanos)


def _compromise(found: Investigation) -> dict[str, Any] | None:
    origin = found.compromise
    if origin is None:
        return None
    return {
        "basis": origin.basis,
        "at": _time(origin.at),
        "span_id": origin.span_id,
        "kind": origin.kind,
        "tool": origin.tool or None,
        "conversation_id": origin.conversation_id or None,
        "instruction_signs": list(origin.edge.signs) if origin.edge else [],
        "excerpt": mask_secrets(origin.edge.excerpt) if origin.edge else "",
        **said(origin.statement),
    }


def _edge(edge: Edge) -> dict[str, Any]:
    secret = edge.value.kind == "secret"
    return {
        "role": edge.role,
        "kind": edge.value.kind,
        "value": None if secret else mask_secrets(edge.shown),
        "fingerprint": edge.value.fingerprint,
        "from": {"kind": edge.source.kind, "tool": edge.source.tool or None, "span_id": edge.source.span_id, "at": _time(edge.source.at)},
        "to": {"tool": edge.tool, "argument": edge.argument, "span_id": edge.span_id, "at": _time(edge.at)},
        "place": edge.place,
        "instruction_signs": list(edge.signs),
    }


def _action(one: Any) -> dict[str, Any]:
    times = ("requested_at", "dispatched_at", "applied_at", "verified_at", "ended_at", "expires_at")
    return {
        "action_id": one.action_id,
        "verb": one.verb,
        "adapter": one.adapter,
        "mode": one.mode,
        "state": one.state,
        "subject": one.subject or None,
        "cause": one.cause,
        "attempts": one.attempts,
        "detail": one.detail,
        **{name: _time(getattr(one, name)) for name in times},
        "steps": [{"at": _time(step.at), "state": step.state, "detail": step.detail, "who": step.who or None} for step in one.steps],
    }
