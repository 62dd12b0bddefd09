"""What happens in the demo, as facts. ``run`` tells them, ``screen`` shows them; what is told is also what the JSON is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_ir.store.rows import ActionRow, AlertRow, IncidentRow

HOOK = "hook"
"""Name of the webhook adapter in the demo."""


@dataclass(frozen=True, slots=True)
class Started:
    """The server is ready: where it listens, and where the hook receiver does."""

    endpoint: str
    hook: str


@dataclass(frozen=True, slots=True)
class Called:
    """An agent called a tool and the call ran."""

    agent: str
    tool: str
    arguments: dict[str, str]
    result: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """An agent's last word."""

    agent: str
    text: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """The guard in an agent's process stopped a call before it ran. ``reason`` is what the model was told."""

    agent: str
    tool: str
    reason: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """A person let go of the agent; the action as it stands then."""

    action: ActionRow
    incident: IncidentRow


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert stands in the ledger. ``evidence``: the calls it cites, as far as they were watched."""

    row: AlertRow
    evidence: tuple[Called, ...]


@dataclass(frozen=True, slots=True)
class Acted:
    """An action has an outcome in the ledger. ``steps``: every state it went through; ``signed``: the hook verified the signature."""

    action: ActionRow
    alert: AlertRow
    steps: tuple[str, ...]
    signed: bool


Happening = Started | Called | Answered | Raised | Acted | Blocked | LetGo


@dataclass(slots=True)
class Result:
    """Everything that happened, and what was not as it should be (nothing, if all is well)."""

    alerts: list[AlertRow] = field(default_factory=list)
    actions: list[ActionRow] = field(default_factory=list)
    """As they stood when everything that was begun had an outcome, before the release."""
    signed: frozenset[str] = frozenset()
    """Hook calls whose signature was verified."""
    blocked: list[Blocked] = field(default_factory=list)
    incidents: list[IncidentRow] = field(default_factory=list)
    postmortem: Path | None = None
    calls: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    """Tool calls by agent: as the agent itself counted them, and as they stand in the evidence."""
    ended: dict[str, ActionRow] = field(default_factory=dict)
    """Action ids to the actions as they are at the very end, after the release."""
    steps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Action ids to every state they went through."""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def first(self) -> tuple[AlertRow, ActionRow] | None:
        """The action that was dispatched first, with its alert."""
        alerts = {row.alert.alert_id: row for row in self.alerts}
        sent = [action for action in self.actions if action.dispatched_at is not None and action.alert_id in alerts]
        action = min(sent, key=lambda one: one.dispatched_at or 0, default=None)
        return (alerts[str(action.alert_id)], action) if action else None

    @property
    def seconds_to_dispatch(self) -> float | None:
        """From the receipt of the span that completed the first alert to the dispatch of the first action."""
        if self.first is None:
            return None
        alert, action = self.first
        return ((action.dispatched_at or 0) - alert.alert.received) / 1e9

    @property
    def seconds_to_receive(self) -> float | None:
        """What the sender added: from the end of that call to the receipt of its span."""
        return (self.first[0].alert.received - self.first[0].alert.event_time) / 1e9 if self.first else None

    @property
    def seconds_to_verified(self) -> float | None:
        """From the receipt of the span that completed the first alert to the first proof that an action holds."""
        proofs = [action.verified_at for action in self.actions if action.verified_at is not None]
        return (min(proofs) - self.first[0].alert.received) / 1e9 if proofs and self.first else None

    def to_json(self) -> dict[str, Any]:
        """The object of ``--format json``."""
        from otel_ir.demo.desk import BENIGN, HIJACKED, SERVICE

        agents = {
            name: {"otel_ir.agent.id": f"{SERVICE}/{name}", "calls": self.calls.get(name, 0), "events": self.events.get(name, 0)}
            for name in (HIJACKED, BENIGN)
        }
        return {
            "alerts": [row.alert.to_row() | {"otel_ir.alert.count": row.count} for row in self.alerts],
            "incidents": [row.to_row() for row in self.incidents],
            "actions": [self._action(row) for row in self.actions],
            "blocked_calls": [{"agent": one.agent, "gen_ai.tool.name": one.tool, "reason": one.reason} for one in self.blocked],
            "seconds_to_dispatch": self.seconds_to_dispatch,
            "seconds_to_verified": self.seconds_to_verified,
            "seconds_to_receive": self.seconds_to_receive,
            "agents": agents,
            "postmortem": str(self.postmortem) if self.postmortem else None,
            "seconds": round(self.seconds, 3),
            "problems": self.problems,
        }

    def _action(self, row: ActionRow) -> dict[str, Any]:
        """An action as it stood while the agent was contained, every state it went through, and how it ended."""
        signature = row.action_id in self.signed if row.adapter == HOOK else None
        end = self.ended.get(row.action_id)
        return row.to_row() | {
            "steps": list(self.steps.get(row.action_id, ())),
            "state_at_end": end.state.value if end else None,
            "signature_verified": signature,
        }
