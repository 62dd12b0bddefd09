"""Values, sums, rules together, aliases and correlations over correlations: small cases written out by hand (``script.play``)."""

from __future__ import annotations

from typing import Any

import pytest
from reference.both import Case, kind
from reference.script import agent, model, play, tool

AGENT, TOOL, CONVERSATION, USER = "otel_ir.agent.id", "gen_ai.tool.name", "gen_ai.conversation.id", "user.id"
OWN = {"agent": "x"}
"""A span that names its agent itself."""


def tools(threshold: int = 1, **more: Any) -> Case:
    """More than so many tools in 10 ns."""
    return kind("tools", ("any",), kind="value_count", fields=(TOOL,), threshold=threshold, **({"timespan": 10, "suppress": 10} | more))


def agents(threshold: int = 2, **more: Any) -> Case:
    """More than so many agents call the same tool in 10 ns."""
    about = {"kind": "value_count", "fields": (AGENT,), "group_by": (TOOL,), "timespan": 10, "suppress": 10}
    return kind("agents", ("any",), threshold=threshold, **(about | more))


def sizes(threshold: float, op: str = "gt", **more: Any) -> Case:
    about = {"kind": "value_sum", "op": op, "fields": ("otel_ir.result.size",), "timespan": 10, "suppress": 10}
    return kind("sizes", ("any",), threshold=threshold, **(about | more))


def both(*clauses: tuple[int, ...], **more: Any) -> Case:
    return kind("both", ("a", "b", "c"), kind="temporal", clauses=clauses, **({"timespan": 10, "suppress": 10} | more))


# --- Distinct values ------------------------------------------------------------------------------------------------------------


def test_the_same_value_again_is_none_more() -> None:
    shown = play([[tool("1", 1, "a", **OWN)], [tool("2", 2, "a", **OWN)], [tool("3", 3, "b", **OWN)], [tool("4", 4, "a", **OWN)]], tools())
    assert shown.alerts == [(3, "x", "3", "1 2 3")]
    assert shown.counts == {"3": 2}


def test_a_value_leaves_the_window_with_its_last_row() -> None:
    assert play([[tool("1", 1, "a", **OWN), tool("2", 11, "b", **OWN)]], tools()).alerts == []
    shown = play([[tool("1", 1, "a", **OWN), tool("2", 5, "a", **OWN), tool("3", 11, "b", **OWN)]], tools())
    assert shown.alerts == [(1, "x", "3", "2 3")]


def test_a_late_value_completes_a_window_at_a_row_that_came_before_it() -> None:
    shown = play([[tool("1", 1, "a", **OWN)], [tool("3", 9, "a", **OWN)], [tool("2", 5, "b", **OWN)]], tools(timespan=5))
    assert shown.alerts == [(3, "x", "2", "1 2")]
    assert shown.counts == {"2": 2}


def test_three_agents_call_the_same_tool() -> None:
    calls = [[tool(str(at), at, agent=f"x{at}")] for at in (1, 2, 3)]
    assert play(calls, agents()).alerts == [(3, "x3", "3@a", "1 2 3")]
    assert play([*calls[:2], [tool("3", 3, "b", agent="x3")]], agents()).alerts == []


def test_an_agent_that_is_not_known_yet_does_not_count() -> None:
    calls = [[tool("1", 1, agent="x1")], [tool("2", 2, agent="x2")], [tool("3", 3, parent="e")]]
    assert play(calls, agents()).alerts == []
    assert play([*calls, [agent("e", 4, "x2")]], agents()).alerts == []
    assert play([*calls, [agent("e", 4, "x3")]], agents()).alerts == [(4, "x3", "3@a", "1 2 3")]


def test_an_agent_that_turns_out_to_be_another_counts_as_that() -> None:
    lent = [tool("1", 1, agent="x1"), tool("2", 2, agent="x2"), tool("3", 3, parent="e"), model("9", 3, parent="e", agent="x2")]
    assert play([lent], agents()).alerts == []
    shown = play([lent, [agent("e", 5, "x3")]], agents())
    assert shown.alerts == [(2, "x3", "3@a", "1 2 3")]
    assert play([lent, [agent("e", 5, "x1")]], agents()).alerts == []


def test_an_alert_stays_when_the_value_it_needed_changes() -> None:
    lent = [tool("1", 1, agent="x1"), tool("2", 2, parent="e"), model("9", 3, parent="e", agent="x2")]
    shown = play([lent, [agent("e", 5, "x1")], [tool("3", 6, agent="x1")]], agents(1))
    assert shown.alerts == [(1, "x2", "2@a", "1 2")]
    assert shown.moved == [(2, "2@a", "x1", "ancestor")]
    assert shown.counts == {"2@a": 1}


# --- Sums -----------------------------------------------------------------------------------------------------------------------


def sized(name: str, at: int, size: int | None, **more: Any) -> dict[str, Any]:
    return tool(name, at, **(OWN | more)) | {"size": size}


def test_a_sum_is_more_than_or_at_least() -> None:
    script = [[sized("1", 1, 3), sized("2", 2, 2)]]
    assert play(script, sizes(5)).alerts == []
    assert play(script, sizes(5, "gte")).alerts == [(1, "x", "2", "1 2")]
    assert play(script, sizes(4.5)).alerts == [(1, "x", "2", "1 2")]


def test_what_is_no_number_is_no_row() -> None:
    assert play([[sized("1", 1, 3), sized("2", 2, None), sized("3", 3, 3)]], sizes(5)).alerts == [(1, "x", "3", "1 3")]


def test_a_negative_number_takes_away_and_an_alert_is_not_withdrawn() -> None:
    assert play([[sized("1", 1, 4), sized("2", 2, -2), sized("3", 3, 3)]], sizes(5)).alerts == []
    shown = play([[sized("1", 1, 4), sized("3", 3, 3)], [sized("2", 2, -2)]], sizes(5))
    assert shown.alerts == [(1, "x", "3", "1 3")]


@pytest.mark.parametrize("order", [("0.1", "0.2", "0.3"), ("0.3", "0.2", "0.1")])
def test_a_sum_is_exact_in_every_order(order: tuple[str, ...]) -> None:
    script = [[tool(str(at), at, **OWN) | {"amount": amount} for at, amount in enumerate(order, start=1)]]
    exactly = kind("sizes", ("any",), kind="value_sum", op="gte", fields=("error.message",), threshold=0.6, timespan=10)
    assert len(play(script, exactly).alerts) == 1
    huge = [[tool("1", 1, **OWN) | {"amount": "1e16"}, tool("2", 2, **OWN) | {"amount": "1"}, tool("3", 3, **OWN) | {"amount": "-1e16"}]]
    one = kind("one", ("any",), kind="value_sum", op="gte", fields=("error.message",), threshold=1e17, timespan=10)
    assert play(huge, one).alerts == []


def test_a_truth_is_no_number() -> None:
    assert play([[tool("1", 1, **OWN), tool("2", 2, **OWN)]], _of_truths()).alerts == []


def _of_truths() -> Case:
    one, _ = kind("sizes", ("any",), kind="value_sum", fields=("error",), threshold=-1)
    _, silent = kind("sizes", ("c",), kind="value_sum", fields=("otel_ir.result.size",), threshold=-1)
    return one, silent


# --- Rules together -------------------------------------------------------------------------------------------------------------


def test_rules_match_in_any_order() -> None:
    assert play([[tool("1", 1, "b", **OWN)], [tool("2", 2, "a", **OWN)]], both((0, 1))).alerts == [(2, "x", "2", "1 2")]
    assert play([[tool("1", 1, "b", **OWN)], [tool("2", 11, "a", **OWN)]], both((0, 1))).alerts == []


def test_one_of_the_alternatives_is_enough() -> None:
    script = [[tool("1", 1, "b", **OWN)], [tool("2", 2, "c", **OWN)]]
    assert play(script, both((0, 1), (0, 2))).alerts == []
    assert play(script, both((0, 1), (1, 2))).alerts == [(2, "x", "2", "1 2")]


def test_an_order_with_alternatives() -> None:
    one = kind("ordered", ("a", "b", "c"), kind="temporal_ordered", clauses=((0, 1), (1, 2)), timespan=10, suppress=10)
    assert play([[tool("1", 1, "c", **OWN), tool("2", 2, "b", **OWN), tool("3", 3, "a", **OWN)]], one).alerts == []
    assert play([[tool("1", 1, "b", **OWN), tool("2", 2, "c", **OWN)]], one).alerts == [(1, "x", "2", "1 2")]


# --- Aliases --------------------------------------------------------------------------------------------------------------------

PEOPLE = kind(
    "people", ("a", "b"), kind="temporal", timespan=10, suppress=10, group_by=("it",), columns=((CONVERSATION,), (USER,))
)  # fmt: skip


def test_an_alias_is_read_from_another_column_for_each_rule() -> None:
    shown = play([[tool("1", 1, "a", conversation="k", user="z", **OWN)], [tool("2", 2, "b", conversation="z", user="k", **OWN)]], PEOPLE)
    assert shown.alerts == [(2, "x", "2@k", "1 2")]


def test_an_aliased_row_moves_when_its_column_becomes_known() -> None:
    shown = play(
        [[tool("1", 1, "a", conversation="k", **OWN)], [tool("2", 2, "b", parent="e")], [model("3", 3, parent="e", user="k")]], PEOPLE
    )
    assert shown.alerts == []  # a row without a group is none
    shown = play(
        [
            [tool("1", 1, "a", conversation="k", **OWN), tool("2", 2, "b", parent="e"), model("3", 3, parent="e", user="j")],
            [agent("e", 4, "x", user="k")],
        ],
        PEOPLE,
    )
    assert shown.alerts == [(2, "x", "2@k", "1 2")]


# --- Correlations over correlations ---------------------------------------------------------------------------------------------

TWICE = kind("twice", ("any",), threshold=1, timespan=5, suppress=5)
OFTEN = kind("often", ("twice",), ("twice",), threshold=1, timespan=100, suppress=100)


def test_each_alert_is_one_event_and_raised_counts_are_none() -> None:
    burst = [[tool(str(at), at, **OWN)] for at in (1, 2, 3, 4)]
    assert [alert[1:3] for alert in play(burst, [TWICE, OFTEN]).alerts] == [("x", "twice 2")]
    shown = play([*burst, [tool("5", 20, **OWN), tool("6", 21, **OWN)]], [TWICE, OFTEN])
    assert shown.alerts == [
        (2, "x", "twice 2", "1 2"),
        (5, "x", "often 6", "2 6"),
        (5, "x", "twice 6", "5 6"),
    ]


def test_an_alert_moves_with_the_event_that_completed_it() -> None:
    script = [
        [tool("1", 1, parent="e"), tool("2", 2, parent="e")],
        [tool("3", 20, **OWN), tool("4", 21, **OWN)],
        [agent("e", 30, "x")],
    ]
    assert [alert[:3] for alert in play(script, [TWICE, OFTEN]).alerts if alert[2].startswith("often")] == [(3, "x", "often 4")]


def test_what_had_moved_when_it_fired_does_not_move_again() -> None:
    script = [[tool("1", 1, parent="e")], [tool("2", 2, parent="d")], [agent("e", 3, "x"), agent("d", 3, "x")], [tool("3", 9, **OWN)]]
    once = kind("once", ("twice",), ("twice",), threshold=0, timespan=100)
    assert [alert[:3] for alert in play(script, [TWICE, once]).alerts] == [(3, "x", "once 2"), (3, "x", "twice 2")]
