"""``python -m benchmarks.normalize``: what it costs to make events of spans, dialect by dialect, on top of decoding them.

Whole agent runs (``agent_runs.py``) are what the target is about. Beside them each capture of tests/captures is sent again and again with
fresh ids of traces, spans, calls, conversations and answers. As many spans a request as an SDK's batch has, many requests folded at once;
the least CPU time of several repetitions counts. Asserts that every run, and every copy, gives its events: as many of each type, and as
many per agent.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from rich.console import Console
from rich.table import Table

from benchmarks.agent_runs import agent_runs
from benchmarks.stages import Stopwatch
from otel_ir.decode import decode_traces
from otel_ir.model import EPOCH, Record
from otel_ir.normalize.extract import extract
from otel_ir.normalize.identity import TraceLimits
from otel_ir.normalize.weave import Weaver
from otel_ir.otlp_files import read_otlp

CAPTURES = Path(__file__).parent.parent / "tests" / "captures"
REQUEST_SPANS, FRAME = 512, 64
GENAI_TARGET = 1.5
"""CPU-seconds per million GenAI spans, on top of decoding."""
RUNS = {"runs, identity own": ("own", False), "runs, identity late": ("late", False), "runs, late, with content": ("late", True)}
"""Name -> identity, content."""
_STEP = 5_000_000
_NAMES_ID = re.compile(r"(?i)(?:call|use|conversation|session|thread|response)[._]?id$")
"""Attributes whose values name a call, a conversation or an answer."""
Said = Counter[tuple[str, str]]


@dataclass(slots=True)
class Cost:
    """Of one capture. Times in CPU-seconds per million spans."""

    capture: str
    dialect: str
    spans: int
    events: int
    decode: float
    extract: float
    weave: float

    @property
    def normalize(self) -> float:
        """What comes on top of decoding."""
        return self.extract + self.weave

    @property
    def events_per_second(self) -> float:
        """Events that one second of CPU normalizes, decoding included."""
        return self.events / (self.decode + self.normalize) / self.spans * 1e6 if self.spans else 0.0


def copies(capture: Path, spans: int) -> tuple[list[bytes], int, int]:
    """Requests with at least ``spans`` spans, how often the capture stands in them, and how many spans it has."""
    requests = [ExportTraceServiceRequest.FromString(one.body) for one in read_otlp([capture]) if one.signal == "traces"]
    size = sum(len(scope.spans) for request in requests for resource in request.resource_spans for scope in resource.scope_spans)
    named = [_named(request) for request in requests]
    times = -(-spans // size)
    together = max(1, REQUEST_SPANS // size)
    bodies = []
    for first in range(0, times, together):
        whole = ExportTraceServiceRequest()
        for number in range(first, min(first + together, times)):
            for request, ids in zip(requests, named, strict=True):
                whole.MergeFrom(_fresh(request, ids, number))
        bodies.append(whole.SerializeToString())
    return bodies, times, size


def _named(request: ExportTraceServiceRequest) -> re.Pattern[str] | None:
    """Finds the ids of its calls, conversations and answers, wherever they stand in a text; numbers are no such ids."""
    found = extract(decode_traces([Record(1, "traces", 1, request.SerializeToString())]))
    columns = (found.events["gen_ai.tool.call.id"], found.events["gen_ai.conversation.id"], found.calls["call_id"])
    ids = {one for column in columns for one in column.drop_nulls()}
    for one in _attributes(request):
        ids.update((one.value.string_value,) if _NAMES_ID.search(one.key) else ())
    known = sorted((re.escape(one) for one in ids if one and not one.isdigit()), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(known)})(?![\w-])") if known else None


def _attributes(request: ExportTraceServiceRequest) -> Iterator[KeyValue]:
    """Of the spans and their events."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield from span.attributes
                for event in span.events:
                    yield from event.attributes


def _fresh(request: ExportTraceServiceRequest, ids: re.Pattern[str] | None, number: int) -> ExportTraceServiceRequest:
    """The same spans with other ids."""
    copy = ExportTraceServiceRequest()
    copy.CopyFrom(request)
    for one in _attributes(copy):
        if ids and one.value.string_value:
            one.value.string_value = ids.sub(rf"\g<0>-{number:08x}", one.value.string_value)
    mark = number.to_bytes(4, "big")
    for resource in copy.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.trace_id, span.span_id = mark + span.trace_id[4:], mark + span.span_id[4:]
                span.parent_span_id = span.parent_span_id and mark + span.parent_span_id[4:]
                for link in span.links:
                    link.trace_id, link.span_id = mark + link.trace_id[4:], mark + link.span_id[4:]
    return copy


def normalized(bodies: Sequence[bytes], watch: Stopwatch) -> tuple[Said, str]:
    """-> events by type and agent, and the dialect of most of them."""
    weaver, said, dialects = Weaver(TraceLimits(epoch=EPOCH)), Said(), Counter[str]()
    agents: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for frame in _frames([Record(at, "traces", time.time_ns() + at * _STEP, body) for at, body in enumerate(bodies, 1)]):
        with watch.stage("decode"):
            batch = decode_traces(frame)
        with watch.stage("extract"):
            found = extract(batch)
        with watch.stage("weave"):
            woven = weaver.fold(found.events, found.nodes, found.calls, found.tells)
            if frame[-1].ordinal % EPOCH == EPOCH - 1:
                weaver.end_epoch(frame[-1].ordinal // EPOCH, frame[-1].received)
        _tell(woven.events, woven.patches, kinds, agents, dialects)
    with watch.stage("weave"):
        rest = weaver.finish()
    _tell(rest.events, rest.patches, kinds, agents, dialects)
    for event, kind in kinds.items():
        said[kind, agents[event]] += 1
    return said, dialects.most_common(1)[0][0] if dialects else ""


def _tell(events: pl.DataFrame, patches: pl.DataFrame, kinds: dict[str, str], agents: dict[str, str], dialects: Counter[str]) -> None:
    name = pl.coalesce("gen_ai.agent.name", pl.lit(""))
    kinds.update(events.select("otel_ir.event.id", "event.type").iter_rows())
    agents.update(events.select("otel_ir.event.id", name).iter_rows())
    agents.update(patches.select("otel_ir.event.id", name).iter_rows())
    dialects.update(events["otel_ir.dialect"].drop_nulls().to_list())


def _frames(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Up to ``FRAME`` records, never over the end of an epoch."""
    frame: list[Record] = []
    for record in records:
        frame.append(record)
        if len(frame) == FRAME or record.ordinal % EPOCH == EPOCH - 1:
            yield frame
            frame = []
    if frame:
        yield frame


def cost_of_runs(name: str, spans: int, repeat: int) -> Cost:
    """Of whole agent runs. Raises ``AssertionError`` where they do not give their events."""
    identity, content = RUNS[name]
    bodies, expected = agent_runs(spans, identity=identity, content=content, per_request=REQUEST_SPANS, anchor=time.time_ns())
    return _least(name, bodies, expected, expected.total(), repeat)


def _least(name: str, bodies: Sequence[bytes], expected: Said, spans: int, repeat: int) -> Cost:
    normalized(bodies[:FRAME], Stopwatch())  # imports, caches, allocations
    least: dict[str, float] = {}
    for _ in range(repeat):
        watch = Stopwatch()
        said, dialect = normalized(bodies, watch)
        assert said == expected, f"{name}: {said - expected} too many, {expected - said} too few"
        least = {stage: min(seconds, least.get(stage, seconds)) for stage, seconds in watch.seconds.items()}
    return Cost(name, dialect, spans, said.total(), *(least[stage] / spans * 1e6 for stage in ("decode", "extract", "weave")))


def cost(capture: Path, spans: int, repeat: int) -> Cost:
    """Raises ``AssertionError`` where the copies do not give the events of the capture."""
    single, once, size = copies(capture, 1)
    assert once == 1
    wanted, _ = normalized(single, Stopwatch())
    bodies, times, _ = copies(capture, spans)
    return _least(capture.stem, bodies, Said({what: count * times for what, count in wanted.items()}), size * times, repeat)


def main() -> None:
    """Prints a table, the GenAI captures against their target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.normalize", description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000, help="spans of each capture (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each (default %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="runs and captures whose name has it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    captures = [one for one in sorted(CAPTURES.glob("*.json")) if not one.name.endswith((".meta.json", ".logs.json"))]
    runs = [cost_of_runs(name, options.spans, options.repeat) for name in RUNS if options.only in name]
    found = [cost(capture, options.spans, options.repeat) for capture in captures if options.only in capture.name]
    found = [*runs, *sorted(found, key=lambda one: (one.dialect, one.capture))]
    table = Table(title="CPU-s per million spans", title_justify="left", box=None, pad_edge=False)
    for name in ("dialect", "capture", "decode", "extract", "weave", "on top of decoding", "events per span", "events per CPU-s"):
        table.add_column(name, justify="left" if name in ("dialect", "capture") else "right")
    for one in found:
        figures = (one.decode, one.extract, one.weave, one.normalize, one.events / one.spans)
        table.add_row(one.dialect, one.capture, *(f"{figure:.2f}" for figure in figures), f"{one.events_per_second:,.0f}")
    Console(width=140).print(table)
    for one in runs:
        print(f"GenAI {one.capture}: {one.normalize:.2f} CPU-s per million spans on top of decoding; the target is {GENAI_TARGET}")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
