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
        server = stack.enter_context(otel_ir_serving(folder / "data", "--export", f"http://{target}"))
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
        until(lambda: [scope for scope, _ in exported(kept / "spans", "spans") if scope == "otel_ir"], what="the alert span at the backend")
        until(lambda: exported(kept / "logRecords", "logRecords"), what="the alert log at the backend")
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
    ((_, span),) = [pair for pair in spans if pair[0] == "otel_ir"]
    assert span["parentSpanId"] == offending
    ((event,), (link,)) = span["events"], span["links"]
    assert event["name"] == EVENT
    assert attributes(event)["agent.threat.detection.severity"] == "critical"
    assert link["spanId"] == offending
    ((scope, log),) = exported(kept / "logRecords", "logRecords")
    assert (scope, log["eventName"], log["spanId"]) == ("otel_ir", EVENT, offending)
    assert attributes(log)["otel_ir.alert.id"] == attributes(span)["otel_ir.alert.id"]
    (point,) = counters[-1]["sum"]["dataPoints"]
    assert int(point.get("asInt") or point["asDouble"]) == 1
    assert attributes(point)["severity"] == "critical"


def test_alerts_sent_into_the_agents_own_pipeline_do_not_loop(collector_program: Path, tmp_path: Path) -> None:
    with tee(collector_program, tmp_path, alerts_return_to_agents_receiver=True) as (collector, server, kept):
        with agent("shop", collector.grpc["otlp"]) as tracer:
            exfiltrate(tracer)
        until(lambda: counter(server, "otel_ir_receive_own_dropped") >= 2, what="the alert's span and log, come round and dropped")
        with agent("shop", collector.grpc["otlp"]) as tracer:
            last = call_tool(tracer, "lookup_customer", {"email": "alice@example.com"})
        until(
            lambda: last in {span["spanId"] for _, span in exported(kept / "spans", "spans")},
            what="a later span, so that whatever looped had its time",
        )
        assert server.running.stop() == 0
    assert sum(scope == "otel_ir" for scope, _ in exported(kept / "spans", "spans")) == 1
    assert len(exported(kept / "logRecords", "logRecords")) == 1
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
