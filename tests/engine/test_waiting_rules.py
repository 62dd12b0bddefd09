"""Rules that wait, from YAML and OTLP bytes on: tick records, the end of files, checkpoints, tests inside rules."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from normalize.otlp_maker import NOW, span, traces

from otel_ir.detect import run_events
from otel_ir.detect.windows import WindowLimits
from otel_ir.engine import Fold
from otel_ir.model import Alert, Record
from otel_ir.offline import replay
from otel_ir.sigma import load_rules
from otel_ir.sigma.load import load_library
from otel_ir.sigma.ruleset import RuleSet
from otel_ir.sigma.testing import run_tests

SECOND = 1_000_000_000
RULES = """title: A secret was read
id: 0b3c6d2e-2b4a-4a55-9a0e-9c9c1fb0a001
name: secret_read
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: read_secret}, condition: selection}
---
title: The audit log was written
id: 0b3c6d2e-2b4a-4a55-9a0e-9c9c1fb0a002
name: audited
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: write_audit}, condition: selection}
---
title: A secret was read and not audited
id: 0b3c6d2e-2b4a-4a55-9a0e-9c9c1fb0a003
name: not_audited
level: high
correlation: {type: temporal_ordered, rules: [secret_read], group-by: [otel_ir.agent.id], timespan: 1m}
absence: {rule: audited, where: after}
tests:
  - name: no audit follows
    events: [{gen_ai.tool.name: read_secret}, {gen_ai.tool.name: write_audit, at: 61s}]
    expect: 1
  - name: an audit follows
    events: [{gen_ai.tool.name: read_secret}, {gen_ai.tool.name: write_audit, at: 59s}]
    expect: false
"""
TICK = b'{"type":"tick"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "one.yml").write_text(RULES)
    return tmp_path


@pytest.fixture
def ruleset(folder: Path) -> RuleSet:
    ruleset, errors = load_rules([folder / "rules"])
    assert not errors
    return ruleset


def _call(tool: str, at: int, number: int = 1) -> bytes:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.agent.name": "clerk"}
    return traces(span(attributes, id=f"{number:016x}", end=at, start=at))


def _fold(fold: Fold, *bodies: tuple[int, bytes]) -> list[Alert]:
    """(received, body) each; -> alerts."""
    records = [
        Record(ordinal, "control" if body[:1] == b"{" else "traces", received, body)
        for ordinal, (received, body) in enumerate(bodies, fold.ordinal + 1)
    ]
    return [alert for frame in fold.frames(records) for alert in fold.fold(frame).alerts]


def test_a_tick_moves_time(ruleset: RuleSet) -> None:
    fold = Fold(ruleset, windows=WindowLimits(lateness=10 * SECOND, step=SECOND))
    assert not fold.detector.waits(NOW + 1000 * SECOND)
    assert _fold(fold, (NOW, _call("read_secret", NOW))) == []
    assert not fold.detector.waits(NOW + 69 * SECOND)
    assert fold.detector.waits(NOW + 70 * SECOND)
    assert _fold(fold, (NOW + 69 * SECOND, TICK)) == []
    (alert,) = _fold(fold, (NOW + 70 * SECOND, TICK))
    assert (alert.signal, alert.agent_name, alert.ordinal, alert.received) == ("not_audited", "clerk", 3, NOW + 70 * SECOND)
    assert alert.description == "A secret was read and not audited: read_secret within 1m, and nothing after that should be there"
    assert not fold.detector.waits(NOW + 1000 * SECOND)
    assert not fold.rejected


def test_what_waits_is_in_the_checkpoint(ruleset: RuleSet) -> None:
    first = Fold(ruleset, epoch=2)
    assert _fold(first, (NOW, _call("read_secret", NOW))) == []
    assert first.at_epoch
    again = Fold(ruleset, epoch=2)
    again.restore(first.state())
    assert again.detector.waits(NOW + 1000 * SECOND)
    assert [alert.ordinal for alert in _fold(again, (NOW + 1000 * SECOND, TICK))] == [2]


def test_a_tick_without_rules_that_wait_changes_nothing() -> None:
    fold = Fold(RuleSet(rules=(), correlations=(), digest="", fields=frozenset()))
    assert _fold(fold, (NOW, TICK), (NOW + SECOND, msgspec.json.encode({"type": "tick", "more": 1}))) == []
    assert (fold.rejected, fold.ordinal) == ([], 2)


def test_the_end_of_files_is_the_end_of_waiting(ruleset: RuleSet, folder: Path) -> None:
    then = NOW - 100_000_000 * SECOND  # what is ahead of the clock moves no time
    (folder / "calls.binpb").write_bytes(_call("read_secret", then))
    found = replay([folder / "calls.binpb"], ruleset)
    assert [(alert.signal, alert.ordinal, alert.received) for alert in found.alerts] == [("not_audited", 1, then)]


@pytest.mark.parametrize(("percentile", "refused"), [("95", False), ("100", False), ("99.9", True), ("true", True), ("0", True)])
def test_a_percentile_is_a_whole_number(tmp_path: Path, percentile: str, refused: bool) -> None:
    # pySigma takes 99.9 for 99 and true for 1.
    condition = f"{{gt: 5, field: otel_ir.result.size, percentile: {percentile}}}"
    correlation = f"{{type: value_percentile, rules: [secret_read], group-by: [user.id], timespan: 1m, condition: {condition}}}"
    more = f"title: P\nid: 0b3c6d2e-2b4a-4a55-9a0e-9c9c1fb0a004\nlevel: low\ncorrelation: {correlation}\n"
    (tmp_path / "one.yml").write_text(RULES.split("---", 1)[0] + "---\n" + more)
    _, errors = load_rules([tmp_path])
    assert [error.what.startswith("percentile: ") for error in errors] == ([True] if refused else [])


def test_tests_inside_rules_see_what_waits(folder: Path) -> None:
    library = load_library([folder / "rules"])
    assert [outcome.reason for outcome in run_tests(library, run_events)] == ["", ""]
