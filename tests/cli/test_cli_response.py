"""``contain``, ``release``, ``preflight``, ``actions``, ``incidents``: exit statuses, what scripts read, what people are told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from respond.lever import Lever
from respond.life import Life, make_alert
from typer.testing import CliRunner

from otel_ir.cli import app
from otel_ir.cli.output import with_detail
from otel_ir.store import AgentRow

POLICY = "verify: {within: 0.2, recheck: 1, stale: 2}\nttl: 100\nwatch: 50\nsafety: {protected: ['pay/*']}\n"
AGENT = "helpdesk/agent-1"
ACTION = {
    "action_id", "alert_id", "verb", "adapter", "target", "mode", "state", "attempts", "requested_at", "dispatched_at", "finished_at",
    "applied_at", "verified_at", "checked_at", "ended_at", "expires_at", "detail", "incident_id", "cause", "reason", "let_go",
}  # fmt: skip
INCIDENT = {
    "incident_id", "otel_ir.agent.id", "state", "agent.threat.detection.severity", "title", "service.name", "otel_ir.tenant", "drill",
    "opened_at", "last_alert_at", "contained_at", "recovering_at", "watch_until", "closed_at",
}  # fmt: skip
WHOLE_INCIDENT = (INCIDENT - {"last_alert_at"}) | {"alerts", "actions", "log", "next", "left_out"}


class Place:
    """A data folder, and a response at work in it where ``serve`` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.life = folder, Life(folder, POLICY)

    def serve(self, *levers: Lever, **more: Any) -> None:
        self.responder = self.life.start(*levers, **more)
        (self.folder / "serve.json").write_text(json.dumps({"pid": os.getpid(), "grpc": "", "http": ""}))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--data", str(self.folder)])

    def json(self, *arguments: str, status: int = 0) -> Any:
        done = self.run(*arguments, "--format", "json")
        assert done.exit_code == status, done.output
        rows = json.loads(done.stdout)
        lines = self.run(*arguments, "--format", "ndjson") if arguments[0] in ("actions", "incidents") else None
        if lines is not None:
            given = [json.loads(line) for line in lines.stdout.splitlines()]
            # What holds is checked again each second, so also between the two calls.
            same, these = ([one | {"checked_at": None} for one in found] for found in (given, rows if isinstance(rows, list) else [rows]))
            assert same == these, "NDJSON is the same, one object a line"
        return rows

    @property
    def incident(self) -> str:
        (row,) = self.life.ledger.incidents()
        return row.incident_id


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.life.close()


@pytest.mark.parametrize("command", ["contain", "release", "preflight", "drill", "actions", "incidents", "alerts"])
def test_help_has_an_example(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert "Example" in done.stdout
    assert f"otel-ir {command}" in done.stdout


@pytest.mark.parametrize("arguments", [
    ["contain"], ["contain", AGENT], ["contain", AGENT, "--reason"], ["release"], ["release", "INC-1"], ["drill", "--count", "0"],
    ["actions", "--limit", "0"], ["incidents", "--format", "yaml"], ["preflight", "--wait", "-1"], ["drill", "--bad"],
])  # fmt: skip
def test_wrong_usage_is_status_2(place: Place, arguments: list[str]) -> None:
    assert place.run(*arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [
    ["contain", AGENT, "--reason", "x"], ["release", "INC-1", "--reason", "x"], ["preflight"], ["actions"], ["incidents"],
])  # fmt: skip
def test_without_a_ledger_it_says_where_one_was_looked_for(tmp_path: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path / "nothing")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "there is no ledger: give the folder of `otel-ir serve` with --data" in done.stderr
    assert not (tmp_path / "nothing").exists(), "and none is made"


def test_without_a_server_an_order_waits(place: Place) -> None:
    for arguments in (["contain", AGENT, "--reason", "odd"], ["preflight"]):
        done = place.run(*arguments, "--wait", "0")
        assert (done.exit_code, done.stdout) == (1, "")
        assert "no server runs with" in done.stderr
        assert "otel-ir serve" in done.stderr
    done = place.run("drill")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no server runs with" in done.stderr
    assert place.life.ledger.drills() == []
    place.serve()
    place.life.settled("verified")  # it was written down


def test_contain_and_release(place: Place) -> None:
    place.serve()
    done = place.run("contain", AGENT, "--reason", "odd mails", "--by", "ann", "--verb", "revoke_tools")
    assert done.exit_code == 0, done.output
    assert f"{place.incident}: {AGENT} is contained: 1 of 1 steps verified" in done.stderr
    assert f"otel-ir release {place.incident} --reason" in done.stderr
    assert "verified" in done.stdout

    (row,) = place.json("contain", AGENT, "--reason", "again", "--verb", "revoke_tools")
    assert set(row) == ACTION
    assert (row["state"], row["cause"], row["reason"]) == ("verified", "person", "odd mails (ann)"), "it is in force already: asked once"
    assert [what for what, _, _ in place.life.system.asked] == ["apply"]

    (row,) = place.json("release", place.incident, "--reason", "prompt fixed", "--by", "bob")
    assert set(row) == ACTION
    assert row["state"] == "released"
    assert (row["let_go"]["by"], row["let_go"]["reason"], row["let_go"]["to"]) == ("bob", "prompt fixed", "released")
    done = place.run("release", place.incident, "--reason", "twice")
    assert done.exit_code == 0
    assert "nothing was in force" in done.stderr


def test_one_action_is_let_go_of_and_the_others_hold(place: Place) -> None:
    place.serve()
    rows = place.json("contain", AGENT, "--reason", "odd", "--verb", "revoke_tools", "--verb", "pause_agent")
    assert [row["verb"] for row in rows] == ["revoke_tools", "pause_agent"]
    (row,) = place.json("release", rows[0]["action_id"], "--reason", "needed")
    assert (row["verb"], row["state"]) == ("revoke_tools", "released")
    assert {row["verb"]: row["state"] for row in place.json("actions")} == {"revoke_tools": "released", "pause_agent": "verified"}
    assert place.json("incidents")[0]["state"] == "contained"


def _seen(place: Place, *agents: str, tenant: str = "") -> None:
    common: dict[str, Any] = {
        "tenant": tenant,
        "name": None,
        "fingerprint": None,
        "models": (),
        "tools": (),
        "first_seen": 1,
        "last_seen": 1,
    }
    place.life.ledger.saw_agents([AgentRow(agent_id=one, service=one.partition("/")[0], **common) for one in agents])


@pytest.mark.parametrize(("agent", "hint"), [
    ("helpdesk/triag", "did you mean helpdesk/triage, helpdesk/triage-2?"),
    ("helpdesc/triage", "did you mean helpdesk/triage, helpdesk/triage-2?"),
    ("triage", "did you mean helpdesk/triage?"),
    ("pay/roll", "`otel-ir agents` lists those that were"),
    ("acme/bot", "it was, as one of tenant 'acme': --tenant acme"),
])  # fmt: skip
def test_an_agent_that_was_never_seen_is_warned_of_and_contained_in_advance(place: Place, agent: str, hint: str) -> None:
    _seen(place, "helpdesk/triage", "helpdesk/triage-2", "shop/basket\x1b[2K")
    _seen(place, "acme/bot", tenant="acme")
    done = place.run("contain", agent, "--reason", "odd", "--wait", "0")
    first, *_ = done.stderr.splitlines()
    assert first == f"warning: {agent} was never seen; {hint}"
    assert done.exit_code == 1, "no server takes the order; the warning changes nothing"
    assert place.life.ledger.find_order(1) is not None


def test_an_agent_that_was_seen_is_not_warned_of(place: Place) -> None:
    place.serve()
    _seen(place, AGENT)
    assert "warning" not in place.run("contain", AGENT, "--reason", "odd").stderr
    place.life.alert(place.responder, make_alert(2))  # known by its alert, not in the roster yet
    assert "warning" not in place.run("contain", "helpdesk/agent-2", "--reason", "odd").stderr


@pytest.mark.parametrize(("agent", "more", "message"), [
    (AGENT, ["--verb", "explode"], "no such step: explode"),
    ("helpdesk", [], "'helpdesk' is not service/agent"),
    ("pay/roll", [], "refused: pay/roll is protected by 'pay/*'"),
])  # fmt: skip
def test_what_cannot_be_contained(place: Place, agent: str, more: list[str], message: str) -> None:
    place.serve()
    done = place.run("contain", agent, "--reason", "odd", *more)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert not place.life.actions()


def test_what_is_not_proven_is_not_called_contained(place: Place) -> None:
    place.serve(Lever(place.life.system, check=""))
    done = place.run("contain", AGENT, "--reason", "odd", "--verb", "revoke_tools", "--format", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["state"] == "unverified"
    assert "is NOT known to be contained: no step is verified" in done.stderr
    assert "is contained" not in done.stderr


def test_nobody_can_do_it(place: Place) -> None:
    place.serve(Lever(place.life.system, "revoke_tools"))
    done = place.run("contain", AGENT, "--reason", "odd", "--verb", "isolate_network")
    assert done.exit_code == 1
    assert "no adapter can do isolate_network" in done.stderr


def test_a_dry_run_contains_nobody(place: Place) -> None:
    place.serve(enforce=False)
    done = place.run("contain", AGENT, "--reason", "odd", "--verb", "revoke_tools", "--format", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["state"] == "dry_run"
    assert "NOT known to be contained" in done.stderr


def test_the_detail_of_a_dry_run_is_an_object_in_json_and_text_in_a_table(place: Place) -> None:
    place.serve(enforce=False)
    done = place.run("contain", AGENT, "--reason", "odd", "--verb", "revoke_tools", "--format", "json")
    (row,) = place.json("actions")
    assert set(row["detail"]) == {"why", "would_send"}
    assert json.loads(done.stdout)[0]["detail"] == row["detail"]
    one = place.json("incidents", place.incident)["actions"][0]
    assert one["detail"] == one["steps"][-1]["detail"] == row["detail"]
    for table in (place.run("actions").stdout, place.run("incidents", place.incident).stdout):
        assert '{"why"' in table


def test_the_detail_of_what_was_done_is_text_whatever_it_looks_like(place: Place) -> None:
    row = {"state": "failed", "detail": '{"from": "the target"}'}
    assert with_detail(row) == row
    assert with_detail({"state": "dry_run", "detail": "{cut …"}) == {"state": "dry_run", "detail": "{cut …"}


def test_a_target_that_does_not_let_go(place: Place) -> None:
    place.serve()
    assert place.run("contain", AGENT, "--reason", "odd", "--verb", "revoke_tools").exit_code == 0
    place.life.system.mood = "refuse"
    done = place.run("release", place.incident, "--reason", "fixed")
    assert done.exit_code == 1
    assert "1 steps are NOT known to be let go of" in done.stderr


def test_an_unknown_incident(place: Place) -> None:
    for arguments in (["release", "INC-0", "--reason", "x"], ["incidents", "INC-0"]):
        done = place.run(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "there is no" in done.stderr
        assert "otel-ir incidents" in done.stderr
    assert place.json("actions", "--incident", "INC-0") == []


def test_incidents_and_actions(place: Place) -> None:
    assert place.json("incidents") == place.json("actions") == []
    place.serve()
    place.life.alert(place.responder, make_alert(), make_alert(2))
    rows = place.json("incidents")
    assert [set(row) for row in rows] == [INCIDENT, INCIDENT]
    assert {row["otel_ir.agent.id"] for row in rows} == {AGENT, "helpdesk/agent-2"}
    assert {row["state"] for row in rows} == {"contained"}
    assert len(place.json("incidents", "--limit", "1")) == 1
    (action,) = place.json("actions", "--incident", rows[0]["incident_id"])
    assert set(action) == ACTION | {"agent"}
    assert action["agent"] == rows[0]["otel_ir.agent.id"] == action["target"]["otel_ir.agent.id"]
    assert action["requested_at"].endswith("Z")
    assert len(place.json("actions")) == 2

    one = place.json("incidents", rows[0]["incident_id"])
    assert set(one) == WHOLE_INCIDENT
    assert [step["state"] for step in one["actions"][0]["steps"]] == ["requested", "dispatched", "applied", "verified"]
    assert f"otel-ir release {rows[0]['incident_id']} --reason ..." in one["next"]
    table = place.run("incidents", rows[0]["incident_id"]).stdout
    assert "contained" in table
    assert "Actions, step by step" in table


def test_preflight(place: Place) -> None:
    place.serve(Lever(place.life.system, "revoke_tools"))
    (row,) = place.json("preflight")
    assert row.pop("seconds") >= 0
    assert row == {
        "adapter": "lever", "type": "lever", "verbs": ["revoke_tools"], "ready": True, "detail": "obey",
        "reversible": True, "verifiable": True,
    }  # fmt: skip
    done = place.run("preflight")
    assert done.exit_code == 0
    assert "no adapter can do read_only_tools, which a playbook asks for" in done.stderr
    assert "last drill: never (otel-ir drill)" in done.stderr
    place.life.system.mood = "gone"
    done = place.run("preflight")
    assert done.exit_code == 1
    assert "not ready: lever" in done.stderr


def test_preflight_says_that_nothing_would_be_done(place: Place) -> None:
    place.serve(enforce=False)
    done = place.run("preflight")
    assert done.exit_code == 0
    assert "otel_ir is not enforcing" in done.stderr
