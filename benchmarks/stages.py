"""Where the time of the fold goes: the same requests through each stage by itself, in one process, without network and disk of a server.

The stages are called exactly as ``engine.Fold.fold`` calls them; ``Stopwatch`` only takes the CPU time in between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from benchmarks.generator import Load
from otel_ir.decode import decode_traces
from otel_ir.engine import Fold
from otel_ir.model import EPOCH, Record
from otel_ir.normalize.extract import extract
from otel_ir.receive.admission import examine
from otel_ir.receive.signals import SIGNALS
from otel_ir.rules_path import shipped_rules
from otel_ir.sigma import load_rules
from otel_ir.store import EvidenceStore


class Stopwatch:
    """CPU seconds of this process, all threads, by name of the stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds what the block takes."""
        began = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - began


def run_stages(load: Load, anchor: int, data: Path, frame_records: int) -> dict[str, Any]:
    """CPU-seconds per million spans by stage. ``frame_records``: requests folded at once. Raises ``AssertionError`` where counts differ."""
    watch, fold = Stopwatch(), Fold(_rules())
    evidence = EvidenceStore.open(str(data / "evidence"))
    alerts: Counter[str] = Counter()
    events = 0
    for frame in _frames(_records(watch, load, anchor), frame_records):
        output_events, patches, found = _fold(watch, fold, frame)
        with watch.stage("evidence"):
            evidence.append(output_events, patches, frame[-1].ordinal)
        events += output_events.height
        alerts.update(alert.rule_id for alert in found)
    with watch.stage("evidence"):
        evidence.flush()
    assert events == load.spans, f"{events} events of {load.spans} spans"
    assert alerts == load.alerts, f"alerts {dict(alerts)} instead of {load.alerts}"
    return {name: seconds / load.spans * 1e6 for name, seconds in watch.seconds.items()}


def _rules() -> Any:
    ruleset, errors = load_rules([shipped_rules()])
    assert not errors, errors
    return ruleset


def _records(watch: Stopwatch, load: Load, anchor: int) -> list[Record]:
    """As the journal holds them: checked by the receiver, received a few milliseconds apart."""
    traces = next(signal for signal in SIGNALS if signal.name == "traces")
    with watch.stage("check"):
        for body in load.requests:
            assert examine(traces, body, (), 1000).body is body
    return [Record(at, "traces", anchor + at * 5_000_000, body) for at, body in enumerate(load.requests, 1)]


def _frames(records: Sequence[Record], size: int) -> Iterator[list[Record]]:
    """Up to ``size`` records, never over the end of an epoch."""
    frame: list[Record] = []
    for record in records:
        frame.append(record)
        if len(frame) == size or record.ordinal % EPOCH == EPOCH - 1:
            yield frame
            frame = []
    if frame:
        yield frame


def _fold(watch: Stopwatch, fold: Fold, frame: Sequence[Record]) -> tuple[pl.DataFrame, pl.DataFrame, list[Any]]:
    """``Fold.fold``, with the watch between its steps."""
    with watch.stage("decode"):
        batch = decode_traces(frame)
    with watch.stage("extract"):
        found = extract(batch, fold.ruleset.fields)
    with watch.stage("weave"):
        woven = fold.weaver.fold(found.events, found.nodes, found.calls, found.tells)
    with watch.stage("detect"):
        alerts, _ = fold.detector.fold(woven.events, woven.patches, {record.ordinal: record.received for record in frame})
    fold.ordinal, fold.received = frame[-1].ordinal, frame[-1].received
    if fold.at_epoch:
        with watch.stage("end of epoch"):
            remembered = fold.weaver.end_epoch(fold.ordinal // EPOCH, fold.received)
            fold.detector.end_epoch(fold.received, remembered)
    return woven.events, woven.patches, alerts


def main(arguments: Sequence[str]) -> None:
    """The child process: load file, data folder, records per frame -> JSON on standard output."""
    load, anchor = msgspec.msgpack.decode(Path(arguments[0]).read_bytes(), type=tuple[Load, int])
    print(msgspec.json.encode(run_stages(load, anchor, Path(arguments[1]), int(arguments[2]))).decode())
