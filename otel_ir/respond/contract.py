"""What an adapter and a ledger are to the responder. Adapters implement it in ``otel_ir.contain``, one file each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState

Verb = Literal["revoke_tools", "read_only_tools", "isolate_network", "pause_agent", "rotate_credentials"]

VERBS: dict[str, str] = {
    "revoke_tools": "take every tool away from the agent",
    "read_only_tools": "leave the agent only those tools that read",
    "isolate_network": "cut the agent off from the network",
    "pause_agent": "stop the agent where it stands",
    "rotate_credentials": "replace the credentials the agent had access to",
}
"""What can be done to an agent: the words of playbooks, adapters and the ledger. A playbook with another word is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """How an adapter describes itself; docs and ``otel-ir actions`` are made of it."""

    name: str
    """Value of ``type`` in response.yaml."""
    summary: str
    verbs: tuple[str, ...]
    """What it can be asked to do; the configuration may allow less."""
    needs: tuple[str, ...]
    """Keys of ``target`` without which it cannot act."""
    permissions: str
    """What must be granted to otel_ir, and nothing more."""
    reversible: bool
    check: str
    """How the effect is read back; empty: it cannot be, and an action never gets past ``unverified``."""
    example: str
    """A section of response.yaml that works."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known after one attempt. ``detail`` is one line without secrets.

    ``applied``: the target acknowledged. ``failed``: it refused, and would again. ``retry``: no acknowledgment, another attempt
    may help, after ``retry_after`` seconds where the target named a time.
    """

    result: Literal["applied", "failed", "retry"]
    detail: str
    retry_after: float | None = None


class RetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Attempts at one action: the wait doubles from ``first`` to ``longest`` seconds, half of it random."""

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0

    def __post_init__(self) -> None:
        if not (1 <= self.attempts <= 100 and 0 < self.first <= self.longest <= 3600):
            raise ValueError("retry: attempts 1 to 100, 0 < first <= longest <= 3600 seconds")

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds after attempt number ``attempt`` (from 1). A longer wait that the target asked for is kept up to ``longest``."""
        backoff = min(self.first * 2.0 ** min(attempt - 1, 32), self.longest)
        return max(backoff * random.uniform(0.5, 1.0), min(asked or 0.0, self.longest))  # noqa: S311  # spreads load, no secret


class Adapter(Protocol):
    """One configured way to act on an agent.

    ``apply`` and ``close`` run on the responder's event loop and must not block it. ``apply`` is one attempt, cut off after
    ``time_limit``. It comes again with the same ``ActionRequest.action_id`` after a lost answer or a crash, and must then have no
    effect beyond the first. It answers with an ``Outcome`` and raises nothing, whatever the target does.
    """

    @property
    def about(self) -> About:
        """Its description."""

    @property
    def verbs(self) -> Sequence[str]:
        """The verbs it is configured for."""

    @property
    def concurrency(self) -> int:
        """How many attempts it may be given at once."""

    @property
    def time_limit(self) -> float:
        """Seconds after which an attempt is cut off."""

    @property
    def retry(self) -> RetryConfig:
        """How often and when to try again."""

    def preview(self, request: ActionRequest, alert: Alert) -> Mapping[str, Any]:
        """What ``apply`` would do, as JSON values, without secrets. Pure."""

    async def apply(self, request: ActionRequest, alert: Alert) -> Outcome:
        """Try it once."""

    async def close(self) -> None:
        """Let go of connections; twice is harmless."""


class StoredAction(Protocol):
    """An action as the ledger gives it back."""

    @property
    def action_id(self) -> str: ...
    @property
    def alert_id(self) -> str | None: ...
    @property
    def verb(self) -> str: ...
    @property
    def adapter(self) -> str: ...
    @property
    def target(self) -> Mapping[str, str]: ...
    @property
    def mode(self) -> str: ...
    @property
    def state(self) -> ActionState: ...
    @property
    def attempts(self) -> int: ...
    @property
    def requested_at(self) -> int: ...


class StoredAlert(Protocol):
    """An alert as the ledger gives it back."""

    @property
    def alert(self) -> Alert: ...


class ActionLedger(Protocol):
    """The part of the ledger that the responder needs. Every call is durable when it returns; each may raise ``StorageError``."""

    def request_action(self, action: ActionRequest) -> bool:
        """The latch: ``True`` for the first request with this action id, ever."""

    def transition(self, action_id: str, to_state: ActionState, at: int, detail: str = "") -> None:
        """One legal step (``model_lifecycle.TRANSITIONS``)."""

    def unfinished_actions(self) -> Sequence[StoredAction]:
        """Actions without an outcome, oldest first."""

    def alerts(self, *, alert_id: str | None = None) -> Sequence[StoredAlert]:
        """The alert of that id, if it is there."""
