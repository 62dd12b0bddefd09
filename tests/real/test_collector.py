"""The real OpenTelemetry Collector around otel_ir, with the configurations as shipped in collector-config/."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.real.agents import agent, call_tool, exfiltrate
from tests.real.collector import Collector, attributes, collecting, exported
from tests.real.processes import Server, alerts, free_port, otel_ir_serving, until

SHIPPED = Path(__file__).parents[2] / "collector-config"
EVENT = "agent.threat.detection"
CONTAINMENT, INCIDENT = "otel_ir.containment.changed", "otel_ir.incident.changed"
# Two steps as dry runs: nothing is held, and everything is told.
RESPONSE = "playbooks: {contain: [revoke_tools, pause_agent], restrict: [read_only_tools]}\nadapters: {inside: {type: guard}}\n"

# A backend that keeps what it gets, one file a signal.
BACKEND = """\
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
exporters:
  file/spans: {path: "${env:OUTPUT}/spans", flush_interval: 100ms}
  file/logRecords: {path: "${env:OUTPUT}/logRecords", flush_interval: 100ms}
  file/metrics: {path: "${env:OUTPUT}/metrics", flush_interval: 100ms}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [file/spans]}
    logs: {receivers: [otlp], exporters: [file/logRecords]}
    metrics: {receivers: [otlp], exporters: [file/metrics]}
"""


@contextmanager
def backend(program: Path, folder: Path) -> Iterator[str]:
    """A Collector that writes each signal into a file of its name in ``folder``; gives its OTLP/gRPC endpoint."""
    folder.mkdir()
    (folder / "backend.yaml").write_text(BACKEND)
    with collecting(program, folder / "backend.yaml", log=folder / "log", env={"OUTPUT": str(folder)}) as collector:
        yield collector.grpc["otlp"]


class Tee(NamedTuple):
    """Your Collector with the tee, otel_ir beside it, and a backend behind it (a folder with a file a signal)."""

    collector: Collector
    server: Server
    kept: Path


@contextmanager
def tee(program: Path, folder: Path, *, alerts_return_to_agents_receiver: bool = False) -> Iterator[Tee]:
    """The shipped pair of files, as the README says to use them; only endpoints are set, by the variables named in them."""
    kept = folder / "backend"
    come_in, come_back = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        behind = stack.enter_context(backend(program, kept))
        target = come_in if alerts_return_to_agents_receiver else come_back
        (folder / "response.yaml").write_text(RESPONSE)
        options = ("--export", f"http://{target}", "--response", str(folder / "response.yaml"))
        server = stack.enter_context(otel_ir_serving(folder / "data", *options))
        env = {
            "COLLECTOR_GRPC_ENDPOINT": come_in,
            "COLLECTOR_HTTP_ENDPOINT": "127.0.0.1:0",
            "OTEL_IR_RETURN_ENDPOINT": come_back,
            "OTEL_IR_ENDPOINT": server.grpc,
            "BACKEND_ENDPOINT": behind,
        }
        configs = (SHIPPED / "your-collector.yaml", SHIPPED / "tee.yaml")
        yield Tee(stack.enter_context(collecting(program, *configs, log=folder / "collector.log", env=env)), server, kept)


def counter(server: Server, name: str) -> float:
    """Sum of a counter over its series, as /metrics has it now."""
    lines = httpx.get(f"http://{server.http}/metrics").raise_for_status().text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}_total{{", f"{name}_total ")))


def test_an_alert_comes_back_into_the_collector_as_span_log_and_metric(collector_program: Path, tmp_path: Path) -> None:
    with tee(collector_program, tmp_path) as (collector, server, kept):
        with agent("shop", collector.grpc["otlp"]) as tracer:
            call_tool(tracer, "lookup_customer", {"email": "alice@example.com"})
            offending = exfiltrate(tracer)
        until(
            lambda: sum(scope == "otel_ir" for scope, _ in exported(kept / "spans", "spans")) >= 3,
            what="the spans of the alert and of two steps at the backend",
        )
        until(lambda: len(exported(kept / "logRecords", "logRecords")) >= 4, what="the logs of the alert, the incident and two steps")
        # Nothing of ours went through the pipelines that feed us, so there was nothing to drop.
        assert counter(server, "otel_ir_receive_own_dropped") == 0
        assert counter(server, "otel_ir_receive_rejected") == 0
        # Metrics go out every minute, and once more on the way down.
        assert server.running.stop() == 0
        counters = until(
            lambda: [metric for _, metric in exported(kept / "metrics", "metrics") if metric["name"] == "otel_ir.alerts"],
            what="the alert counter at the backend",
        )
    spans = exported(kept / "spans", "spans")
    assert sum(scope == "tests.agent" for scope, _ in spans) == 2, "the agent's own spans reach the backend, once each"
    ours = {span["name"]: span for scope, span in spans if scope == "otel_ir"}
    assert {span["parentSpanId"] for span in ours.values()} == {offending}
    span = ours.pop(f"{EVENT} data_exfiltration")
    assert set(ours) == {"agent.containment revoke_tools", "agent.containment pause_agent"}
    assert {attributes(step)["otel_ir.action.state"] for step in ours.values()} == {"dry_run"}
    ((event,), (link,)) = span["events"], span["links"]
    assert event["name"] == EVENT
    assert attributes(event)["agent.threat.detection.severity"] == "critical"
    assert link["spanId"] == offending
    logs = exported(kept / "logRecords", "logRecords")
    assert {scope for scope, _ in logs} == {"otel_ir"}
    assert sorted(log["eventName"] for _, log in logs) == [EVENT, CONTAINMENT, CONTAINMENT, INCIDENT]
    assert {log["spanId"] for _, log in logs if log["eventName"] != INCIDENT} == {offending}
    (log,) = [log for _, log in logs if log["eventName"] == EVENT]
    assert attributes(log)["otel_ir.alert.id"] == attributes(span)["otel_ir.alert.id"]
    (point,) = counters[-1]["sum"]["dataPoints"]
    assert int(point.get("asInt") or point["asDouble"]) == 1
    assert attributes(point)["severity"] == "critical"


def test_alerts_sent_into_the_agents_own_pipeline_do_not_loop(collector_program: Path, tmp_path: Path) -> None:
    with tee(collector_program, tmp_path, alerts_return_to_agents_receiver=True) as (collector, server, kept):
        with agent("shop", collector.grpc["otlp"]) as tracer:
            exfiltrate(tracer)
        until(
            lambda: counter(server, "otel_ir_receive_own_dropped") >= 7,
            what="three spans and four logs (alert, incident, two steps), come round and dropped",
        )
        with agent("shop", collector.grpc["otlp"]) as tracer:
            last = call_tool(tracer, "lookup_customer", {"email": "alice@example.com"})
        until(
            lambda: last in {span["spanId"] for _, span in exported(kept / "spans", "spans")},
            what="a later span, so that whatever looped had its time",
        )
        assert server.running.stop() == 0
    assert sum(scope == "otel_ir" for scope, _ in exported(kept / "spans", "spans")) == 3
    assert len(exported(kept / "logRecords", "logRecords")) == 4
    assert len(alerts(server.data)) == 1


def test_what_was_sent_while_otel_ir_was_away_arrives_when_it_is_back(collector_program: Path, tmp_path: Path) -> None:
    away = f"127.0.0.1:{free_port()}"
    env = {
        "COLLECTOR_GRPC_ENDPOINT": "127.0.0.1:0", "COLLECTOR_HTTP_ENDPOINT": "127.0.0.1:0",
        "OTEL_IR_RETURN_ENDPOINT": "127.0.0.1:0", "OTEL_IR_ENDPOINT": away,
    }  # fmt: skip
    with ExitStack() as stack:
        env["BACKEND_ENDPOINT"] = stack.enter_context(backend(collector_program, tmp_path / "backend"))
        configs = (SHIPPED / "your-collector.yaml", SHIPPED / "tee.yaml")
        collector = stack.enter_context(collecting(collector_program, *configs, log=tmp_path / "collector.log", env=env))
        with agent("shop", collector.grpc["otlp"]) as tracer:
            exfiltrate(tracer)
        collector.running.ready(lambda: "Exporting failed. Will retry" in collector.running.text(), what="the Collector's first try")
        server = stack.enter_context(otel_ir_serving(tmp_path / "data", grpc=away))
        assert len(until(lambda: alerts(server.data), what="the alert")) == 1


def test_the_collector_finds_no_fault_in_the_shipped_files(collector_program: Path) -> None:
    files = [f"--config={SHIPPED / name}" for name in ("your-collector.yaml", "tee.yaml")]
    done = subprocess.run([collector_program, "validate", *files], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
