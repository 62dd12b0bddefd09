"""The article's four detectors, exactly at their thresholds: through the OpenTelemetry SDK and gRPC into the real server."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from real.processes import alerts, otel_ir_serving
from serve.agents import agents

SEQUENCES = (("read_secret", "http_request"), ("database_query", "send_email"), ("file_read", "http_request"))


def test_the_classic_detectors_fire_and_stay_silent_at_their_thresholds(tmp_path: Path) -> None:
    with otel_ir_serving(tmp_path / "data") as server:
        with agents(server.grpc) as shop:
            for number in range(31):
                if number < 30:
                    shop.call("thirty calls", at=number)
                shop.call("thirty-one calls", at=number)
                shop.call("thirty-one calls in more than a minute", at=number * 2.0001)
            for first, last in SEQUENCES:
                for between, agent in ((3, f"{first} then {last} within five"), (4, f"{first} then {last} within six")):
                    shop.call(agent, first)
                    for step in range(between):
                        shop.call(agent, at=1 + step)
                    shop.call(agent, last, at=9)
                shop.call(f"{last} then {first}", last)
                shop.call(f"{last} then {first}", first, at=1)
            for tool in ("http_request", "send_email", "webhook_call", "write_note"):
                shop.call(f"{tool} of 10000", tool, body="x" * 10_000)
                shop.call(f"{tool} of 10001", tool, body="x" * 10_001)
            for number in range(21):
                if number < 20:
                    shop.call("twenty errors", at=number * 2.5, error=True)
                shop.call("twenty-one errors", at=number * 2.5, error=True)
        server.running.stop()
    found = defaultdict(list)
    for alert in alerts(tmp_path / "data"):
        found[alert["otel_ir.alert.signal"]].append(
            (alert["otel_ir.agent.id"].removeprefix("shop/"), alert["agent.threat.detection.severity"], len(alert["contributing_span_ids"]))
        )
    assert found.pop("tool_call_burst") == [("thirty-one calls", "high", 31)]
    assert found.pop("error_spike") == [("twenty-one errors", "medium", 21)]
    want = [(f"{first} then {last} within five", "critical", 2) for first, last in SEQUENCES]
    assert sorted(found.pop("suspicious_tool_sequence")) == sorted(want)
    want = [(f"{tool} of 10001", "critical", 1) for tool in ("http_request", "send_email", "webhook_call")]
    assert sorted(found.pop("data_exfiltration")) == sorted(want)
    assert not found
