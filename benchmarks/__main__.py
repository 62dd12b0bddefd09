"""``make bench``: the real server, stage by stage, and beside it forwarders of the same load. Each case in fresh processes."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import cases, drill
from benchmarks.generator import PER_REQUEST, SPAN_BYTES, Load, generate
from tools.real_parts import install

FRAME = 64
"""Requests folded at once in the stage profile: what a busy server reads from its journal."""
_LIBRARIES = ("polars", "ptars", "grpcio", "protobuf", "deltalake", "pysigma")


def main() -> None:
    """Runs the cases, prints the tables, and with ``--json FILE`` writes the raw figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("servers", "drill"), default="servers", help="drill: `otel-ir drill` on a busy server")
    parser.add_argument("--count", type=int, default=20, help="drills (default %(default)s)")
    parser.add_argument("--rate", type=float, help="spans per second while drills run (default: half of what the server takes)")
    parser.add_argument("--spans", type=int, default=500_000, help="spans per case (default %(default)s, a multiple of 100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures there")
    parser.add_argument("--no-forwarders", action="store_true", help="leave the Collector out")
    options = parser.parse_args()
    console = Console()
    if options.what == "drill":
        return _drill(console, options)
    results, stages = _servers(console, options.spans)
    if not options.no_forwarders:
        results += _forwarders(console, options.spans)
    _print_results(console, results)
    _print_stages(console, stages)
    if options.json:
        facts = {"spans": options.spans, "machine": _machine(), "results": [msgspec.to_builtins(one) for one in results], "stages": stages}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")
    return None


def _drill(console: Console, options: argparse.Namespace) -> None:
    found = drill.busy(options.count, options.rate)
    title = f"{found.drills} drills while {found.spans_per_second:,.0f} spans/s of others were taken"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("span received ->", "p50 s", "p99 s", "max s"):
        table.add_column(name, justify="left" if name.endswith(">") else "right")
    for name, values in (("dispatched", found.dispatch), ("verified", found.verified)):
        table.add_row(name, *(f"{found.quantile(values, share):.3f}" for share in (0.5, 0.99, 1.0)))
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": _machine(), "drills": msgspec.to_builtins(found)}, indent=2) + "\n")
    drill.check(found)


def _servers(console: Console, spans: int) -> tuple[list[cases.Result], dict[str, dict[str, float]]]:
    results, stages = [], {}
    for identity in ("own", "late"):
        console.print(f"otel_ir, identity {identity}: {spans:,} spans of {SPAN_BYTES} bytes, {PER_REQUEST} a request", highlight=False)
        results.append(cases.otel_ir(generate(spans, anchor=time.time_ns(), identity=identity)))
        stages[identity] = _stages(generate(spans, anchor=time.time_ns(), identity=identity))
    return results, stages


def _stages(load: Load) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="otel-ir-bench-") as work:
        path = Path(work) / "load"
        path.write_bytes(msgspec.msgpack.encode((load, time.time_ns())))
        script = "import sys; from benchmarks.stages import main; main(sys.argv[1:])"
        done = subprocess.run([sys.executable, "-c", script, str(path), work, str(FRAME)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        found: dict[str, float] = json.loads(done.stdout)
        return found


def _forwarders(console: Console, spans: int) -> list[cases.Result]:
    try:
        program = install.collector()
    except Exception as error:  # no Go, no network: the rest still counts
        console.print(f"the Collector could not be built, so it is not in the table: {error}", highlight=False)
        return []
    load = generate(spans, anchor=time.time_ns())
    console.print("OpenTelemetry Collector: the same load, forwarded", highlight=False)
    return [cases.collector(load, program, compression=compression) for compression in ("none", "gzip")]


def _print_results(console: Console, results: list[cases.Result]) -> None:
    table = Table(title="CPU of the measured process", title_justify="left", box=None, pad_edge=False)
    for name in ("case", "CPU-s per million spans", "ratio", "spans/s", "peak MiB", "ack p50 ms", "ack p99 ms", "alerts", "note"):
        table.add_column(name, justify="left" if name in {"case", "note"} else "right")
    beside = next((one.cpu for one in results if "Collector" in one.case), results[0].cpu)
    for one in results:
        table.add_row(
            one.case, f"{one.cpu:.1f}", f"{one.cpu / beside:.2f}", f"{one.spans_per_second:,.0f}", f"{one.peak_mib:,.0f}",
            f"{one.ack_p50_ms:.0f}", f"{one.ack_p99_ms:.0f}", "" if one.alerts is None else f"{one.alerts:,}", one.note,
        )  # fmt: skip
    console.print(table)
    console.print("Unfair to otel_ir: a forwarder neither writes to disk before it answers, nor reads the spans, nor keeps them.")


def _print_stages(console: Console, stages: dict[str, dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for found in stages.values() for name in found))
    table = Table(title="Where the fold's time goes, CPU-s per million spans", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    for identity in stages:
        table.add_column(f"identity {identity}", justify="right")
    for name in [*names, "sum"]:
        table.add_row(name, *(f"{found[name] if name in found else sum(found.values()):.2f}" for found in stages.values()))
    console.print(table)


def _machine() -> dict[str, Any]:
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "commit": described.stdout.strip(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


if __name__ == "__main__":
    main()
