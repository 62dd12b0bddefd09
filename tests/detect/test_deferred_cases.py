"""What waits for time to pass, by hand. Lateness 10, steps of 1: what is decided at t fires in the first record received after t + 10."""

from __future__ import annotations

from typing import Any

from reference.both import Case, kind
from reference.script import EPOCH, At, Script, Shown, agent, play, quiet, span, tool

from otel_ir.sigma.ruleset import Clause

FEWER: Case = kind("fewer", ("any",), op="lt", threshold=3, timespan=10, suppress=10)
ORDERED: dict[str, Any] = {"kind": "temporal_ordered", "threshold": 0}
NO_C = kind("a then b, no c", ("a", "b"), clauses=((0, 1),), absent="c", **ORDERED, timespan=20, suppress=20)
NO_B = kind("a, no b", ("a",), clauses=((0,),), absent="b", where="after", **ORDERED, timespan=5, suppress=5)


def _play(script: Script, one: Case | list[Case], **more: Any) -> Shown:
    return play(script, one, **({"lateness": 10, "step": 1} | more))


def _a(name: str, at: int, what: str = "a") -> dict[str, Any]:
    return tool(name, at, what, agent="x")


def test_fewer_looks_forward_and_waits_for_its_window_and_the_lateness() -> None:
    # [1, 11) has three rows; [5, 15) and [6, 16) have two and one. 15 and the lateness are past with the record received at 25.
    script = [[_a("1", 1), _a("2", 5), _a("3", 6)], At(24), At(25), At(26)]
    assert _play(script, FEWER).alerts == [(3, "x", "2", "2 3")]
    assert _play(script, FEWER).counts == {"2": 2}


def test_the_end_of_a_window_is_open() -> None:
    # A row exactly one timespan later is out: [1, 11) has two rows, [2, 12) has two.
    assert _play([[_a("1", 1), _a("2", 2), _a("3", 11)], At(20)], FEWER).alerts == []
    assert _play([[_a("1", 1), _a("2", 2), _a("3", 11)], At(21)], FEWER).alerts == [(2, "x", "1", "1 2")]
    assert _play([[_a("1", 1), _a("2", 2), _a("3", 10)], At(20)], FEWER).alerts == []


def test_the_watermark_moves_in_steps() -> None:
    script = [[_a("1", 1)], At(21), At(29), At(30), At(31)]
    assert _play(script, FEWER, step=1).alerts[0][0] == 2
    assert _play(script, FEWER, step=20).alerts[0][0] == 4


def test_a_late_row_inside_the_lateness_is_counted() -> None:
    late = [[_a("1", 1), _a("2", 2)], At(20, [_a("3", 10)]), At(21)]
    assert _play(late, FEWER).alerts == []
    assert _play([late[0], At(21), At(22, [_a("3", 10)]), At(23)], FEWER).alerts == [(2, "x", "1", "1 2")]


def test_a_row_that_comes_after_it_was_due_is_judged_at_the_next_advance_and_nobody_again() -> None:
    script = [[_a("1", 1)], At(30), At(50, [_a("2", 2)]), At(50), At(51)]
    shown = _play(script, FEWER, step=1)
    assert shown.alerts == [(2, "x", "1", "1")]
    assert shown.counts == {"1": 2}  # it belongs to the run of the alert


def test_average_percentile_and_median() -> None:
    def of(name: str, one: str, op: str, threshold: float, **more: Any) -> Case:
        fields = ("otel_ir.result.size",)
        return kind(name, ("any",), kind=one, op=op, threshold=threshold, fields=fields, timespan=10, suppress=100, **more)

    script = [[_a(str(at), at) | {"size": size} for at, size in enumerate([1, 2, 9, None, 4], 1)], At(40)]
    cases = [
        of("average", "value_avg", "gte", 4), of("p50", "value_percentile", "gt", 2, percentile=50),
        of("p100", "value_percentile", "eq", 9, percentile=100), of("median", "value_median", "eq", 3), of("never", "value_avg", "gt", 4),
    ]  # fmt: skip
    # 1 | 1 2 | 1 2 9 | 1 2 9 4: averages 1, 1.5, 4, 4; medians 1, 1.5, 2, 3; nearest ranks of 50 %: 1, 1, 2, 2.
    assert [alert[2] for alert in _play(script, cases).alerts] == ["average 3", "median 5", "p100 3"]


def test_nothing_between_the_latest_beginning_and_the_end() -> None:
    def fires(tools: str) -> list[str]:
        script = [[_a(str(at), at, one) for at, one in enumerate(tools, 1)], At(60)]
        return [alert[2] for alert in _play(script, NO_C).alerts]

    assert fires("ab") == ["2"]
    assert fires("acb") == []
    assert fires("cab") == ["3"]
    assert fires("abc") == ["2"]
    assert fires("acab") == ["4"]  # the second a begins a sequence without c
    assert fires("abacb") == ["2"]
    assert fires("abab") == ["2"]  # the next b is in the same run
    assert fires("abacbab") == ["2", "7"]  # and after a b that was preceded by c it is an edge


def test_nothing_after_it_within_the_timespan() -> None:
    # (t, t + 5): a b at the very time of the a, or exactly 5 later, does not count.
    assert _play([[_a("1", 10), _a("2", 15, "b")], At(24), At(25)], NO_B).alerts == [(3, "x", "1", "1")]
    assert _play([[_a("1", 10), _a("2", 14, "b")], At(60)], NO_B).alerts == []
    assert _play([[_a("1", 10), _a("2", 10, "b")], At(60)], NO_B).alerts == [(2, "x", "1", "1")]


def test_a_clause_without_a_rule_waits_for_late_rows() -> None:
    one = kind("a, not b", ("a", "b"), clauses=(Clause((0,), (1,)),), kind="temporal", timespan=10, suppress=10)
    assert _play([[_a("1", 5)], At(15), At(16)], one).alerts == [(3, "x", "1", "1")]
    assert _play([[_a("1", 5)], At(15, [_a("2", 4, "b")]), At(16)], one).alerts == []


def test_a_row_that_moves_before_it_is_due_is_judged_where_it_comes_to() -> None:
    # Two calls of an agent whose name comes late join two that are known: four are not fewer than three.
    known = [_a("1", 1), _a("2", 2)]
    unknown = [tool("3", 3, parent="e"), tool("4", 4, parent="e")]
    assert [one[:3] for one in _play([known, unknown, [agent("e", 5, "x")], At(60)], FEWER).alerts] == [(4, "x", "3")]
    assert [one[:3] for one in _play([known, unknown, At(60)], FEWER).alerts] == [(3, "x", "1"), (3, "~e", "3")]


def test_an_alert_moves_with_its_row_and_is_not_judged_again() -> None:
    shown = _play([[tool("1", 1)], At(30), At(31, [agent("f", 31, "x")]), At(90)], FEWER)
    assert shown.alerts == [(2, "~f", "1", "1")]
    assert shown.moved == [(3, "1", "x", "ancestor")]


def test_what_waits_survives_an_epoch() -> None:
    script: Script = [[_a("1", 1)], *quiet(EPOCH), At(21), *quiet(EPOCH)]
    assert [one[:3] for one in _play(script, FEWER).alerts] == [(EPOCH + 2, "x", "1")]


def test_a_record_that_brings_nothing_moves_time() -> None:
    script = [[_a("1", 1)], At(40, [span("9", 40)])]
    assert _play(script, FEWER).alerts == [(2, "x", "1", "1")]


def test_over_what_waits_a_row_waits_for_the_alerts_that_may_still_come() -> None:
    # Within 20 of the alert at 1 there is another, at 15, that is known at 25 only. After that there is none in [15, 35), known at 44.
    once = kind("once", ("fewer",), ("fewer",), op="eq", threshold=1, timespan=20, suppress=20)
    script = [[_a("1", 1)], [_a("2", 15)], At(34), At(35), At(45), At(53), At(54)]
    shown = _play(script, [FEWER, once])
    assert [one[:3] for one in shown.alerts] == [(3, "x", "fewer 1"), (4, "x", "fewer 2"), (7, "x", "once 2")]
