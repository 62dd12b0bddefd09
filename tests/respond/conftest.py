"""A responder over the real ledger, with a real HTTP server as the target."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contain.hook import SECRET, Hook

from otel_ir.contain import build_adapters
from otel_ir.model import Alert
from otel_ir.respond import Responder, load_policy
from otel_ir.store.ledger import Ledger


def make_alert(number: int = 1, **changes: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": f"{number:032x}",
        "rule_id": "rule-1",
        "signal": "data_exfiltration",
        "ruleset": "f" * 64,
        "severity": "critical",
        "stage": "compromise",
        "title": "Large outbound body",
        "description": "send_email with 20,000 characters",
        "sender": "collector",
        "service": "helpdesk",
        "agent_id": f"helpdesk/agent-{number}",
        "agent_id_source": "own",
        "trace_id": f"{number:032x}",
        "span_id": "b7ad6b7169203331",
        "event_time": time.time_ns(),
        "received": time.time_ns(),
    }
    return Alert(**(values | changes))


class World:
    """One ledger, one hook, and as many lives of the responder as a test wants."""

    def __init__(self, folder: Path, hook: Hook) -> None:
        self.hook, self.folder = hook, folder
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
        self.steps: list[tuple[str, str]] = []
        self.responders: list[Responder] = []

    def policy(self, *, mode: str = "enforce", verbs: str = "[pause_agent]", safety: str = "", **adapter: Any) -> Path:
        section = {"type": "webhook", "url": self.hook.url, "secret_env": "HOOK_SECRET", "retry": {"first": 0.01, "longest": 0.05}}
        path = self.folder / "response.yaml"
        path.write_text(
            f"mode: {mode}\nverify: {{within: 0.2, recheck: 60, stale: 120}}\n"
            f"playbooks: {{contain: {verbs}, restrict: [read_only_tools]}}\nsafety: {{{safety or 'fleet_floor: 1000'}}}\n"
            f"adapters:\n  soc: {json.dumps(section | adapter)}\n"
        )
        return path

    def responder(self, path: Path, *, enforce: bool = True, clock: Callable[[], int] = time.time_ns, **extra: Any) -> Responder:
        config, document = load_policy(path)
        adapters = extra.pop("adapters", None) or build_adapters(config, document, clock=clock)
        responder = Responder(
            extra.pop("ledger", self.ledger),
            adapters,
            config,
            enforce=enforce,
            clock=clock,
            ledger_retry=0.02,
            observer=lambda request, state, _at, _detail: self.steps.append((request.verb, state.value)),
            **extra,
        )
        self.responders.append(responder)
        return responder

    def record(self, *alerts: Alert) -> list[Alert]:
        self.ledger.record_alerts(alerts, time.time_ns())
        return list(alerts)

    def states(self) -> list[str]:
        return [row.state.value for row in reversed(self.ledger.actions(limit=10_000))]

    def life(self, number: int = 0) -> list[str]:
        """Every state an action went through, in order."""
        row = list(reversed(self.ledger.actions(limit=10_000)))[number]
        return [step.to_state.value for step in self.ledger.history(row.action_id)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    hook = Hook()
    world = World(tmp_path, hook)
    yield world
    hook.release.set()
    for responder in world.responders:
        responder.close(timeout=1)
    hook.close()
    world.ledger.close()


@pytest.fixture
def alert() -> Callable[..., Alert]:
    return make_alert
