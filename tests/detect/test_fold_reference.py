"""Weaver and detector together equal the reference fold: every window kind, late identity, late spans, eviction, under any framing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.fold import Limits, Record, ReferenceWeave, ReferenceWindows, Window
from reference.streams import Shape, frames, groupings, stream

from otel_ir.detect import Detector
from otel_ir.detect.windows import WindowLimits
from otel_ir.model import Alert, AlertUpdate
from otel_ir.normalize.identity import TraceLimits
from otel_ir.normalize.messages import CALL_SCHEMA
from otel_ir.normalize.weave import Weaver
from otel_ir.sigma.ruleset import Baseline, Correlation, Rule, RuleSet

EPOCH = 8


def _rule(name: str, predicate: pl.Expr) -> Rule:
    return Rule(
        id=name, signal=name, title=name, description="", severity="low", stage="anomaly", tags=(), path="", digest=name, response=None,
        service="tool_call", predicate=(pl.col("event.type") == "tool_call") & predicate, fields=frozenset({"gen_ai.tool.name"}), alerts=False,
        suppress=None,
    )  # fmt: skip


ANY = _rule("any", pl.lit(value=True))
A = _rule("a", pl.col("gen_ai.tool.name") == "a")
B = _rule("b", pl.col("gen_ai.tool.name") == "b")
PLAIN = replace(_rule("plain", pl.col("gen_ai.tool.name") == "c"), alerts=True)


def _correlation(name: str, rules: tuple[str, ...], **more: Any) -> Correlation:
    fields: dict[str, Any] = {
        "id": name, "signal": name, "title": name, "description": "", "severity": "high", "stage": "anomaly", "tags": (), "path": "",
        "digest": name, "response": None, "service": "tool_call", "kind": "event_count", "rules": rules, "group_by": ("otel_ir.agent.id",),
        "timespan": 9, "within_events": None, "threshold": 2, "baseline": None, "suppress": 9,
    }  # fmt: skip
    return Correlation(**(fields | more))


def _tool(*names: str) -> Any:
    return lambda event: event["type"] == "tool_call" and (not names or event["tool"] in names)


CASES = {
    "count": (_correlation("count", ("any",)), Window("count", [_tool()], 9, 9, threshold=2)),
    "count, long suppress": (_correlation("count", ("any",), suppress=40), Window("count", [_tool()], 9, 40, threshold=2)),
    "count of nothing more": (_correlation("count", ("a",), threshold=0, timespan=5, suppress=3), Window("count", [_tool("a")], 5, 3)),
    "learnt": (
        _correlation("learnt", ("any",), timespan=6, baseline=Baseline(multiple=1.5, default=2, learn=1), threshold=3),
        Window("learnt", [_tool()], 6, 9, threshold=3, multiple=1.5, learn=1),
    ),
    "ordered": (
        _correlation("ordered", ("a", "b"), kind="temporal_ordered", threshold=0, timespan=20, suppress=20),
        Window("ordered", [_tool("a"), _tool("b")], 20, 20, ordered=True),
    ),
    "ordered, the same twice": (
        _correlation("twice", ("a", "a"), kind="temporal_ordered", threshold=0, timespan=20, suppress=5),
        Window("twice", [_tool("a"), _tool("a")], 20, 5, ordered=True),
    ),
    "within events": (
        _correlation("within", ("a", "b"), kind="temporal_ordered", threshold=0, timespan=1000, suppress=12, within_events=3),
        Window("within", [_tool("a"), _tool("b")], 1000, 12, ordered=True, within_events=3, service=_tool()),
    ),
}


def _want(records: list[Record], window: Window, limits: Limits) -> tuple[list[tuple], dict[str, int]]:
    weave, windows, alerts = ReferenceWeave(limits), ReferenceWindows(window, limits), []
    counts: dict[str, int] = {}
    for record in records:
        for group, event, inside in windows.fold(*weave.fold(record)):
            alerts.append((record.ordinal, group, event["trace"], event["span"], event["conversation"], tuple(inside)))
        counts |= windows.counts
        if record.ordinal % EPOCH == EPOCH - 1:
            weave.end_epoch(record.ordinal // EPOCH, record.received)
            windows.end_epoch(record.received)
    return sorted(alerts), {key.split("/", 1)[1]: count for key, count in counts.items()}


def _cut(seed: int, records: list[Record]) -> list[list[Record]]:
    cut = []
    for group in groupings(seed, records):
        part: list[Record] = []
        for record in group:
            part.append(record)
            if record.ordinal % EPOCH == EPOCH - 1:
                cut.append(part)
                part = []
        cut += [part] if part else []
    return cut


def _fold(cut: list[list[Record]], ruleset: RuleSet, limits: WindowLimits, traces: TraceLimits) -> tuple[list[Alert], list[AlertUpdate]]:
    weaver, detector = Weaver(traces), Detector(ruleset, limits)
    alerts: list[Alert] = []
    updates: list[AlertUpdate] = []
    for group in cut:
        woven = weaver.fold(*frames(group), CALL_SCHEMA.to_frame())
        new, more = detector.fold(woven.events, woven.patches, {record.ordinal: record.received for record in group})
        alerts += new
        updates += more
        if group[-1].ordinal % EPOCH == EPOCH - 1:
            weaver.end_epoch(group[-1].ordinal // EPOCH, group[-1].received)
            detector.end_epoch(group[-1].received)
    return alerts, updates


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 10**9),
    st.sampled_from(sorted(CASES)),
    st.integers(1, 3),
    st.integers(2, 24),
    st.sampled_from([30, 4]),
    st.sampled_from([4096, 3]),
    st.sampled_from([3600, 25]),
    st.floats(0, 1),
)
def test_alerts_equal_the_reference_under_any_framing(
    seed: int, case: str, traces: int, spans: int, lateness: int, max_rows: int, ttl: int, own: float
) -> None:
    records = stream(seed, Shape(records=17, traces=traces, spans=spans, own=own))
    correlation, window = CASES[case]
    want, counts = _want(records, window, Limits(epoch=EPOCH, lateness=lateness, max_rows=max_rows, trace_ttl=ttl))
    ruleset = RuleSet(rules=(ANY, A, B, PLAIN), correlations=(correlation,), digest="d", fields=frozenset())
    limits, trace_limits = WindowLimits(lateness=lateness, max_rows_per_group=max_rows), TraceLimits(epoch=EPOCH, ttl=ttl)
    told = []
    for cut in ([[record] for record in records], _cut(seed, records)):
        alerts, updates = _fold(cut, ruleset, limits, trace_limits)
        mine = [alert for alert in alerts if alert.rule_id == correlation.id]
        got = [
            (one.ordinal, one.agent_id, one.trace_id, one.span_id, one.conversation_id, tuple((ref.trace_id, ref.span_id) for ref in one.contributing))
            for one in mine
        ]
        assert sorted(got) == want
        ended = {f"{one.trace_id}/{one.span_id}": 1 for one in mine}
        place = {one.alert_id: f"{one.trace_id}/{one.span_id}" for one in mine}
        for update in updates:
            if update.count is not None:
                ended[place[update.alert_id]] = update.count
        assert ended == counts
        final = {update.alert_id: update for update in updates if update.agent_id is not None}
        told.append((alerts, final))
    assert told[0] == told[1]
