"""Rules over what a real server kept: the same alerts as the server raised, and other rules give others."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from real.processes import OTEL_IR, alerts, otel_ir_serving, until
from serve.agents import agents

BURST = """title: Many calls
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000001
name: look
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: look_around}, condition: selection}
---
title: Many calls in ten seconds
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000002
name: burst
level: high
correlation:
  type: event_count
  rules: [look]
  group-by: [otel_ir.agent.id]
  timespan: 10s
  condition: {gt: @MORE_THAN@}
---
title: A large body
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000003
name: large_body
level: critical
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {otel_ir.arguments.body|contains: secret}, condition: selection}
---
title: No report after the look
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000005
name: no_report
level: low
absence: {rule: report, where: after}
correlation: {type: temporal_ordered, rules: [last_look], group-by: [otel_ir.agent.id], timespan: 5s}
---
title: The last look
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000006
name: last_look
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: last_look}, condition: selection}
---
title: A report
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000007
name: report
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: report}, condition: selection}
"""

BLIND = """title: A tenant of ours
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000004
name: our_tenant
level: low
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {shop.tenant: ours}, condition: selection}
"""


def _rules(folder: Path, more_than: int, more: str = "") -> Path:
    folder.mkdir()
    (folder / "rules.yml").write_text(BURST.replace("@MORE_THAN@", str(more_than)))
    if more:
        (folder / "more.yml").write_text(more)
    return folder


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OTEL_IR, "backtest", *arguments], capture_output=True, text=True, timeout=120, check=False)


def _fired(data: Path, rules: Path) -> list[dict[str, Any]]:
    done = _run("--rules", rules, "--since", "1h", "--data", data, "--format", "ndjson")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _counts(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["count"]:
            found[row["rule"], row["agent"]] += row["count"]
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that raised some alerts, was stopped, and runs no more."""
    folder = tmp_path_factory.mktemp("kept")
    rules = _rules(folder / "rules", 5)
    with otel_ir_serving(folder / "data", "--rules", str(rules)) as server:
        with agents(server.grpc) as shop:
            shop.call("blabber", "send_email", body="the secret")
            for number in range(12):
                shop.call("busy", at=number)
                shop.call("calm", at=number * 2.5)
                shop.call("brisk", at=number * 1.9)
                shop.send()
        until(lambda: len(alerts(server.data)) >= 3, what="the alerts")
        running = _counts(_fired(server.data, rules))  # while it runs: what is flushed by now, and no error
        server.running.stop()
    assert running.keys() <= {("burst", "shop/busy"), ("burst", "shop/brisk"), ("large_body", "shop/blabber")}
    return folder


def test_the_same_rules_give_the_alerts_that_were_raised(kept: Path) -> None:
    raised = alerts(kept / "data")
    rows = _fired(kept / "data", kept / "rules")
    assert _counts(rows) == Counter((alert["otel_ir.alert.signal"], alert["otel_ir.agent.id"]) for alert in raised)
    shown = {(row["rule"], one["trace_id"], one["span_id"]) for row in rows for one in row["examples"]}
    assert shown == {(alert["otel_ir.alert.signal"], alert["trace_id"], alert["span_id"]) for alert in raised}
    assert {row["day"] for row in rows if row["count"]} <= {alert["event_time"][:10] for alert in raised}


def test_changed_rules_give_others(kept: Path, tmp_path: Path) -> None:
    found = _counts(_fired(kept / "data", _rules(tmp_path / "rules", 3)))
    assert set(found) == {("burst", f"shop/{agent}") for agent in ("busy", "brisk", "calm")} | {("large_body", "shop/blabber")}


def test_a_rule_that_did_not_fire_is_zero_and_one_that_cannot_be_judged_is_blind(kept: Path, tmp_path: Path) -> None:
    rules = _rules(tmp_path / "rules", 500, BLIND)
    rows = {row["rule"]: row for row in _fired(kept / "data", rules)}
    assert (rows["burst"]["count"], rows["burst"]["blind"]) == (0, [])
    assert (rows["our_tenant"]["count"], rows["our_tenant"]["blind"]) == (None, ["shop.tenant"])
    told = _run("--rules", rules, "--since", "1h", "--data", kept / "data")
    assert "our_tenant: blind: evidence has no value of shop.tenant" in told.stderr
    assert "37 events from " in told.stderr
    assert "blind" in told.stdout


def test_what_waits_at_the_end_is_judged(tmp_path: Path) -> None:
    with otel_ir_serving(tmp_path / "data", "--rules", str(_rules(tmp_path / "rules", 5))) as server:
        with agents(server.grpc) as shop:
            shop.call("forgetful", "last_look")
            shop.call("careful", "last_look")
            shop.call("careful", "report", at=2)
        server.running.stop()
    assert _counts(_fired(tmp_path / "data", tmp_path / "rules")) == {("no_report", "shop/forgetful"): 1}


def test_no_events_say_nothing_of_any_rule(kept: Path) -> None:
    done = _run(
        "--rules", kept / "rules", "--since", "2020-01-01", "--until", "2020-01-02T00:00:00Z", "--data", kept / "data", "--format", "json"
    )
    assert done.returncode == 0
    assert {row["count"] for row in json.loads(done.stdout)} == {None}
    assert "nothing can be said" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--since", "yesterday"], 2, "is no time"),
        (["--since", "7x"], 2, "is no time"),
        (["--since", "1h", "--until", "2h"], 2, "nothing lies between"),
        (["--since", "1h", "--data", "nowhere"], 1, "there is no evidence"),
        (["--since", "1h", "--rules", "nowhere"], 1, "nowhere"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], status: int, told: str) -> None:
    done = _run(*arguments)
    assert done.returncode == status, done.stderr
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
