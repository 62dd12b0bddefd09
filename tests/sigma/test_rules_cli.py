"""``otel-ir rules``, from the outside: what is printed where, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from otel_ir.cli.rules import rules_app

GOOD = """\
title: A tool
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
name: a_tool
description: A tool was called.
level: high
falsepositives: [tests]
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: a}, condition: selection}
tests:
  - {name: fires, events: [{gen_ai.tool.name: a}], expect: true}
  - {name: silent, events: [{gen_ai.tool.name: b}], expect: false}
"""


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(rules_app, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good.yml").write_text(GOOD)
    return tmp_path


@pytest.fixture
def bad(good: Path) -> Path:
    (good / "bad.yml").write_text(GOOD.replace("7a01", "7a02").replace("name: a_tool", "name: [b]").replace("level: high", "level: hihg"))
    return good


def test_the_shipped_rules_by_default() -> None:
    assert run("check").stdout == "8 rules, 5 correlations, no errors\n"
    assert run("lint").stdout == "8 rules, 5 correlations, no advice\n"
    tests = run("test")
    assert tests.exit_code == 0
    assert "passed  tool_call_burst" in tests.stdout
    assert tests.stderr.endswith(" passed, 0 failed\n")
    assert "error_spike" in run("list").stdout


def test_check(good: Path, bad: Path) -> None:
    assert run("check", good / "good.yml").exit_code == 0
    result = run("check", bad)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{bad}/bad.yml:3:1: Sigma rule name must be a string",
        f"{bad}/bad.yml:5:1: 'hihg' is not a valid Sigma rule level: did you mean 'high'?",
    ]


def test_check_as_json(bad: Path) -> None:
    result = run("check", bad, "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[1] == {
        "path": f"{bad}/bad.yml",
        "line": 5,
        "column": 1,
        "what": "'hihg' is not a valid Sigma rule level",
        "hint": "did you mean 'high'?",
    }
    assert run("check", bad / "good.yml", "--format", "ndjson").stdout == ""


def test_check_reads_the_events_of_tests(good: Path) -> None:
    (good / "good.yml").write_text(GOOD.replace("[{gen_ai.tool.name: b}]", "[{gen_ai.tol.name: b}]"))
    result = run("check", good)
    assert result.exit_code == 1
    assert "good.yml:11:30: no column 'gen_ai.tol.name'" in result.stderr


def test_lint(good: Path) -> None:
    (good / "good.yml").write_text(GOOD.replace("level: high\n", ""))
    result = run("lint", good)
    assert result.exit_code == 1
    assert result.stderr == f"{good}/good.yml:1:1: no level: its alerts count as medium\n"


def test_test(good: Path) -> None:
    passed = run("test", good)
    assert passed.exit_code == 0
    assert [line.split()[:3] for line in passed.stdout.splitlines()] == [
        ["result", "signal", "test"],
        ["passed", "a_tool", "fires"],
        ["passed", "a_tool", "silent"],
    ]
    (good / "good.yml").write_text(GOOD.replace("expect: false", "expect: 2"))
    failed = run("test", good)
    assert failed.exit_code == 1
    assert "good.yml:11: a_tool: silent: expected 2 alerts, got no alerts" in failed.stderr
    rows = [json.loads(line) for line in run("test", good, "--format", "ndjson").stdout.splitlines()]
    assert {(row["test"], row["result"]) for row in rows} == {
        ("fires", "passed"),
        ("silent", "failed"),
        ("a test that stays silent", "failed"),
    }


def test_test_fails_on_errors_too(bad: Path) -> None:
    result = run("test", bad)
    assert result.exit_code == 1
    assert "bad.yml:5:1" in result.stderr


def test_list(good: Path, bad: Path) -> None:
    result = run("list", bad)
    assert result.exit_code == 0
    assert "a_tool" in result.stdout
    assert "bad.yml:5:1" in result.stderr
    (row,) = json.loads(run("list", good / "good.yml", "--format", "json").stdout)
    assert row["id"] == "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01"
    assert (row["signal"], row["severity"], row["kind"], row["service"], row["alerts"], row["tests"]) == (
        "a_tool",
        "high",
        "rule",
        "tool_call",
        True,
        2,
    )
    (good / "good.yml").unlink()
    assert run("list", good).exit_code == 1


@pytest.mark.parametrize("name", ["a_tool", "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01", "A tool"])
def test_explain(good: Path, name: str) -> None:
    result = run("explain", name, "--rules", good)
    assert result.exit_code == 0
    assert "gen_ai.tool.name is 'a'" in result.stdout
    assert "Compiled to" not in result.stdout
    assert "col(" not in result.stdout
    assert result.stderr == "--verbose adds the Polars expression that each is compiled to\n"
    assert run("explain", good).stdout == result.stdout
    verbose = run("explain", name, "--rules", good, "--verbose")
    assert verbose.stdout.startswith(result.stdout.rstrip("\n"))
    assert "Compiled to the Polars expression\n  [" in verbose.stdout
    assert verbose.stderr == ""


def test_explain_nothing(good: Path) -> None:
    result = run("explain", "a_tol", "--rules", good)
    assert result.exit_code == 1
    assert result.stderr == "no rule 'a_tol': did you mean 'a_tool'?\n"
    (row,) = json.loads(run("explain", "a_tool", "--rules", good, "--format", "json").stdout)
    assert row["words"].startswith("A tool")
    assert "to_lowercase" in row["expression"]


def test_eval(bad: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    hit = {"event.type": "tool_call", "gen_ai.tool.name": "A", "text": "\u00e9\x1b[31m"}
    events.write_text(json.dumps(hit) + "\n[]\n" + json.dumps({"gen_ai.tool.name": 5}) + "\n")
    result = run("eval", bad, events)
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"rule_id": "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01", "event": hit}]
    assert result.stderr.splitlines()[-1] == (
        "1 matches of 1 rules in 2 events; 1 rules run, 1 not loaded (why stands above), 1 lines skipped, 0 correlations run"
    )
    assert f"{events}:2: no JSON object but a list: the line is skipped" in result.stderr
    assert run("eval", bad, "-", stdin=events.read_text()).stdout == result.stdout
    assert json.loads(run("eval", bad, events, "--format", "json").stdout)[0]["event"] == hit
    table = run("eval", bad, events, "--format", "table").stdout
    assert "rule_id" in table
    assert "\x1b" not in table, "what an event says is shown, not obeyed"


WINDOWS = """\
title: A
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a05
logsource: {product: windows}
detection: {selection: {User|expand: '%admins%'}, condition: selection}
"""


def test_eval_with_a_pipeline_and_placeholders(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text(WINDOWS)
    (tmp_path / "p.yml").write_text("transformations: [{type: field_name_mapping, mapping: {User: user.name}}]")
    (tmp_path / "v.yml").write_text("admins: [root, 'adm_*']")
    (tmp_path / "e.ndjson").write_text('{"user": {"name": "ADM_1"}}\n{"User": "root"}\n')
    given = ("--pipeline", tmp_path / "p.yml", "--placeholders", tmp_path / "v.yml")
    result = run("eval", tmp_path / "rules", tmp_path / "e.ndjson", *given)
    assert result.stdout == '{"rule_id":"6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a05","event":{"user": {"name": "ADM_1"}}}\n'
    assert run("check", tmp_path / "rules", *given).stdout == "1 rules, 0 correlations, no errors\n"
    explained = run("explain", "A", "--rules", tmp_path / "rules", "-v", *given)
    assert "user.name is 'root'" in explained.stdout
    assert "It is a rule for another product" in explained.stdout
    assert 'col("user.name")' in explained.stdout
    without = run("eval", tmp_path / "rules", tmp_path / "e.ndjson")
    assert without.stdout == ""
    assert "a.yml:4:25: placeholder %admins% has no values: write the values in its place, or give --placeholders FILE" in without.stderr
    assert "0 rules run, 1 not loaded (why stands above)" in without.stderr


def test_eval_repeats_events_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(WINDOWS.replace("User|expand: '%admins%'", "a: x"))
    lines = [
        b'\xef\xbb\xbf{"a": "x", "n": 12345678901234567890123, "f": 1.50, "s": "\\ud800"}',
        b'  {"a":"x", "a":"X"} \r',
        b'{"a": "x", "b": "\xff"}',
        b'{"a": NaN}',
        b'{"a": "x"',
        b'"x"',
        b"\x00",
        b'{"a": "x"}',
    ]
    (tmp_path / "e.ndjson").write_bytes(b"\n".join(lines))
    result = run("eval", tmp_path / "r.yml", tmp_path / "e.ndjson")
    assert [line.partition('"event":')[2] for line in result.stdout.splitlines()] == [
        '{"a": "x", "n": 12345678901234567890123, "f": 1.50, "s": "\\ud800"}}',
        '{"a":"x", "a":"X"}}',
        '{"a": "x", "b": "\ufffd"}}',
        '{"a": "x"}}',
    ]
    told = [line.removeprefix(f"{tmp_path}/") for line in result.stderr.splitlines()]
    assert told[0] == "e.ndjson:4: NaN is no JSON: the line is skipped"
    assert told[1].startswith("e.ndjson:5: no JSON: ")
    assert told[2] == "e.ndjson:6: no JSON object but a text: the line is skipped"
    assert told[3].startswith("e.ndjson:7: no JSON: ")
    assert "4 matches of 1 rules in 4 events" in told[4]
    assert told[5] == "1 lines held bytes that are no UTF-8; they were read with U+FFFD in their place"
    for form in ("json", "table"):
        assert run("eval", tmp_path / "r.yml", tmp_path / "e.ndjson", "--format", form).exit_code == 0


def test_eval_keeps_its_bar_out_of_the_matches(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(WINDOWS.replace("User|expand: '%admins%'", "a: x"))
    (tmp_path / "e.ndjson").write_text('{"a": "x"}\n')
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "otel_ir", "rules", "eval", str(tmp_path / "r.yml"), str(tmp_path / "e.ndjson")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(terminal)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert json.loads(done.stdout)["event"] == {"a": "x"}
    assert "\u2501" in shown, "the bar"
    assert "rule_id" not in shown


def test_eval_tells_few_of_many_bad_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.sigma.evaluate.MAX_LINE", 100)
    (tmp_path / "r.yml").write_text(WINDOWS.replace("User|expand: '%admins%'", "a: x"))
    (tmp_path / "e.ndjson").write_text("[]\n" * 30 + json.dumps({"a": "x" * 500}) + '\n{"a": "x"}\n')
    result = run("eval", tmp_path / "r.yml", tmp_path / "e.ndjson")
    told = result.stderr.splitlines()
    assert len(told) == 22
    assert told[20].endswith("e.ndjson:21: more such lines are counted only")
    assert "1 matches of 1 rules in 1 events" in told[21]
    assert "31 lines skipped" in told[21]


def test_eval_without_rules_or_events(good: Path, tmp_path: Path) -> None:
    missing = run("eval", good, tmp_path / "none.ndjson")
    assert missing.exit_code == 1
    assert missing.stderr == f"{tmp_path}/none.ndjson: cannot be read: No such file or directory\n"
    nothing = run("eval", tmp_path / "nowhere", tmp_path / "none.ndjson")
    assert nothing.exit_code == 1
    assert "no such file or folder" in nothing.stderr


def test_wrong_usage_is_two(good: Path) -> None:
    assert run("check", good, "--formt", "json").exit_code == 2
    assert run("check", good, "--format", "xml").exit_code == 2
    assert run("eval").exit_code == 2


CORRELATED = """\
title: a
name: a
logsource: {product: windows}
detection: {s: {e: a}, condition: s}
---
title: C
name: c
correlation: {type: event_count, rules: [a], group-by: [u.n], timespan: 1m, condition: {gte: 2}}
"""


def test_eval_prints_correlations_with_their_events_after_the_rules(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(CORRELATED)
    lines = [
        '{"e":"a", "u":{"n":1}, "time":"2026-01-01T00:00:20"}',
        '{"e":"a", "u":{"n":1}, "time":"2026-01-01 00:00:00Z"}',
        '{"e":"a", "u":{"n":1}}',
    ]
    (tmp_path / "e.ndjson").write_text("\n".join(lines))
    result = CliRunner().invoke(rules_app, ["eval", str(tmp_path / "r.yml"), str(tmp_path / "e.ndjson")])
    assert result.exit_code == 0
    assert result.stdout == f'{{"rule_id":"c","event":{lines[0]},"events":[{lines[1]},{lines[0]}],"group":{{"u.n": "1"}}}}\n'
    assert "1 correlations run" in result.stderr
    assert "1 events that rules of a correlation match hold no readable time" in result.stderr
