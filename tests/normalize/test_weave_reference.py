"""The weaver equals the reference fold, however the records are framed."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.fold import Limits, Record, ReferenceWeave
from reference.streams import Shape, frames, groupings, stream

from otel_ir.normalize.identity import TraceLimits
from otel_ir.normalize.messages import CALL_SCHEMA
from otel_ir.normalize.weave import Weaver

EPOCH = 8
COLUMNS = ["otel_ir.journal.ordinal", "otel_ir.event.id", "otel_ir.agent.id", "otel_ir.agent.id_source", "gen_ai.conversation.id", "user.id"]


def _reference(records: list[Record], limits: Limits) -> tuple[list[tuple], list[tuple]]:
    weave, events, patches = ReferenceWeave(limits), [], []
    for record in records:
        new, patched = weave.fold(record)
        for rows, into in ((new, events), (patched, patches)):
            into += [
                (record.ordinal, f"{e['trace']}/{e['span']}", e["agent"], e["source"], e["conversation"], e["user"]) for e in rows
            ]
        if record.ordinal % EPOCH == EPOCH - 1:
            weave.end_epoch(record.ordinal // EPOCH, record.received)
    return events, sorted(patches)


def _engine(frames_of: list[list[Record]], limits: TraceLimits) -> tuple[list[tuple], list[tuple]]:
    weaver, events, patches = Weaver(limits), [], []
    for group in frames_of:
        woven = weaver.fold(*frames(group), CALL_SCHEMA.to_frame())
        events += woven.events.select(COLUMNS).rows()
        patches += woven.patches.select(COLUMNS).rows()
        if group[-1].ordinal % EPOCH == EPOCH - 1:
            weaver.end_epoch(group[-1].ordinal // EPOCH, group[-1].received)
    return events, sorted(patches)


def _cut(seed: int, records: list[Record]) -> list[list[Record]]:
    cut = []
    for group in groupings(seed, records):
        part: list[Record] = []
        for record in group:
            part.append(record)
            if record.ordinal % EPOCH == EPOCH - 1:
                cut.append(part)
                part = []
        if part:
            cut.append(part)
    return cut


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 4), st.integers(1, 9), st.sampled_from([1_000_000, 6]), st.sampled_from([10_000, 20]))
def test_the_weaver_equals_the_reference_under_any_framing(seed: int, traces: int, spans: int, max_nodes: int, ttl: int) -> None:
    records = stream(seed, Shape(records=24, traces=traces, spans=spans))
    want = _reference(records, Limits(epoch=EPOCH, trace_ttl=ttl, max_nodes=max_nodes))
    limits = TraceLimits(epoch=EPOCH, ttl=ttl, max_nodes=max_nodes)
    for cut in ([[record] for record in records], _cut(seed, records)):
        got = _engine(cut, limits)
        assert got[0] == want[0]
        assert got[1] == want[1]


def test_a_tool_call_is_known_at_once_and_gets_its_agent_when_the_agents_span_ends() -> None:
    tool = {"trace": "1" * 32, "span": "a" * 16, "parent": "b" * 16, "service": "svc", "type": "tool_call", "tool": "t", "error": False}
    nobody = {"agent": None, "conversation": None, "user": None}
    agent = {"trace": "1" * 32, "span": "b" * 16, "parent": None, "service": "svc", "type": "agent_invocation", "tool": None, "error": False}
    named = {"agent": "svc/triage", "conversation": "c-1", "user": None}
    place = {"position": 0, "time": 5}
    first = Record(1, 5, [tool | nobody | place | {"lends": True}], [tool | nobody | place])
    second = Record(2, 9, [agent | named | place | {"lends": False}], [agent | named | place])
    weaver = Weaver()
    woven = weaver.fold(*frames([first]), CALL_SCHEMA.to_frame())
    assert woven.events["otel_ir.agent.id"].to_list() == [f"svc/~{'1' * 32}/{'b' * 16}"]
    assert woven.patches.is_empty()
    patches = weaver.fold(*frames([second]), CALL_SCHEMA.to_frame()).patches
    assert patches.select("otel_ir.journal.ordinal", "otel_ir.agent.id", "otel_ir.agent.id_source", "gen_ai.conversation.id").rows() == [
        (2, "svc/triage", "ancestor", "c-1")
    ]
    assert weaver.open.filter(pl.col("otel_ir.agent.id_source") == "none").is_empty()
