"""Asks the guards in the agents' own processes, and looks with a canary call whether they do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from otel_ir.contain.around import Surroundings
from otel_ir.contain.guard_info import GuardInfo, Standing
from otel_ir.contain.guard_wire import MAX_TEXT, GuardVerb, Restriction
from otel_ir.errors import Overloaded
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest
from otel_ir.respond import About, Finding, Outcome, Readiness, RetryConfig, selectors

EXPIRY_GRACE = 15_000_000_000
"""So much later than the ledger (ns) a guard ends a restriction by itself: while otel_ir is there, it decides, and may hold on."""
_NAMED = 3
"""Instances that are named in a detail; of more, only how many."""


class GuardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section of response.yaml with ``type: guard``.

    ``timeout`` (seconds) is how long guards are waited for when something is asked of them or let go of, ``check_timeout`` how long
    for the answer to a probe.
    """

    type: Literal["guard"] = "guard"
    verbs: tuple[GuardVerb, ...] = ("revoke_tools", "read_only_tools", "pause_agent")
    timeout: float = 5.0
    check_timeout: float = 2.0
    concurrency: int = 16
    retry: RetryConfig = RetryConfig(attempts=10)

    def __post_init__(self) -> None:
        if not 0 < self.check_timeout <= self.timeout <= 300 or not 1 <= self.concurrency <= 256:
            raise ValueError("0 < check_timeout <= timeout <= 300 seconds, concurrency 1 to 256")


ABOUT = About(
    name="guard",
    summary="asks the guard in the agent's own process to refuse calls; a guard that says it enforces that is the acknowledgment",
    verbs=("revoke_tools", "read_only_tools", "pause_agent"),
    needs=("service.name",),
    permissions="none of its own: guards connect to otel_ir, with a token for their service",
    reversible=True,
    check="every live guard of the service tries a canary call through its decision path, and says that it was stopped",
    example="""\
adapters:
  guard:
    type: guard
    verbs: [revoke_tools, read_only_tools, pause_agent]
    timeout: 5
    check_timeout: 2
    retry: {attempts: 10, first: 0.5, longest: 30}
""",
)


class Guard:
    """The adapter."""

    about = ABOUT

    def __init__(self, config: GuardConfig, around: Surroundings) -> None:
        self._config, self._hub, self._clock = config, around.hub, around.clock

    @property
    def verbs(self) -> Sequence[str]:
        """As configured."""
        return self._config.verbs

    @property
    def concurrency(self) -> int:
        """As configured."""
        return self._config.concurrency

    @property
    def time_limit(self) -> float:
        """A little more than it waits by itself, so that it can say for what."""
        return self._config.timeout + 1.0

    @property
    def retry(self) -> RetryConfig:
        """As configured."""
        return self._config.retry

    def preview(self, request: ActionRequest, alert: Alert | None) -> Mapping[str, Any]:  # noqa: ARG002  # guards need no alert
        """The restriction that guards of the service would get."""
        tenant, service = _where(request)
        return {"tenant": tenant, "service": service, "restriction": msgspec.to_builtins(_restriction(request))}

    async def apply(self, request: ActionRequest, alert: Alert | None) -> Outcome:  # noqa: ARG002  # guards need no alert
        """The restriction is with the hub from now on; waits until a guard says that it enforces it."""
        tenant, service = _where(request)
        if reason := self._refusal(request):
            return Outcome("failed", reason)
        try:
            self._hub.put(tenant, service, _restriction(request))
        except Overloaded as error:
            return Outcome("retry", str(error))
        standing = self._hub.standing(tenant, service, request.action_id)
        if standing.live:
            standing = await self._hub.until(tenant, service, request.action_id, lambda now: bool(now.enforcing), self._config.timeout)
        if standing.enforcing:
            return Outcome("applied", f"enforced by {len(standing.enforcing)} of {_guards(standing.live)} of {service}")
        if standing.live:
            return Outcome("retry", f"none of {_guards(standing.live)} of {service} says that it enforces it")
        if standing.stopped:
            return Outcome("applied", f"{_guards(standing.stopped)} of {service}: stopped, and asked as soon as they run again")
        return Outcome("retry", f"no guard of {service} is registered")

    async def check(self, request: ActionRequest) -> Finding:
        """In force when every live guard of the service stopped a canary call just now, and there is one."""
        tenant, service = _where(request)
        now = self._clock()
        if not self._hub.holds(tenant, service, request.action_id):
            return Finding("not_in_force", f"no guard of {service} is asked to enforce it")
        if request.expires_at is not None and now >= request.expires_at:
            return Finding("unknown", "its time is over: guards end it by themselves")
        asked = await self._hub.probe(tenant, service, request.action_id, self._config.check_timeout)
        passed = {name: answer.detail for name, answer in asked.answers.items() if not answer.blocked}
        if passed:
            return Finding("not_in_force", f"a canary call was not stopped by {_names(passed)}: {_line(next(iter(passed.values())))}")
        if asked.silent:
            return Finding("unknown", f"{_guards(asked.silent)} of {len(asked.asked)} did not answer a probe: {_names(asked.silent)}")
        if not asked.asked and not asked.stopped:
            return Finding("unknown", f"no guard of {service} is there to be asked")
        parts = [f"a canary call was stopped by {_guards(asked.answers)} of {service}"] if asked.answers else []
        parts += [f"the process of {_guards(asked.stopped)} of {service} is stopped"] if asked.stopped else []
        return Finding("in_force", "; ".join(parts))

    async def release(self, request: ActionRequest, alert: Alert | None) -> Outcome:  # noqa: ARG002  # guards need no alert
        """Taken from the hub; waits until every live guard enforces a state without it. Other actions' restrictions stay."""
        tenant, service = _where(request)
        self._hub.take_out(tenant, service, request.action_id)
        standing = await self._hub.until(tenant, service, request.action_id, _let_go, self._config.timeout)
        if not _let_go(standing):
            return Outcome("retry", f"{_guards(standing.holding)} of {service} may still enforce it: {_names(standing.holding)}")
        later = f"; {_guards(standing.stopped)} stopped: they let go when they run again" if standing.stopped else ""
        return Outcome("applied", f"not enforced by any of {_guards(standing.live)} of {service}{later}")

    async def preflight(self) -> Readiness:
        """Whether guards are there, and passed their self-tests."""
        live = [info for info in self._hub.guards() if info.live]
        if not live:
            return Readiness(False, "no guard is registered: start an agent with otel_ir.guard, pointed at this server")
        bad = [info for info in live if info.self_test != "passed"]
        if bad:
            return Readiness(False, f"{_guards(bad)} of {len(live)} did not pass the self-test: {'; '.join(map(_test, bad[:_NAMED]))}")
        services = sorted({info.service for info in live})
        return Readiness(True, f"{_guards(live)}, self-tests passed, of {_names(services)}")

    def restore(self, held: Sequence[ActionRequest]) -> None:
        """Guards are asked for all of these again."""
        for request in held:
            tenant, service = _where(request)
            if service and selectors(request.target):
                self._hub.put(tenant, service, _restriction(request), bounded=False)

    async def close(self) -> None:
        """Nothing to close: restrictions stay."""

    @staticmethod
    def _refusal(request: ActionRequest) -> str:
        if not request.target.get("service.name"):
            return "the target has no service.name: guards are known by their service"
        if not selectors(request.target):
            return "nothing narrower than the whole service is known"
        return ""


def _where(request: ActionRequest) -> tuple[str, str]:
    return request.target.get("otel_ir.tenant", ""), request.target.get("service.name", "")


def _restriction(request: ActionRequest) -> Restriction:
    return Restriction(
        id=request.action_id,
        verb=request.verb,
        selectors=selectors(request.target),
        tools=None if request.tools is None else list(request.tools),
        read_only=list(request.read_only),
        since=request.requested_at,
        expires=None if request.expires_at is None else request.expires_at + EXPIRY_GRACE,
        incident=request.incident_id,
        reason=_line(request.reason)[:500] or f"contained by otel_ir, {request.incident_id}",
    )


def _let_go(standing: Standing) -> bool:
    return not standing.holding


def _guards(some: Sequence[object] | Mapping[str, object]) -> str:
    return f"{len(some)} guard{'' if len(some) == 1 else 's'}"


def _names(some: Sequence[str] | Mapping[str, object]) -> str:
    named = ", ".join(_line(name)[:80] for name in list(some)[:_NAMED])
    return named + (f" and {len(some) - _NAMED} more" if len(some) > _NAMED else "")


def _test(info: GuardInfo) -> str:
    return f"{_line(info.service)[:80]}/{_line(info.instance)[:80]} {info.self_test} {_line(info.self_test_detail)[:200]}".strip()


def _line(text: str) -> str:
    """Printable, on one line, not longer than a guard may say."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_TEXT]
