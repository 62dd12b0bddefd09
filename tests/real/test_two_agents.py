"""Two agents of a real framework in one process, default BatchSpanProcessor, late identity: exactly the hijacked one is stopped.

The sender's part of the time is the SDK's: a default BatchSpanProcessor lets spans wait for up to 5 s, and a span is sent when its call has
run. So what comes over OTLP is stopped after the fact. `pytest -s` prints the times; docs/response.md has them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from otel_ir.model_lifecycle import ActionState, IncidentState
from otel_ir.store import Ledger
from tests.real.processes import otel_ir_serving
from tests.real.test_frameworks import FOREIGN, FRAMEWORKS
from tools.real_parts.install import PROJECT

HIJACKED, BENIGN = "mailer", "clerk"
POLICY = """\
mode: enforce
safety: {require_sender: false}
adapters: {guard: {type: guard, verbs: [revoke_tools]}}
"""


def test_exactly_the_hijacked_one_of_two_is_stopped(framework_python: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "response.yaml").write_text(POLICY)
    with otel_ir_serving(tmp_path / "data", "--response", str(tmp_path / "response.yaml"), "--enforce") as server:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{server.http}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_IR_GUARD_ENDPOINT": f"http://{server.http}",
            "OTEL_IR_GUARD_CACHE": str(tmp_path / "cache"),
            "OTEL_SERVICE_NAME": "office",
            "PYTHONPATH": os.pathsep.join((str(FRAMEWORKS / "common"), str(PROJECT))),
        }
        script = FRAMEWORKS / "openai_agents" / "two_agents.py"
        done = subprocess.run(
            [framework_python("openai_agents"), script], env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        played = json.loads(done.stdout)
        server.running.stop()

    ran, refused = played["ran"], played["refused"]
    assert [tool for tool, _ in ran[BENIGN]].count("send_email") == 5
    assert len(ran[BENIGN]) == 28, "the other one did all its work"
    assert refused[BENIGN] == []
    assert len(refused[HIJACKED]) == 3, done.stderr
    assert len(ran[HIJACKED]) < 28
    assert played["answers"] == ["Sent.", "Sent."], "both runs came to their end"

    ledger = Ledger.open(f"sqlite:///{tmp_path / 'data' / 'ledger.db'}")
    ((incident,), (action,), (stored,)) = ledger.incidents(), ledger.actions(), ledger.alerts()
    steps = [(step.to_state, step.detail) for step in ledger.history(action.action_id)]
    ledger.close()
    alert = stored.alert
    assert (incident.agent_id, incident.state) == (f"office/{HIJACKED}", IncidentState.CONTAINED)
    assert (action.verb, action.state) == ("revoke_tools", ActionState.VERIFIED), steps
    # Dispatched while the agent was not known, for the trace; widened when its own span told its name.
    assert any(detail == f"target widened: office/{HIJACKED}" for _, detail in steps), steps
    assert action.target["otel_ir.agent.id"] == f"office/{HIJACKED}"
    assert action.dispatched_at is not None
    assert action.verified_at is not None

    harmful = next(at for tool, at in ran[HIJACKED][1:] if tool == "send_email")
    assert ran[HIJACKED][-1][1] < refused[HIJACKED][0]
    times = {
        "harmful call -> received (the sender's delay)": alert.received - harmful,
        "received -> dispatched": action.dispatched_at - alert.received,
        "received -> verified": action.verified_at - alert.received,
        "harmful call -> first refusal": refused[HIJACKED][0] - harmful,
    }
    print("".join(f"\n{name}: {nanos / 1e9:.3f} s" for name, nanos in times.items()))  # noqa: T201
