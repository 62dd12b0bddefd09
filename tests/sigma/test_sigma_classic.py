"""The shipped pack: loads, has nothing to advise, passes its own tests, and says what the article says."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from otel_ir.detect import run_events
from otel_ir.rules_path import shipped_rules
from otel_ir.sigma import Library, Rule, load_library, matches
from otel_ir.sigma.lint import lint
from otel_ir.sigma.testing import START, run_tests

SECOND = 10**9


@pytest.fixture(scope="module")
def classic() -> Library:
    return load_library([shipped_rules() / "classic"])


def test_no_errors_no_advice_all_tests_pass() -> None:
    library = load_library([shipped_rules()])
    assert [str(error) for error in library.errors] == []
    assert [str(advice) for advice in lint(library)] == []
    outcomes = run_tests(library, run_events)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) >= 20


def test_the_four_detectors(classic: Library) -> None:
    alerting = [item for item in (*classic.ruleset.rules, *classic.ruleset.correlations) if not isinstance(item, Rule) or item.alerts]
    assert sorted((item.signal, item.severity, item.stage) for item in alerting) == [
        ("data_exfiltration", "critical", "compromise"),
        ("error_spike", "medium", "anomaly"),
        ("suspicious_tool_sequence", "critical", "compromise"),
        ("suspicious_tool_sequence", "critical", "compromise"),
        ("suspicious_tool_sequence", "critical", "compromise"),
        ("tool_call_burst", "high", "anomaly"),
    ]
    burst, spike = (
        next(item for item in classic.ruleset.correlations if item.signal == name) for name in ("tool_call_burst", "error_spike")
    )
    assert (burst.threshold, burst.timespan, burst.group_by) == (30, 60 * SECOND, ("otel_ir.agent.id",))
    assert burst.baseline is not None
    assert (burst.baseline.multiple, burst.baseline.default) == (3, 10)
    assert (spike.threshold, spike.timespan, spike.service, spike.baseline) == (20, 300 * SECOND, None, None)
    assert {item.within_events for item in classic.ruleset.correlations if item.kind == "temporal_ordered"} == {5}


def test_every_document_is_complete() -> None:
    """What a responder and a reviewer look for: who, when, how bad, how known, what to do, what else it may be."""
    for path in shipped_rules().rglob("*.yml"):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            assert {"title", "id", "name", "status", "description", "author", "date"} <= document.keys(), path
            assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", document["id"])
            if "tests" in document:
                assert {"level", "tags", "falsepositives", "stage", "response"} <= document.keys(), path
                assert {tag.split(".")[0] for tag in document["tags"]} == {"owasp", "atlas"}
            if "logsource" in document:
                assert document["logsource"].items() >= {"product": "opentelemetry", "category": "ai_agent"}.items()


@pytest.mark.parametrize(
    ("first", "last"), [("read_secret", "http_request"), ("database_query", "send_email"), ("file_read", "http_request")]
)
@pytest.mark.parametrize(("between", "alerts"), [(0, 1), (3, 1), (4, 0)])
def test_sequences_reach_over_the_last_five_calls(classic: Library, first: str, last: str, between: int, alerts: int) -> None:
    tools = [first, *["search"] * between, last]
    assert len(fired(classic, tools, step=1)) == alerts


def test_sequences_do_not_depend_on_time_within_a_day(classic: Library) -> None:
    assert fired(classic, ["read_secret", "http_request"], step=23 * 3600) == ["suspicious_tool_sequence"]
    assert fired(classic, ["read_secret", "http_request"], step=24 * 3600) == []


def fired(library: Library, tools: list[str], *, step: int) -> list[str]:
    count = len(tools)
    frame = pl.DataFrame(
        {
            "event_time": [START + number * step * SECOND for number in range(count)],
            "event.type": ["tool_call"] * count,
            "gen_ai.tool.name": tools,
            "otel_ir.agent.id": ["s/a"] * count,
            "otel_ir.tenant": [""] * count,
            "otel_ir.event.id": [f"{number}" for number in range(count)],
            "trace_id": [f"{1:032x}"] * count,
            "span_id": [f"{number + 1:016x}" for number in range(count)],
            "error": [False] * count,
            "otel_ir.arguments.body.length": [None] * count,
            "otel_ir.journal.ordinal": range(1, count + 1),
            "otel_ir.journal.position": pl.Series([0] * count, dtype=pl.UInt32),
        },
        schema_overrides={"otel_ir.arguments.body.length": pl.Int64},
    )
    return [alert.signal for alert in run_events(library.ruleset, frame)]


def test_tool_names_in_any_case(classic: Library) -> None:
    frame = pl.DataFrame({"event.type": ["tool_call"], "gen_ai.tool.name": ["HTTP_Request"], "otel_ir.arguments.body.length": [10_001]})
    rules = [rule for rule in classic.ruleset.rules if rule.signal == "data_exfiltration"]
    assert matches(rules, frame).row(0) == (True,)


def test_the_pack_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (shipped_rules() / "classic" / "tool_call_burst.yml").is_file()
