"""From rows of the ledger to ``IncidentFacts``. The only place that knows what such rows look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from otel_ir.investigate.model import ActionFacts, AlertFacts, IncidentFacts, NoteFacts, StepFacts

MAX_ALERTS = 1_000
MAX_ACTIONS = 200
MAX_STEPS = 100
"""Of one action: an action that is tried or checked for hours has many; the first and the newest are kept."""
MAX_NOTES = 500


class Book(Protocol):
    """What of the ledger is read."""

    def incidents(self, *, incident_id: str | None = None, limit: int = 100) -> Sequence[Any]:
        """Incidents, newest first."""

    def incident_log(self, incident_id: str) -> Sequence[Any]:
        """Entries of one incident, oldest first."""

    def alerts(self, *, incident_id: str | None = None, limit: int = 100) -> Sequence[Any]:
        """Alerts, newest first."""

    def actions(self, *, incident_id: str | None = None, limit: int = 100) -> Sequence[Any]:
        """Actions, newest first."""

    def history(self, action_id: str) -> Sequence[Any]:
        """Steps of one action, oldest first."""


def read_incident(book: Book, incident_id: str) -> IncidentFacts | None:
    """Everything about one incident, bounded; ``None`` if there is none of this id. Raises ``StorageError``."""
    rows = book.incidents(incident_id=incident_id, limit=1)
    if not rows:
        return None
    alerts = book.alerts(incident_id=incident_id, limit=MAX_ALERTS + 1)
    actions = book.actions(incident_id=incident_id, limit=MAX_ACTIONS + 1)
    notes = book.incident_log(incident_id)
    histories = {row.action_id: book.history(row.action_id) for row in actions[:MAX_ACTIONS]}
    return incident_facts(rows[0], alerts, actions, histories, notes)


def incident_facts(
    row: Any, alerts: Sequence[Any], actions: Sequence[Any], histories: dict[str, Sequence[Any]], notes: Sequence[Any]
) -> IncidentFacts:
    """``row``: ``store.IncidentRow``; ``alerts``, ``actions``: newest first; ``histories``: action id -> its steps; ``notes``: the log."""
    limits = (("alerts", alerts, MAX_ALERTS), ("actions", actions, MAX_ACTIONS), ("log entries", notes, MAX_NOTES))
    told = [_alert(one) for one in alerts[:MAX_ALERTS]]
    return IncidentFacts(
        incident_id=row.incident_id,
        agent_id=row.agent_id,
        state=str(row.state),
        opened_at=row.opened_at,
        tenant=row.tenant,
        service=row.service,
        title=row.title,
        severity=row.severity,
        drill=row.drill,
        contained_at=row.contained_at,
        recovering_at=row.recovering_at,
        closed_at=row.closed_at,
        watch_until=row.watch_until,
        alerts=tuple(sorted(told, key=lambda one: (one.alert.event_time, one.alert.ordinal, one.alert.alert_id))),
        actions=tuple(_action(one, histories.get(one.action_id, ())) for one in reversed(actions[:MAX_ACTIONS])),
        notes=tuple(NoteFacts(at=one.at, kind=one.kind, who=one.who, text=one.text) for one in notes[-MAX_NOTES:]),
        cut=tuple(f"only the newest {limit:,} {what} were read" for what, found, limit in limits if len(found) > limit),
    )


def _alert(row: Any) -> AlertFacts:
    return AlertFacts(alert=row.alert, count=row.count, recorded_at=row.created_at)


def _action(row: Any, history: Sequence[Any]) -> ActionFacts:
    kept = list(history) if len(history) <= MAX_STEPS else [*history[:10], *history[-(MAX_STEPS - 10) :]]
    by = row.let_go.by if row.let_go else ""
    letting = ("releasing", "released", "expired")
    return ActionFacts(
        action_id=row.action_id,
        verb=row.verb,
        adapter=row.adapter,
        mode=row.mode,
        state=str(row.state),
        requested_at=row.requested_at,
        alert_id=row.alert_id,
        subject=row.subject,
        cause=row.cause,
        reason=row.reason,
        target=dict(row.target),
        attempts=row.attempts,
        detail=row.detail,
        dispatched_at=row.dispatched_at,
        applied_at=row.applied_at,
        verified_at=row.verified_at,
        ended_at=row.ended_at,
        expires_at=row.expires_at,
        steps=tuple(
            StepFacts(at=step.at, state=str(step.to_state), detail=step.detail, who=by if str(step.to_state) in letting else "")
            for step in kept
        ),
    )
