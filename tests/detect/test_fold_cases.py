"""What exactly fires, and when: small cases written out by hand, each run through the reference fold and the engine (``script.play``)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from reference.both import Case, case
from reference.script import SECOND, At, agent, model, play, quiet, span, tool

from otel_ir.sigma.ruleset import Baseline

COUNT = case("count", ("any",), timespan=10, suppress=10)
"""More than 2 tool calls in 10 ns."""
ORDERED = case("ordered", ("a", "b"), kind="temporal_ordered", threshold=0, timespan=10, suppress=10)
OWN = {"agent": "x"}
"""A span that names its agent itself."""


def count(threshold: int = 2, **more: Any) -> Case:
    return case("count", ("any",), threshold=threshold, **({"timespan": 10, "suppress": 10} | more))


def within(events: int, timespan: int = 1000) -> Case:
    return case("near", ("a", "b"), kind="temporal_ordered", threshold=0, timespan=timespan, suppress=timespan, within_events=events)


# --- Identity that arrives late -------------------------------------------------------------------------------------------------


def test_tools_come_before_the_agent_and_the_alert_gets_its_address_later() -> None:
    shown = play([[tool("1", 1)], [tool("2", 2), tool("3", 3)], [agent("f", 4, "triage")]], COUNT)
    assert shown.alerts == [(2, "~f", "3", "1 2 3")]
    assert shown.moved == [(3, "3", "triage", "ancestor")]
    assert shown.counts == {"3": 1}


def test_an_agent_in_the_same_record_is_known_at_once() -> None:
    shown = play([[tool("1", 1), tool("2", 2), tool("3", 3), agent("f", 4, "triage")]], COUNT)
    assert shown.alerts == [(1, "triage", "3", "1 2 3")]
    assert shown.moved == []


def test_a_sibling_lends_and_then_the_ancestor_wins() -> None:
    shown = play(
        [[tool("1", 1), tool("2", 2), tool("3", 3)], [model("4", 4, agent="helper")], [tool("5", 4)], [agent("f", 5, "triage")]], COUNT
    )
    assert shown.alerts == [(1, "~f", "3", "1 2 3")]
    assert shown.moved == [(2, "3", "helper", "sibling"), (4, "3", "triage", "ancestor")]
    assert shown.counts == {"3": 2}


def test_only_the_first_sibling_lends_and_structure_or_an_agents_span_does_not() -> None:
    lenders = [
        span("4", 4, agent="structure"),
        agent("5", 4, "child", parent="f"),
        model("6", 4, agent="first"),
        model("7", 4, agent="second"),
    ]
    shown = play([[tool("1", 1), tool("2", 2), tool("3", 3)], *([one] for one in lenders)], COUNT)
    assert shown.moved == [(4, "3", "first", "sibling")]


@pytest.mark.parametrize("order", list(itertools.permutations((0, 1, 2))))
def test_a_chain_over_structure_is_found_in_whatever_order_its_spans_come(order: tuple[int, ...]) -> None:
    chain = [span("c", 5, parent="d"), span("d", 6, parent="e"), agent("e", 7, "triage")]
    shown = play([[tool("1", 1, parent="c"), tool("2", 2, parent="c"), tool("3", 3, parent="c")], *([chain[one]] for one in order)], COUNT)
    assert shown.alerts == [(1, "~c", "3", "1 2 3")]
    assert shown.moved == [(4, "3", "triage", "ancestor")]


def test_a_span_that_has_not_come_is_not_skipped() -> None:
    shown = play([[tool("1", 1), tool("2", 2), tool("3", 3)], [agent("d", 4, "outer")], [agent("f", 5, "inner", parent="d")]], COUNT)
    assert shown.moved == [(3, "3", "inner", "ancestor")]


def test_an_agent_that_never_comes_leaves_the_parent_as_its_name() -> None:
    shown = play([[tool("1", 1), tool("2", 2), tool("3", 3)], [tool("4", 4, parent="e"), tool("5", 5, parent="e")], *quiet(6)], COUNT)
    assert shown.alerts == [(1, "~f", "3", "1 2 3")]
    assert shown.moved == []


def test_a_root_tool_span_has_its_trace_as_a_name_for_good() -> None:
    shown = play(
        [[tool("1", 1, parent=None), tool("2", 2, parent=None)], [tool("3", 3, parent=None)], [model("4", 4, parent=None, **OWN)]], COUNT
    )
    assert shown.alerts == [(2, "~", "3", "1 2 3")]
    assert shown.moved == []


def test_at_most_so_many_ancestors_are_asked() -> None:
    chain = [span("c", 5, parent="d"), span("d", 6, parent="e"), agent("e", 7, "triage")]
    tools = [tool("1", 1, parent="c"), tool("2", 2, parent="c"), tool("3", 3, parent="c")]
    assert play([tools, chain], COUNT, max_hops=3).moved == [(2, "3", "triage", "ancestor")]
    assert play([tools, chain], COUNT, max_hops=2).moved == []


@pytest.mark.parametrize("cycle", [[span("f", 4, parent="f")], [span("f", 4, parent="e"), span("e", 4, parent="f")]])
def test_spans_that_are_their_own_ancestors_end_nowhere(cycle: list[dict[str, Any]]) -> None:
    shown = play([[tool("1", 1), tool("2", 2)], *([one] for one in cycle), [tool("3", 3)]], COUNT)
    assert shown.alerts == [(len(cycle) + 2, "~f", "3", "1 2 3")]
    assert shown.moved == []


def test_an_alert_moves_with_the_conversation_too() -> None:
    shown = play([[tool("1", 1, **OWN), tool("2", 2, **OWN), tool("3", 3, **OWN)], [model("4", 4, conversation="c")]], COUNT)
    assert shown.moved == [(2, "3", "x", "own")]


# --- Two provisional groups become one agent ------------------------------------------------------------------------------------


def _two_parents(*, second: int = 2) -> list[list[dict[str, Any]]]:
    one = [tool(f"e{number}", 2 * number, parent="e") for number in (1, 2)]
    other = [tool(f"d{number}", 2 * number + 1, parent="d") for number in range(1, second + 1)]
    return [one, other, [span("e", 9, parent="f"), span("d", 9, parent="f")], [agent("f", 9, "triage")]]


def test_the_window_is_judged_again_where_groups_merge_and_the_alert_fires_there() -> None:
    shown = play(_two_parents(), COUNT)
    assert shown.alerts == [(4, "triage", "e2", "e1 d1 e2")]
    assert shown.counts == {"e2": 2}
    assert shown.moved == []


def test_an_alert_that_had_fired_keeps_its_id_and_takes_in_what_merges_with_it() -> None:
    shown = play(_two_parents(second=3), COUNT)
    assert shown.alerts == [(2, "~d", "d3", "d1 d2 d3")]
    assert shown.moved == [(4, "d3", "triage", "ancestor")]
    # e1 d1 e2 d2 d3: e2 and d2 are the third and fourth of the merged run, in front of the alert.
    assert shown.counts == {"d3": 3}


def test_an_alert_of_each_of_two_groups_stays_when_they_merge() -> None:
    shown = play([*_two_parents(second=3)[:2], [tool("e3", 8, parent="e")], *_two_parents()[2:], [tool("1", 9, agent="triage")]], COUNT)
    assert [(record, who, place) for record, who, place, _ in shown.alerts] == [(2, "~d", "d3"), (3, "~e", "e3")]
    assert shown.moved == [(5, "d3", "triage", "ancestor"), (5, "e3", "triage", "ancestor")]
    assert shown.counts == {"d3": 3, "e3": 2}


def test_a_name_alone_raises_no_count() -> None:
    shown = play([[tool(str(at), at) for at in range(1, 8)], [agent("f", 8, "triage")]], COUNT)
    assert shown.alerts == [(1, "~f", "3", "1 2 3")]
    assert shown.counts == {"3": 5}
    assert shown.moved == [(2, "3", "triage", "ancestor")]


def test_rows_that_left_are_counted_no_more_and_a_late_row_judges_those_who_stayed() -> None:
    lent = [tool("1", 1, parent="e"), tool("2", 2, parent="e"), model("9", 2, parent="e", **OWN)]
    leave = [agent("e", 5, "y")]
    script = [lent, [tool("3", 3, **OWN)], leave, [tool("4", 2, **OWN)], [tool("5", 4, **OWN)]]
    shown = play(script, COUNT)
    # 3 fired with 1 and 2; without them it is false when 4 makes it judged again, so 5 is a new edge.
    assert [alert[:3] for alert in shown.alerts] == [(2, "x", "3"), (5, "x", "5")]
    assert shown.counts == {"3": 1, "5": 1}


def test_nobody_who_stays_is_judged_again_because_somebody_left() -> None:
    lent = [tool("1", 1, parent="e"), tool("2", 2, parent="e"), model("9", 2, parent="e", **OWN)]
    shown = play(
        [lent, [tool("3", 3, **OWN), tool("4", 4, **OWN)], [agent("e", 5, "y")], [tool("5", 6, **OWN), tool("6", 7, **OWN)]], COUNT
    )
    # 4 is still true as it was judged; 5 sees 3, 4, 5.
    assert [alert[:3] for alert in shown.alerts] == [(2, "x", "3")]
    assert shown.counts == {"3": 4}


def test_an_alert_goes_along_with_its_row() -> None:
    lent = [tool("1", 1, **OWN), tool("2", 2, **OWN), model("9", 2, parent="e", **OWN), tool("3", 3, parent="e")]
    shown = play([lent, [agent("e", 5, "y")], [tool("4", 4, **OWN)]], count(timespan=10, suppress=100))
    # The alert at 3 is y's now; x's third call is an edge of its own.
    assert [alert[:3] for alert in shown.alerts] == [(1, "x", "3"), (3, "x", "4")]
    assert shown.moved == [(2, "3", "y", "ancestor")]


def test_an_alert_that_went_along_holds_back_nobody_who_stayed() -> None:
    lent = [tool("1", 1, **OWN), tool("2", 2, **OWN), model("9", 2, parent="e", **OWN), tool("3", 3, parent="e"), tool("4", 4, **OWN)]
    shown = play([lent, [agent("e", 5, "y")], [tool("5", 5, **OWN)]], count(suppress=100))
    assert [alert[:3] for alert in shown.alerts] == [(1, "x", "3"), (3, "x", "5")]
    assert shown.counts == {"3": 2, "5": 1}


# --- Lateness -------------------------------------------------------------------------------------------------------------------


def test_a_late_span_completes_a_window_at_the_span_that_came_before_it() -> None:
    shown = play([[tool("1", 1, **OWN)], [tool("3", 9, **OWN)], [tool("2", 5, **OWN)]], COUNT)
    assert shown.alerts == [(3, "x", "3", "1 2 3")]


def test_a_late_step_completes_a_sequence() -> None:
    shown = play([[tool("2", 9, "b", **OWN)], [tool("1", 5, "a", **OWN)], [tool("3", 10, "b", **OWN)]], ORDERED)
    assert shown.alerts == [(2, "x", "2", "1 2")]
    assert shown.counts == {"2": 2}


def test_a_late_row_in_front_of_an_alert_belongs_to_it() -> None:
    shown = play([[tool(str(at), at, **OWN) for at in (3, 4, 5, 6)], [tool("1", 1, **OWN)], [tool("2", 2, **OWN)]], COUNT)
    assert [alert[:3] for alert in shown.alerts] == [(1, "x", "5")]
    # 5 fired, 6 raised; with 1 also 4 is a third one, and with 2 also 3 (and 6, 5 and 4 are judged again, but counted once).
    assert shown.counts == {"5": 4}


def test_a_late_run_that_ends_before_the_alert_fires_by_itself() -> None:
    shown = play([[tool(str(at), 20 + at, **OWN) for at in (1, 2, 3)], [tool(f"a{at}", at, **OWN) for at in (1, 2, 3)]], COUNT)
    assert [alert[:3] for alert in shown.alerts] == [(1, "x", "3"), (2, "x", "a3")]


@pytest.mark.parametrize(("before", "fires"), [(quiet(4), True), (quiet(5), False)])
def test_rows_later_than_the_bound_are_forgotten_where_the_epoch_ends(before: list[Any], fires: bool) -> None:
    first = [[tool("1", 1, **OWN), tool("2", 2, **OWN)], At(100)]
    shown = play([*first, *before, [tool("3", 3, **OWN)]], COUNT, lateness=20)
    assert bool(shown.alerts) == fires


@pytest.mark.parametrize(("received", "fires"), [(30, True), (31, False)])
def test_a_row_is_kept_for_lateness_and_timespan_to_the_nanosecond(received: int, fires: bool) -> None:
    shown = play([[tool("1", 1, **OWN), tool("2", 2, **OWN)], At(received), *quiet(5), [tool("3", 3, **OWN)]], COUNT, lateness=20)
    assert bool(shown.alerts) == fires


@pytest.mark.parametrize(("received", "alerts"), [(62, ["3"]), (63, ["3", "27"])])
def test_an_alert_holds_back_for_lateness_and_suppress_to_the_nanosecond(received: int, alerts: list[str]) -> None:
    run = [tool(f"{at:x}", at, **OWN) for at in (1, 2, 3, *range(5, 38, 2))]
    shown = play([run, At(received), *quiet(5), [tool("27", 39, **OWN)]], count(suppress=40), lateness=20)
    assert [alert[2] for alert in shown.alerts] == alerts


# --- Edges ----------------------------------------------------------------------------------------------------------------------


def test_a_run_fires_once_and_its_other_rows_raise_the_count() -> None:
    shown = play([[tool(str(at), at, **OWN)] for at in range(1, 9)], COUNT)
    assert shown.alerts == [(3, "x", "3", "1 2 3")]
    assert shown.counts == {"3": 6}


def test_it_fires_again_after_the_condition_turned_false_however_long_the_suppress() -> None:
    shown = play([[tool(f"{at:x}", at, **OWN)] for at in (1, 2, 3, 20, 21, 22, 23)], count(suppress=10 * SECOND))
    assert [alert[:3] for alert in shown.alerts] == [(3, "x", "3"), (6, "x", "16")]
    assert shown.counts == {"3": 1, "16": 2}


def test_a_single_row_that_is_enough_is_an_edge_after_a_pause_of_a_timespan() -> None:
    one = count(0, suppress=10 * SECOND)
    assert [alert[2] for alert in play([[tool("1", 1, **OWN)], [tool("2", 10, **OWN)]], one).alerts] == ["1"]
    assert [alert[2] for alert in play([[tool("1", 1, **OWN)], [tool("2", 11, **OWN)]], one).alerts] == ["1", "2"]


def test_while_it_stays_true_it_fires_again_after_suppress_and_not_one_nanosecond_earlier() -> None:
    times = (1, 2, 3, 7, 12, 13, 18, 22, 23)
    shown = play([[tool(f"{at:x}", at, **OWN)] for at in times], COUNT)
    assert [alert[2] for alert in shown.alerts] == ["3", "d", "17"]
    assert shown.counts == {"3": 3, "d": 3, "17": 1}
    longer = play([[tool(f"{at:x}", at, **OWN)] for at in times], count(suppress=15))
    assert [alert[2] for alert in longer.alerts] == ["3", "12"]
    assert longer.counts == {"3": 4, "12": 3}


def test_suppress_shorter_than_the_timespan() -> None:
    shown = play([[tool(str(at), at, **OWN)] for at in range(1, 9)], count(suppress=2))
    assert [alert[2] for alert in shown.alerts] == ["3", "5", "7"]
    assert shown.counts == {"3": 2, "5": 2, "7": 2}


def test_another_agent_is_held_back_by_nobody() -> None:
    shown = play([[tool(f"{who}{at}", at, agent=who)] for at in (1, 2, 3) for who in ("a", "b")], COUNT)
    assert [alert[1:3] for alert in shown.alerts] == [("a", "a3"), ("b", "b3")]


# --- Ties, thresholds, borders --------------------------------------------------------------------------------------------------


def test_of_rows_at_the_same_time_the_journal_decides_which_completes() -> None:
    same = [tool(name, 5, **OWN) for name in ("3", "1", "2", "4")]
    assert play([same], COUNT).alerts == [(1, "x", "2", "3 1 2")]
    assert play([[one] for one in same], COUNT).alerts == [(3, "x", "2", "3 1 2")]
    assert play([same], COUNT).counts == {"2": 2}


def test_of_steps_at_the_same_time_the_journal_decides_which_is_first() -> None:
    first, second = tool("1", 5, "a", **OWN), tool("2", 5, "b", **OWN)
    assert play([[first, second]], ORDERED).alerts == [(1, "x", "2", "1 2")]
    assert play([[second, first]], ORDERED).alerts == []
    assert play([[second], [first]], ORDERED).alerts == []


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_more_than_the_threshold_and_not_as_many(threshold: int) -> None:
    rows = [[tool(str(at), at, **OWN)] for at in range(1, threshold + 2)]
    assert play(rows[:-1], count(threshold)).alerts == []
    assert [alert[2] for alert in play(rows, count(threshold)).alerts] == [str(threshold + 1)]


@pytest.mark.parametrize(("last", "fires"), [(9, True), (10, False), (11, False)])
def test_the_left_border_of_the_window_is_open_to_the_nanosecond(last: int, fires: bool) -> None:
    assert bool(play([[tool("1", 0, **OWN), tool("2", 5, **OWN)], [tool("3", last, **OWN)]], COUNT).alerts) == fires
    assert bool(play([[tool("1", 0, "a", **OWN)], [tool("2", last, "b", **OWN)]], ORDERED).alerts) == fires
    hour = 3600 * SECOND
    long = count(timespan=hour, suppress=hour)
    assert bool(play([[tool("1", 0, **OWN), tool("2", 5, **OWN)], [tool("3", hour - 10 + last, **OWN)]], long).alerts) == fires


def test_an_event_far_in_the_past_is_outside() -> None:
    assert play([[tool("1", 1 * SECOND, **OWN), tool("2", 1 * SECOND, **OWN)], [tool("3", 1, **OWN)]], COUNT).alerts == []


def test_steps_in_order_with_others_between() -> None:
    mixed = [tool(str(at), at, what, **OWN) for at, what in enumerate("bcacb", start=1)]
    assert play([mixed], ORDERED).alerts == [(1, "x", "5", "1 3 5")]
    assert play([mixed[:3]], ORDERED).alerts == []


def test_the_newest_first_step_in_reach_is_enough() -> None:
    steps = [tool("1", 1, "a", **OWN), tool("2", 8, "a", **OWN), tool("3", 12, "b", **OWN)]
    assert play([[one] for one in steps], ORDERED).alerts == [(3, "x", "3", "2 3")]


def test_one_call_is_one_step_even_where_it_matches_two() -> None:
    twice = case("twice", ("any", "any"), kind="temporal_ordered", threshold=0, timespan=10, suppress=10)
    assert play([[tool("1", 1, **OWN)]], twice).alerts == []
    assert play([[tool("1", 1, **OWN), tool("2", 2, **OWN)]], twice).alerts == [(1, "x", "2", "1 2")]


# --- within-events --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "fires"), [(5, False), (6, True)])
def test_within_events_counts_both_ends(events: int, fires: bool) -> None:
    row = [tool("1", 1, "a", **OWN), *(tool(str(at), at, "c", **OWN) for at in range(2, 6)), tool("6", 6, "b", **OWN)]
    shown = play([row], within(events))
    assert shown.alerts == ([(1, "x", "6", "1 6")] if fires else [])
    assert bool(play([[one] for one in row], within(events)).alerts) == fires


def test_within_events_follows_the_journal_and_not_the_time() -> None:
    first, second = tool("1", 1, "a", **OWN), tool("2", 2, "b", **OWN)
    assert play([[second], [first]], within(5)).alerts == []
    assert [alert[2] for alert in play([[first | {"time": second["time"] + 5}], [second]], within(5)).alerts] == ["2"]


def test_within_events_counts_only_events_of_the_rules_type_and_of_the_group() -> None:
    others = [model(f"a{number}", 2, **OWN) for number in range(9)] + [tool(f"b{number}", 2, "c", agent="y") for number in range(9)]
    assert [alert[2] for alert in play([[tool("1", 1, "a", **OWN)], others, [tool("2", 3, "b", **OWN)]], within(2)).alerts] == ["2"]


def test_within_events_keeps_the_timespan_too() -> None:
    steps = [tool("1", 1, "a", **OWN), tool("2", 11, "b", **OWN)]
    assert play([steps], within(5, timespan=10)).alerts == []
    assert len(play([steps], within(5, timespan=11)).alerts) == 1


def test_within_events_when_a_row_comes_in_between_by_moving() -> None:
    # 1 and 2 stand side by side; c, which came between them, turns out to be x's as well.
    script = [
        [tool("1", 1, "a", **OWN)],
        [tool("c", 2, "c", parent="e")],
        [tool("2", 3, "b", **OWN)],
        [agent("e", 4, "x")],
        [tool("3", 5, "b", **OWN)],
    ]
    shown = play(script, within(2))
    assert [alert[2] for alert in shown.alerts] == ["2"]
    assert shown.counts == {"2": 1}


# --- Eviction -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rest", "fires"), [(5, True), (6, False)])
def test_rows_beyond_the_bound_of_a_group_go_where_the_epoch_ends(rest: int, fires: bool) -> None:
    shown = play([[tool(str(at), at, **OWN) for at in (1, 2, 3)], *quiet(rest), [tool("4", 4, **OWN)]], count(3), max_rows=2)
    assert bool(shown.alerts) == fires


def test_the_newest_rows_of_a_group_are_kept() -> None:
    old_late = [[tool("3", 18, **OWN), tool("2", 17, **OWN)], [tool("1", 1, **OWN)], *quiet(5)]
    assert [alert[2] for alert in play([*old_late, [tool("4", 19, **OWN)]], COUNT, max_rows=2).alerts] == ["4"]


@pytest.mark.parametrize(("received", "moves"), [(100, True), (101, False)])
def test_a_trace_past_its_time_keeps_the_identity_it_has(received: int, moves: bool) -> None:
    # The first epoch ends at 100 (record 7); the second at ``received`` (record 15).
    script = [[tool(str(at), at) for at in (1, 2, 3)], At(50), *quiet(12), At(50 + received), [agent("f", 4, "triage")]]
    shown = play(script, COUNT, trace_ttl=100)
    assert shown.moved == ([(16, "3", "triage", "ancestor")] if moves else [])


@pytest.mark.parametrize(("most", "moves"), [(4, True), (3, False)])
def test_beyond_the_bound_of_spans_the_oldest_epoch_goes(most: int, moves: bool) -> None:
    script = [[tool(str(at), at) for at in (1, 2, 3)], *quiet(9), [tool("4", 4, parent="d", **OWN)], *quiet(4), [agent("f", 4, "triage")]]
    shown = play(script, COUNT, max_nodes=most)
    assert bool(shown.moved) == moves


def test_a_span_that_is_repeated_after_its_trace_was_forgotten_is_new() -> None:
    script = [[tool("1", 1, **OWN), tool("2", 2, **OWN)], *quiet(14), [tool("2", 2, **OWN)]]
    assert play(script, COUNT).alerts == []
    assert [alert[2] for alert in play(script, COUNT, max_nodes=1).alerts] == ["2"]


# --- Learnt baselines -----------------------------------------------------------------------------------------------------------


def learnt(learn: int, multiple: float = 2.0) -> Case:
    """More than 3 in 10 ns, or than ``multiple`` times what is normal for the agent."""
    return case("learnt", ("any",), timespan=10, suppress=10, threshold=3, baseline=Baseline(multiple=multiple, default=1.5, learn=learn))


CALM = [[tool("a1", 1, **OWN)], [tool("a2", 11, **OWN)], [tool("a3", 21, **OWN)], At(50), *quiet(3)]
"""One call in each of three windows; the epoch ends with them closed (lateness 10)."""
BURST = [tool(f"{at:x}", at, **OWN) for at in (61, 62, 63)]


@pytest.mark.parametrize(("learn", "fires"), [(3, True), (4, False)])
def test_a_rate_holds_once_enough_windows_were_learnt(learn: int, fires: bool) -> None:
    assert bool(play([*CALM, BURST], learnt(learn), lateness=10).alerts) == fires


def test_a_rate_is_of_its_own_group() -> None:
    others = [one | {"agent": "svc/y"} for one in BURST]
    assert play([*CALM, others], learnt(3), lateness=10).alerts == []


def test_nothing_is_learnt_before_the_epoch_ends() -> None:
    assert play([*CALM[:-1], BURST], learnt(3), lateness=10).alerts == []


@pytest.mark.parametrize(("received", "fires"), [(40, True), (39, False)])
def test_a_window_is_learnt_when_it_is_older_than_the_lateness(received: int, fires: bool) -> None:
    script = [*CALM[:3], At(received), *quiet(3), BURST]
    assert bool(play(script, learnt(3), lateness=10).alerts) == fires


def test_windows_above_the_threshold_teach_nothing() -> None:
    attack = [tool(f"b{number}", 31, **OWN) for number in range(4)]
    shown = play([*CALM[:3], attack, *CALM[3:-1], BURST], learnt(3), lateness=10)
    assert [alert[2] for alert in shown.alerts] == ["b3", "3f"]
    # Three in a window is not above: it is learnt, and then six are normal.
    busy = play([*CALM[:3], attack[:3], *CALM[3:-1], BURST], learnt(4), lateness=10)
    assert busy.alerts == []


def test_late_rows_of_closed_windows_teach_nothing() -> None:
    late = [[tool(f"c{at}", at, **OWN)] for at in (2, 3, 12, 13, 22, 23)]
    script = [*CALM, *late, At(55), [], [tool(f"{at:x}", at, **OWN) for at in (61, 62, 63)]]
    assert len(play(script, learnt(3), lateness=10).alerts) == 1


def test_a_row_that_moves_is_counted_where_it_comes_to() -> None:
    lent = [
        [tool("a1", 1, parent="e")],
        [tool("a2", 11, parent="e")],
        [tool("a3", 21, parent="e")],
        [agent("e", 22, "x")],
        At(50),
        *quiet(2),
    ]
    assert len(play([*lent, BURST], learnt(3), lateness=10).alerts) == 1
    provisional = [one | {"agent": None, "parent": f"{0xE:016x}"} for one in BURST]
    assert len(play([*lent, provisional], learnt(3), lateness=10).alerts) == 1


# --- Rule sets ------------------------------------------------------------------------------------------------------------------


def test_a_new_rule_set_keeps_what_did_not_change_and_drops_what_is_gone() -> None:
    script = [
        [tool("1", 1, "a", **OWN), tool("2", 2, "a", **OWN)],
        [],  # from here on without ORDERED
        [tool("3", 3, "c", **OWN)],
        [],  # ORDERED is back, and empty
        [tool("4", 4, "b", **OWN)],
        [tool("5", 5, "a", **OWN), tool("6", 6, "b", **OWN)],
    ]
    shown = play(script, [COUNT, ORDERED], switches={2: [COUNT], 4: [COUNT, ORDERED]})
    assert [alert[:3] for alert in shown.alerts] == [(3, "x", "count 3"), (6, "x", "ordered 6")]
    assert shown.counts == {"count 3": 4, "ordered 6": 1}


def test_an_alert_of_a_rule_that_is_gone_still_gets_its_address() -> None:
    shown = play([[tool("1", 1), tool("2", 2), tool("3", 3)], [], [agent("f", 4, "triage")]], [COUNT, ORDERED], switches={2: [ORDERED]})
    assert shown.alerts == [(1, "~f", "count 3", "1 2 3")]
    assert shown.moved == [(3, "count 3", "triage", "ancestor")]


def test_rules_judge_alone_what_each_of_them_sees() -> None:
    other = case("other", ("b",), threshold=1, timespan=100, suppress=100)
    script = [[tool("1", 1, "a", **OWN)], [tool("2", 2, "b", **OWN)], [tool("3", 3, "a", **OWN)], [tool("4", 50, "b", **OWN)]]
    shown = play(script, [COUNT, ORDERED, other])
    assert [alert[:3] for alert in shown.alerts] == [(2, "x", "ordered 2"), (3, "x", "count 3"), (4, "x", "other 4")]


# --- Repeats --------------------------------------------------------------------------------------------------------------------


def test_a_span_that_is_delivered_again_counts_once_wherever_it_comes() -> None:
    one, two, three = (tool(str(at), at, **OWN) for at in (1, 2, 3))
    for script in ([[one, two, two, one]], [[one, two], [two], [one, two]], [[one], [one, one], [one, two]]):
        shown = play(script, COUNT)
        assert shown.alerts == []
        assert len(play([*script, [three, one], [three]], COUNT).alerts) == 1


def test_the_first_delivery_counts_also_where_the_second_one_says_more() -> None:
    rows = [tool("1", 1), tool("2", 2), tool("3", 3)]
    shown = play([rows, [one | {"agent": "svc/y", "time": one["time"] + 1} for one in rows]], COUNT)
    assert shown.alerts == [(1, "~f", "3", "1 2 3")]
    assert shown.moved == []


def test_what_lends_does_so_once() -> None:
    shown = play([[tool("1", 1), tool("2", 2), tool("3", 3)], [model("4", 4)], [model("4", 4, agent="late")]], COUNT)
    assert shown.moved == []


def test_the_same_ids_of_another_sender_are_other_spans() -> None:
    mine = [tool(str(at), at, sender="s1", **OWN) for at in (1, 2)]
    theirs = [tool("1", 3, sender="s2", **OWN)]
    assert play([mine, theirs], COUNT).alerts == [(2, "x", "s2:1", "1 2 1")]


def test_another_sender_lends_no_identity() -> None:
    mine = [tool(str(at), at, sender="s1", **OWN) for at in (1, 2, 3)]
    shown = play(
        [mine, [agent("f", 4, "triage", sender="s2", conversation="c")], [agent("f", 4, "triage", sender="s1", conversation="d")]], COUNT
    )
    assert shown.moved == [(3, "s1:3", "x", "own")]


# --- Nothing --------------------------------------------------------------------------------------------------------------------


def test_records_without_spans_say_nothing() -> None:
    shown = play(quiet(17), [COUNT, ORDERED, within(3), learnt(1)])
    assert shown.alerts == []
    assert shown.counts == {}


def test_a_span_that_comes_again_after_it_was_forgotten_is_another_row() -> None:
    # Its trace is forgotten after 20 ns, the window holds rows for 1,000; the agent of the second becomes known, and it alone moves.
    script = [[tool("1", 1, **OWN)], *quiet(6), At(100, []), *quiet(7), [tool("1", 101)], [tool("2", 102, **OWN, parent="e")]]
    shown = play([*script, [agent("f", 103, "x")]], count(2, timespan=1000, suppress=10), trace_ttl=20)
    assert shown.alerts == [(18, "x", "2", "1 1 2")]
