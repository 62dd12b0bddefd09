"""``python -m benchmarks.plugin``: what the in-process plug-in costs the agent's thread when a span ends, beside a bare BatchSpanProcessor.

Runs of agents as a framework makes them: a plain HTTP span, a model call that asks for the tools, four tool calls, and the run's own span,
which alone says who the agent is. Every 25th run sends a large body. Asserts that exactly those raised an alert, each on its open run.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections import defaultdict

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import set_span_in_context
from rich.console import Console
from rich.table import Table

from otel_ir import IncidentResponseProcessor

EVERY = 25
TOOLS = 4
WARM = 50
"""Runs before the watch is looked at."""
KINDS = ("tool call", "model call", "run", "plain")
LARGE = "x" * 20_000


class Nowhere(SpanExporter):
    """Takes everything, keeps the alerts."""

    def __init__(self) -> None:
        self.events = 0

    def export(self, spans: list[ReadableSpan]) -> SpanExportResult:  # type: ignore[override]
        self.events += sum(event.name == "agent.threat.detection" for span in spans for event in span.events)
        return SpanExportResult.SUCCESS


class Timed(SpanProcessor):
    """A processor, and how long its ``on_end`` took (ms) by kind of span."""

    def __init__(self, inner: SpanProcessor) -> None:
        self.inner = inner
        self.took: defaultdict[str, list[float]] = defaultdict(list)

    def on_start(self, span: Span, parent_context=None) -> None:
        self.inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        began = time.perf_counter()
        self.inner.on_end(span)
        self.took[(span.attributes or {}).get("kind", "plain")].append((time.perf_counter() - began) * 1000)

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.inner.force_flush(timeout_millis)


def work(provider: TracerProvider, runs: int) -> int:
    """That many runs; -> how many of them exfiltrated."""
    tracer, planned = provider.get_tracer("some-agents"), 0
    for number in range(runs):
        context = set_span_in_context(run := tracer.start_span(
            "invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"agent-{number}", "kind": "run"}
        ))  # fmt: skip
        tracer.start_span("POST", context, attributes={"http.request.method": "POST", "kind": "plain"}).end()
        calls = [{"type": "tool_call", "id": f"call-{n}", "name": "lookup", "arguments": {"q": f"{number}-{n}"}} for n in range(TOOLS)]
        model = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "kind": "model call"}
        said = json.dumps([{"role": "assistant", "parts": calls}])
        tracer.start_span("chat m", context, attributes=model | {"gen_ai.output.messages": said}).end()
        harmful = number % EVERY == EVERY - 1
        planned += harmful
        for n in range(TOOLS):
            last = harmful and n == TOOLS - 1
            attributes = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "send_email" if last else "lookup",
                "gen_ai.tool.call.id": f"call-{n}",
                "gen_ai.tool.call.arguments": json.dumps({"body": LARGE} if last else {"q": f"{number}-{n}"}),
                "gen_ai.tool.call.result": "order 8801 is held at customs until Thursday",
                "kind": "tool call",
            }
            tracer.start_span("execute_tool", context, attributes=attributes).end()
        run.end()
    return planned


def measured(runs: int) -> tuple[Timed, Timed, dict[str, int]]:
    """-> the plug-in, the batch processor, what the plug-in counted."""
    plugin = IncidentResponseProcessor(budget=60.0)
    exporter = Nowhere()
    timed, bare = Timed(plugin), Timed(BatchSpanProcessor(exporter))
    provider = TracerProvider(resource=Resource({"service.name": "desk"}), shutdown_on_exit=False)
    provider.add_span_processor(timed)
    provider.add_span_processor(bare)
    planned = work(provider, WARM)
    timed.took.clear()
    bare.took.clear()
    planned += work(provider, runs)
    assert provider.force_flush()
    counts = dict(plugin.counts)
    provider.shutdown()
    spans = (WARM + runs) * (TOOLS + 3)
    assert counts == {"spans": spans, "alerts": planned, "events": planned}, counts
    assert exporter.events == planned, f"{exporter.events} alerts of {planned} were exported"
    return timed, bare, counts


def main() -> None:
    """Prints milliseconds of ``on_end``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plugin", description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="runs of agents, seven spans each (default %(default)s)")
    logging.disable(logging.WARNING)  # the alerts
    timed, bare, counts = measured(parser.parse_args().runs)
    table = Table(title=f"on_end, ms ({counts['alerts']} alerts, each on its run)", title_justify="left", box=None, pad_edge=False)
    for name in ("span", "spans", "p50", "p99", "max", "bare p50", "bare p99"):
        table.add_column(name, justify="left" if name == "span" else "right")
    for kind in KINDS:
        mine, theirs = timed.took[kind], bare.took[kind]
        p99, bare99 = (statistics.quantiles(took, n=100)[98] for took in (mine, theirs))
        table.add_row(
            kind, f"{len(mine):,}", f"{statistics.median(mine):.2f}", f"{p99:.2f}", f"{max(mine):.2f}",
            f"{statistics.median(theirs):.3f}", f"{bare99:.3f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
