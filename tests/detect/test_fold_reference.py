"""Weaver and detector together equal the reference fold: every window kind, late identity, late spans, eviction, under any framing."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference.both import case, engine, framing, reference
from reference.fold import Limits
from reference.streams import Shape, stream
from thorough import examples

from otel_ir.sigma.ruleset import Baseline

EPOCH = 4
_ORDERED = {"kind": "temporal_ordered", "threshold": 0}
CASES = (
    case("count", ("any",)),
    case("count, long suppress", ("any",), suppress=40),
    case("count, short suppress", ("any",), threshold=3, timespan=20, suppress=4),
    # One row makes it true: after a pause longer than the timespan it is an edge again, however long the suppress.
    case("count of one, long suppress", ("a",), threshold=0, timespan=5, suppress=25),
    case("learnt", ("any",), timespan=6, baseline=Baseline(multiple=1.5, default=2, learn=1), threshold=3),
    case(
        "learnt from two, may be below one",
        ("a",),
        timespan=8,
        baseline=Baseline(multiple=0.5, default=2, learn=2),
        threshold=1,
        suppress=30,
    ),
    case("ordered", ("a", "b"), **_ORDERED, timespan=20, suppress=20),
    case("ordered, the same twice", ("a", "a"), **_ORDERED, timespan=20, suppress=5),
    case("within events", ("a", "b"), **_ORDERED, timespan=1000, suppress=12, within_events=3),
    case("within events and time", ("a", "b"), **_ORDERED, timespan=7, suppress=3, within_events=4),
    case("count within events", ("a",), threshold=1, timespan=30, suppress=6, within_events=4),
)


@settings(max_examples=examples(30))
@given(
    st.integers(0, 10**9),
    st.sampled_from([(1, 40), (2, 30), (4, 12), (8, 6)]),
    st.sampled_from([(1, 0.3), (1, 1.5), (2, 0.8), (3, 2.0)]),
    st.sampled_from([(3, 8), (3, 30), (6, 12), (1, 4)]),
    st.sampled_from([30, 4]),
    st.sampled_from([4096, 3]),
    st.sampled_from([3600, 25]),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([1, 2, 3, 1000]),
)
# A span comes again after its trace, its row and its alert's mark were forgotten.
@example(596, (2, 30), (1, 1.5), (6, 12), 4, 4096, 25, 0.0, 1000)
def test_alerts_equal_the_reference_under_any_framing(
    seed: int,
    tree: tuple[int, int],
    names: tuple[int, float],
    clock: tuple[int, int],
    lateness: int,
    max_rows: int,
    ttl: int,
    alone: float,
    parents: int,
) -> None:
    (traces, spans), (agents, own), (pace, skew) = tree, names, clock
    shape = Shape(records=12, traces=traces, spans=spans, agents=agents, own=own, pace=pace, skew=skew, parents=parents)
    records = stream(seed, shape)
    limits = Limits(epoch=EPOCH, lateness=lateness, max_rows=max_rows, trace_ttl=ttl)
    want = reference(records, CASES, limits)
    assert engine(framing(records, EPOCH, seed=seed, alone=alone), CASES, limits) == want
