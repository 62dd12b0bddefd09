"""``otel-ir agents``: the inventory, out of a ledger and out of captures."""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from otel_ir.cli import app
from otel_ir.store import AgentRow, Ledger

CAPTURES = Path(__file__).parent.parent / "captures"
DAY = 86_400_000_000_000
NOON = 1_767_268_800_000_000_000
KEYS = [
    "otel_ir.agent.id", "service.name", "gen_ai.agent.name", "otel_ir.tenant", "dialects", "tools", "models", "system_prompt",
    "first_seen", "last_seen", "events", "conversations",
]  # fmt: skip
run = CliRunner().invoke


def _rows(*arguments: str) -> list[dict[str, Any]]:
    done = run(app, ["agents", *arguments, "--format", "ndjson"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        common: dict[str, Any] = {"tenant": "", "name": "triage", "fingerprint": "f" * 64, "models": ("m1",), "first_seen": NOON - DAY}
        ledger.saw_agents([
            AgentRow(agent_id="helpdesk/triage", service="helpdesk", tools=("read",), last_seen=NOON, dialects=("otel_genai",), **common),
            AgentRow(agent_id="pay/triage", service="pay", tools=(), last_seen=NOON - 2 * DAY, **common),
            AgentRow(agent_id="helpdesk/triage", service="helpdesk", tools=("write",), last_seen=NOON + 1, dialects=("http",), **common),
        ])  # fmt: skip
    return tmp_path


def test_the_ledgers_inventory_last_seen_first(data: Path) -> None:
    rows = _rows("--data", str(data))
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert rows[0] == {
        "otel_ir.agent.id": "helpdesk/triage", "service.name": "helpdesk", "gen_ai.agent.name": "triage", "otel_ir.tenant": "",
        "dialects": ["http", "otel_genai"], "tools": ["read", "write"], "models": ["m1"], "system_prompt": "f" * 64,
        "first_seen": "2025-12-31T12:00:00.000000000Z", "last_seen": "2026-01-01T12:00:00.000000001Z",
        "events": None, "conversations": None,
    }  # fmt: skip
    assert [row["otel_ir.agent.id"] for row in rows] == ["helpdesk/triage", "pay/triage"]
    assert len(_rows("--data", str(data), "--limit", "1")) == 1
    assert "the 1 that were last seen" in run(app, ["agents", "--data", str(data), "--limit", "1"]).stderr
    assert "last seen;" not in run(app, ["agents", "--data", str(data)]).stderr


@pytest.mark.parametrize(("filters", "found"), [
    (["--service", "pay"], ["pay/triage"]),
    (["--since", "2026-01-01T12:00:00Z"], ["helpdesk/triage"]),
    (["--since", "2025-12-01"], ["helpdesk/triage", "pay/triage"]),
    (["--since", "1s"], []),
    (["--service", "nobody"], []),
])  # fmt: skip
def test_filters(data: Path, filters: list[str], found: list[str]) -> None:
    assert [row["otel_ir.agent.id"] for row in _rows("--data", str(data), *filters)] == found


def test_nothing_to_show_is_said_and_is_no_failure(data: Path, tmp_path: Path) -> None:
    done = run(app, ["agents", "--data", str(data), "--service", "nobody"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no agent that fits was seen" in done.stderr
    assert json.loads(run(app, ["agents", "--data", str(data), "--service", "nobody", "--format", "json"]).stdout) == []
    Ledger.open(f"sqlite:///{tmp_path / 'empty' / 'ledger.db'}").close()
    done = run(app, ["agents", "--data", str(tmp_path / "empty")])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no agent was seen yet: send your agents' OTLP to `otel-ir serve`" in done.stderr


class _Metrics(BaseHTTPRequestHandler):
    said = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name it has there
        pass


@pytest.mark.parametrize(("said", "told"), [
    ("otel_ir_events_unnamed 12.0\notel_ir_services_unnamed 2.0\n", "not listed yet: 12 events of 2 services still wait for the name"),
    ("otel_ir_events_unnamed 1.0\notel_ir_services_unnamed 1.0\n", "not listed yet: 1 event of 1 service still wait for the name"),
    ("otel_ir_events_unnamed 0.0\notel_ir_services_unnamed 0.0\n", ""),
    ("otel_ir_events_unnamed NaN\n", ""),
    ("", ""),
])  # fmt: skip
def test_who_waits_for_a_name_is_told_of_beside_a_server(data: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    monkeypatch.setattr(_Metrics, "said", said.encode())
    with HTTPServer(("127.0.0.1", 0), _Metrics) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        (data / "serve.json").write_text(json.dumps({"pid": os.getpid(), "grpc": "", "http": f"127.0.0.1:{server.server_port}"}))
        try:
            done = run(app, ["agents", "--data", str(data)])
            assert "no agent that fits" in run(app, ["agents", "--data", str(data), "--service", "nobody"]).stderr
            assert len(_rows("--data", str(data))) == 2, "what scripts read is only who is known"
        finally:
            server.shutdown()
            serving.join()
    assert done.exit_code == 0
    assert told in done.stderr
    assert bool(told) == bool(done.stderr)


def test_no_ledger_and_wrong_usage(tmp_path: Path, data: Path) -> None:
    done = run(app, ["agents", "--data", str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert "there is no ledger" in done.stderr
    done = run(app, ["agents", "--data", str(data), "--since", "yesterday"])
    assert done.exit_code == 2
    assert "90s, 15m, 6h or 7d" in done.stderr


def test_agents_of_files() -> None:
    capture = str(CAPTURES / "pydantic_ai_subagent_approval.json")
    rows = {row["gen_ai.agent.name"]: row for row in _rows(capture)}
    assert {"orchestrator", "research_agent"} <= set(rows)
    assert all(list(row) == KEYS and row["dialects"] == ["pydantic_ai"] and row["events"] > 0 for row in rows.values())
    assert "delegate" in rows["orchestrator"]["tools"]
    assert _rows(capture, "--service", "nobody") == []
    assert _rows(capture, "--since", "1s") == []
    assert len(_rows(capture, "--limit", "1")) == 1
    assert sum(row["conversations"] for row in rows.values()) >= 1


def test_conversations_are_counted_in_files(tmp_path: Path) -> None:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "gen_ai.conversation.id": "c1"}
    spans = [
        {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "execute_tool look", "attributes": [
            {"key": key, "value": {"stringValue": value}} for key, value in (said | more).items()
        ]}
        for number, more in enumerate([{}, {}, {"gen_ai.agent.name": "a"}, {"gen_ai.agent.name": "a", "gen_ai.conversation.id": "c2"}], 1)
    ]  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "desk"}}]}
    (tmp_path / "spans.json").write_text(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}))
    done = run(app, ["agents", str(tmp_path), "--format", "json"])
    assert [(row["otel_ir.agent.id"], row["events"], row["conversations"]) for row in json.loads(done.stdout)] == [
        ("desk/-", 2, 1), ("desk/a", 2, 2),
    ]  # fmt: skip


def test_the_table_has_no_colors_where_nobody_wants_them(data: Path) -> None:
    forced = run(app, ["agents", "--data", str(data)], env={"NO_COLOR": "1", "FORCE_COLOR": "1"}).stdout
    assert "\x1b[3" not in forced
    plain = run(app, ["agents", "--data", str(data)]).stdout
    assert "helpdesk/triage" in plain
    assert "2026-01-01T12:00:00Z" in plain
    assert "f" * 13 not in plain


def test_help_has_examples() -> None:
    done = run(app, ["agents", "--help"])
    assert "otel-ir agents --service helpdesk --since 24h" in done.stdout


def test_hostile_names_stay_in_their_line(tmp_path: Path) -> None:
    bad = ["\x1b[31mred", "a\nb/c  ok", "\x9b31mC1", "x" * 100_000, "\u202eevil", "z\u200bw", "\r\x1b[2K", "[bold]x[/bold]", "\U000e0041t"]
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        common: dict[str, Any] = {"tenant": "", "fingerprint": None, "models": (), "first_seen": NOON, "last_seen": NOON}
        tools = tuple(f"tool {number}" for number in range(30))
        ledger.saw_agents([AgentRow(agent_id=one, service=one, name=one, tools=(one, *tools), dialects=(), **common) for one in bad])
    table = run(app, ["agents", "--data", str(tmp_path)]).stdout
    for seen in ("\x1b", "\x9b", "\r", "\u202e", "\u200b", "\U000e0041", "x" * 300):
        assert seen not in table
    assert r"a\u000ab/c  ok" in table
    assert "[bold]x[/bold]" in table
    assert "and 11 more" in table.replace("\n", " ")
    rows = run(app, ["agents", "--data", str(tmp_path), "--format", "ndjson"]).stdout
    assert "\x9b" not in rows
    assert "\u202e" not in rows
    assert {"\x9b31mC1", "\u202eevil", "z\u200bw"} <= {json.loads(line)["otel_ir.agent.id"] for line in rows.splitlines()}


def test_a_narrow_terminal_gets_lines_instead_of_columns(data: Path) -> None:
    told = run(app, ["agents", "--data", str(data)], env={"FORCE_COLOR": "1", "COLUMNS": "60", "NO_COLOR": "1"}).stdout
    assert "  tools         read, write" in told
    assert "  first_seen    2025-12-31T12:00:00Z" in told
