"""Between the nouns of the model and the rows of the ledger, both ways; every string is bounded here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from otel_ir.model import Alert, AlertUpdate, SpanRef
from otel_ir.model_lifecycle import ActionRequest, ActionState, IncidentState, LetGo, Order
from otel_ir.timefmt import rfc3339

MAX_NAME = 512
"""Characters of an id or a name. PostgreSQL refuses index entries above about 2,700 bytes (documentation, B-Tree limits)."""
MAX_TEXT = 16_384
"""Characters of a description or of an action's detail."""
MAX_FACT = 1_000_000
"""Characters of one fact of an action. What an adapter learnt is what it needs for letting go: a part of it is of no use."""
MAX_ENTRIES = 128
"""Tags, group keys and target entries kept of one row."""

IDENTITY_FIELDS = ("agent_id", "agent_id_source", "agent_name", "conversation_id", "user_id")
_LONG = frozenset({"title", "description"})
_ALERT_FIELDS = tuple(one.name for one in fields(Alert))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """An alert as the ledger has it: ``alert`` with the best identity known, and what happened to it since."""

    alert: Alert
    count: int
    incident_id: str | None
    exported_at: int | None
    created_at: int
    planned_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an action; ``from_state`` is ``None`` for the request."""

    at: int
    from_state: ActionState | None
    to_state: ActionState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """An action as the ledger has it. Times are ``None`` until they happened; see ``schema.actions``."""

    action_id: str
    alert_id: str | None
    verb: str
    adapter: str
    target: Mapping[str, str]
    mode: str
    state: ActionState
    attempts: int
    requested_at: int
    dispatched_at: int | None
    finished_at: int | None
    detail: str
    incident_id: str | None = None
    subject: str = ""
    turn: int = 0
    cause: str = "alert"
    reason: str = ""
    tools: tuple[str, ...] | None = None
    read_only: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    expires_at: int | None = None
    applied_at: int | None = None
    verified_at: int | None = None
    checked_at: int | None = None
    let_go: LetGo | None = None
    ended_at: int | None = None

    @property
    def request(self) -> ActionRequest:
        """What was asked for, with the target and the facts as they are known now."""
        values = {name.name: getattr(self, name.name) for name in fields(ActionRequest)}
        return ActionRequest(**values | {"incident_id": self.incident_id or self.alert_id or ""})

    def to_row(self) -> dict[str, Any]:
        """The row of ``otel-ir actions`` (column names are a contract)."""
        times = {name: getattr(self, name) for name in _ACTION_TIMES}
        return {
            "action_id": self.action_id,
            "alert_id": self.alert_id,
            "verb": self.verb,
            "adapter": self.adapter,
            "target": dict(self.target),
            "mode": self.mode,
            "state": self.state.value,
            "attempts": self.attempts,
            **{name: rfc3339(at) if at is not None else None for name, at in times.items()},
            "detail": self.detail,
            "incident_id": self.incident_id,
            "cause": self.cause,
            "reason": self.reason,
            "let_go": None if self.let_go is None else self.let_go._asdict() | {"at": rfc3339(self.let_go.at)},
        }


_ACTION_TIMES = ("requested_at", "dispatched_at", "finished_at", "applied_at", "verified_at", "checked_at", "ended_at", "expires_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRow:
    """An incident as the ledger has it; see ``schema.incidents``."""

    incident_id: str
    tenant: str
    agent_id: str
    agent_id_source: str
    sender: str
    service: str
    trace_id: str
    severity: str
    title: str
    state: IncidentState
    drill: bool
    opened_at: int
    last_alert_at: int
    contained_at: int | None
    recovering_at: int | None
    watch_until: int | None
    closed_at: int | None

    def to_row(self) -> dict[str, Any]:
        """The row of ``otel-ir incidents`` (column names are a contract)."""
        times = ("opened_at", "last_alert_at", "contained_at", "recovering_at", "watch_until", "closed_at")
        known = {name: getattr(self, name) for name in times}
        return {
            "incident_id": self.incident_id,
            "otel_ir.agent.id": self.agent_id,
            "state": self.state.value,
            "agent.threat.detection.severity": self.severity,
            "title": self.title,
            "service.name": self.service,
            "otel_ir.tenant": self.tenant,
            "drill": self.drill,
            **{name: rfc3339(at) if at else None for name, at in known.items()},
        }


def to_order(row: Mapping[Any, Any]) -> Order:
    """A row of ``schema.orders``."""
    values = {name.name: row[name.name] for name in fields(Order)}
    return Order(**values | {"verbs": tuple(row["verbs"])})


def bounded(text: str, limit: int = MAX_NAME) -> str:
    """``text`` as both databases can hold it, in at most ``limit`` characters.

    PostgreSQL text has no NUL, UTF-8 no lone surrogates: both become U+FFFD. A longer text ends in a marker with a digest
    of the whole, so that two long ids stay two ids.
    """
    clean = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8") if not text.isascii() or "\0" in text else text
    if len(clean) <= limit:
        return clean
    marker = f"…[{len(clean)} characters, sha256 {hashlib.sha256(clean.encode()).hexdigest()[:16]}]"
    return clean[: limit - len(marker)] + marker


def _bounded_or_none(text: str | None) -> str | None:
    return None if text is None else bounded(text)


def alert_values(alert: Alert, at: int) -> dict[str, Any]:
    """The row of a new alert; ``at`` is when it was recorded."""
    row: dict[str, Any] = {}
    for name in _ALERT_FIELDS:
        value = getattr(alert, name)
        row[name] = bounded(value, MAX_TEXT if name in _LONG else MAX_NAME) if isinstance(value, str) else value
    row["tags"] = [bounded(tag) for tag in alert.tags[:MAX_ENTRIES]]
    row["group"] = [[bounded(key), bounded(value)] for key, value in alert.group[:MAX_ENTRIES]]
    row["contributing"] = [[bounded(ref.trace_id), bounded(ref.span_id)] for ref in alert.contributing[:MAX_ENTRIES]]
    return row | {"count": 1, "identity_ordinal": alert.ordinal, "created_at": at}


def identity_values(alert: Alert) -> dict[str, Any]:
    """The first row of ``alert_identities``: whom the alert was addressed to when it fired."""
    named = {name: _bounded_or_none(getattr(alert, name)) for name in IDENTITY_FIELDS}
    return {"alert_id": bounded(alert.alert_id), "ordinal": alert.ordinal, **named}


def better_identity(update: AlertUpdate) -> dict[str, str]:
    """The identity fields which ``update`` sets."""
    return {name: bounded(value) for name in IDENTITY_FIELDS if (value := getattr(update, name)) is not None}


def to_alert_row(row: Mapping[Any, Any]) -> AlertRow:
    """The inverse of ``alert_values``."""
    values = {name: row[name] for name in _ALERT_FIELDS}
    values["tags"] = tuple(row["tags"])
    values["group"] = tuple((key, value) for key, value in row["group"])
    values["contributing"] = tuple(SpanRef(*ref) for ref in row["contributing"])
    return AlertRow(
        alert=Alert(**values),
        count=row["count"],
        incident_id=row["incident_id"],
        exported_at=row["exported_at"],
        created_at=row["created_at"],
        planned_at=row["planned_at"],
    )


def action_values(action: ActionRequest) -> dict[str, Any]:
    """The row of a requested action."""
    return {
        "action_id": action.action_id,
        "alert_id": None if action.alert_id is None else bounded(action.alert_id),
        "verb": bounded(action.verb),
        "adapter": bounded(action.adapter),
        "target": bounded_map(action.target),
        "mode": action.mode,
        "state": ActionState.REQUESTED.value,
        "attempts": 0,
        "requested_at": action.requested_at,
        "detail": "",
        "incident_id": action.incident_id,
        "subject": bounded(action.subject),
        "turn": action.turn,
        "cause": action.cause,
        "reason": bounded(action.reason, MAX_TEXT),
        "tools": None if action.tools is None else [bounded(tool) for tool in action.tools[:MAX_ENTRIES]],
        "read_only": [bounded(tool) for tool in action.read_only[:MAX_ENTRIES]],
        "facts": bounded_map(action.facts, MAX_FACT),
        "expires_at": action.expires_at,
    }


def bounded_map(values: Mapping[str, str], limit: int = MAX_NAME) -> dict[str, str]:
    """At most ``MAX_ENTRIES`` bounded entries, each value of at most ``limit`` characters."""
    return {bounded(key): bounded(value, limit) for key, value in list(values.items())[:MAX_ENTRIES]}


def to_action_row(row: Mapping[Any, Any]) -> ActionRow:
    """The inverse of ``action_values``."""
    values = {name.name: row[name.name] for name in fields(ActionRow)}
    values["tools"] = None if values["tools"] is None else tuple(values["tools"])
    values["read_only"] = tuple(values["read_only"])
    values["let_go"] = None if values["let_go"] is None else LetGo(**values["let_go"])
    return ActionRow(**values | {"state": ActionState(row["state"])})


def to_incident_row(row: Mapping[Any, Any]) -> IncidentRow:
    """A row of ``schema.incidents``."""
    values = {name.name: row[name.name] for name in fields(IncidentRow)}
    return IncidentRow(**values | {"state": IncidentState(row["state"])})
