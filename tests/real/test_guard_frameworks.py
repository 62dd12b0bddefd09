"""The guard in real frameworks with their real instrumentation: a revoked call does not run, an allowed one does, a refusal is telemetry.

Each runs tools/real_parts/frameworks/NAME/guarded.py in its own environment: two tools in one turn, then several agents at once in threads;
first with a server that speaks the guard protocol, then again, as a restart, with the server down.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from guard.peer import Server, revoked, until

from tests.real.test_frameworks import FOREIGN, FRAMEWORKS
from tools.real_parts.install import PROJECT


class Case(NamedTuple):
    """``soft``: the run goes on, and the model is told. ``marked``: the call's own span says that it did not run."""

    framework: str
    hook: str
    soft: bool = True
    marked: bool = True
    conversation: str | None = None


CORE = [
    Case("pydantic_ai", "native"),
    # The hook stands before the tool's span, so there is none.
    Case("langgraph", "native", marked=False, conversation="conversation-of-hijacked"),
    Case("openai_agents", "native"),
]
FULL = [
    Case("smolagents", "otel"),
    Case("strands", "otel"),
    Case("agent_framework", "otel"),
    Case("pydantic_ai", "otel", soft=False),
    Case("langgraph", "otel", soft=False),
    Case("openai_agents", "otel", soft=False),
]
CASES = [pytest.param(case, id=f"{case.framework}-{case.hook}") for case in CORE]
CASES += [pytest.param(case, id=f"{case.framework}-{case.hook}", marks=pytest.mark.real_full) for case in FULL]


def play(python: Path, case: Case, endpoint: str, cache: Path) -> dict[str, Any]:
    """Runs the framework's script to its end; what it printed."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
        "GUARD_HOOK": case.hook,
        "GUARD_EXPECTED": "1",
        "OTEL_SERVICE_NAME": "desk",
        "OTEL_IR_GUARD_ENDPOINT": endpoint,
        "OTEL_IR_GUARD_CACHE": str(cache),
        "PYTHONPATH": os.pathsep.join((str(FRAMEWORKS / "common"), str(PROJECT))),
    }
    script = FRAMEWORKS / case.framework / "guarded.py"
    done = subprocess.run([python, script], env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    played: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # some frameworks print as they go
    return played


def check(case: Case, played: dict[str, Any]) -> None:
    """What must be so, with the server or without it."""
    assert played["in_force"] == 1
    assert played["self_test"] == {"outcome": "passed", "detail": case.framework if case.hook == "native" else "otel"} or (
        case.framework == "langgraph" and played["self_test"] == {"outcome": "passed", "detail": "langchain"}
    )
    assert played["before"] == 0, "a self-test wrote telemetry"
    for one in (*played["one"].values(), *played["many"]):
        if one["agent"] == "benign":
            assert one["ran"] == ["look_up", "send_email"]
            assert "done" in one["ended"]
            continue
        assert "send_email" not in one["ran"]
        assert ("done" in one["ended"]) is case.soft, one["ended"]
        if case.soft:
            assert one["ran"] == ["look_up"]
            assert case.framework == "agent_framework" or "send_email was not run: this agent's access to it is revoked" in one["ended"]
    hijacked, benign = played["one"]["hijacked"], played["one"]["benign"]
    (refusal,) = hijacked["refusals"]
    assert refusal["name"] == "otel_ir.guard.refused send_email"
    assert refusal["otel_ir.event.type"] == "guardrail"
    assert refusal["otel_ir.action.id"] == "a-1"
    assert refusal["otel_ir.incident.id"] == "INC-1"
    assert refusal.get("gen_ai.agent.name") == ("hijacked" if (case.framework, case.hook) != ("langgraph", "otel") else None)
    assert case.conversation is None or refusal["gen_ai.conversation.id"] == case.conversation
    assert hijacked["below"] == 1
    assert len(hijacked["rejected"]) == (1 if case.marked else 0)
    assert (benign["refusals"], benign["rejected"]) == ([], [])
    assert played["refused"] == sum(one["agent"] == "hijacked" for one in played["many"])


@pytest.mark.parametrize("case", CASES)
def test_a_revoked_call_does_not_run(case: Case, framework_python: Callable[[str], Path], tmp_path: Path) -> None:
    python = framework_python(case.framework)
    server = Server()
    try:
        server.forbid(revoked("send_email"))
        check(case, play(python, case, server.url, tmp_path))
        until(lambda: server.reports and server.reports[-1]["blocked_total"] >= 4, what="the blocked calls are reported")
        assert server.reports[-1]["self_test"]["outcome"] == "passed"
        (registered,) = server.registered.values()
        assert registered["service"] == "desk"
        blocked = [one for report in server.reports for one in report["blocked"]]
        assert {(one["tool"], one["agent"]) for one in blocked} == {("send_email", "desk/hijacked")}
        assert all(one["trace_id"] for one in blocked)
    finally:
        server.close()
    check(case, play(python, case, server.url, tmp_path))
