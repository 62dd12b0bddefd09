"""``incidents``, ``investigate``, ``postmortem`` over a real ledger and real evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otel_ir.cli import app
from otel_ir.model import PATCH_SCHEMA
from otel_ir.model_lifecycle import ActionRequest, LogEntry
from otel_ir.store import EvidenceStore, Ledger
from tests.investigate.story import AGENT, NOON, SECOND, alert, call, demo_rows, frame, stored

RUN = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a server that saw the demo's incident; one action verified, one that failed."""
    folder = tmp_path / "data"
    stored(folder / "evidence", demo_rows())
    book = Ledger.open(f"sqlite:///{folder}/ledger.db")
    book.record_alerts([alert([3, 4], 1.5, title="\x1b[31mDatabase\u202e", description="a\nb\x07").alert], NOON + 2 * SECOND)
    incident = book.incidents()[0].incident_id
    for verb, steps in {"revoke_tools": ("dispatched", "applied", "verified"), "pause_agent": ("dispatched", "failed")}.items():
        request = ActionRequest(incident_id=incident, verb=verb, adapter="guard", mode="enforce", requested_at=NOON + 2 * SECOND)
        book.request_action(request)
        for offset, state in enumerate(steps, 3):
            book.transition(request.action_id, state, NOON + offset * SECOND, f"{state} it")
    book.note(incident, LogEntry(NOON + 20 * SECOND, "note", "ada", "looked\x1b at it"))
    book.close()
    return folder


def _run(*arguments: object, status: int = 0) -> str:
    done = RUN.invoke(app, [str(one) for one in arguments])
    assert done.exit_code == status, done.output
    return done.stdout


def _incident(data: Path) -> str:
    return str(json.loads(_run("incidents", "--data", data, "--format", "ndjson"))["incident_id"])


def test_incidents_lists_them(data: Path) -> None:
    (row,) = json.loads(_run("incidents", "--data", data, "--format", "json"))
    assert (row["otel_ir.agent.id"], row["state"], row["agent.threat.detection.severity"]) == (AGENT, "contained", "critical")
    table = _run("incidents", "--data", data)
    assert AGENT in table
    assert "\x1b" not in table
    assert "\u202e" not in table


def test_one_incident_shows_every_step_and_what_to_do_next(data: Path) -> None:
    incident = _incident(data)
    one = json.loads(_run("incidents", incident, "--data", data, "--format", "json"))
    assert [step["state"] for step in one["actions"][0]["steps"]] == ["requested", "dispatched", "applied", "verified"]
    assert [command.split()[1] for command in one["next"]] == ["investigate", "release", "postmortem"]
    assert json.loads(_run("incidents", incident, "--data", data, "--format", "ndjson")) == one
    table = _run("incidents", incident, "--data", data)
    assert "verified it" in table
    assert "looked\\u001b at it" in table
    assert f"otel-ir release {incident} --reason ..." in table
    assert "\x1b" not in table


def test_investigate_gives_the_fields_of_the_article(data: Path) -> None:
    incident = _incident(data)
    found = json.loads(_run("investigate", incident, "--data", data, "--format", "json"))
    assert list(found)[:6] == ["incident_id", "agent_id", "alert", "timeline", "affected_tools", "recommended_actions"]
    assert found["initial_compromise"]["tool"] == "read_ticket"
    assert found["actions"][0]["steps"]
    assert "customers.example" not in json.dumps(found)
    assert json.loads(_run("investigate", incident, "--data", data, "--format", "ndjson")) == found
    table = _run("investigate", incident, "--data", data)
    assert "The agent was contained" in table
    assert "audit@collector.example" in table
    assert "\x1b" not in table


def test_postmortem_writes_three_files_and_keeps_what_people_wrote(data: Path, tmp_path: Path) -> None:
    incident, out = _incident(data), tmp_path / "reports"
    told = json.loads(_run("postmortem", incident, "--data", data, "--out", out, "--format", "json"))
    assert [Path(file).name for file in told["files"]] == [f"{incident}.{form}" for form in ("md", "html", "json")]
    assert "summary" in told["to_fill_in"]
    before = {path: path.read_bytes() for path in out.iterdir()}
    _run("postmortem", incident, "--data", data, "--out", out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    markdown = out / f"{incident}.md"
    markdown.write_text(markdown.read_text(encoding="utf-8").replace("(not written yet)", "We were lucky.", 1), encoding="utf-8")
    again = json.loads(_run("postmortem", incident, "--data", data, "--out", out, "--format", "ndjson"))
    assert "summary" not in again["to_fill_in"]
    assert all("We were lucky." in path.read_text(encoding="utf-8") for path in out.iterdir())


def test_evidence_that_is_not_flushed_is_said(data: Path, tmp_path: Path) -> None:
    incident = _incident(data)
    found = json.loads(_run("investigate", incident, "--data", data, "--evidence", tmp_path / "none", "--format", "json"))
    assert "nothing was flushed yet" in found["notes"][0]
    assert found["initial_compromise"] is None
    done = RUN.invoke(
        app, ["postmortem", incident, "--data", str(data), "--evidence", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    )
    assert "incomplete:" in done.output


def test_it_works_while_a_server_has_everything_open(data: Path) -> None:
    book, store = Ledger.open(f"sqlite:///{data}/ledger.db"), EvidenceStore.open(str(data / "evidence"))
    store.append(frame([call(9, 9, "send_email", {"to": "later@b.example"}, "sent")]), PATCH_SCHEMA.to_frame(), 9)  # not flushed yet
    with book._database.write():
        found = json.loads(_run("investigate", book.incidents()[0].incident_id, "--data", data, "--format", "json"))
    assert found["timeline"]["total_events"] == 4
    store.close()
    book.close()


@pytest.mark.parametrize("command", ["incidents", "investigate", "postmortem"])
def test_what_is_wrong_is_said_with_a_way_out(command: str, data: Path, tmp_path: Path) -> None:
    unknown = RUN.invoke(app, [command, "INC-none", "--data", str(data)])
    assert unknown.exit_code == 1
    assert "`otel-ir incidents` lists them" in unknown.output
    nowhere = RUN.invoke(app, [command, "INC-none", "--data", str(tmp_path / "nowhere")])
    assert nowhere.exit_code == 1
    assert "--data" in nowhere.output
    help_text = RUN.invoke(app, [command, "--help"]).output
    assert "Example" in help_text
