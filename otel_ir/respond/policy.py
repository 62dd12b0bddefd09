"""From an alert to the actions that are asked for. Pure: the same alert, policy and adapters give the same plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from otel_ir.errors import ConfigError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import DRILL_SERVICE, ActionRequest, Mode
from otel_ir.respond.contract import About, Verb
from otel_ir.respond.load import Document, Place, suggest
from otel_ir.respond.target import CONVERSATION, TRACE, is_known, selectors, target

DRILL_PLAYBOOK = "drill"
Severity = Literal["low", "medium", "high", "critical"]
Stage = Literal["attempt", "compromise", "anomaly"]


class MatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which alerts an entry of ``policy`` is about: every given key must match, one of its values each. No key: every alert."""

    severity: Severity | tuple[Severity, ...] = ()
    stage: Stage | tuple[Stage, ...] = ()
    tag: str | tuple[str, ...] = ()
    rule: str | tuple[str, ...] = ()
    service: str | tuple[str, ...] = ()

    def matches(self, alert: Alert) -> bool:
        """Whether an alert is meant."""
        return (
            _any(self.severity, (alert.severity,))
            and _any(self.stage, (alert.stage,))
            and _any(self.tag, alert.tags)
            and _any(self.rule, (alert.signal, alert.rule_id))
            and _any(self.service, (alert.service,))
        )


class PolicyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of ``policy``."""

    when: MatchConfig
    playbook: str


class SafetyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What bounds the damage that a response can do; the shipped response.yaml says why for each."""

    protected: tuple[str, ...] = ()
    actions_per_minute: int = 20
    fleet_share: float = 0.2
    fleet_floor: int = 3
    require_sender: bool = True
    retry_for: float = 3600.0

    def __post_init__(self) -> None:
        if self.actions_per_minute < 1 or self.retry_for <= 0:
            raise ValueError("actions_per_minute and retry_for must be above 0")
        if not (0 <= self.fleet_share <= 1 and self.fleet_floor >= 0):
            raise ValueError("fleet_share must be 0 to 1, fleet_floor at least 0")


class VerifyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the effect of an action is looked at, in seconds: ``within`` after it was acknowledged, then every ``recheck``.

    Evidence that could not be renewed for ``stale`` seconds is none any more.
    """

    within: float = 5.0
    recheck: float = 30.0
    stale: float = 120.0

    def __post_init__(self) -> None:
        if not (0 < self.within <= 300 and 1 <= self.recheck <= 86_400 and self.stale >= self.recheck):
            raise ValueError("verify: 0 < within <= 300, 1 <= recheck <= 86400, stale at least recheck")


class SimilarConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done about agents that look like the one an alert of ``severity`` is about; nothing while ``by`` is empty."""

    by: tuple[Literal["prompt", "tools"], ...] = ()
    severity: tuple[Severity, ...] = ("critical",)
    playbook: str = "restrict"
    ttl: float = 900.0
    at_most: int = 3

    def __post_init__(self) -> None:
        if not (0 < self.ttl <= 86_400 and 1 <= self.at_most <= 100):
            raise ValueError("similar: 0 < ttl <= 86400 seconds, at_most 1 to 100")


class ResponseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``response.yaml``. ``adapters`` are read by ``otel_ir.contain.build_adapters``; times are in seconds."""

    mode: Mode
    playbooks: dict[str, tuple[Verb, ...]]
    policy: tuple[PolicyEntry, ...]
    safety: SafetyConfig
    ttl: float
    watch: float
    read_only: tuple[str, ...]
    escalation: tuple[Verb, ...]
    verify: VerifyConfig = VerifyConfig()
    similar: SimilarConfig = SimilarConfig()
    adapters: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if not (1 <= self.ttl <= 31_536_000 and 1 <= self.watch <= 604_800):
            raise ValueError("ttl must be 1 second to a year, watch 1 second to a week")


class Able(Protocol):
    """The part of an adapter that planning needs."""

    @property
    def about(self) -> About:
        """Its description."""

    @property
    def verbs(self) -> Sequence[str]:
        """What it can be asked to do."""


def load_policy(path: Path | None = None) -> tuple[ResponseConfig, Document]:
    """The shipped policy with the keys of ``path`` over it, and the document for lines of later messages.

    Raises ``ConfigError`` with one ``file:line: key: what: hint`` per fault.
    """
    shipped = resources.files("otel_ir.respond").joinpath("response.yaml").read_text(encoding="utf-8")
    document = Document.read(path) if path else Document(shipped, "response.yaml (shipped)")
    document.data = Document(shipped, "response.yaml (shipped)").data | document.data
    config = document.convert(ResponseConfig)
    named: list[tuple[Place, str]] = [(("similar", "playbook"), config.similar.playbook)] if config.similar.by else []
    named += [(("policy", number, "playbook"), entry.playbook) for number, entry in enumerate(config.policy)]
    faults = [
        document.error(place, f"no playbook {name!r}", suggest(name, list(config.playbooks)))
        for place, name in named
        if name not in config.playbooks
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    return config, document


def whom(alert: Alert, config: ResponseConfig) -> dict[str, str]:
    """``target`` of the alert. Where another agent of its service is protected, without the conversation, which may be that one's, too."""
    wanted = target(alert)
    if is_known(wanted) and any(fnmatchcase(alert.service, pattern.partition("/")[0]) for pattern in config.safety.protected):
        return {name: value for name, value in wanted.items() if name not in (CONVERSATION, TRACE)}
    return wanted


def playbook(alert: Alert, config: ResponseConfig) -> tuple[str, ...]:
    """The verbs asked for: those of the playbook which the rule names, if there is one of that name, else as the policy says.

    A drill has a playbook of its own, so that it does not rotate anybody's credentials.
    """
    if alert.service == DRILL_SERVICE and DRILL_PLAYBOOK in config.playbooks:
        return config.playbooks[DRILL_PLAYBOOK]
    if alert.response in config.playbooks:
        return config.playbooks[alert.response]
    entry = next((entry for entry in config.policy if entry.when.matches(alert)), None)
    return config.playbooks[entry.playbook] if entry else ()


def plan(
    alert: Alert, config: ResponseConfig, adapters: Mapping[str, Able], *, incident_id: str, enforce: bool = False, now: int = 0
) -> list[ActionRequest]:
    """The actions an alert asks for: every verb of its playbook by every adapter that can do it, in the playbook's order.

    ``enforce`` is the second switch (``--enforce``); without both it is all dry-run. ``now`` in Unix nanoseconds.
    """
    mode: Mode = "dry-run" if why_dry_run(alert, config, enforce=enforce) else "enforce"
    reason = f"{alert.title or alert.signal} ({alert.severity})"
    base = ActionRequest(
        incident_id=incident_id,
        alert_id=alert.alert_id,
        verb="",
        adapter="",
        mode=mode,
        requested_at=now,
        target=whom(alert, config),
        reason=reason,
    )
    return steps(base, playbook(alert, config), config, adapters)


def steps(base: ActionRequest, verbs: Iterable[str], config: ResponseConfig, adapters: Mapping[str, Able]) -> list[ActionRequest]:
    """``base`` for every verb and every adapter that can do it, with what the policy says of each verb.

    In the playbook's order, except that adapters which stop the target as a whole (``About.last``) come after all others: what cannot
    answer any more can neither take a second step nor prove the first. Letting go happens in reverse order.
    """
    pairs = [(verb, name, adapter) for verb in verbs for name, adapter in adapters.items() if verb in adapter.verbs]
    return [
        replace(
            base,
            verb=verb,
            adapter=name,
            read_only=config.read_only if verb == "read_only_tools" else (),
            expires_at=base.expires_at or (base.requested_at + int(config.ttl * 1e9) if adapter.about.reversible else None),
        )
        for verb, name, adapter in sorted(pairs, key=lambda pair: pair[2].about.last)
    ]


def next_rung(verb: str, config: ResponseConfig, able: Iterable[str], held: Iterable[str]) -> str | None:
    """The verb after ``verb`` on the ladder that somebody can do and that does not hold yet; ``None`` at its end."""
    ladder = config.escalation[config.escalation.index(verb) + 1 :] if verb in config.escalation else config.escalation
    can, done = set(able), {*held, verb}
    return next((rung for rung in ladder if rung in can and rung not in done), None)


def unserved(alert: Alert, config: ResponseConfig, adapters: Mapping[str, Able]) -> list[str]:
    """Verbs that the alert's playbook asks for and no adapter can do."""
    able = {verb for adapter in adapters.values() for verb in adapter.verbs}
    return [verb for verb in playbook(alert, config) if verb not in able]


def why_dry_run(alert: Alert, config: ResponseConfig, *, enforce: bool) -> str:
    """What keeps an action from being sent; empty when it may be."""
    if config.mode != "enforce":
        return "mode in response.yaml is dry-run"
    if not enforce:
        return "otel_ir was not started with --enforce"
    if config.safety.require_sender and not alert.sender:
        return "nobody vouches for the sender of the span (safety.require_sender)"
    return ""


def refusal(who: Mapping[str, str], config: ResponseConfig) -> str:
    """Why nothing may be done to a target; empty when it may."""
    service = who.get("service.name", "")
    agent = who.get("otel_ir.agent.id") or "/".join(part for part in (service, who.get("gen_ai.agent.name", "")) if part)
    for pattern in config.safety.protected:
        if fnmatchcase(agent, pattern) or fnmatchcase(service, pattern):
            return f"{agent or service} is protected by {pattern!r}"
        # An agent whose name is not known yet could turn out to be the protected one.
        if not is_known(who) and fnmatchcase(service, pattern.partition("/")[0]):
            return f"the agent is not known yet, and {pattern!r} is protected in its service"
    return "" if selectors(who) else "nothing narrower than the whole service is known"


def _any(patterns: str | Iterable[str], values: Sequence[str]) -> bool:
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    return not wanted or any(fnmatchcase(value, pattern) for pattern in wanted for value in values)
