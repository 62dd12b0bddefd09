"""A process that runs for weeks: what the plug-in remembers does not grow with the spans it has seen."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from otel_ir.detect import detector
from otel_ir.detect.windows import WindowLimits
from otel_ir.model import EPOCH
from otel_ir.normalize import identity
from otel_ir.normalize.identity import TraceLimits
from otel_ir.rules_path import shipped_rules
from otel_ir.sdk import fold as sdk_fold
from otel_ir.sdk.encode import encode
from otel_ir.sdk.fold import Folding
from otel_ir.sdk.spans import OpenSpans
from otel_ir.sigma import load_rules

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
RESOURCE = Resource({"service.name": "desk"})
PER_RUN, RUNS = 8, 160


def _span(trace: int, number: int, parent: int, at: int, **attributes: Any) -> tuple[int, bytes]:
    span = ReadableSpan(
        "x",
        SpanContext(trace, number, False, TraceFlags(1)),
        SpanContext(trace, parent, False) if parent else None,
        RESOURCE,
        attributes,
        start_time=at - SECOND,
        end_time=at,
        instrumentation_scope=InstrumentationScope("some-agents"),
    )
    return at, encode(span)


def _run(number: int, at: int) -> list[tuple[int, bytes]]:
    """One run of an agent of its own: a plain span, a model call that asks for a tool, calls without identity, and the run itself."""
    trace, root = number + 1, number * PER_RUN + 1
    asked = [{"role": "assistant", "parts": [{"type": "tool_call", "id": f"c{number}", "name": "lookup", "arguments": {"q": "x" * 200}}]}]
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.arguments": '{"q": 1}'}
    return [
        _span(trace, root + 1, root, at, **{"http.request.method": "GET"}),
        _span(trace, root + 2, root, at, **{"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps(asked)}),
        *(_span(trace, root + 3 + one, root, at + one * SECOND, **tool) for one in range(4)),
        _span(trace, root + 7, root, at + 5 * SECOND, **tool, **{"error.type": "x"}),
        _span(trace, root, 0, at + 6 * SECOND, **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"a{number}"}),
    ]


def _sizes(folding: Folding) -> dict[str, int]:
    fold = folding._fold_state
    weaver, detect = fold.weaver, fold.detector
    return {
        "spans": weaver.traces.nodes.end - weaver.traces.nodes.first,
        "room": weaver.traces.nodes._rows.shape[1],
        "index": len(weaver.traces.nodes._index._keys),
        "slots": len(weaver.traces.slots),
        "lent": len(weaver.traces.lent),
        "identities": len(weaver.traces.identities),
        "epochs": len(weaver.traces.epochs),
        "joins": len(weaver.calls.joins.traces),
        "same": len(weaver.calls.same.things) + len(weaver.calls.same.waiting),
        "twice": len(weaver.calls.twice.answers),
        "opened": sum(part.height for _, part in weaver.opened._old) + weaver.opened._new.height,
        "said": len(weaver.opened._said),
        "failed": len(weaver.calls.once.failed) + len(weaver.calls.once.counting),
        "stated": weaver.calls.stated.height,
        "who": len(detect.words.who.values),
        "tools": len(detect.words.tools.values),
        "keys": sum(len(one.values) for one in detect.words.keys.values()),
        "rows": sum(window.store.all().height + len(window.where) for window in detect.windows.values()),
        "marks": sum(len(window.marks) + len(window.counts) + len(window.hot) for window in detect.windows.values()),
        "rates": sum(len(window.rates.learnt) + len(window.rates.open) for window in detect.windows.values()),
        "addressed": len(detect.late.addressed),
        "rejected": len(fold.rejected),
    }


def test_the_fold_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_fold, "TRACES", TraceLimits(max_nodes=2 * EPOCH))
    monkeypatch.setattr(sdk_fold, "WINDOWS", WindowLimits(max_rows=400, max_live=300, max_groups=100))
    monkeypatch.setattr(detector, "MANY_WORDS", 200)
    monkeypatch.setattr(identity, "MANY_IDENTITIES", 100)
    ruleset, errors = load_rules([shipped_rules()])
    assert not errors
    folding = Folding(ruleset)
    at, peaks = START, []
    for turn in range(4):
        peak: dict[str, int] = {}
        for number in range(turn * RUNS, (turn + 1) * RUNS):
            folding.fold(_run(number, at))
            at += 60 * SECOND
            if number % 16 == 15:
                peak = {name: max(size, peak.get(name, 0)) for name, size in _sizes(folding).items()}
        peaks.append(peak)
    grown = {name: [peak[name] for peak in peaks] for name in peaks[0] if peaks[3][name] > 1.2 * peaks[1][name] + 8}
    assert not grown
    assert folding._ordinal == 4 * RUNS * PER_RUN


def test_open_spans_are_bounded_and_not_kept_alive() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    spans = OpenSpans(limit=100)
    kept = tracer.start_span("run")
    for _ in range(50):
        spans.start(tracer.start_span("never ended"))  # type: ignore[arg-type]
    spans.start(kept)  # type: ignore[arg-type]
    for _ in range(1_000):
        spans.start(tracer.start_span("never ended"))  # type: ignore[arg-type]
    gc.collect()
    assert len(spans) <= 100
    context = kept.get_span_context()
    assert list(spans.above(context.trace_id, context.span_id)) == [kept]  # what is gone goes first
    for _ in range(1_000):
        span: Any = tracer.start_span("short")
        spans.start(span)
        span.end()
        spans.end(span)
    assert len(spans._ended) == 100


def test_a_cycle_of_parents_ends() -> None:
    spans = OpenSpans()
    for number, parent in ((1, 2), (2, 1)):
        spans.end(ReadableSpan("x", SpanContext(7, number, False), SpanContext(7, parent, False)))
    assert list(spans.above(7, 1)) == []
