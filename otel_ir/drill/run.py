"""Holds one drill and measures it: attack, alert, containment, proof, the refused call, release, the call that works again."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from otel_ir.model_lifecycle import DRILL_SERVICE, IN_FORCE, UNFINISHED, WORK, ActionState, Order
from otel_ir.processes import Failed, Interrupt, Process, environment, running
from otel_ir.store import ActionRow, AlertRow, DrillRow, Ledger

START_SECONDS, ALERT_SECONDS, ACT_SECONDS, RELEASE_SECONDS = 20.0, 20.0, 30.0, 30.0
"""How long each part may take before the drill has failed."""
BATCH_MILLISECONDS = 200
"""What the drill's agent lets its spans wait for each other (the SDK's default is 5,000): the sender's part, measured apart."""

REFUSING = ("revoke_tools", "read_only_tools")
"""Steps after which the agent's next call is refused."""


@dataclass(slots=True)
class Drill:
    """What a drill found. Times in seconds, ``None`` where it did not come so far."""

    drill_id: str
    started_at: int
    faults: list[str] = field(default_factory=list)
    mode: str = ""
    incident_id: str = ""
    actions: list[ActionRow] = field(default_factory=list)
    seconds_to_receive: float | None = None
    seconds_to_alert: float | None = None
    seconds_to_dispatch: float | None = None
    seconds_to_verified: float | None = None
    seconds_to_blocked: float | None = None
    seconds_to_release: float | None = None

    @property
    def outcome(self) -> str:
        """``passed`` or ``failed``."""
        return "failed" if self.faults else "passed"

    def to_row(self) -> dict[str, Any]:
        """The row of ``otel-ir drill``."""
        times = ("receive", "alert", "dispatch", "verified", "blocked", "release")
        return {
            "drill_id": self.drill_id,
            "outcome": self.outcome,
            "mode": self.mode,
            "incident_id": self.incident_id,
            "actions": [{"verb": row.verb, "adapter": row.adapter, "state": row.state.value} for row in self.actions],
            **{name: _rounded(getattr(self, name)) for name in (f"seconds_to_{time}" for time in times)},
            "faults": self.faults,
        }


def hold(ledger: Ledger, address: str, token: str, interrupt: Interrupt, tell: Callable[[str], None]) -> Drill:
    """One drill against the server at ``address`` (``http://host:port``). Whatever happens, it is let go of and written down."""
    drill = Drill(secrets.token_hex(4), time.time_ns())
    ledger.record_drill(DrillRow(drill_id=drill.drill_id, started_at=drill.started_at, outcome="running"))
    try:
        with tempfile.TemporaryDirectory(prefix="otel-ir-drill-") as folder:
            agent = Process(
                "otel_ir.drill.agent", f"drill-{drill.drill_id}", drill.drill_id,
                folder=Path(folder), log=Path(folder) / "agent.log", env=_environment(address, token), lines=True,
            )  # fmt: skip
            with running(agent):
                _story(drill, ledger, agent, interrupt, tell)
    except Failed as error:
        drill.faults.append(str(error))
    finally:
        _let_go(drill, ledger)
        ledger.record_drill(DrillRow(drill_id=drill.drill_id, started_at=drill.started_at, outcome=drill.outcome, figures=drill.to_row()))
    return drill


def _story(drill: Drill, ledger: Ledger, agent: Process, interrupt: Interrupt, tell: Callable[[str], None]) -> None:
    said: dict[str, int] = {}

    def hears(kind: str, after: int = 0) -> Callable[[], int | None]:
        def heard() -> int | None:
            # Of calls that ran the last one counts, of everything else the first.
            said.update({line["kind"]: line["at"] for line in agent.said() if line["kind"] == "ran" or line["kind"] not in said})
            if said.get(kind, 0) > after:
                return said[kind]
            agent.expect_running("the drill's agent")
            return None

        return heard

    interrupt.until(hears("attacked"), START_SECONDS, "the drill's agent does not start")
    tell("attack: the agent read a secret and sent it away")
    name = f"{DRILL_SERVICE}/drill-{drill.drill_id}"
    alert = interrupt.until(
        lambda: _first(ledger, name), ALERT_SECONDS, "no alert: are the drill's spans accepted (--token), and its rule loaded?"
    )
    drill.incident_id = alert.incident_id or ""
    drill.seconds_to_receive = (alert.alert.received - alert.alert.event_time) / 1e9
    drill.seconds_to_alert = (alert.created_at - alert.alert.received) / 1e9
    tell(f"alert: {alert.alert.signal}, {drill.incident_id}")
    (drill.actions,) = interrupt.until(lambda: _settled(ledger, drill), ACT_SECONDS, "the actions have no outcome")
    drill.mode = "enforce" if any(row.mode == "enforce" for row in drill.actions) else "dry-run"
    _judge(drill, alert)
    for row in drill.actions:
        tell(f"{row.verb} through {row.adapter}: {row.state.value}")
    if drill.mode != "enforce" or not any(row.state is ActionState.VERIFIED for row in drill.actions):
        return
    began = time.time_ns()
    if any(row.verb in REFUSING and row.state is ActionState.VERIFIED for row in drill.actions):
        # A process that stands still cannot say that a call is refused: it goes on first.
        if frozen := tuple(row.action_id for row in drill.actions if "processes" in row.facts and row.state is ActionState.VERIFIED):
            _let_go(drill, ledger, *frozen)
            interrupt.until(lambda: not _held(ledger, drill, *frozen), RELEASE_SECONDS, "its process was not let go of")
        blocked = interrupt.until(hears("blocked"), ACT_SECONDS, "no call was refused")
        drill.seconds_to_blocked = (blocked - said["attacked"]) / 1e9 if blocked < began or not frozen else None
        tell("the agent's next call was refused")
    began = time.time_ns()
    _let_go(drill, ledger)
    interrupt.until(lambda: not _held(ledger, drill), RELEASE_SECONDS, "it was not let go of")
    drill.seconds_to_release = (time.time_ns() - began) / 1e9
    interrupt.until(hears("ran", time.time_ns()), RELEASE_SECONDS, "no call runs again after the release")
    drill.actions = ledger.actions(incident_id=drill.incident_id, limit=1000, oldest=True)
    tell("released; the agent's calls run again")


def _judge(drill: Drill, alert: AlertRow) -> None:
    """Times from the span's receipt, and what is not as it should be."""
    received = alert.alert.received
    dispatched = [row.dispatched_at for row in drill.actions if row.dispatched_at]
    proofs = [row.verified_at for row in drill.actions if row.verified_at]
    drill.seconds_to_dispatch = (min(dispatched) - received) / 1e9 if dispatched else None
    drill.seconds_to_verified = (max(proofs) - received) / 1e9 if proofs else None
    if not drill.actions:
        drill.faults.append("no action was asked for: no adapter can do what the playbook `drill` asks for (docs/response.md)")
    for row in drill.actions:
        if row.state not in (ActionState.VERIFIED, ActionState.DRY_RUN):
            drill.faults.append(f"{row.verb} through {row.adapter} is {row.state.value}: {row.detail}")


def _first(ledger: Ledger, agent_id: str) -> AlertRow | None:
    found = ledger.alerts(agent_id=agent_id, severities=["critical", "high"])
    return found[-1] if found else None


def _settled(ledger: Ledger, drill: Drill) -> tuple[list[ActionRow]] | None:
    """The actions, perhaps none, when all of them have an outcome."""
    alerts = ledger.alerts(incident_id=drill.incident_id)
    rows = ledger.actions(incident_id=drill.incident_id, limit=1000, oldest=True)
    planned = all(row.planned_at for row in alerts)
    return (rows,) if planned and not any(row.state in WORK for row in rows) else None


def _held(ledger: Ledger, drill: Drill, *action_ids: str) -> bool:
    rows = ledger.actions(incident_id=drill.incident_id, states=(*IN_FORCE, *UNFINISHED), limit=1000)
    return any(not action_ids or row.action_id in action_ids for row in rows)


def _let_go(drill: Drill, ledger: Ledger, *action_ids: str) -> None:
    if drill.incident_id and _held(ledger, drill):
        ledger.order(
            Order(
                kind="release", who="otel-ir drill", reason="the drill is over", at=time.time_ns(),
                incident_id=drill.incident_id, verbs=action_ids,
            )
        )  # fmt: skip


def _environment(address: str, token: str) -> dict[str, str]:
    more = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{quote(token)}"} if token else {}
    return environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_IR_GUARD_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY=str(BATCH_MILLISECONDS), **more
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
