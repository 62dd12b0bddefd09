"""``python -m benchmarks.keys``: what a windowed correlation costs against the number of its live keys, and whether they survive a restart.

Every key gets one event, then a thousand of them a second one, which must fire. Between the two a checkpoint is written; a fresh process
reads it and folds the rest, and must fire exactly the alerts of the process that went on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

KEYS = [1_000, 10_000, 100_000, 1_000_000]
FIRING = 1_000
"""Keys that get a second event."""
RECORD = 512
"""Events a journal record."""
FRAME = 64 * RECORD
START = 1_767_225_600_000_000_000
STEP = 1_000_000
"""Between events (ns): a million of them take 17 minutes, so all keys are live in a window of an hour."""
MAX_MIB = 2_048
RULES = """title: A call
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000001
name: call
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: tool}, condition: selection}
---
title: Two calls in an hour
id: 5c0a1a52-5a3c-4a1f-8f0d-000000000002
name: two_calls
correlation: {type: event_count, rules: [call], group-by: [otel_ir.agent.id], timespan: 1h, condition: {gt: 1}}
"""


def frames(keys: int, first: int, last: int) -> Iterator[pl.DataFrame]:
    """Events ``first`` to ``last``: those from ``keys`` on are second events of keys spread over all."""
    from otel_ir.model import EPOCH, EVENT_SCHEMA

    step = max(1, keys // FIRING)
    for begin in range(first // FRAME * FRAME, last, FRAME):  # no frame straddles the end of an epoch
        number = pl.int_range(max(begin, first), min(begin + FRAME, last), eager=True)
        key = pl.when(number < keys).then(number).otherwise((number - second(keys)) * step)
        text = number.cast(pl.String)
        made = pl.select(
            pl.lit("tool_call").alias("event.type"),
            pl.lit("tool").alias("gen_ai.tool.name"),
            pl.lit("shop").alias("service.name"),
            ("shop/agent-" + key.cast(pl.String)).alias("otel_ir.agent.id"),
            text.str.zfill(32).alias("trace_id"),
            text.str.zfill(16).alias("span_id"),
            (text.str.zfill(32) + "/" + text.str.zfill(16)).alias("otel_ir.event.id"),
            (START + number * STEP).alias("event_time"),
            (number // RECORD + EPOCH).alias("otel_ir.journal.ordinal"),
            (number % RECORD).alias("otel_ir.journal.position"),
        )
        missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in EVENT_SCHEMA.items() if name not in made.columns]
        yield made.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())


def second(keys: int) -> int:
    """The number of the first second event: no record has events from before the checkpoint and from after it."""
    return -(-keys // RECORD) * RECORD


def fold(detector: Any, keys: int, first: int, last: int) -> list[str]:
    """Ids of the alerts of events ``first`` to ``last``."""
    from otel_ir.model import EPOCH, PATCH_SCHEMA

    alerts: list[str] = []
    for events in frames(keys, first, last):
        newest = events.group_by("otel_ir.journal.ordinal").agg(pl.col("event_time").max())
        received: dict[int, int] = dict(newest.iter_rows())
        found, _ = detector.fold(events, PATCH_SCHEMA.to_frame(), received)
        alerts += [alert.alert_id for alert in found]
        if max(received) % EPOCH == EPOCH - 1:
            detector.end_epoch(max(received.values()))
    return alerts


def run(folder: str, keys: int, *, restored: bool) -> dict[str, Any]:
    """One half of a case: until the checkpoint and on, or from the checkpoint on."""
    from otel_ir.detect import Detector
    from otel_ir.engine import CODE
    from otel_ir.sigma import load_rules
    from otel_ir.store import CheckpointStore

    place = Path(folder)
    (place / "rules.yml").write_text(RULES)
    ruleset, errors = load_rules([place / "rules.yml"])
    assert not errors, errors
    detector, checkpoints = Detector(ruleset), CheckpointStore(place / "checkpoints", code=CODE)
    firing, began, early = min(FIRING, keys), time.process_time(), 0
    if restored:
        found = checkpoints.load()
        assert found.checkpoint, found.skipped
        detector.restore(found.checkpoint.state)
    else:
        early = len(fold(detector, keys, 0, keys))
    spent, began = time.process_time() - began, time.perf_counter()
    if not restored:
        checkpoints.save(keys, detector.state())
    saved = time.perf_counter() - began
    alerts = fold(detector, keys, second(keys), second(keys) + firing)
    assert (early, len(alerts), detector.evicted) == (0, firing, 0), (early, len(alerts), detector.evicted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    digest = hashlib.sha256("\n".join(alerts).encode()).hexdigest()
    return {"spent": spent, "saved": saved, "peak": peak, "digest": digest, "alerts": len(alerts)}


def case(keys: int, folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the process that went on, the one that was restored), each a process of its own; both fired the same."""
    parts = []
    for restored in (False, True):
        code = f"import json; from benchmarks.keys import run; print(json.dumps(run({folder!r}, {keys}, restored={restored})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        parts.append(json.loads(done.stdout))
    assert parts[0]["digest"] == parts[1]["digest"], f"{keys} keys: other alerts after the restart"
    assert max(part["peak"] for part in parts) <= MAX_MIB, f"{keys} keys: more than {MAX_MIB} MiB"
    return parts[0], parts[1]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keys", description=__doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=KEYS, help="numbers of live keys (default %(default)s)")
    names = ("live keys", "events/CPU-s", "peak MiB", "checkpoint s", "restore CPU-s", "peak MiB restored", "alerts")
    options = parser.parse_args()
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for keys in options.keys:
        with tempfile.TemporaryDirectory(prefix="otel-ir-bench-") as folder:
            on, again = case(keys, folder)
        print(
            f"| {keys:,} | {keys / on['spent']:,.0f} | {on['peak']:,.0f} | {on['saved']:.1f} | {again['spent']:.1f} "
            f"| {again['peak']:,.0f} | {on['alerts']:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
