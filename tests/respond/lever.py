"""A system in which agents can be held, in memory, and an adapter to it. It can obey, refuse, hang, lie, drop things and be gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import About, Finding, Outcome, Readiness, RetryConfig
from otel_ir.respond.contract import VERBS


@dataclass
class System:
    """Outlives every responder, as a real one does. ``mood`` is how it behaves now."""

    mood: str = "obey"
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    """Action ids to the targets that are held."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """(what, verb, action id) of everything that arrived."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Lets go of what hangs."""
    alive: bool = True
    """False: the process that asks is dead, nothing of it arrives any more."""

    def take(self, what: str, request: ActionRequest) -> str:
        self.asked.append((what, request.verb, request.action_id))
        if self.mood in ("refuse", "gone"):
            return self.mood
        if what == "apply" and self.mood != "lie":
            self.held[request.action_id] = dict(request.target)
        if what == "release" and self.mood != "lie":
            self.held.pop(request.action_id, None)
        return "ok"


class Lever:
    """The adapter."""

    def __init__(
        self, system: System, *verbs: str, last: bool = False, check: str = "asks", reversible: bool = True, time_limit: float = 0.5
    ) -> None:
        self.system, self._verbs, self._limit = system, verbs or tuple(VERBS), time_limit
        self.dead = False
        self.restored: list[str] = []
        self._about = About(
            name="lever", summary="a test", verbs=self._verbs, needs=(), permissions="none",
            reversible=reversible, check=check, example="", last=last,
        )  # fmt: skip

    @property
    def about(self) -> About:
        return self._about

    @property
    def verbs(self) -> Sequence[str]:
        return self._verbs

    @property
    def concurrency(self) -> int:
        return 8

    @property
    def time_limit(self) -> float:
        return self._limit

    @property
    def retry(self) -> RetryConfig:
        return RetryConfig(attempts=3, first=0.01, longest=0.02)

    def preview(self, request: ActionRequest, alert: Alert | None) -> Mapping[str, Any]:
        return {"verb": request.verb}

    async def apply(self, request: ActionRequest, alert: Alert | None) -> Outcome:
        return await self._ask("apply", request)

    async def release(self, request: ActionRequest, alert: Alert | None) -> Outcome:
        return await self._ask("release", request)

    async def check(self, request: ActionRequest) -> Finding:
        if self.dead or self.system.mood == "gone":
            return Finding("unknown", "no answer")
        target = self.system.held.get(request.action_id)
        return Finding("in_force", "it is held") if target == request.target else Finding("not_in_force", "it is not held")

    async def preflight(self) -> Readiness:
        return Readiness(self.system.mood != "gone", self.system.mood)

    def restore(self, held: Sequence[ActionRequest]) -> None:
        self.restored = [request.action_id for request in held]

    async def close(self) -> None:
        pass

    async def _ask(self, what: str, request: ActionRequest) -> Outcome:
        if self.dead:
            raise asyncio.CancelledError
        if self.system.mood == "hang":
            while not self.system.gate.is_set():
                await asyncio.sleep(0.005)
        answer = self.system.take(what, request)
        if answer == "gone":
            return Outcome("retry", "connection refused")
        if answer == "refuse":
            return Outcome("failed", "not allowed")
        return Outcome("applied", "done", facts={"handle": f"h-{request.action_id[:6]}"})
