"""From an alert to the actions that are asked for. Pure: the same alert, policy and adapters give the same plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from otel_ir.errors import ConfigError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, Mode
from otel_ir.respond.contract import Verb
from otel_ir.respond.load import Document, suggest

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
    require_sender: bool = True
    retry_for: float = 3600.0

    def __post_init__(self) -> None:
        if self.actions_per_minute < 1 or self.retry_for <= 0:
            raise ValueError("actions_per_minute and retry_for must be above 0")


class ResponseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``response.yaml``. ``adapters`` are read by ``otel_ir.contain.build_adapters``."""

    mode: Mode
    playbooks: dict[str, tuple[Verb, ...]]
    policy: tuple[PolicyEntry, ...]
    safety: SafetyConfig
    adapters: dict[str, dict[str, Any]] = {}


class Able(Protocol):
    """The part of an adapter that planning needs."""

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
    faults = [
        document.error(("policy", number, "playbook"), f"no playbook {entry.playbook!r}", suggest(entry.playbook, list(config.playbooks)))
        for number, entry in enumerate(config.policy)
        if entry.playbook not in config.playbooks
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    return config, document


def playbook(alert: Alert, config: ResponseConfig) -> tuple[str, ...]:
    """The verbs asked for: those of the playbook which the rule names, if there is one of that name, else as the policy says."""
    if alert.response in config.playbooks:
        return config.playbooks[alert.response]
    entry = next((entry for entry in config.policy if entry.when.matches(alert)), None)
    return config.playbooks[entry.playbook] if entry else ()


def plan(alert: Alert, config: ResponseConfig, adapters: Mapping[str, Able], *, enforce: bool = False, now: int = 0) -> list[ActionRequest]:
    """The actions an alert asks for: every verb of its playbook by every adapter that can do it, in the playbook's order.

    ``enforce`` is the second switch (``--enforce``); without both it is all dry-run. ``now`` in Unix nanoseconds.
    """
    mode: Mode = "dry-run" if why_dry_run(alert, config, enforce=enforce) else "enforce"
    selector = target(alert)
    return [
        ActionRequest(alert_id=alert.alert_id, verb=verb, adapter=name, mode=mode, requested_at=now, target=selector)
        for verb in playbook(alert, config)
        for name, adapter in adapters.items()
        if verb in adapter.verbs
    ]


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


def refusal(alert: Alert, config: ResponseConfig) -> str:
    """Why nothing may be done about the agent of an alert; empty when it may."""
    agent = alert.agent_id or "/".join(part for part in (alert.service, alert.agent_name) if part)
    for pattern in config.safety.protected:
        if fnmatchcase(agent, pattern) or fnmatchcase(alert.service, pattern):
            return f"{agent or alert.service} is protected by {pattern!r}"
        # An agent whose name is not known yet could turn out to be the protected one.
        if alert.agent_id_source == "none" and fnmatchcase(alert.service, pattern.partition("/")[0]):
            return f"the agent is not known yet, and {pattern!r} is protected in its service"
    if not any(key in target(alert) for key in SELECTORS):
        return "nothing narrower than the whole service is known"
    return ""


SELECTORS = ("otel_ir.agent.id", "service.instance.id", "gen_ai.conversation.id", "trace_id")
"""Keys of a target of which at least one must be there: a whole service is never contained."""


def target(alert: Alert) -> dict[str, str]:
    """The narrowest selector known: canonical column names to values, those that are known."""
    values = {
        "otel_ir.tenant": alert.tenant,
        "service.name": alert.service,
        "service.instance.id": dict(alert.group).get("service.instance.id"),
        "otel_ir.agent.id": alert.agent_id,
        "otel_ir.agent.id_source": alert.agent_id_source if alert.agent_id else "",
        "gen_ai.agent.name": alert.agent_name,
        "gen_ai.conversation.id": alert.conversation_id,
        "trace_id": alert.trace_id,
        "span_id": alert.span_id,
    }
    return {name: value[:1024] for name, value in values.items() if value}


def _any(patterns: str | Iterable[str], values: Sequence[str]) -> bool:
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    return not wanted or any(fnmatchcase(value, pattern) for pattern in wanted for value in values)
