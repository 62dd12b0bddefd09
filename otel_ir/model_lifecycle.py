"""The life of an action: its states, the legal steps between them, and the request it starts from (DESIGN section 7).

Pure: ``respond`` decides with this table, ``store`` enforces it, docs are drawn from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Mode = Literal["dry-run", "enforce"]


class ActionState(StrEnum):
    """Values of an action's ``state``. Only ``VERIFIED`` may be called "contained"."""

    REQUESTED = "requested"
    """It stands in the ledger; nothing left the process."""
    DISPATCHED = "dispatched"
    """An attempt was begun; whether it arrived is not known until an outcome stands here."""
    APPLIED = "applied"
    """The target acknowledged."""
    VERIFIED = "verified"
    """Independent evidence: a read-back, a probe, or the agent's own telemetry."""
    UNVERIFIED = "unverified"
    """Acknowledged, and there is no evidence (or the adapter has no check)."""
    VIOLATED = "violated"
    """A span shows activity that should be impossible."""
    ESCALATED = "escalated"
    """The next rung of the ladder was asked for."""
    RELEASED = "released"
    """Undone on purpose."""
    EXPIRED = "expired"
    """Its time to live ended."""
    FAILED = "failed"
    """Every attempt failed, or it could not be begun."""
    DRY_RUN = "dry_run"
    """Recorded as what would have been done."""


_LET_GO = (ActionState.RELEASED, ActionState.EXPIRED)

TRANSITIONS: Mapping[ActionState, tuple[ActionState, ...]] = {
    # A request whose adapter is gone after a restart has failed, and the ledger says so.
    ActionState.REQUESTED: (ActionState.DISPATCHED, ActionState.DRY_RUN, ActionState.FAILED),
    # dispatched -> dispatched is the next attempt, also after a crash between dispatch and answer (same idempotency key).
    ActionState.DISPATCHED: (ActionState.DISPATCHED, ActionState.APPLIED, ActionState.FAILED),
    # What may be in force can always be let go of, verified or not: a person must be able to undo at any point.
    ActionState.APPLIED: (ActionState.VERIFIED, ActionState.UNVERIFIED, *_LET_GO),
    ActionState.UNVERIFIED: (ActionState.VERIFIED, ActionState.VIOLATED, *_LET_GO),
    ActionState.VERIFIED: (ActionState.VIOLATED, *_LET_GO),
    ActionState.VIOLATED: (ActionState.ESCALATED, *_LET_GO),
    ActionState.ESCALATED: _LET_GO,
    ActionState.RELEASED: (),
    ActionState.EXPIRED: (),
    ActionState.FAILED: (),
    ActionState.DRY_RUN: (),
}
"""Every legal step. A step that is not here raises and changes nothing."""

UNFINISHED = (ActionState.REQUESTED, ActionState.DISPATCHED)
"""States without an outcome: after a crash these are tried again with the same idempotency key."""
TERMINAL = tuple(state for state, following in TRANSITIONS.items() if not following)
"""States that nothing follows."""


def may_follow(state: ActionState | str, following: ActionState | str) -> bool:
    """Whether ``state -> following`` is a legal step; ``False`` for words that are no states."""
    try:
        return ActionState(following) in TRANSITIONS[ActionState(state)]
    except ValueError:
        return False


def action_id(alert_id: str, verb: str, adapter: str) -> str:
    """The idempotency key: the same for the same alert, verb and adapter, also after a restart (32 hex digits of SHA-256)."""
    return hashlib.sha256("\0".join((alert_id, verb, adapter)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """One containment step that was decided on. ``requested_at`` is in Unix nanoseconds.

    ``target`` is the selector: attribute names to values, the narrowest known at that moment.
    """

    alert_id: str
    verb: str
    adapter: str
    mode: Mode
    requested_at: int
    target: Mapping[str, str] = field(default_factory=dict)

    @property
    def action_id(self) -> str:
        """See ``action_id()``."""
        return action_id(self.alert_id, self.verb, self.adapter)
