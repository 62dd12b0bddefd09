"""The weaver equals the reference fold, however the records are framed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from reference.both import framing
from reference.fold import Limits, Record, ReferenceWeave
from reference.streams import Shape, frames, stream
from thorough import examples

from otel_ir.normalize.identity import TraceLimits
from otel_ir.normalize.messages import CALL_SCHEMA
from otel_ir.normalize.weave import Weaver

EPOCH = 4
COLUMNS = [
    "otel_ir.journal.ordinal",
    "otel_ir.event.id",
    "otel_ir.agent.id",
    "otel_ir.agent.id_source",
    "gen_ai.conversation.id",
    "user.id",
]


def _reference(records: list[Record], limits: Limits) -> tuple[list[tuple], list[tuple]]:
    weave, events, patches = ReferenceWeave(limits), [], []
    for record in records:
        new, patched = weave.fold(record)
        for rows, into in ((new, events), (patched, patches)):
            into += [(record.ordinal, f"{e['trace']}/{e['span']}", e["agent"], e["source"], e["conversation"], e["user"]) for e in rows]
        if record.ordinal % EPOCH == EPOCH - 1:
            weave.end_epoch(record.ordinal // EPOCH, record.received)
    return events, sorted(patches)


def _engine(cut: list[list[Record]], limits: TraceLimits) -> tuple[list[tuple], list[tuple]]:
    weaver, events, patches, known = Weaver(limits), [], [], {}
    for frame in cut:
        woven = weaver.fold(*frames(frame), CALL_SCHEMA.to_frame())
        events += woven.events.select(COLUMNS).rows()
        known |= {event: who for _, event, *who in woven.events.select(COLUMNS).rows()}
        for (at, event, *who), told in zip(woven.patches.select(COLUMNS).iter_rows(), woven.patches["error"], strict=True):
            # The reference knows no errors: a patch may only take one back (test_error_once.py).
            if who != known[event] or told is None:
                patches.append((at, event, *who))
            known[event] = who
        if frame[-1].ordinal % EPOCH == EPOCH - 1:
            weaver.end_epoch(frame[-1].ordinal // EPOCH, frame[-1].received)
    return events, sorted(patches)


@settings(max_examples=examples(60))
@given(
    st.integers(0, 10**9),
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from([1_000_000, 12, 4]),
    st.sampled_from([10_000, 18, 9]),
    st.sampled_from([64, 64, 2]),
    st.sampled_from([0.3, 1.0]),
    st.sampled_from([0.0, 0.4, 1.0]),
)
def test_the_weaver_equals_the_reference_under_any_framing(
    seed: int, traces: int, spans: int, max_nodes: int, ttl: int, max_hops: int, own: float, alone: float
) -> None:
    records = stream(seed, Shape(records=14, traces=traces, spans=spans, own=own))
    want = _reference(records, Limits(epoch=EPOCH, trace_ttl=ttl, max_nodes=max_nodes, max_hops=max_hops))
    limits = TraceLimits(epoch=EPOCH, ttl=ttl, max_nodes=max_nodes, max_hops=max_hops)
    assert _engine(framing(records, EPOCH, seed=seed, alone=alone), limits) == want


def test_a_tool_call_is_known_at_once_and_gets_its_agent_when_the_agents_span_ends() -> None:
    tool = {"trace": "1" * 32, "span": "a" * 16, "parent": "b" * 16, "service": "svc", "type": "tool_call", "tool": "t", "error": False}
    nobody = {"agent": None, "conversation": None, "user": None}
    agent = {
        "trace": "1" * 32,
        "span": "b" * 16,
        "parent": None,
        "service": "svc",
        "type": "agent_invocation",
        "tool": None,
        "error": False,
    }
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
