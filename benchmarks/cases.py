"""The cases: the real ``otel-ir serve``, and forwarders beside it, each in fresh processes under the same load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import msgspec
import polars as pl

from benchmarks.generator import Load
from benchmarks.peers import Sent
from benchmarks.processes import Measured, folder, free_port, running

IN_FLIGHT = 8
_COLLECTOR = """\
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
processors: {{batch: {{}}}}
exporters: {{otlp: {{endpoint: "127.0.0.1:{sink}", compression: {compression}, tls: {{insecure: true}}}}}}
service:
  pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [otlp]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""


class Result(msgspec.Struct, kw_only=True):
    """One case. ``cpu``: CPU-seconds of the measured process per million spans, from ready to drained."""

    case: str
    spans: int
    cpu: float
    spans_per_second: float
    peak_mib: float
    ack_p50_ms: float
    ack_p99_ms: float
    alerts: int | None = None
    note: str = ""


def _send(load: Path, port: int, log: Path) -> Sent:
    command = [sys.executable, "-m", "benchmarks.peers", "send", f"127.0.0.1:{port}", str(load), str(IN_FLIGHT)]
    with log.open("wb") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, check=False, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"the sender failed\n{log.read_text(errors='replace')[-3000:]}")
    return msgspec.json.decode(done.stdout, type=Sent)


def _result(case: str, spans: int, cpu: float, seconds: float, peak: int, sent: Sent) -> Result:
    return Result(
        case=case, spans=spans, cpu=cpu / spans * 1e6, spans_per_second=spans / seconds, peak_mib=peak / 2**20,
        ack_p50_ms=sent.p50 * 1e3, ack_p99_ms=sent.p99 * 1e3,
    )  # fmt: skip


def _write(load: Load, work: Path) -> Path:
    path = work / "load"
    path.write_bytes(msgspec.msgpack.encode(load.requests))
    return path


# --- otel_ir ---------------------------------------------------------------------------------------------------------------------


def otel_ir(load: Load, *, env: dict[str, str] | None = None) -> Result:
    """``otel-ir serve`` with its defaults. Raises ``AssertionError`` where what it kept or raised is not exactly what was planned."""
    with folder() as work:
        path, data = _write(load, work), work / "data"
        command = [sys.executable, "-m", "otel_ir", "serve", "--data", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with running([*command, "--grace", "600"], work / "serve.log", env) as server:
            server.until((data / "serve.json").exists, "otel-ir serve")
            where = json.loads((data / "serve.json").read_text())
            before, began = server.cpu, time.perf_counter()
            sent = _send(path, int(where["grpc"].rpartition(":")[2]), work / "send.log")
            server.until(lambda: _folded(where["http"]) >= len(load.requests), "folding", 1800)
            seconds, peak = time.perf_counter() - began, server.peak_bytes
            status, cpu = server.end()
            assert status == 0, f"otel-ir serve ended with {status}\n{server.log.read_text()[-3000:]}"
        result = _result(f"otel_ir, identity {load.identity}", load.spans, cpu - before, seconds, peak, sent)
        result.alerts = _check(load, data)
        return result


def _folded(http: str) -> float:
    """Requests folded so far, as ``/metrics`` says."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    # The activation of the rule set is a record, too.
    return sum(float(line.split()[-1]) for line in lines if line.startswith("otel_ir_fold_records_total")) - 1


def _check(load: Load, data: Path) -> int:
    from otel_ir.store import Ledger
    from otel_ir.store.evidence import read_events

    found = read_events(str(data / "evidence")).select("otel_ir.event.id", "otel_ir.agent.id", "otel_ir.agent.id_source").collect()
    assert found.height == load.spans == found["otel_ir.event.id"].n_unique(), f"{found.height} events of {load.spans} spans are kept"
    sources = set(found["otel_ir.agent.id_source"].unique())
    assert sources == ({"own"} if load.identity == "own" else {"own", "ancestor"}), f"identity: {sources}"
    assert found["otel_ir.agent.id"].n_unique() == load.agents, f"{found['otel_ir.agent.id'].n_unique()} agents of {load.agents}"
    ledger = Ledger.open(f"sqlite:///{data / 'ledger.db'}")
    alerts = Counter(row.alert.rule_id for row in ledger.alerts(limit=1_000_000))
    ledger.close()
    assert alerts == load.alerts, f"alerts {dict(alerts)} instead of {load.alerts}"
    return alerts.total()


# --- forwarders ------------------------------------------------------------------------------------------------------------------


def collector(load: Load, program: Path, *, compression: str = "none") -> Result:
    """The OpenTelemetry Collector: otlp receiver, batch processor, otlp exporter to a sink that counts."""
    with folder() as work:
        port, sink = free_port(), free_port()
        (work / "config.yaml").write_text(_COLLECTOR.format(port=port, sink=sink, compression=compression))
        result = _forward("OpenTelemetry Collector", load, work, [program, "--config", work / "config.yaml"], port, sink)
        result.note = f"forwards only; compression {compression}"
        return result


def rotel(load: Load, program: Path) -> Result:
    """rotel, a forwarder in Rust."""
    with folder() as work:
        port, sink = free_port(), free_port()
        command = [
            program, "start", "--otlp-grpc-endpoint", f"127.0.0.1:{port}", "--otlp-http-endpoint", f"127.0.0.1:{free_port()}",
            "--exporter", "otlp", "--otlp-exporter-endpoint", f"http://127.0.0.1:{sink}", "--otlp-exporter-compression", "none",
        ]  # fmt: skip
        result = _forward("rotel", load, work, command, port, sink)
        result.note = "forwards only"
        return result


def _forward(case: str, load: Load, work: Path, command: list[str | Path], port: int, sink: int) -> Result:
    path = _write(load, work)
    counting = [sys.executable, "-m", "benchmarks.peers", "sink", str(sink), str(load.spans)]
    with running(counting, work / "sink.log") as counter, running(command, work / "forwarder.log") as forwarder:
        counter.until(lambda: _listens(sink), "the sink")
        forwarder.until(lambda: _listens(port), case)
        before, began = forwarder.cpu, time.perf_counter()
        sent = _send(path, port, work / "send.log")
        status, _ = counter.wait()
        seconds, peak = time.perf_counter() - began, forwarder.peak_bytes
        assert status == 0, counter.log.read_text()[-3000:]
        assert int(counter.log.read_text()) == load.spans, f"{counter.log.read_text()} spans of {load.spans} came through"
        cpu = _ended(forwarder)
    return _result(case, load.spans, cpu - before, seconds, peak, sent)


def _ended(process: Measured) -> float:
    """CPU seconds of its life; how a foreign program takes SIGTERM is its own affair."""
    cpu = process.cpu
    try:
        return max(cpu, process.end(10.0)[1])
    except RuntimeError:
        return cpu


def _listens(port: int) -> bool:
    state = Path("/proc/net/tcp").read_text() + "".join(path.read_text() for path in [Path("/proc/net/tcp6")] if path.exists())
    return any(f":{port:04X} " in line and " 0A " in line for line in state.splitlines())


__all__ = ["Result", "collector", "otel_ir", "pl", "rotel"]
