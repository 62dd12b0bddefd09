"""``otel-ir drill`` against the real server: it proves the whole way, or says where it ends; whatever happens it is let go of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from serve.desk import Desk

from otel_ir.model_lifecycle import IncidentState

ROW = {
    "drill_id", "outcome", "mode", "incident_id", "actions", "seconds_to_receive", "seconds_to_alert", "seconds_to_dispatch",
    "seconds_to_verified", "seconds_to_blocked", "seconds_to_release", "faults",
}  # fmt: skip


def policy(**adapters: str) -> str:
    """Only these adapters, and the shipped playbooks."""
    lines = "".join(f"  {name}: {section}\n" for name, section in adapters.items())
    return "mode: enforce\nwatch: 2\nverify: {within: 5, recheck: 1, stale: 2}\nadapters:\n" + lines


def drill(desk: Desk, *more: str, status: int = 0) -> tuple[list[dict[str, Any]], str]:
    done = desk.command("drill", "--token", "t-drill", "--format", "json", *more)
    assert done.returncode == status, done.stderr
    rows = json.loads(done.stdout)
    assert all(set(row) == ROW for row in rows)
    return rows, done.stderr


@pytest.mark.parametrize("adapters", [
    {"guard": "{type: guard}"},
    {"process": "{type: process, method: signal}"},
    {"guard": "{type: guard}", "process": "{type: process, method: signal}"},
], ids=["guard", "process", "both"])  # fmt: skip
def test_a_drill_that_passes(make_desk: Callable[..., Desk], adapters: dict[str, str]) -> None:
    desk = make_desk(policy(**adapters))
    with desk.serve():
        rows, told = drill(desk, *(["--count", "2"] if len(adapters) == 2 else []))
        for row in rows:
            assert (row["outcome"], row["mode"], row["faults"]) == ("passed", "enforce", [])
            assert {action["adapter"] for action in row["actions"]} == set(adapters)
            assert {action["state"] for action in row["actions"]} == {"released"}
            assert 0 < row["seconds_to_dispatch"] < row["seconds_to_verified"]
        assert ("the agent's next call was refused" in told) is ("guard" in adapters)
        if len(rows) == 2:
            assert "span received -> verified: p50" in told
        assert {incident.drill for incident in desk.ledger.incidents()} == {True}
        assert [one.outcome for one in desk.ledger.drills()] == ["passed"] * len(rows)
        assert "last drill: 0.0 days ago: passed" in desk.command("preflight").stderr


def test_a_drill_of_a_dry_run(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(policy(guard="{type: guard}").replace("enforce", "dry-run"))
    with desk.serve():
        (row,), told = drill(desk)
        assert (row["outcome"], row["mode"]) == ("passed", "dry-run")
        assert {action["state"] for action in row["actions"]} == {"dry_run"}
        assert "nothing was contained" in told


def test_a_drill_that_fails_says_why(make_desk: Callable[..., Desk]) -> None:
    """Nobody can do anything; and a token that may not speak for drills."""
    desk = make_desk(policy(soc='{type: webhook, url: "@HOOK@", secret_env: HOOK_SECRET, verbs: [isolate_network]}'))
    with desk.serve():
        (row,), told = drill(desk, status=1)
        assert row["outcome"] == "failed"
        assert "no action was asked for" in row["faults"][0]
        assert row["faults"][0] in told
        done = desk.command("drill", "--token", "t-desk")
        assert done.returncode == 1
        assert "are the drill's spans accepted (--token)" in done.stderr
        assert [one.outcome for one in desk.ledger.drills()] == ["failed", "failed"]
        assert not [row for row in desk.ledger.incidents() if row.state is IncidentState.CONTAINED]
