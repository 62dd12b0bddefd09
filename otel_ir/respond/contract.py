"""What an adapter is to the responder. Adapters implement it in ``otel_ir.contain``, one file each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest

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
    """Whether ``release`` undoes it. Otherwise letting go only ends the claim."""
    check: str
    """How the effect is read back; empty: it cannot be, and an action never gets past ``unverified``."""
    example: str
    """A section of response.yaml that works."""
    last: bool = False
    """It stops the target so that nobody else can ask it anything: it acts when the other actions of its incident have an outcome."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known after one attempt to act or to let go. ``detail`` is one line without secrets.

    ``applied``: the target acknowledged. ``failed``: it refused, and would again. ``retry``: no acknowledgment, another attempt
    may help, after ``retry_after`` seconds where the target named a time. ``facts`` are kept in the ledger with the action and come
    back as ``ActionRequest.facts``: what checking and letting go need, also after a restart.
    """

    result: Literal["applied", "failed", "retry"]
    detail: str
    retry_after: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What independent evidence says about an action: a read-back or a probe, never the acknowledgment itself.

    ``unknown``: there was no answer, or there is nothing to ask. ``detail`` is one line without secrets.
    """

    result: Literal["in_force", "not_in_force", "unknown"]
    detail: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether an adapter could act if it had to, found out without acting on anybody. ``detail`` says what is missing and what to do."""

    ready: bool
    detail: str


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

    All coroutines run on the responder's event loop and must not block it; each is one attempt, cut off after ``time_limit``.
    They come again with the same ``ActionRequest.action_id`` after a lost answer or a crash, and must then have no effect beyond the
    first. They answer and raise nothing, whatever the target does. ``alert`` is ``None`` for what a person asked for.
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

    def preview(self, request: ActionRequest, alert: Alert | None) -> Mapping[str, Any]:
        """What ``apply`` would do, as JSON values, without secrets. Pure."""

    async def apply(self, request: ActionRequest, alert: Alert | None) -> Outcome:
        """Try it once. Comes again with a wider ``target`` when the agent becomes better known; the action stays the same one."""

    async def check(self, request: ActionRequest) -> Finding:
        """Look whether it holds *now*, by other means than the acknowledgment. Asked at once after ``apply``, and again and again."""

    async def release(self, request: ActionRequest, alert: Alert | None) -> Outcome:
        """Let go. What was never applied, or is let go of already, is ``applied`` too; what another action still holds stays held."""

    async def preflight(self) -> Readiness:
        """Whether it could act now: reached, permitted. Changes nothing."""

    def restore(self, held: Sequence[ActionRequest]) -> None:
        """Once, before anything else after a start: every action of this adapter that may be in force, from the ledger."""

    async def close(self) -> None:
        """Let go of connections, not of targets; twice is harmless."""
