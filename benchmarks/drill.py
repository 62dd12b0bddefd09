"""``python -m benchmarks drill``: `otel-ir drill` against a server that is busy with other agents' spans at half of what it can take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import cases
from benchmarks.generator import PER_REQUEST, generate
from benchmarks.peers import Paced
from benchmarks.processes import folder, running

CALIBRATION = 200_000
"""Spans by which is found out how many a second the server takes."""
SHARE = 0.5
DISPATCH_P99, VERIFIED_P99 = 1.0, 5.0
"""Seconds from the receipt of the span (DESIGN section 7)."""
_RESPONSE = """\
mode: enforce
safety: {actions_per_minute: 600}
adapters: {guard: {type: guard}, process: {type: process, method: signal}}
"""
_TOKENS = [{"token": "load"}, {"token": "drill", "sender": "drill", "services": ["otel-ir-drill"]}]
"""Nobody vouches for the load, so nothing is done about its alerts but to record what would be."""


class Busy(msgspec.Struct, kw_only=True):
    """``spans_per_second`` were taken while the drills ran. Times in seconds from the receipt of the span."""

    drills: int
    spans_per_second: float
    load_retries: int
    dispatch: list[float]
    verified: list[float]

    @staticmethod
    def quantile(values: list[float], share: float) -> float:
        """Of a list that is not empty."""
        return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def busy(count: int, rate: float | None = None) -> Busy:
    """``count`` drills under load. Raises ``AssertionError`` when one failed or a span was lost."""
    rate = rate or SHARE * cases.otel_ir(generate(CALIBRATION, anchor=time.time_ns())).spans_per_second
    load = generate(CALIBRATION, anchor=time.time_ns())
    whole = load.requests[: load.spans // PER_REQUEST]  # without the last one, which is smaller
    with folder() as work:
        (work / "load").write_bytes(msgspec.msgpack.encode(whole))
        (work / "response.yaml").write_text(_RESPONSE)
        (work / "otel-ir.yaml").write_text(json.dumps({"receive": {"tokens": _TOKENS}}))
        data = work / "data"
        serve = [
            sys.executable, "-m", "otel_ir", "serve", "-c", work / "otel-ir.yaml", "--response", work / "response.yaml", "--enforce",
            "--data", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--grace", "600",
        ]  # fmt: skip
        with running(serve, work / "serve.log") as server:
            server.until((data / "serve.json").exists, "otel-ir serve")
            where = json.loads((data / "serve.json").read_text())
            paced, drills = _drill_under_load(work, data, where["grpc"], rate, count)
            status, _ = server.end()
            assert status == 0, server.log.read_text()[-3000:]
        _nothing_lost(data, paced)
    return Busy(
        drills=count, spans_per_second=paced.spans_per_second, load_retries=paced.retries,
        dispatch=[one["seconds_to_dispatch"] for one in drills], verified=[one["seconds_to_verified"] for one in drills],
    )  # fmt: skip


def check(found: Busy) -> None:
    """Raises ``AssertionError`` when it took too long."""
    for values, most in ((found.dispatch, DISPATCH_P99), (found.verified, VERIFIED_P99)):
        assert Busy.quantile(values, 0.99) < most, f"p99 {Busy.quantile(values, 0.99):.3f} s, at most {most:g} s: {sorted(values)}"


def _drill_under_load(work: Path, data: Path, grpc: str, rate: float, count: int) -> tuple[Paced, list[dict[str, Any]]]:
    stop = work / "stop"
    sending = [sys.executable, "-m", "benchmarks.peers", "pace", grpc, work / "load", str(rate), str(PER_REQUEST), "load", stop]
    with (work / "pace.log").open("wb") as errors:
        sender = subprocess.Popen(sending, stdout=subprocess.PIPE, stderr=errors)
    try:
        command = [sys.executable, "-m", "otel_ir", "drill", "--data", data, "--count", str(count), "--format", "json"]
        env = os.environ | {"OTEL_IR_TOKEN": "drill"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=3600)
    finally:
        stop.touch()
        told, _ = sender.communicate(timeout=600)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{done.stdout[-3000:]}"
    assert sender.returncode == 0, (work / "pace.log").read_text()[-3000:]
    drills: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(drills) == count
    for one in drills:
        assert one["outcome"] == "passed", one
        assert {action["adapter"] for action in one["actions"]} == {"guard", "process"}, one
        assert all(action["state"] == "released" for action in one["actions"]), one
    return msgspec.json.decode(told, type=Paced), drills


def _nothing_lost(data: Path, paced: Paced) -> None:
    """Every span of the load that was acknowledged is kept, once."""
    from otel_ir.model_lifecycle import DRILL_SERVICE
    from otel_ir.store.evidence import read_events

    kept = read_events(str(data / "evidence")).select("otel_ir.event.id", "service.name").collect()
    events = kept.filter(cases.pl.col("service.name") != DRILL_SERVICE)["otel_ir.event.id"]
    assert events.len() == events.n_unique() == paced.requests * PER_REQUEST, f"{events.len()} of {paced.requests * PER_REQUEST} are kept"
