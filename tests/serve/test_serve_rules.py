"""Rules reload without a restart; a broken file is reported and the last good set stays, also over a restart."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from real.processes import OTEL_IR, Server, alerts, otel_ir_serving, until
from serve.bursts import BURST, calls, identity
from serve.spans import tool_request

RULE = """title: {tool} was called
id: 7d5f8f0a-3f0e-4f5e-9d0c-0000000000{number:02d}
name: called_{tool}
status: test
level: high
logsource: {{product: opentelemetry, category: ai_agent, service: tool_call}}
detection:
  selection: {{gen_ai.tool.name: {tool}}}
  condition: selection
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "one.yml").write_text(RULE.format(tool="alpha", number=1))
    return folder


def _call(server: Server, tool: str) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        TraceServiceStub(channel).Export(tool_request(f"calls-{tool}", tool=tool, body="")[0], timeout=10)


def _signals(server: Server) -> set[str]:
    return {alert["otel_ir.alert.signal"] for alert in alerts(server.data)}


def test_rules_reload_and_a_broken_file_leaves_the_last_good_set(tmp_path: Path, rules: Path) -> None:
    with otel_ir_serving(tmp_path / "data", "--rules", str(rules)) as server:
        _call(server, "alpha")
        until(lambda: _signals(server) == {"called_alpha"}, what="the first rule")
        (rules / "two.yml").write_text(RULE.format(tool="beta", number=2).replace("condition:", "conditoin:"))
        until(lambda: "two.yml:" in server.running.text(), what="the report of the broken file")
        _call(server, "beta")
        (rules / "two.yml").write_text(RULE.format(tool="gamma", number=2))
        until(lambda: "rules reloaded" in server.running.text(), what="the reload")
        _call(server, "gamma")
        until(lambda: _signals(server) == {"called_alpha", "called_gamma"}, what="the new rule")


def test_a_restart_with_broken_rules_goes_on_with_the_last_good_set(tmp_path: Path, rules: Path) -> None:
    with otel_ir_serving(tmp_path / "data", "--rules", str(rules)):
        pass
    (rules / "one.yml").write_text("detection: [")
    with otel_ir_serving(tmp_path / "data", "--rules", str(rules)) as server:
        assert "the last good set stays active" in server.running.text()
        _call(server, "alpha")
        until(lambda: _signals(server) == {"called_alpha"}, what="the last good rule")


def test_a_first_start_with_broken_rules_says_where_and_ends(tmp_path: Path, rules: Path) -> None:
    (rules / "one.yml").write_text(RULE.format(tool="alpha", number=1).replace("level:", "levle:"))
    done = subprocess.run(
        [OTEL_IR, "serve", "--data", tmp_path / "data", "--rules", rules], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"{rules / 'one.yml'}:5" in done.stderr
    assert "level" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with otel_ir_serving(tmp_path / "data") as server:
        done = subprocess.run(
            [OTEL_IR, "serve", "--data", tmp_path / "other", "--grpc", server.grpc], capture_output=True, text=True, timeout=60, check=False
        )
        again = subprocess.run(
            [OTEL_IR, "serve", "--data", server.data, "--grpc", "127.0.0.1:0"], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert server.grpc.rpartition(":")[2] in done.stderr
    assert "Traceback" not in done.stderr
    assert again.returncode == 1
    assert "Traceback" not in again.stderr


def test_a_half_filled_window_outlives_a_reload_and_a_broken_file(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "kept.yml").write_text(BURST.format(tool="search", number=1, limit=4))
    (folder / "changed.yml").write_text(BURST.format(tool="fetch", number=2, limit=4))
    with otel_ir_serving(tmp_path / "data", "--rules", str(folder)) as server, grpc.insecure_channel(server.grpc) as channel:
        export = TraceServiceStub(channel).Export
        for tool in ("search", "fetch"):
            export(calls("one", tool=tool, number=3), timeout=10)
        (folder / "changed.yml").write_text(BURST.format(tool="fetch", number=2, limit=4).replace("level: high", "levle: high"))
        until(lambda: "changed.yml:5" in server.running.text(), what="the report of the broken file, with its line")
        assert "the last good set stays active" in server.running.text()
        export(calls("one", tool="search", number=1, first=3), timeout=10)
        (folder / "changed.yml").write_text(BURST.format(tool="fetch", number=2, limit=3))
        until(lambda: "rules reloaded" in server.running.text(), what="the reload")
        assert not alerts(server.data)
        # The fifth call: four of them came before the reload. The changed rule begins anew, and asks for four.
        export(calls("one", tool="search", number=1, first=4), timeout=10)
        export(calls("one", tool="fetch", number=3, first=3), timeout=10)
        until(lambda: _signals(server) == {"burst_search"}, what="the alert of the window that was half full")
        (alert,) = alerts(server.data)
        assert alert["span_id"] == identity("one/search/4", 8).hex()
        assert len(alert["contributing_span_ids"]) == 5
        export(calls("one", tool="fetch", number=1, first=6), timeout=10)
        until(lambda: _signals(server) == {"burst_search", "burst_fetch"}, what="the alert of the changed rule")
        fetched = next(one for one in alerts(server.data) if one["otel_ir.alert.signal"] == "burst_fetch")
        assert fetched["contributing_span_ids"] == [identity(f"one/fetch/{at}", 8).hex() for at in (3, 4, 5, 6)]
