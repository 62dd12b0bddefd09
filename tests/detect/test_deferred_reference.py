"""What waits equals the reference fold: every kind, late identity, late spans, eviction, under any framing, kills included."""

from __future__ import annotations

import random
from typing import Any

from detect.test_fold_ways import ways
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reference.both import Case, engine, framing, kind, reference
from reference.fold import Limits
from reference.streams import Shape, stream
from thorough import examples

from otel_ir.sigma.ruleset import Clause

EPOCH = 4
AGENT, TOOL, CONVERSATION, USER = "otel_ir.agent.id", "gen_ai.tool.name", "gen_ai.conversation.id", "user.id"
SIZE, AMOUNT = "otel_ir.result.size", "error.message"


def _number(name: str, of: str, op: str, threshold: float, *fields: str, **more: Any) -> Case:
    return kind(name, ("any",), kind=of, op=op, threshold=threshold, fields=fields, **more)


NUMBERS = (
    _number("fewer", "event_count", "lt", 3),
    _number("not two, by tool", "event_count", "neq", 2, group_by=(TOOL,), timespan=12, suppress=30),
    _number("just two, soon again", "event_count", "eq", 2, timespan=6, suppress=2),
    _number("few tools", "value_count", "lte", 2, TOOL, timespan=12),
    _number("few known agents", "value_count", "lt", 2, AGENT, group_by=(TOOL,)),
    _number("few agents and sizes", "value_count", "lt", 3, SIZE, AGENT, group_by=(CONVERSATION,), timespan=20),
    _number("small sum", "value_sum", "lt", 4, SIZE, timespan=8, suppress=20),
    _number("sum of next to nothing", "value_sum", "eq", 0.3, AMOUNT, timespan=8, suppress=2),
    _number("high average", "value_avg", "gt", 1.5, SIZE, timespan=10, suppress=4),
    _number("average amount", "value_avg", "lte", 0.2, AMOUNT, timespan=20),
    _number("low percentile", "value_percentile", "lte", 2, SIZE, percentile=80, timespan=20),
    _number("high percentile", "value_percentile", "gte", 0.3, AMOUNT, percentile=34, timespan=30, group_by=(TOOL,)),
    _number("median", "value_median", "gte", 2, SIZE, timespan=14),
    _number("huge median", "value_median", "neq", 0.2, AMOUNT, timespan=30, suppress=3),
)
ORDERED: dict[str, Any] = {"kind": "temporal_ordered", "threshold": 0}
AB = (Clause((0, 1)),)
STEPS = (
    kind("a or b and no c", ("a", "b", "c"), clauses=[Clause((0,), (2,)), Clause((1,), (0, 2))], kind="temporal", timespan=10),
    kind("in order and no c", ("a", "b", "c"), clauses=[Clause((0, 1), (2,))], **ORDERED, timespan=15, suppress=40),
    kind("b after a, no c between", ("a", "b"), clauses=AB, absent="c", **ORDERED, timespan=25, suppress=10),
    kind("any after a, no a between", ("a", "any"), clauses=AB, absent="a", **ORDERED, timespan=25, suppress=10, group_by=(CONVERSATION,)),
    kind("a twice, no b after", ("a", "a"), clauses=AB, absent="b", where="after", **ORDERED, timespan=15, suppress=15),
    kind("a, no b after", ("a",), clauses=[Clause((0,))], absent="b", where="after", **ORDERED, timespan=6, suppress=3),
    kind(
        "a by agent, no b by user", ("a", "b"), clauses=[Clause((0,), (1,))], kind="temporal", timespan=20, group_by=("who",),
        columns=((AGENT,), (USER,)),
    ),
)  # fmt: skip
INNER = (
    kind("twice", ("any",), threshold=1, timespan=9, suppress=4),
    _number("fewer", "event_count", "lt", 3, suppress=3),
    _number("sizes of a talk", "value_avg", "gt", 1, SIZE, group_by=(CONVERSATION,), suppress=5),
    kind("fewer of it twice", ("fewer",), ("fewer",), threshold=1, timespan=30, suppress=5),
    kind("twice, but not again", ("twice",), ("twice",), op="eq", threshold=1, timespan=20, suppress=5),
    kind("fewer, and fewer again", ("fewer",), ("fewer",), op="neq", threshold=2, timespan=20, suppress=5, group_by=(TOOL,)),
    kind("twice, no b after", ("twice",), ("twice",), clauses=[Clause((0,))], absent="b", where="after", **ORDERED, timespan=12),
    kind(
        "talks", ("sizes of a talk", "twice"), ("sizes of a talk", "twice"), op="lt", threshold=3, timespan=12, group_by=("service.name",)
    ),
)


GIVEN = (
    st.integers(0, 10**9),
    st.sampled_from([(1, 40), (2, 30), (4, 12), (8, 6)]),
    st.sampled_from([(1, 0.3), (1, 1.5), (2, 0.8), (3, 2.0)]),
    st.sampled_from([0, 2, 16, 1000]),
    st.sampled_from([(30, 4096, 3600), (4, 4096, 3600), (0, 3, 3600), (4, 4096, 25)]),
    st.sampled_from([1, 3, 10]),
)


def _holds(
    cases: tuple[Case, ...], seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int], step: int
) -> None:
    (traces, spans), (agents, own), (lateness, max_rows, ttl) = tree, names, bounds
    chance = random.Random(seed)
    pace, skew = chance.choice([(3, 8), (3, 30), (6, 12), (1, 4)])
    shape = Shape(
        records=14, traces=traces, spans=spans, agents=agents, own=own, pace=pace, skew=skew, parents=chance.choice([1, 3, 1000]),
        senders=chance.choice([1, 2]),
    )  # fmt: skip
    records, limits = stream(seed, shape), Limits(epoch=EPOCH, lateness=lateness, max_rows=max_rows, trace_ttl=ttl, step=step)
    finish = chance.random() < 0.5
    want = reference(records, cases, limits, finish=finish)
    cut = framing(records, EPOCH, seed=seed, alone=chance.choice([0.0, 0.4, 1.0]))
    kills = chance.sample(range(1, len(cut) + 1), min(len(cut), chance.choice([0, 2])))
    with ways(way, chance.choice([0, 1 << 16])):
        assert engine(cut, cases[::-1], limits, kills=kills, finish=finish) == want


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow])
@given(*GIVEN)
def test_numbers_equal_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int], step: int
) -> None:
    _holds(NUMBERS, seed, tree, names, way, bounds, step)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow])
@given(*GIVEN)
def test_what_must_not_be_there_equals_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int], step: int
) -> None:
    _holds(STEPS, seed, tree, names, way, bounds, step)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow])
@given(*GIVEN)
# Few events come, and many alerts of inner correlations.
@example(1496, (1, 40), (1, 0.3), 2, (30, 4096, 3600), 1)
def test_what_waits_over_and_under_other_correlations_equals_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], way: int, bounds: tuple[int, int, int], step: int
) -> None:
    _holds(INNER, seed, tree, names, way, bounds, step)
