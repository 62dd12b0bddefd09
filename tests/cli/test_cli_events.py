"""``otel-ir events``: what scripts read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otel_ir.cli import app
from otel_ir.model import EVENT_COLUMNS

CAPTURE = Path(__file__).parent.parent / "captures" / "pydantic_ai.json"
run = CliRunner().invoke


def test_events_are_ndjson_with_the_canonical_columns() -> None:
    done = run(app, ["events", str(CAPTURE)])
    assert done.exit_code == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    assert all(list(row) == list(EVENT_COLUMNS) for row in rows)
    tool = next(row for row in rows if row["event.type"] == "tool_call")
    assert tool["event_time"].endswith("Z")
    assert len(tool["event_time"]) == len("2026-01-01T00:00:00.000000001Z")
    assert tool["error"] is False


def test_events_go_to_a_file_or_a_table(tmp_path: Path) -> None:
    out = tmp_path / "events.ndjson"
    assert run(app, ["events", str(CAPTURE), "-o", str(out)]).exit_code == 0
    assert len(out.read_text().splitlines()) == len(run(app, ["events", str(CAPTURE)]).stdout.splitlines())
    assert "tool_call" in run(app, ["events", str(CAPTURE), "--format", "table"]).stdout
    assert len(json.loads(run(app, ["events", str(CAPTURE), "--format", "json"]).stdout)) == len(out.read_text().splitlines())


def test_the_schema_is_json_schema() -> None:
    done = run(app, ["events", "--schema"])
    assert done.exit_code == 0
    assert list(json.loads(done.stdout)["properties"]) == list(EVENT_COLUMNS)


def test_wrong_usage_is_status_2() -> None:
    assert run(app, ["events"]).exit_code == 2
    assert run(app, ["events", "--format", "nonsense", str(CAPTURE)]).exit_code == 2


def test_a_broken_file_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from otel_ir.cli import main

    path = tmp_path / "broken.json"
    path.write_text("{")
    monkeypatch.setattr("sys.argv", ["otel-ir", "events", str(path)])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 1
    assert "broken.json:1: not JSON" in capsys.readouterr().err
