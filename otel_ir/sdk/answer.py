"""From an alert to the guard in the same process, without a server: the policy's playbook, as far as a guard can do it."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from opentelemetry.util.types import AttributeValue

from otel_ir.guard import Restriction
from otel_ir.guard.restriction import MAX_SELECTORS, VERBS
from otel_ir.model import Alert, AlertUpdate
from otel_ir.model_lifecycle import action_id, incident_id
from otel_ir.respond import ResponseConfig, TokenBucket, playbook, refusal, selectors, target

_log = logging.getLogger(__name__)

RESPONSE_ATTRIBUTES: dict[str, str] = {
    "otel_ir.response.mode": "enforce or dry-run",
    "otel_ir.response.verbs": "steps that hold, in a dry run those that would: revoke_tools, read_only_tools, pause_agent",
    "otel_ir.response.unserved": "steps of the playbook that no guard can take; they need a server and adapters",
    "otel_ir.response.detail": "why it is a dry run, or why something was not done",
    "otel_ir.action.ids": "ids of the restrictions: `guard.lift(id)` lets go",
    "otel_ir.incident.id": "alerts about the same agent share it",
}
"""What an alert of the plug-in says beside the attributes of every alert."""
MAX_CASES = 300
"""Agents held at once; an alert about another one is answered with a refusal."""
MAX_ALERTS = 2_000
"""Alerts that may still learn whom they are about."""
_SECOND = 1_000_000_000
_IDENTITY = ("agent_id", "agent_id_source", "agent_name", "conversation_id", "user_id")


class Guard(Protocol):
    """The part of ``otel_ir.guard.Guard`` that is used here. Both are idempotent by id."""

    def restrict(self, restriction: Restriction) -> None:
        """Enforce it from now on; again with the same id: instead of what it was."""

    def lift(self, action_id: str) -> None:
        """No longer enforce it; an unknown id is no error."""


@dataclass(slots=True)
class Case:
    """What is held because of alerts about one agent (or conversation, or trace, while the agent is not known)."""

    incident: str
    selectors: list[Mapping[str, str]]
    held: dict[str, Restriction] = field(default_factory=dict)


class Answers:
    """State: the cases, bounded. Not thread-safe; the loop's thread alone calls it. Nothing here raises for what a guard does."""

    def __init__(
        self, config: ResponseConfig, guard: Guard | None, *, enforce: bool, ttl: float | None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._config, self._guard, self._clock = config, guard, clock
        self._ttl = int((config.ttl if ttl is None else ttl) * _SECOND)
        self.dry_run = _why_dry_run(config, guard, enforce=enforce)
        self._bucket = TokenBucket(config.safety.actions_per_minute, clock)
        self._cases: dict[str, Case] = {}
        self._alerts: OrderedDict[str, tuple[Alert, Case]] = OrderedDict()

    def alert(self, alert: Alert) -> dict[str, AttributeValue]:
        """Restricts whom the alert is about; -> attributes of the alert's event that say what was done, or would have been."""
        asked = playbook(alert, self._config)
        verbs = [verb for verb in VERBS if verb in asked]
        told: dict[str, AttributeValue] = {"otel_ir.response.mode": "dry-run" if self.dry_run else "enforce"}
        if unserved := [verb for verb in asked if verb not in VERBS]:
            told["otel_ir.response.unserved"] = unserved
        if not verbs:
            return told
        why = refusal(target(alert), self._config)
        if self.dry_run or why:
            told |= {"otel_ir.response.detail": why or self.dry_run}
            return told | ({} if why else {"otel_ir.response.verbs": verbs})
        case = self._case(alert)
        if case is None:
            return told | {"otel_ir.response.detail": f"{MAX_CASES} agents are held already"}
        self._remember(alert, case)
        why = self._restrict(alert, case, verbs)
        told |= {"otel_ir.incident.id": case.incident, "otel_ir.response.verbs": [verb for verb in verbs if verb in case.held]}
        told |= {"otel_ir.action.ids": [case.held[verb].id for verb in verbs if verb in case.held]}
        return told | ({"otel_ir.response.detail": why} if why else {})

    def update(self, update: AlertUpdate) -> None:
        """Widens what is held because of an alert, now that it is better known whom it is about."""
        known = self._alerts.get(update.alert_id)
        if known is None or update.agent_id is None:
            return
        alert = replace(known[0], **{name: getattr(update, name) or getattr(known[0], name) for name in _IDENTITY})
        case = known[1]
        self._alerts[update.alert_id] = (alert, case)
        if refusal(target(alert), self._config):
            self._lift(case, list(case.held))
        elif _add(case.selectors, selectors(target(alert))):
            for verb, held in case.held.items():
                self._send(case, verb, replace(held, selectors=tuple(case.selectors)))

    def expire(self) -> None:
        """Lifts what has been held for its time."""
        now = self._clock()
        for case in list(self._cases.values()):
            self._lift(case, [verb for verb, held in case.held.items() if held.expires is not None and held.expires <= now])
            if not case.held:
                del self._cases[case.incident]
                self._alerts = OrderedDict((key, known) for key, known in self._alerts.items() if known[1] is not case)

    @property
    def holding(self) -> bool:
        """Whether there is something to expire."""
        return bool(self._cases)

    def _case(self, alert: Alert) -> Case | None:
        """The case of an alert: one that a selector of it belongs to already, else a new one."""
        wanted = selectors(target(alert))
        for case in self._cases.values():
            if any(one in case.selectors for one in wanted):
                _add(case.selectors, wanted)
                return case
        if len(self._cases) >= MAX_CASES:
            return None
        case = Case(incident_id(alert.event_time, alert.alert_id), [*wanted])
        self._cases[case.incident] = case
        return case

    def _restrict(self, alert: Alert, case: Case, verbs: Iterable[str]) -> str:
        """Holds the case by these verbs, for a whole time to live from now on; -> what went wrong."""
        now, why = self._clock(), ""
        reason = f"{alert.title or alert.signal} ({alert.severity})"
        for verb in (*verbs, *(verb for verb in case.held if verb not in verbs)):
            held = case.held.get(verb)
            if held is None and not self._bucket.take():
                why = f"more than {self._config.safety.actions_per_minute} actions a minute"
                continue
            restriction = held or Restriction(
                id=action_id(case.incident, verb, "guard"),
                verb=verb,  # type: ignore[arg-type]  # one of VERBS
                selectors=(),
                read_only=tuple(self._config.read_only) if verb == "read_only_tools" else (),
                since=now,
                incident=case.incident,
                reason=reason,
            )
            expires = now + self._ttl if verb in verbs else restriction.expires
            why = self._send(case, verb, replace(restriction, selectors=tuple(case.selectors), expires=expires)) or why
        return why

    def _send(self, case: Case, verb: str, restriction: Restriction) -> str:
        assert self._guard is not None
        try:
            self._guard.restrict(restriction)
        except Exception as error:
            _log.exception("the guard did not take %s", verb)
            return f"the guard did not take {verb}: {type(error).__name__}"
        case.held[verb] = restriction
        return ""

    def _lift(self, case: Case, verbs: Sequence[str]) -> None:
        assert self._guard is not None
        for verb in verbs:
            try:
                self._guard.lift(case.held.pop(verb).id)
            except Exception:
                _log.exception("the guard did not lift %s; it lets go by itself when the time has come", verb)

    def _remember(self, alert: Alert, case: Case) -> None:
        self._alerts[alert.alert_id] = (alert, case)
        if len(self._alerts) > MAX_ALERTS:
            self._alerts.popitem(last=False)


def _add(held: list[Mapping[str, str]], more: Iterable[Mapping[str, str]]) -> bool:
    """Adds the selectors that are new, the widest first and at most ``MAX_SELECTORS`` in all; -> whether there were any."""
    new = [one for one in more if one not in held]
    held[:] = [*new, *held][:MAX_SELECTORS]
    return bool(new)


def _why_dry_run(config: ResponseConfig, guard: Guard | None, *, enforce: bool) -> str:
    if not enforce:
        return "enforce=True was not given"
    if guard is None:
        return "no guard was given"
    return "" if config.mode == "enforce" else "mode in response.yaml is dry-run"
