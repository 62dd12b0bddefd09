"""The watch over containments equals the reference fold: late identity, repeats, releases, wider selectors, framing and kills."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference.both import case, engine, framing, reference
from reference.fold import Limits
from reference.streams import Shape, controlled, stream
from thorough import examples

EPOCH = 4
CASES = (case("count", ("any",)),)


@settings(max_examples=examples(40))
@given(
    st.integers(0, 10**9),
    st.sampled_from([(1, 40), (2, 30), (4, 12), (8, 6)]),
    st.sampled_from([(1, 0.3), (2, 0.8), (2, 1.5), (3, 2.0)]),
    st.sampled_from([(3, 8), (3, 2), (6, 12)]),
    st.sampled_from([3600, 25]),
    st.sampled_from([3600, 12]),
    st.sampled_from([200_000, 5]),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.integers(1, 12),
    st.sampled_from([1, 2]),
    st.sampled_from([0.0, 0.3]),
)
# A span comes again after its trace was forgotten, while a window still holds it, and the new one's agent becomes known.
@example(136165, (4, 12), (2, 1.5), (6, 12), 25, 3600, 200_000, 0.0, 3, 1, 0.0)
# A kill after exactly four spans: as many as a span has columns in the checkpoint.
@example(2027, (1, 40), (1, 0.3), (3, 2), 3600, 3600, 200_000, 0.0, 1, 1, 0.3)
@example(2027, (1, 40), (2, 0.8), (6, 12), 3600, 3600, 200_000, 0.0, 1, 1, 0.3)
def test_violations_equal_the_reference_under_any_framing_and_kills(
    seed: int,
    tree: tuple[int, int],
    names: tuple[int, float],
    clock: tuple[int, int],
    ttl: int,
    keep: int,
    max_waiting: int,
    alone: float,
    controls: int,
    senders: int,
    dying: float,
) -> None:
    (traces, spans), (agents, own), (pace, skew) = tree, names, clock
    shape = Shape(records=14, traces=traces, spans=spans, agents=agents, own=own, pace=pace, skew=skew, senders=senders)
    records = controlled(seed, stream(seed, shape), controls, agents)
    limits = Limits(epoch=EPOCH, trace_ttl=ttl, keep=keep, max_waiting=max_waiting)
    want = reference(records, CASES, limits)
    cut = framing(records, EPOCH, seed=seed, alone=alone)
    chance = random.Random(seed)
    kills = [at for at in range(1, len(cut) + 1) if chance.random() < dying]
    assert engine(cut, CASES, limits, kills=kills) == want


def test_the_streams_show_what_they_are_for() -> None:
    # A property that never meets a violation proves nothing.
    shape = Shape(records=14, traces=2, spans=30, agents=2, own=0.8)
    told = [reference(controlled(seed, stream(seed, shape), 6, 2), CASES, Limits(epoch=EPOCH)) for seed in range(40)]
    actions = [(alert, one) for one in told for alert in one.alerts if alert[1].startswith("act-")]
    assert len(actions) > 40
    assert any(one.counts[alert[1], alert[3]] > 2 for alert, one in actions)
    assert any(move[1].startswith("act-") for one in told for move in one.moved)
