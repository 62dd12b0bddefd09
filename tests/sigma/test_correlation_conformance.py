"""``conformance/correlation_*.yml``: small cases of every kind of correlation, over the rules ``a``, ``b``, ``c``, ``d``.

``k`` is the correlation (its timespan is 10 s, its rules are [a], unless it says otherwise), ``more`` other keys of its document. An event
is written as ``letters seconds field=value …``: the rules that match it, when, and its fields; a ``.`` matches none. ``fires`` are the
indices of the completing events, by time. Every case runs through ``rules eval`` in one batch, in small ones, and through the reference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ir.detect.over_events import OverEvents
from otel_ir.sigma.evaluate import Evaluator

from . import correlation_reference as reference
from .conftest import library_of

FILES = sorted((Path(__file__).parent / "conformance").glob("correlation_*.yml"))
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in FILES
    for case in yaml.safe_load(file.read_text(encoding="utf-8"))["cases"]
]
RULES = [
    {"title": name, "name": name, "logsource": {"product": "windows"}, "detection": {"s": {"e": name}, "condition": "s"}} for name in "abcd"
]


def document_of(case: dict[str, Any]) -> dict[str, Any]:
    correlation = {"rules": ["a"], "timespan": "10s"} | case["k"]
    more: dict[str, Any] = case.get("more", {})
    return {"title": "case", "name": "case", "correlation": correlation, **more}


def event_of(written: str) -> dict[str, Any]:
    letters, seconds, *fields = written.split()
    found = {"e": list(letters.strip(".")), "t": yaml.safe_load(seconds)}
    return found | {name: yaml.safe_load(value) for name, _, value in (field.partition("=") for field in fields)}


def lines_of(events: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(event | {"t": f"{event['t']:.9f}", "n": number}) for number, event in enumerate(events)]


def evaluated(documents: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[tuple[int, tuple[str, ...]]]:
    library = library_of(*RULES, *documents)
    evaluator = Evaluator(library)
    assert not library.errors, [str(error) for error in library.errors]
    with OverEvents(evaluator.correlations, {"case"}, "t") as correlated:
        evaluator.heard = correlated.hear
        list(evaluator.hits(lines_of(events)))
        assert correlated.untimed == correlated.cut == 0
        return [(json.loads(match.line)["n"], tuple(match.group.values())) for match in correlated.matches()]


def expected(document: dict[str, Any], events: list[dict[str, Any]]) -> list[tuple[int, tuple[str, ...]]]:
    return reference.fires(document, [event | {"rules": set(event["e"])} for event in events])


def test_there_are_cases_of_everything() -> None:
    assert len(CASES) >= 80
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    events, document = [event_of(written) for written in case["events"]], document_of(case)
    inner = [document_of(one) | {"name": one["name"], "title": one["name"]} for one in case.get("inner", [])]
    found = evaluated([*inner, document], events)
    assert [index for index, _ in found] == case["fires"]
    if not inner:
        assert [index for index, _ in expected(document, events)] == case["fires"], "the reference"
    monkeypatch.setattr("otel_ir.sigma.evaluate.BATCH", 2)
    assert evaluated([*inner, document], events) == found


EVENT = st.fixed_dictionaries(
    {
        "e": st.lists(st.sampled_from("abcd"), max_size=2, unique=True),
        "t": st.integers(0, 24) | st.integers(0, 240).map(lambda tenths: tenths / 8),
        "u": st.sampled_from(["x", "x", "y", None]),
        "w": st.sampled_from(["x", "y", None]),
        "v": st.sampled_from([0, 1, 2, 3, -1, 0.5, "2", "z", None]),
    }
)
OPS = ("gt", "gte", "lt", "lte", "eq", "neq")
GROUP = st.sampled_from([{}, {"group-by": ["u"]}, {"group-by": ["u", "w"]}])
SOME = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
COUNTS = st.tuples(
    st.sampled_from([("gt", 1), ("gt", 2), ("gte", 2), ("gte", 1), ("lt", 2), ("lte", 1), ("eq", 1), ("eq", 2), ("neq", 1)])
).map(lambda one: dict([one[0]]))
LIMITS = st.tuples(st.sampled_from(OPS), st.sampled_from([0, 1, 1.5, 2, 3])).map(lambda one: dict([one]))
CONDITIONS = st.sampled_from(["a and b", "a or b and c", "a and not b", "(a or b) and not c", "a and (b or not c)", "a and b and c"])
COUNTING = st.builds(
    lambda kind, rules, group, counts, limits: {
        "k": {
            "type": kind,
            "rules": rules,
            "condition": (counts if kind in ("event_count", "value_count") else limits)
            | ({"field": "v"} if kind != "event_count" else {})
            | ({"percentile": 50} if kind == "value_percentile" else {}),
        }
        | group
    },
    st.sampled_from(["event_count", "value_count", "value_sum", "value_avg", "value_median", "value_percentile"]),
    SOME, GROUP, COUNTS, LIMITS,
)  # fmt: skip
TOGETHER = st.builds(
    lambda kind, condition, group: {"k": {"type": kind, "rules": [*"abc"]} | ({"condition": condition} if condition else {}) | group},
    st.sampled_from(["temporal", "temporal_ordered"]),
    st.none() | CONDITIONS.filter(lambda text: "c" in text) | st.sampled_from([{"gte": 2}, {"gte": 1}]),
    GROUP,
)  # fmt: skip
ALIASED = st.sampled_from(["temporal", "temporal_ordered", "event_count"]).map(
    lambda kind: {"k": {"type": kind, "rules": ["a", "b"], "group-by": ["g"], "aliases": {"g": {"a": "u", "b": "w"}}}
                  | ({"condition": {"gte": 2}} if kind == "event_count" else {})}
)  # fmt: skip
WITHIN = st.builds(
    lambda count, group: {"k": {"type": "temporal_ordered", "rules": ["a", "b"]} | group, "more": {"within-events": count}},
    st.integers(2, 4), GROUP,
)  # fmt: skip
ABSENT = st.builds(
    lambda steps, where, group: {
        "k": {"type": "temporal_ordered", "rules": steps} | group,
        "more": {"absence": {"rule": "d", "where": where}},
    },
    st.sampled_from([["a", "b"], ["a", "b", "c"]]), st.sampled_from(["between", "after"]), GROUP,
)  # fmt: skip
NEW = st.builds(
    lambda learn, group: {
        "k": {"type": "event_count", "rules": ["a", "b"], "condition": {"gte": 1}} | group,
        "more": {"new_terms": {"fields": ["v"], "learn": learn}},
    },
    st.integers(0, 2), GROUP,
)  # fmt: skip
CASE = st.tuples(
    st.one_of(COUNTING, COUNTING, TOGETHER, ALIASED, WITHIN, ABSENT, NEW), st.sampled_from([None, None, "1s", "4s", "30s"])
).map(lambda both: both[0] | {"more": both[0].get("more", {}) | ({"suppress": both[1]} if both[1] else {})})


@settings(max_examples=250, deadline=None)
@given(CASE, st.lists(EVENT, max_size=14))
def test_eval_agrees_with_the_naive_reading(case: dict[str, Any], events: list[dict[str, Any]]) -> None:
    document = document_of(case)
    assert sorted(evaluated([document], events)) == sorted(expected(document, events))
