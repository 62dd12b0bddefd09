"""The tests inside rule files: the events they make, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from otel_ir.detect import run_events
from otel_ir.model import EVENT_SCHEMA, Alert
from otel_ir.sigma import Library, RuleSet
from otel_ir.sigma.testing import START, case_events, check_tests, run_tests

Load = Callable[..., Library]
SECOND = 10**9

RULE = """\
title: A tool
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
name: a_tool
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection:
  selection:
    gen_ai.tool.name: a
    otel_ir.arguments.body|contains: x
    otel_ir.arguments.body.length|gt: 3
    acme.level: '9'
  condition: selection
"""


def events_of(load: Load, events: str, rule: str = RULE) -> pl.DataFrame:
    library = load(f"{rule}tests:\n  - {{name: t, events: {events}, expect: true}}\n")
    assert library.errors == []
    entry = library.entries[0]
    return case_events(library, entry, 0, entry.extensions.tests[0])


def test_defaults(load: Load) -> None:
    frame = events_of(load, "[{}, {event.type: model_output}]")
    assert set(EVENT_SCHEMA) <= set(frame.columns)
    assert frame.schema["otel_ir.arguments.body.length"] == pl.Int64
    assert frame["otel_ir.journal.ordinal"].to_list() == [1, 2]
    assert frame["event.type"].to_list() == ["tool_call", "model_output"]
    assert frame["gen_ai.tool.name"].to_list() == ["tool", None]
    assert frame["otel_ir.agent.id"].to_list() == ["test/agent"] * 2
    assert frame["error"].to_list() == [False, False]
    assert frame["span_id"].n_unique() == frame["otel_ir.event.id"].n_unique() == 2
    assert frame["event_time"].to_list() == [START, START + SECOND]


def test_places_in_time(load: Load) -> None:
    frame = events_of(load, "[{at: 1m}, {}, {repeat: 3, every: 500ms}, {at: 0s}]")
    assert ((frame["event_time"] - START) // (SECOND // 10)).to_list() == [600, 610, 620, 625, 630, 0]


def test_arguments_as_an_object_fill_what_the_rule_reads(load: Load) -> None:
    frame = events_of(load, "[{gen_ai.tool.call.arguments: {body: xyz1, other: [1]}}, {gen_ai.tool.call.arguments: {body: [1]}}, {}]")
    assert frame["otel_ir.arguments.body"].to_list() == ["xyz1", "[1]", None]
    assert frame["otel_ir.arguments.body.length"].to_list() == [4, 3, None]
    assert frame["gen_ai.tool.call.arguments"].to_list() == ['{"body": "xyz1", "other": [1]}', '{"body": [1]}', None]
    assert frame["otel_ir.arguments.size"].to_list() == [30, 13, None]


def test_columns_stated_win(load: Load) -> None:
    frame = events_of(load, "[{otel_ir.arguments.body: xx}, {otel_ir.arguments.body.length: 7, acme.level: 9, gen_ai.tool.name: null}]")
    assert frame["otel_ir.arguments.body.length"].to_list() == [2, 7]
    assert frame["acme.level"].to_list() == [None, "9"]
    assert frame["gen_ai.tool.name"].to_list() == ["tool", None]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            "[{gen_ai.tool.nam: a}]",
            "13:25: no column 'gen_ai.tool.nam', and the rule does not read one of that name: did you mean 'gen_ai.tool.name'?",
        ),
        ("[{error: nope}]", "13:25: error: 'nope' is not true or false"),
        ("[{otel_ir.arguments.body.length: long}]", "13:25: otel_ir.arguments.body.length: 'long' is not a whole number"),
        ("[{}, {at: soon}]", "13:29: at: no time span 'soon': a number and one of ms, s, m, h, d, such as 90s"),
        ("[{every: 5}]", "13:25: every: no time span 5: a number and one of ms, s, m, h, d, such as 90s"),
        ("[{repeat: 0}]", "13:25: repeat: 0 is no number of times: a whole number from 1 to 20000"),
        ("[{repeat: true}]", "13:25: repeat: True is no number of times: a whole number from 1 to 20000"),
        ("[{repeat: 15000}, {repeat: 15000}]", "13:41: more than 20000 events"),
    ],
)
def test_what_is_wrong_with_a_test(load: Load, events: str, expected: str) -> None:
    library = load(f"{RULE}tests:\n  - {{name: t, events: {events}, expect: true}}\n")
    (error,) = check_tests(library)
    assert str(error).endswith(expected)
    outcome = next(outcome for outcome in run_tests(library, run_events) if outcome.test == "t")
    assert not outcome.passed
    assert outcome.reason in expected


COUNTED = """\
tests:
  - {name: 'yes', events: [{gen_ai.tool.name: a}], expect: true}
  - {name: twice, events: [{gen_ai.tool.name: a, repeat: 2}], expect: 2}
  - {name: 'no', events: [{gen_ai.tool.name: b}], expect: false}
  - {name: none, events: [{gen_ai.tool.name: b}], expect: 0}
  - {name: wrong yes, events: [{gen_ai.tool.name: b}], expect: true}
  - {name: wrong no, events: [{gen_ai.tool.name: a, repeat: 3}], expect: false}
  - {name: wrong count, events: [{gen_ai.tool.name: a}], expect: 2}
"""
PLAIN = """\
title: A tool
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
name: a_tool
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: a}, condition: selection}
"""


def test_outcomes(load: Load) -> None:
    outcomes = run_tests(load(PLAIN + COUNTED), run_events)
    assert [(outcome.test, outcome.reason) for outcome in outcomes] == [
        ("yes", ""),
        ("twice", ""),
        ("no", ""),
        ("none", ""),
        ("wrong yes", "expected an alert, got no alerts"),
        ("wrong no", "expected silence, got 3 alerts"),
        ("wrong count", "expected 2 alerts, got 1 alert"),
    ]
    assert [outcome.line for outcome in outcomes] == list(range(7, 14))


def test_a_rule_that_alerts_needs_both_kinds_of_test(load: Load) -> None:
    outcomes = run_tests(load(PLAIN), run_events)
    assert [(outcome.test, outcome.passed) for outcome in outcomes] == [("a test that fires", False), ("a test that stays silent", False)]
    assert outcomes[0].reason == "missing: every rule that alerts needs one"
    correlation = """\
---
title: Many
correlation: {type: event_count, rules: a_tool, group-by: user.id, timespan: 1m, condition: {gt: 1}}
tests:
  - {name: fires, events: [{gen_ai.tool.name: a, user.id: ann, repeat: 2}], expect: true}
  - {name: silent, events: [{gen_ai.tool.name: a, user.id: ann}, {gen_ai.tool.name: a, user.id: bob}], expect: false}
"""
    outcomes = run_tests(load(PLAIN + correlation), run_events)
    assert [(outcome.test, outcome.passed) for outcome in outcomes] == [("fires", True), ("silent", True)], (
        "the rule serves the correlation only"
    )


def test_only_the_rule_itself_runs_and_counts(load: Load) -> None:
    other = PLAIN.replace("7a01", "7a02").replace("name: a_tool", "name: other")
    seen: list[RuleSet] = []

    def fold(rules: RuleSet, events: pl.DataFrame) -> list[Alert]:
        seen.append(rules)
        return run_events(rules, events)

    run_tests(load(PLAIN + COUNTED, other), fold)
    assert {tuple(rule.id for rule in rules.rules) for rules in seen} == {("6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01",)}
