"""One ledger, one system that holds agents, and as many lives of the responder as a test wants."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from respond.lever import Lever, System

from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState
from otel_ir.respond import Responder, load_policy, selectors
from otel_ir.store.ledger import Ledger
from otel_ir.store.rows import ActionRow

SECOND = 1_000_000_000


def make_alert(number: int = 1, **changes: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": f"{number:08x}" + "a" * 24, "rule_id": "rule-1", "signal": "data_exfiltration", "ruleset": "f" * 64,
        "severity": "critical", "stage": "compromise", "title": "Large outbound body", "description": "20,000 characters",
        "sender": "collector", "service": "helpdesk", "agent_id": f"helpdesk/agent-{number}", "agent_id_source": "own",
        "trace_id": f"{number:032x}", "span_id": "b7ad6b7169203331", "event_time": time.time_ns(), "received": time.time_ns(),
    }  # fmt: skip
    return Alert(**(values | changes))


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += int(seconds * SECOND)


class Life:
    """Everything that outlives a responder, and the responder of the moment."""

    def __init__(self, folder: Path, policy: str = "", *levers: Lever) -> None:
        self.folder, self.clock, self.system = folder, Clock(), System()
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
        self.policy = folder / "response.yaml"
        self.policy.write_text(f"mode: enforce\nplaybooks: {{contain: [revoke_tools], restrict: [read_only_tools]}}\n{policy}")
        self.told: list[dict[str, Any]] = []
        self.responders: list[Responder] = []

    def start(self, *levers: Lever, ledger: Any = None, enforce: bool = True, **more: Any) -> Responder:
        """A new life."""
        config, _ = load_policy(self.policy)
        adapters = {f"lever{n or ''}": lever for n, lever in enumerate(levers or (Lever(self.system),))}
        responder = Responder(
            ledger or self.ledger, adapters, config, enforce=enforce, clock=self.clock, ledger_retry=0.02,
            **{"announce": self.told.append} | more,
        )  # fmt: skip
        self.responders.append(responder)
        responder.start()
        return responder

    def record(self, *alerts: Alert) -> list[Alert]:
        self.ledger.record_alerts(alerts, self.clock())
        return list(alerts)

    def alert(self, responder: Responder, *alerts: Alert) -> None:
        """Alerts come and are answered."""
        responder.handle(self.record(*alerts))
        assert responder.drain(20)

    def actions(self, **wanted: Any) -> list[ActionRow]:
        return self.ledger.actions(limit=10_000, oldest=True, **wanted)

    def states(self) -> list[str]:
        return [row.state.value for row in self.actions()]

    def steps(self, number: int = 0) -> list[str]:
        """Every state an action went through, in order."""
        return [step.to_state.value for step in self.ledger.history(self.actions()[number].action_id)]

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
        """The first true value of a condition."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"{what}: not within {seconds} s; {self.states()}"
            time.sleep(0.01)
        return value

    def settled(self, *states: str) -> None:
        """Wait until the actions are in these states."""
        self.until(lambda: self.states() == list(states), f"states {states}")

    def truth(self) -> None:
        """The ledger never says better than what is so."""
        for row in self.actions():
            if row.state is ActionState.VERIFIED:
                held = selectors(self.system.held.get(row.action_id, {}))
                missing = [one for one in selectors(row.target) if one not in held]
                assert not missing, f"{row.action_id} is called verified and {missing} is not held"
            if row.state in (ActionState.RELEASED, ActionState.EXPIRED):
                assert row.action_id not in self.system.held, f"{row.action_id} is called {row.state} and is held"

    def requests(self) -> list[ActionRequest]:
        return [row.request for row in self.actions()]

    def close(self) -> None:
        self.system.gate.set()
        for responder in self.responders:
            responder.close(1)
        self.ledger.close()
