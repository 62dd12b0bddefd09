"""``new_terms``, by hand: tools that an agent did not call within 20 before, once it has called one."""

from __future__ import annotations

from typing import Any

import polars as pl
from reference.both import RULES, Case, correlation, kind, rule_set
from reference.script import EPOCH, At, agent, play, quiet, tool

from otel_ir.detect import Detector
from otel_ir.detect.terms import Terms
from otel_ir.detect.windows import WindowLimits
from otel_ir.sigma.ruleset import NewTerms

TOOL, AGENT = "gen_ai.tool.name", "otel_ir.agent.id"
TOOLS: Case = kind("tools", ("any",), terms=(TOOL,), timespan=20)


def _a(name: str, at: int, what: str = "a") -> dict[str, Any]:
    return tool(name, at, what, agent="x")


def _fires(one: Case, *rows: dict[str, Any], **limits: Any) -> list[str]:
    return [alert[2] for alert in play([[row] for row in rows], one, **limits).alerts]


def test_the_first_of_a_group_is_learnt_and_each_new_one_after_it_fires() -> None:
    assert _fires(TOOLS, _a("1", 1), _a("2", 2, "b"), _a("3", 3, "c"), _a("4", 4, "b"), _a("5", 5)) == ["2", "3"]


def test_a_group_needs_what_learn_says() -> None:
    rows = [_a(str(at), at, what) for at, what in enumerate("aabbcd", 1)]
    assert _fires(kind("none", ("any",), terms=(TOOL,), learn=0, timespan=20), *rows) == ["1", "3", "5", "6"]
    assert _fires(kind("two", ("any",), terms=(TOOL,), learn=2, timespan=20), *rows) == ["5", "6"]
    assert _fires(kind("three", ("any",), terms=(TOOL,), learn=3, timespan=20), *rows) == ["6"]


def test_a_value_is_new_again_after_a_timespan_and_not_before() -> None:
    assert _fires(TOOLS, _a("1", 1, "b"), _a("2", 15), _a("3", 20, "b")) == ["2"]
    assert _fires(TOOLS, _a("1", 1, "b"), _a("2", 15), _a("3", 21, "b")) == ["2", "3"]


def test_what_is_older_than_the_timespan_is_not_what_a_group_has() -> None:
    assert _fires(TOOLS, _a("1", 1, "b"), _a("2", 21)) == []
    assert _fires(TOOLS, _a("1", 1, "b"), _a("2", 20)) == ["2"]


def test_a_late_event_is_judged_by_what_came_before_it() -> None:
    assert _fires(TOOLS, _a("1", 1), _a("2", 9, "b"), _a("3", 5, "b")) == ["2"]
    assert _fires(TOOLS, _a("1", 1), _a("2", 9, "b"), _a("3", 5, "c"), _a("4", 8, "c")) == ["2", "3"]


def test_several_fields_are_one_value() -> None:
    pairs = kind("pairs", ("any",), terms=(TOOL, "otel_ir.result.size"), timespan=20)
    rows = [
        _a(str(at), at, what) | {"size": size} for at, (what, size) in enumerate([("a", 1), ("b", 2), ("a", 2), ("b", 2), ("a", None)], 1)
    ]
    assert _fires(pairs, *rows) == ["2", "3"]


def test_suppress_silences_the_group_and_counts() -> None:
    one = kind("tools", ("any",), terms=(TOOL,), timespan=20, suppress=5)
    shown = play([[_a(str(at), at, what) for at, what in enumerate("abcdefg", 1)]], one)
    assert [alert[2] for alert in shown.alerts] == ["2", "7"]
    assert shown.counts == {"2": 5, "7": 1}


def test_a_call_of_nobody_waits_until_its_agent_is_known() -> None:
    script = [[_a("1", 1)], [tool("2", 2, "b", parent="e"), tool("3", 3, "c", parent="e")], [agent("e", 4, "x")]]
    assert play(script[:2], TOOLS).alerts == []
    assert play(script, TOOLS).alerts == [(3, "x", "2", "2"), (3, "x", "3", "3")]


def test_a_call_that_moves_tells_its_new_group_and_fires_no_second_time() -> None:
    # 2 is x's by its sibling, and turns out to be y's: y has b from then on, and x keeps it.
    script = [
        [_a("1", 1), tool("8", 1, agent="y")], [tool("a", 2, agent="x", parent="e"), tool("2", 2, "b", parent="e")],
        [agent("e", 3, "y")], [tool("3", 4, "b", agent="y"), tool("4", 5, "b", agent="x")],
    ]  # fmt: skip
    shown = play(script, TOOLS)
    assert [one[2] for one in shown.alerts] == ["2"]
    assert shown.moved == [(3, "2", "y", "ancestor")]


def test_agents_that_are_new_to_a_tool() -> None:
    one = kind("agents", ("any",), terms=(AGENT,), group_by=(TOOL,), timespan=20)
    script = [[_a("1", 1)], [tool("2", 2, parent="e")], [tool("3", 3, agent="x")], [agent("e", 4, "y")]]
    assert [(ordinal, place.partition("@")[0]) for ordinal, _, place, _ in play(script, one).alerts] == [(4, "2")]


def test_terms_outlive_epochs_and_lateness() -> None:
    script = [[_a("1", 1)], At(2, [_a("2", 2, "b")]), *quiet(EPOCH), At(12), *quiet(EPOCH), At(19, [_a("3", 19, "b"), _a("4", 19, "c")])]
    assert [one[2] for one in play(script, TOOLS, lateness=0).alerts] == ["2", "4"]


def _terms(limits: WindowLimits) -> tuple[Detector, Terms]:
    one = correlation("tools", ("any",), kind="new_terms", new_terms=NewTerms((TOOL,), 1), timespan=10**15, threshold=0)
    detector = Detector(rule_set([(one, TOOLS[1])]), limits)
    (engine,) = detector.windows.values()
    assert isinstance(engine, Terms)
    assert RULES[0].id in one.rules
    return detector, engine


def test_bounds_are_kept_and_what_goes_is_counted() -> None:
    from reference.both import Engine
    from reference.fold import Limits
    from reference.script import records

    made = records([[_a(f"{number:x}", number, f"t{number}") for number in range(1, 11)], *quiet(EPOCH)])
    fold = Engine([TOOLS], Limits(epoch=EPOCH, lateness=600 * 10**9, max_rows=4, trace_ttl=3600))
    for record in made:
        fold.take([record])
    (terms,) = fold.detector.windows.values()
    assert isinstance(terms, Terms)
    assert terms._all().height == 4
    assert terms.store.all().height == 4
    assert fold.detector.evicted == 12


def test_what_is_known_is_found_without_looking_at_rows_one_by_one() -> None:
    _, terms = _terms(WindowLimits())
    number = 2000
    rows = pl.DataFrame(
        {
            "steps": [1] * number,
            "key": [at % 50 for at in range(number)], "time": range(number), "seq": range(number), "uid": range(number),
            "value": [at % 200 + 1 for at in range(number)], "hit": [False] * number, "who": [0] * number, "tool": [0] * number,
            "trace_high": [0] * number, "trace_low": [0] * number, "span": [0] * number, "ordinal": [1] * number,
        },
        schema=terms.store.all().schema | {"ordinal": pl.Int64},
    )  # fmt: skip
    moves = pl.DataFrame()
    alerts = iter(range(number))
    terms.fold(rows, moves, lambda *_: str(next(alerts)))
    terms.end_epoch(number)
    terms.fold(rows.with_columns(time=pl.col("time") + number, uid=pl.col("uid") + number), moves, lambda *_: str(next(alerts)))
    assert terms.live == {}
    assert terms._all()["last"].min() == 2 * number - 200
