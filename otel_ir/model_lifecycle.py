"""The life of an action and of an incident: states, the legal steps between them, and the request an action starts from.

Pure: ``respond`` decides with this table, ``store`` enforces it, docs are drawn from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from otel_ir.model import Alert

Mode = Literal["dry-run", "enforce"]

DRILL_SERVICE = "otel-ir-drill"
"""``service.name`` of drills: marked synthetic attacks (`otel-ir drill`). Their incidents are marked, and count in no cap."""


class ActionState(StrEnum):
    """Values of an action's ``state``; ``ACTION_STATES`` says what is known in each."""

    REQUESTED = "requested"
    DISPATCHED = "dispatched"
    APPLIED = "applied"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    VIOLATED = "violated"
    ESCALATED = "escalated"
    RELEASING = "releasing"
    RELEASED = "released"
    EXPIRED = "expired"
    FAILED = "failed"
    DRY_RUN = "dry_run"


_S = ActionState

ACTION_STATES: Mapping[ActionState, str] = {
    _S.REQUESTED: "it stands in the ledger; nothing was sent",
    _S.DISPATCHED: "an attempt was begun; whether it arrived is not known",
    _S.APPLIED: "the target acknowledged; the check is under way",
    _S.VERIFIED: "independent evidence says that it holds: a read-back, or a probe. Only this may be called contained",
    _S.UNVERIFIED: "acknowledged, and there is no evidence, or it grew too old; or a release was not acknowledged. It may hold",
    _S.VIOLATED: "a span shows activity that should be impossible, or a read-back says that it does not hold",
    _S.ESCALATED: "violated, and the next step of the ladder was asked for (or nobody can do more)",
    _S.RELEASING: "letting go was decided; whether it still holds is not known",
    _S.RELEASED: "undone, on purpose",
    _S.EXPIRED: "undone, because its time was over and the agent stayed clean",
    _S.FAILED: "the target refused or never acknowledged, or the action was refused here (`refused: …`)",
    _S.DRY_RUN: "recorded as what would have been sent",
}
"""What is known in each state, in words for whoever reads the ledger."""

TRANSITIONS: Mapping[ActionState, tuple[ActionState, ...]] = {
    # A request whose adapter is gone after a restart has failed, and the ledger says so; one that is let go of in time never left.
    _S.REQUESTED: (_S.DISPATCHED, _S.DRY_RUN, _S.FAILED, _S.RELEASED),
    # dispatched -> dispatched is the next attempt, also after a crash between dispatch and answer (same idempotency key).
    _S.DISPATCHED: (_S.DISPATCHED, _S.APPLIED, _S.FAILED, _S.RELEASING),
    # What may be in force can always be let go of, verified or not: a person must be able to undo at any point.
    _S.APPLIED: (_S.VERIFIED, _S.UNVERIFIED, _S.RELEASING),
    _S.UNVERIFIED: (_S.VERIFIED, _S.VIOLATED, _S.RELEASING),
    # verified -> unverified: the evidence grew old and could not be renewed.
    _S.VERIFIED: (_S.UNVERIFIED, _S.VIOLATED, _S.RELEASING),
    _S.VIOLATED: (_S.ESCALATED, _S.RELEASING),
    _S.ESCALATED: (_S.RELEASING,),
    # releasing -> releasing is the next attempt; -> unverified: nobody acknowledged the release, it may still be in force.
    _S.RELEASING: (_S.RELEASING, _S.RELEASED, _S.EXPIRED, _S.UNVERIFIED),
    _S.RELEASED: (),
    _S.EXPIRED: (),
    # A target that never answered may have acted all the same.
    _S.FAILED: (_S.RELEASING,),
    _S.DRY_RUN: (),
}
"""Every legal step. A step that is not here raises and changes nothing."""

UNFINISHED = (_S.REQUESTED, _S.DISPATCHED)
"""States without an outcome: after a crash these are tried again with the same idempotency key."""
WORK = (*UNFINISHED, _S.APPLIED, _S.RELEASING)
"""States that wait for something otel_ir does: an attempt, a check, a release. A restart takes these up."""
IN_FORCE = (_S.APPLIED, _S.VERIFIED, _S.UNVERIFIED, _S.VIOLATED, _S.ESCALATED, _S.RELEASING)
"""States in which the target may be held: what a restart gives back to adapters, and what can be let go of."""
TERMINAL = tuple(state for state, following in TRANSITIONS.items() if not following)
"""States that nothing follows."""
TOLD = (_S.VERIFIED, _S.UNVERIFIED, _S.FAILED, _S.DRY_RUN, _S.VIOLATED, _S.ESCALATED, _S.RELEASED, _S.EXPIRED)
"""States whose beginning is told outside (``otel_ir.export``): what became of an action, not the single attempts."""


def may_follow(state: ActionState | str, following: ActionState | str) -> bool:
    """Whether ``state -> following`` is a legal step; ``False`` for words that are no states."""
    try:
        return ActionState(following) in TRANSITIONS[ActionState(state)]
    except ValueError:
        return False


def action_id(incident_id: str, verb: str, adapter: str, subject: str = "", turn: int = 0) -> str:
    """The idempotency key: one per incident, step and turn, also after a restart (32 hex digits of SHA-256).

    ``subject`` is the agent where that is not the incident's own (a similar one); ``turn`` counts how often the same step was
    asked for anew, after an earlier one had ended.
    """
    parts = (incident_id, verb, adapter, subject, str(turn))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


Cause = Literal["alert", "escalation", "similar", "person"]
"""Why an action was asked for: the policy's answer to an alert (also one that re-arms), the next rung, a look-alike, somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """One containment step that was decided on. ``requested_at`` and ``expires_at`` are in Unix nanoseconds.

    ``target`` is the selector: attribute names to values, the narrowest known at that moment (``otel_ir.respond.target``).
    ``facts`` are what the adapter learnt when it acted and needs for checking and letting go (a process id, say).
    """

    incident_id: str
    verb: str
    adapter: str
    mode: Mode
    requested_at: int
    alert_id: str | None = None
    target: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""
    turn: int = 0
    cause: Cause = "alert"
    reason: str = ""
    """One line: for whom is refused, and for the record."""
    tools: tuple[str, ...] | None = None
    """Tools that ``revoke_tools`` takes away; ``None``: all."""
    read_only: tuple[str, ...] = ()
    """Patterns of tools that ``read_only_tools`` leaves."""
    expires_at: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def action_id(self) -> str:
        """See ``action_id()``."""
        return action_id(self.incident_id, self.verb, self.adapter, self.subject, self.turn)


class IncidentState(StrEnum):
    """Values of an incident's ``state``; ``INCIDENT_STATES`` says what they mean."""

    OPEN = "open"
    CONTAINED = "contained"
    RECOVERING = "recovering"
    CLOSED = "closed"


INCIDENT_STATES: Mapping[IncidentState, str] = {
    IncidentState.OPEN: "nothing is verified to hold the agent",
    IncidentState.CONTAINED: "at least one action is verified, and none is violated",
    IncidentState.RECOVERING: "everything was let go of; the agent is watched, and a new alert takes all steps again at once",
    IncidentState.CLOSED: "the watch ended quietly, a person closed it, or nothing was in force and no alert came for a day",
}
"""What each state of an incident means."""


def incident_id(event_time: int, alert_id: str) -> str:
    """``INC-YYYYMMDDHHMMSS-xxxxxxxx``: UTC of the first alert's event time (ns), and a digest of its id (two may share a second)."""
    at = datetime.fromtimestamp(max(0, event_time) // 1_000_000_000, UTC)
    return f"INC-{at:%Y%m%d%H%M%S}-{hashlib.sha256(alert_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


class LetGo(NamedTuple):
    """Who decided to let go of an action, when and why, and which end that is: ``released`` or ``expired``. ``by``: empty is otel_ir."""

    to: str
    by: str
    reason: str
    at: int


class LogEntry(NamedTuple):
    """Something that happened to an incident beside its alerts and actions."""

    at: int
    kind: str
    who: str
    text: str


class StepTaken(NamedTuple):
    """One step of an action: when (Unix nanoseconds), to which state, and what was said about it."""

    at: int
    state: ActionState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChange:
    """A step of an action as it is told outside, with what is known of the action now.

    ``number``: of the step, in the ledger. ``steps``: the newest ones up to it, oldest first; the last one is the step itself.
    ``alert``: with the best identity known; ``None`` where a person asked.
    """

    number: int
    request: ActionRequest
    steps: tuple[StepTaken, ...]
    alert: Alert | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentChange:
    """A change of an incident's state as it is told outside, with what is known of the incident now. ``number``: in the ledger."""

    number: int
    incident_id: str
    state: IncidentState
    at: int
    who: str
    detail: str
    tenant: str
    service: str
    agent_id: str
    agent_id_source: str
    trace_id: str
    severity: str
    title: str
    drill: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person asks for: ``contain`` an agent, ``release`` an incident or an action of it, ``close`` an incident.

    ``verbs`` are steps to take, or ids of actions to let go of (empty: as the policy says, all). ``answer`` says what became of it.
    """

    kind: str
    who: str
    reason: str
    at: int
    tenant: str = ""
    agent_id: str = ""
    incident_id: str = ""
    verbs: tuple[str, ...] = ()
    order_id: int = 0
    taken_at: int | None = None
    answer: str = ""
    ok: bool = False
