"""Any Sigma rules over any events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_ir.sigma.evaluate import Evaluator
from otel_ir.sigma.load import read_library

PROCESS = """\
title: Encoded command
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
logsource: {product: windows, category: process_creation}
detection:
  image:
    - Image|endswith: ['\\powershell.exe', '\\pwsh.exe']
    - OriginalFileName: PowerShell.EXE
  option:
    CommandLine|windash|contains: [' -e ', ' -en ', ' -enc ']
  filter_updater:
    ParentImage|startswith: 'C:\\Program Files\\'
    User|contains: SYSTEM
  condition: image and option and not 1 of filter_*
"""
AGENT = """\
title: Tool
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {sel: {gen_ai.tool.name: x}, condition: sel}
"""


def run(folder: Path, events: list[Any], *rules: str) -> list[tuple[str, Any]]:
    for number, rule in enumerate(rules):
        (folder / f"{number}.yml").write_text(rule)
    library = read_library([folder])
    evaluator = Evaluator(library)
    assert library.errors == []
    return [(rule_id[-2:], event.get("n")) for rule_id, event in evaluator.run(json.dumps(event) for event in events)]


def test_a_public_style_rule(tmp_path: Path) -> None:
    shell = "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\POWERSHELL.EXE"
    events = [
        {"n": 0, "Image": shell, "CommandLine": "powershell -ENC aGk="},
        {"n": 1, "Image": "C:\\x.exe", "OriginalFileName": "powershell.exe", "CommandLine": "x /enc y"},
        {"n": 2, "Image": shell, "CommandLine": "powershell -File x.ps1"},
        {"n": 3, "Image": shell, "CommandLine": "x -e y", "ParentImage": "C:\\Program Files\\u.exe", "User": "NT AUTHORITY\\SYSTEM"},
        {"n": 4, "Image": shell, "CommandLine": "x -e y", "ParentImage": "C:\\Program Files\\u.exe", "User": "ann"},
        {"n": 5, "Image": 5, "CommandLine": None},
        {"n": 6},
    ]
    assert run(tmp_path, events, PROCESS) == [("01", 0), ("01", 1), ("01", 4)]


def test_rules_about_agents_look_at_their_event_type(tmp_path: Path) -> None:
    events = [{"n": 0, "event.type": "tool_call", "gen_ai.tool.name": "X"}, {"n": 1, "gen_ai.tool.name": "x"}]
    assert run(tmp_path, events, AGENT) == [("02", 0)]


def test_matches_come_by_event_then_by_rule_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.sigma.evaluate.BATCH", 3)
    second = AGENT.replace("7a02", "7a03").replace("x}", "'*'}")
    events = [{"n": n, "event.type": "tool_call", "gen_ai.tool.name": "x" if n % 2 else ["x", {"y": 1}]} for n in range(7)]
    assert run(tmp_path, events, AGENT, second) == [(rule, n) for n in range(7) for rule in ("02", "03")]


def test_lines_that_are_no_events_are_counted(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(AGENT)
    evaluator = Evaluator(read_library([tmp_path]))
    deep = "[" * 100_000
    lines = [
        "",
        "  \n",
        "[]",
        "5",
        "{",
        "null",
        deep,
        '{"event.type": "tool_call", "gen_ai.tool.name": "x"}',
        '{"a": ' * 500 + "1" + "}" * 500,
    ]
    assert len(list(evaluator.run(lines))) == 1
    assert evaluator.skipped == 5


def test_what_cannot_be_compiled_is_said_and_the_rest_runs(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(AGENT)
    (tmp_path / "b.yml").write_text(AGENT.replace("7a02", "7a04").replace("gen_ai.tool.name: x", "gen_ai.tool.name|expand: '%x%'"))
    (tmp_path / "c.yml").write_text(
        "title: C\nname: c\ncorrelation: {type: value_count, rules: [x], timespan: 1m, group-by: a, condition: {gt: 1, field: b}}\n"
    )
    library = read_library([tmp_path])
    evaluator = Evaluator(library)
    assert [error.what for error in library.errors] == ["placeholder %x% has no values", "no rule has the id or name 'x'"]
    assert [entry.id[-2:] for entry in evaluator.entries] == ["02"]
    assert evaluator.correlations == ()


def test_rules_that_only_serve_a_correlation_do_not_match_by_themselves(tmp_path: Path) -> None:
    rule = "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02"
    correlation = f"title: C\ncorrelation: {{type: event_count, rules: {rule}, timespan: 1m, condition: {{gt: 1}}}}\n"
    event = {"event.type": "tool_call", "gen_ai.tool.name": "x"}
    assert run(tmp_path, [event], AGENT, correlation) == []
    generate = correlation.replace("timespan", "generate: true, timespan")
    assert run(tmp_path, [event], AGENT, generate) == [("02", None)]
