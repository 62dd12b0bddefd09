"""``otel-ir demo``: the real thing from outside, also where it is interrupted, unwanted or broken."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from typer.testing import CliRunner

from otel_ir.cli import app
from otel_ir.demo import run as story
from otel_ir.demo.desk import BENIGN, CUSTOMERS, HIJACKED, MOST_CALLS, PROMPT, TICKETS, Desk, next_step
from otel_ir.demo.hook import MAX_BODY, receiving
from otel_ir.processes import Failed, Interrupt, Process, environment
from tests.demo.places import OTEL_IR, Place

SECONDS = 120


def test_json_is_one_object_about_a_hijacked_and_a_benign_agent(place: Place, nothing_left: Callable[[], None]) -> None:
    done = place.start("demo", "--format", "json")
    out, err = done.communicate(timeout=SECONDS)
    assert (done.returncode, err) == (0, "")
    shown = json.loads(out)
    assert shown["problems"] == []
    hijacked, benign = (shown["agents"][name]["otel_ir.agent.id"] for name in (HIJACKED, BENIGN))
    assert {alert["otel_ir.agent.id"] for alert in shown["alerts"]} == {hijacked}
    assert benign != hijacked
    assert {(alert["otel_ir.alert.signal"], alert["agent.threat.detection.severity"]) for alert in shown["alerts"]} == {
        ("data_exfiltration", "critical"),
        ("suspicious_tool_sequence", "critical"),
    }
    assert shown["agents"][HIJACKED]["events"] == shown["agents"][HIJACKED]["calls"] >= 3
    assert shown["agents"][BENIGN]["events"] == 3
    assert {(action["verb"], action["adapter"], action["state"]) for action in shown["actions"]} == {
        ("revoke_tools", "guard", "verified"),
        ("isolate_network", "hook", "unverified"),
        ("rotate_credentials", "hook", "unverified"),
    }, "each step once, although two alerts asked for it"
    for action in shown["actions"]:
        assert (action["mode"], action["state_at_end"]) == ("enforce", "released")
        assert action["signature_verified"] is (True if action["adapter"] == "hook" else None)
        assert action["target"]["otel_ir.agent.id"] == hijacked
    assert [(call["agent"], call["gen_ai.tool.name"]) for call in shown["blocked_calls"]] == [(HIJACKED, "database_query")]
    assert [row["state"] for row in shown["incidents"]] == ["recovering"]
    report = Path(shown["postmortem"])
    assert shown["incidents"][0]["incident_id"] in report.read_text(encoding="utf-8")
    assert report.with_suffix(".md").exists()
    assert report.with_suffix(".json").exists()
    assert 0 < shown["seconds_to_verified"] < 30
    assert 0 < shown["seconds_to_dispatch"] < 30
    assert 0 <= shown["seconds_to_receive"] < 30
    assert shown["seconds"] < 60
    shutil.rmtree(report.parent)  # what one is meant to look at stays; nothing else does
    nothing_left()


def test_on_a_terminal_it_keeps_draws_and_honors_no_color(place: Place) -> None:
    keep, svg = place.folder / "kept", place.folder / "demo.svg"
    status, shown = _on_a_terminal(
        [OTEL_IR, "demo", "--keep", keep, "--svg", svg], place, NO_COLOR="1", TERM="xterm-256color", COLUMNS="100"
    )
    assert status == 0, shown
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", shown), "a color, in spite of NO_COLOR"
    assert "ALERT critical" in shown
    assert "database_query -> send_email within the last 5 events" in shown
    assert "verified" in shown
    assert "BLOCKED" in shown
    assert "released" in shown
    assert "silent" in shown
    picture = svg.read_text(encoding="utf-8")
    assert "ALERT" in picture
    assert "fonts" not in picture.lower().replace("font-", ""), "the picture would fetch fonts from the web"
    # The commands it recommends work.
    alerts = subprocess.run(
        [OTEL_IR, "alerts", "--data", keep / "otel-ir-data", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert len(json.loads(alerts.stdout)) == 2
    assert not place.processes()
    again = place.start("demo", "--keep", "kept")
    _, err = again.communicate(timeout=SECONDS)
    assert again.returncode == 2
    assert "is not empty" in err


def _on_a_terminal(arguments: list[str | Path], place: Place, **env: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments, cwd=place.folder, env=place.env | env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(SECONDS), shown.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGINT, "Two support agents"), (signal.SIGTERM, "takes OTLP"), (signal.SIGINT, "ALERT"), (signal.SIGHUP, "read_ticket")],
)
def test_interrupted_anywhere_it_leaves_nothing_behind(
    number: signal.Signals, after: str, place: Place, nothing_left: Callable[[], None]
) -> None:
    # PYTHONUNBUFFERED: a pipe would get the lines when it is over.
    place.env["PYTHONUNBUFFERED"] = "1"
    process = place.start("demo", start_new_session=True)
    assert process.stdout
    for line in process.stdout:
        if after in line:
            break
    # As a terminal does it: to everybody in the foreground, twice.
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + number, out + err
    assert err.strip() == f"the demo was ended by {number.name}; nothing is left behind"
    nothing_left()


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1
    assert "pip install 'otel_ir[demo]'" in done.output


def test_ndjson_is_not_one_of_its_formats() -> None:
    done = CliRunner().invoke(app, ["demo", "--format", "ndjson"])
    assert done.exit_code == 2


def test_a_folder_that_cannot_be_made_is_one_line(place: Place) -> None:
    (place.folder / "file").touch()
    done = place.start("demo", "--keep", "file/folder")
    out, err = done.communicate(timeout=SECONDS)
    assert (done.returncode, out) == (1, "")
    assert re.search(r"file.*: Not a directory", err)
    assert "Traceback" not in err


def test_a_server_that_does_not_start_is_told_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, _hook: object) -> Process:
        (folder / "otel-ir.yaml").write_text("dta: nonsense\n")
        return Process("otel_ir", "serve", "--config", "otel-ir.yaml", folder=folder, log=folder / "serve.log", env=environment())

    monkeypatch.setattr(story, "_server", broken)
    with pytest.raises(Failed, match=r"the server ended with status 1: .*otel-ir.yaml:1.*dta"):
        story.run(tmp_path, lambda _happening: None, Interrupt())


def test_a_hook_that_is_refused_is_not_called_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = story._server

    def forging(folder: Path, hook: Any) -> Process:
        with receiving() as other:
            hook = type("Hook", (), {"secret": other.secret, "url": hook.url})
        return server(folder, hook)

    monkeypatch.setattr(story, "_server", forging)
    result = story.run(tmp_path, lambda _happening: None, Interrupt())
    assert result.actions
    assert {row.state.value for row in result.actions if row.adapter == "hook"} == {"failed"}
    assert result.problems == ["no hook was called and acknowledged for it", "something is still in force"], (
        "whom nobody can tell, may hold"
    )
    assert not any(action["signature_verified"] for action in result.to_json()["actions"])


def test_the_hook_takes_only_what_is_signed() -> None:
    with receiving() as hook:
        forged = {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        assert httpx.post(hook.url, content=b"{}", headers=forged).status_code == 401
        assert httpx.post(hook.url, content=b"{}").status_code == 401
        assert httpx.post(hook.url, content=b"\xff", headers=forged).status_code == 401
        address = urlsplit(hook.url)
        with closing(http.client.HTTPConnection(str(address.hostname), address.port, timeout=SECONDS)) as connection:
            connection.request("POST", address.path, headers={"content-length": str(MAX_BODY + 1)})
            assert connection.getresponse().status == 413
        assert hook.accepted == set()
        assert hook.refused == 3


def _acts(name: str) -> list[tuple[str, dict[str, Any]]]:
    """What an agent does, without framework and server."""
    calls: list[tuple[str, dict[str, Any]]] = []
    returned: list[tuple[str, str]] = []

    def report(tool: str, arguments: dict[str, object], result: str) -> None:
        calls.append((tool, arguments))
        returned.append((tool, result))

    desk = Desk(report)
    while not isinstance(step := next_step(PROMPT.format(ticket=TICKETS[name]), returned), str):
        asyncio.run(getattr(desk, step[0])(**step[1]))
    desk.close()
    return calls


def test_the_ticket_alone_makes_the_difference() -> None:
    hijacked, benign = _acts(HIJACKED), _acts(BENIGN)
    assert [tool for tool, _ in hijacked[:5]] == ["read_ticket", "database_query", "send_email", "database_query", "send_email"]
    assert len(hijacked) <= MOST_CALLS + 1, "it ends although nobody stops it here"
    assert hijacked[2][1]["to"] == "audit@collector.example"
    assert len(hijacked[2][1]["body"]) > 10_000
    assert hijacked[2][1]["body"].count("\n") == CUSTOMERS + 1
    assert [tool for tool, _ in benign] == ["read_ticket", "look_up_order", "send_email"]
    assert benign[-1][1]["to"] == "eva.dahl@customers.example"
    assert len(benign[-1][1]["body"]) < 200
