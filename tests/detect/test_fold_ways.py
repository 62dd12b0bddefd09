"""The fold has a way for few rows and one for many, and forgets words now and then: each equals the reference, and each other."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from detect.test_fold_reference import CASES, EPOCH
from engine.otlp_stream import records
from engine.test_engine_determinism import _run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.both import engine, framing, reference
from reference.fold import Limits
from reference.streams import Shape, stream
from thorough import examples

from otel_ir.detect import detector
from otel_ir.rules_path import shipped_rules
from otel_ir.sigma import load_rules

SWITCHES = ("FEW", "_FEW")


@contextmanager
def ways(few: int, words: int) -> Iterator[None]:
    """Up to ``few`` rows go the way for few, and words are forgotten above so many."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for switch in SWITCHES:
                if name.startswith("otel_ir.") and isinstance(getattr(module, switch, None), int):
                    patch.setattr(module, switch, few)
        patch.setattr(detector, "MANY_WORDS", words)
        yield


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10**9),
    st.sampled_from([(1, 40), (4, 12), (8, 6)]),
    st.sampled_from([(1, 0.3), (2, 0.8), (3, 2.0)]),
    st.sampled_from([(3, 30), (6, 12)]),
    st.sampled_from([0, 2, 16, 1000]),
    st.sampled_from([0, 1 << 16]),
    st.sampled_from([0.0, 1.0]),
)
def test_every_way_equals_the_reference(
    seed: int, tree: tuple[int, int], names: tuple[int, float], clock: tuple[int, int], few: int, words: int, alone: float
) -> None:
    (traces, spans), (agents, own), (pace, skew) = tree, names, clock
    shape = Shape(records=12, traces=traces, spans=spans, agents=agents, own=own, pace=pace, skew=skew, parents=3)
    made, limits = stream(seed, shape), Limits(epoch=EPOCH, lateness=30, max_rows=4096, trace_ttl=60)
    want = reference(made, CASES, limits)
    with ways(few, words):
        assert engine(framing(made, EPOCH, seed=seed, alone=alone), CASES, limits) == want


@settings(max_examples=examples(6), suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9), st.sampled_from([0, 1000]), st.sampled_from([0, 1 << 16]))
def test_bytes_of_requests_come_to_the_same_alerts(seed: int, few: int, words: int) -> None:
    ruleset, errors = load_rules([shipped_rules()])
    assert not errors
    made = records(seed, 60)
    want = _run(ruleset, made, list(range(1, 61)), set())
    chance = random.Random(seed)
    some = sorted({*chance.sample(range(1, 60), 12), 60})
    with ways(few, words):
        assert _run(ruleset, made, list(range(1, 61)), set()) == want
        assert _run(ruleset, made, some, set(chance.sample(range(1, 60), 8))) == want
