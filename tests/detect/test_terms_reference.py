"""``new_terms`` equals the reference fold: late identity and spans, eviction, aliases, inner alerts, under any framing, kills included."""

from __future__ import annotations

import random

from detect.test_fold_ways import ways
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.both import engine, framing, kind, reference
from reference.fold import Limits
from reference.streams import Shape, stream
from thorough import examples

EPOCH = 4
AGENT, TOOL, CONVERSATION, USER = "otel_ir.agent.id", "gen_ai.tool.name", "gen_ai.conversation.id", "user.id"
SIZE = "otel_ir.result.size"
CASES = (
    kind("tools of an agent", ("any",), terms=(TOOL,), timespan=20),
    kind("from the first on", ("any",), terms=(TOOL, SIZE), learn=0, timespan=9, suppress=6),
    kind("sizes of a tool", ("a", "b"), terms=(SIZE,), learn=2, group_by=(TOOL,), timespan=30, suppress=15),
    kind("agents of a tool", ("any",), terms=(AGENT,), group_by=(TOOL,), timespan=25),
    kind("agents and sizes of a talk", ("any",), terms=(SIZE, AGENT), group_by=(CONVERSATION,), timespan=40, suppress=3),
    kind("users of an agent", ("any",), terms=(USER,), learn=0, timespan=1000, suppress=10),
    kind("by agent or user", ("a", "b"), terms=(TOOL,), group_by=("who",), columns=((AGENT,), (USER,)), learn=0, timespan=15),
    kind("talks of a service", ("any",), terms=(CONVERSATION,), group_by=("service.name",), learn=3, timespan=60),
    kind("new tools twice", ("tools of an agent",), ("tools of an agent",), threshold=1, timespan=30, suppress=5),
    kind(
        "tools with news", ("tools of an agent",), ("tools of an agent",), terms=(TOOL,), group_by=("service.name",), learn=0, timespan=30
    ),
)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10**9),
    st.sampled_from([(1, 40), (2, 30), (4, 12), (8, 6)]),
    st.sampled_from([(1, 0.3), (1, 1.5), (2, 0.8), (3, 2.0)]),
    st.sampled_from([0, 2, 16, 1000]),
    st.sampled_from([(30, 4096, 3600), (4, 4096, 3600), (0, 3, 3600), (4, 4096, 25), (0, 1, 10)]),
)
def test_new_terms_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    (traces, spans), (agents, own), (lateness, max_rows, ttl) = tree, names, bounds
    chance = random.Random(seed)
    pace, skew = chance.choice([(3, 8), (3, 30), (6, 12), (1, 4)])
    shape = Shape(
        records=14, traces=traces, spans=spans, agents=agents, own=own, pace=pace, skew=skew, parents=chance.choice([1, 3, 1000]),
        senders=chance.choice([1, 2]),
    )  # fmt: skip
    records, limits = stream(seed, shape), Limits(epoch=EPOCH, lateness=lateness, max_rows=max_rows, trace_ttl=ttl)
    want = reference(records, CASES, limits)
    cut = framing(records, EPOCH, seed=seed, alone=chance.choice([0.0, 0.4, 1.0]))
    kills = chance.sample(range(1, len(cut) + 1), min(len(cut), chance.choice([0, 2])))
    with ways(way, chance.choice([0, 1 << 16])):
        assert engine(cut, CASES[::-1], limits, kills=kills) == want
