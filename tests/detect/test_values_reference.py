"""Values, sums, rules together, aliases and correlations over correlations equal the reference fold: any framing, kills, late identity."""

from __future__ import annotations

import random

from detect.test_fold_ways import ways
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.both import Case, engine, framing, kind, reference
from reference.fold import Limits
from reference.streams import Shape, stream
from thorough import examples

EPOCH = 4
AGENT, TOOL, CONVERSATION, USER = "otel_ir.agent.id", "gen_ai.tool.name", "gen_ai.conversation.id", "user.id"
SIZE, AMOUNT = "otel_ir.result.size", "error.message"


def _values(name: str, threshold: float, *fields: str, **more: object) -> Case:
    return kind(
        name, ("any",), **({"kind": "value_count", "threshold": threshold, "fields": fields, "timespan": 20, "suppress": 20} | more)
    )


VALUES = (
    _values("tools", 2, TOOL),
    _values("tools, short suppress", 1, TOOL, suppress=4),
    _values("agents of a tool", 1, AGENT, group_by=(TOOL,)),
    _values("any agent of a tool", 0, AGENT, group_by=(TOOL,), suppress=6),
    _values("users of a service", 1, USER, group_by=("service.name",), suppress=5),
    _values("agents and tools", 2, AGENT, TOOL, group_by=("service.name",)),
    _values("agents and sizes of a conversation", 1, SIZE, AGENT, group_by=(CONVERSATION,), timespan=30, suppress=7),
)
SUMS = (
    _values("sizes", 5, SIZE, kind="value_sum"),
    _values("sizes, at least", 5, SIZE, kind="value_sum", op="gte", suppress=5),
    _values("sizes of a tool", 6, SIZE, kind="value_sum", group_by=(TOOL,), timespan=9),
    _values("amounts", 0.6, AMOUNT, kind="value_sum", op="gte"),
    _values("amounts, huge", 1e300, AMOUNT, kind="value_sum", timespan=40, suppress=3),
    _values("below nothing", -3, SIZE, kind="value_sum"),
)
TOGETHER = (
    kind("both", ("a", "b"), kind="temporal", timespan=20, suppress=20),
    kind("the same twice", ("a", "a", "c"), kind="temporal", timespan=12, suppress=5),
    kind("two of three", ("a", "b", "c"), kind="temporal", timespan=9, suppress=4, clauses=((0, 1), (0, 2), (1, 2))),
    kind("one, or two others", ("a", "b", "c"), kind="temporal", timespan=9, suppress=9, clauses=((2,), (0, 1)), group_by=(CONVERSATION,)),
    kind("in order, two of three", ("a", "b", "c"), kind="temporal_ordered", timespan=20, suppress=8, clauses=((0, 1), (0, 2), (1, 2))),
    kind("near, two of three", ("a", "b", "c"), kind="temporal_ordered", timespan=90, within_events=4, clauses=((0, 1), (1, 2))),
)
ALIASED = (
    kind("a by agent, b by user", ("a", "b"), kind="temporal", timespan=30, suppress=9, group_by=("who",), columns=((AGENT,), (USER,))),
    kind("tools by name or conversation", ("any", "a"), threshold=1, group_by=("it",), columns=((TOOL,), (CONVERSATION,)), timespan=30),
    kind(
        "in order, by two",
        ("a", "b", "any"),
        kind="temporal_ordered",
        timespan=60,
        suppress=9,
        group_by=("it", AGENT),
        columns=((CONVERSATION, AGENT), (CONVERSATION, AGENT), (USER, AGENT)),
    ),
    kind(
        "values of either",
        ("a", "any"),
        kind="value_count",
        fields=(TOOL,),
        threshold=1,
        timespan=40,
        group_by=("it",),
        columns=((CONVERSATION,), (USER,)),
    ),
)
INNER = (
    kind("twice", ("any",), threshold=1, timespan=9, suppress=4),
    kind("tools", ("any",), kind="value_count", fields=(TOOL,), threshold=1, timespan=12, suppress=3, group_by=(CONVERSATION,)),
    kind("often", ("twice",), ("twice",), threshold=1, timespan=30, suppress=5),
    kind(
        "agents that do it twice", ("twice",), ("twice",), kind="value_count", fields=(AGENT,), threshold=0, group_by=(TOOL,), timespan=40
    ),
    kind("a, then twice", ("a", "twice"), ("twice",), kind="temporal_ordered", timespan=40, suppress=7),
    kind("two kinds", ("tools", "twice"), ("tools", "twice"), kind="temporal", timespan=60, group_by=(CONVERSATION,)),
    kind("over it all", ("often", "two kinds", "b"), ("often", "two kinds"), threshold=1, timespan=80, group_by=("service.name",)),
    kind("of a person", ("tools",), ("tools",), threshold=0, timespan=80, group_by=("p",), columns=((USER,),)),
    kind("over people", ("of a person",), ("of a person",), kind="value_count", fields=("p",), threshold=1, timespan=80, group_by=(AGENT,)),
)


def _holds(
    cases: tuple[Case, ...], seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    (traces, spans), (agents, own), (lateness, max_rows, ttl) = tree, names, bounds
    chance = random.Random(seed)
    pace, skew = chance.choice([(3, 8), (3, 30), (6, 12), (1, 4)])
    shape = Shape(
        records=12, traces=traces, spans=spans, agents=agents, own=own, pace=pace, skew=skew, parents=chance.choice([1, 3, 1000]),
        senders=chance.choice([1, 2]),
    )  # fmt: skip
    records, limits = stream(seed, shape), Limits(epoch=EPOCH, lateness=lateness, max_rows=max_rows, trace_ttl=ttl)
    want = reference(records, cases, limits)
    cut = framing(records, EPOCH, seed=seed, alone=chance.choice([0.0, 0.4, 1.0]))
    kills = chance.sample(range(1, len(cut) + 1), min(len(cut), chance.choice([0, 2])))
    with ways(way, chance.choice([0, 1 << 16])):
        assert engine(cut, cases[::-1], limits, kills=kills) == want


GIVEN = (
    st.integers(0, 10**9),
    st.sampled_from([(1, 40), (2, 30), (4, 12), (8, 6)]),
    st.sampled_from([(1, 0.3), (2, 0.8), (3, 2.0)]),
    st.sampled_from([0, 2, 16, 1000]),
    st.sampled_from([(30, 4096, 3600), (30, 3, 3600), (4, 4096, 25)]),
)


@settings(max_examples=examples(25))
@given(*GIVEN)
def test_distinct_values_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    _holds(VALUES, seed, tree, names, way, bounds)


@settings(max_examples=examples(25))
@given(*GIVEN)
def test_sums_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    _holds(SUMS, seed, tree, names, way, bounds)


@settings(max_examples=examples(25))
@given(*GIVEN)
def test_rules_together_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    _holds(TOGETHER, seed, tree, names, way, bounds)


@settings(max_examples=examples(25))
@given(*GIVEN)
def test_aliases_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    _holds(ALIASED, seed, tree, names, way, bounds)


@settings(max_examples=examples(25))
@given(*GIVEN)
def test_correlations_over_correlations_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int]
) -> None:
    _holds(INNER, seed, tree, names, way, bounds)
