"""``lint`` and ``explain``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_ir.model import EVENT_COLUMNS, EventType
from otel_ir.sigma import Library
from otel_ir.sigma import lint as advice
from otel_ir.sigma.lint import lint
from otel_ir.sigma.words import explain, span

UNFILLED, UNMADE = "otel_ir.approval.decision", "approval"
"""What no dialect knows yet; see ``nobody_knows``."""


@pytest.fixture(autouse=True)
def nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever dialects come, here none fills this column and makes such events."""
    monkeypatch.setattr(advice, "filled_columns", lambda: frozenset(EVENT_COLUMNS) - {UNFILLED})
    monkeypatch.setattr(advice, "made_events", lambda: frozenset(EventType) - {UNMADE})


Load = Callable[..., Library]

GOOD = """\
title: A tool
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
name: a_tool
description: A tool was called.
level: high
tags: [owasp.asi02, atlas.aml.t0086, attack.t1059]
falsepositives: [tests]
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection:
  selection:
    gen_ai.tool.name: a
  condition: selection
tests:
  - {name: fires, events: [{gen_ai.tool.name: a}], expect: true}
  - {name: silent, events: [{gen_ai.tool.name: b}], expect: false}
"""

ADVICE = {
    "no id": ("id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01\n", "", "1:1: no id: alerts are found again by the id of their rule"),
    "no level": ("level: high\n", "", "1:1: no level: its alerts count as medium"),
    "no description": ("description: A tool was called.\n", "", "1:1: no description: the responder reads it at 3 a.m."),
    "no false positives": ("falsepositives: [tests]\n", "", "1:1: no falsepositives: say what harmless activity looks like this"),
    "OWASP tag": ("owasp.asi02", "owasp.asi11", "6:8: no such tag: owasp.asi11: owasp.asi01 to owasp.asi10"),
    "ATLAS tag": ("atlas.aml.t0086", "atlas.t0086", "6:21: no such tag: atlas.t0086: such as atlas.aml.t0051.001"),
    "ATLAS technique that is newer": (
        "atlas.aml.t0086",
        "atlas.aml.t0116",
        "6:21: no such tag: atlas.aml.t0116: ATLAS 5.6.1, the release that tags are checked against, ends with t0112",
    ),
    "ATLAS sub-technique": (
        "atlas.aml.t0086",
        "atlas.aml.t0051.003",
        "no such tag: atlas.aml.t0051.003: in ATLAS 5.6.1 its sub-techniques end",
    ),
    "no dialect fills it": (
        "gen_ai.tool.name: a",
        f"{UNFILLED}: x",
        f"11:5: no dialect fills '{UNFILLED}': only applications that state it themselves",
    ),
    "no dialect makes such events": ("service: tool_call", f"service: {UNMADE}", f"no dialect makes events of type '{UNMADE}'"),
    "near a column": (
        "gen_ai.tool.name: a",
        "gen_ai.tools.name: a",
        "11:5: 'gen_ai.tools.name' is no column of events, only an attribute: did you mean 'gen_ai.tool.name'?",
    ),
    "nothing fills it": ("gen_ai.tool.name: a", "otel_ir.mood: a", "11:5: nothing fills 'otel_ir.mood': see: otel-ir events --schema"),
    "near one of ours": (
        "gen_ai.tool.name: a",
        "otel_ir.argument.size|gt: 1",
        "11:5: nothing fills 'otel_ir.argument.size': did you mean 'otel_ir.arguments.size'?",
    ),
    "matches everything": ("gen_ai.tool.name: a", "gen_ai.tool.name: '*'", "12:3: the condition holds for nearly every event"),
    "regex of everything": ("gen_ai.tool.name: a", "gen_ai.tool.name|re: '.*'", "12:3: the condition holds for nearly every event"),
    "only a negation": ("condition: selection", "condition: not selection", "12:3: the condition holds for nearly every event"),
    "impossible type": (
        "gen_ai.tool.name: a",
        "event.type: handoff",
        "9:1: event.type is 'tool_call' by its logsource: the test can never hold",
    ),
    "another product": (
        "product: opentelemetry, category: ai_agent, service: tool_call",
        "product: windows",
        "8:1: the logsource is of another product: it never matches agent events",
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice(name: str, load: Load) -> None:
    old, new, expected = ADVICE[name]
    library = load(GOOD.replace(old, new))
    assert library.errors == []
    found = [str(advice) for advice in lint(library)]
    assert any(expected in line for line in found), found


def test_no_advice_for_a_good_rule(load: Load) -> None:
    assert lint(load(GOOD)) == []


def test_fields_the_system_fills_on_demand_and_attributes_need_no_advice(load: Load) -> None:
    for name in (
        "otel_ir.arguments.body",
        "otel_ir.arguments.url.length",
        "otel_ir.origin.kind",
        "acme.risk.score",
        "http.response.status_code",
    ):
        assert lint(load(GOOD.replace("gen_ai.tool.name: a", f"{name}: 1"))) == []


def test_no_tests_no_group(load: Load) -> None:
    text = GOOD[: GOOD.index("tests:")]
    assert [advice.what for advice in lint(load(text))] == ["no tests"]
    correlation = (
        "---\ntitle: M\nid: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02\n"
        "correlation: {type: event_count, rules: a_tool, timespan: 1m, condition: {gt: 1}}\n"
    )
    assert [advice.what for advice in lint(load(GOOD + correlation))] == [
        "no level",
        "no description",
        "no falsepositives",
        "no tests",
        "no group-by",
    ]


def test_keys_nobody_reads(load: Load) -> None:
    library = load(GOOD.replace("product: opentelemetry, category: ai_agent, service: tool_call", "product: windows") + "simulation: x\n")
    assert "the key 'simulation' is neither Sigma's nor otel_ir's" in [advice.what for advice in lint(library)]


WORDS = {
    "{f: a}": "f is 'a'",
    "{f: [a, b]}": "f is 'a' or 'b'",
    "{f|all: [a*, b*]}": "f starts with 'a' and 'b'",
    "{f|contains: a}": "f contains 'a'",
    "{f|endswith|cased: a}": "f ends with 'a' (in this case)",
    "{f: a*b}": "f fits the pattern 'a*b'",
    "{f: '*'}": "f has a value",
    "{f|re|i: a+}": "f matches /a+/ (i)",
    "{f: 5}": "f is 5",
    "{f|gte: 5}": "f is at least 5",
    "{f: true}": "f is true",
    "{f: null}": "f has no value",
    "{f|exists: false}": "f is not there",
    "{f|fieldref: g}": "f is the value of g",
    "{f|fieldref|endswith: g}": "f ends with the value of g",
    "{f|cidr: 10.0.0.0/8}": "f is an address in 10.0.0.0/8",
    "{f|hour: 3}": "f hour of it is 3",
    "{f|windash: ' -a'}": "f is one of: it is ' -a'; it is ' /a'",
    "[word]": "any text of the event contains 'word'",
    "{f: [a, b*]}": "any of\n    f is 'a'\n    f starts with 'b'",
}


@pytest.mark.parametrize("selection", WORDS)
def test_words(selection: str, load: Load) -> None:
    library = load(GOOD.replace("\n    gen_ai.tool.name: a", f" {selection}"))
    assert library.errors == []
    text = explain(library, library.entries[0])
    assert f"matches where\n  {WORDS[selection]}" in text
    assert text.startswith("A tool  (a_tool, high, anomaly)\n  A tool was called.\n\nLooks at tool_call events")
    assert text.endswith("Every match alerts.")


def test_words_for_a_long_list_and_for_logic(load: Load) -> None:
    text = GOOD.replace("gen_ai.tool.name: a", f"f: {[f'v{n}' for n in range(15)]}").replace(
        "condition: selection", "condition: not selection"
    )
    library = load(text + "suppress: 5m\nresponse: contain\n")
    words = explain(library, library.entries[0])
    assert "  not\n    f is 'v0' or 'v1' or" in words
    assert words.endswith(
        "'v11' or one of 3 more\nA match alerts; further ones are counted for 5 minutes.\nIt asks for the playbook 'contain'."
    )


def test_words_for_correlations(load: Load) -> None:
    library = load(
        GOOD
        + """\
---
title: Many
correlation: {type: event_count, rules: a_tool, group-by: [user.id, service.name], timespan: 1m, condition: {gt: 30}}
baseline: {multiple: 3, default: 10, learn: 7}
---
title: One after the other
correlation: {type: temporal_ordered, rules: [a_tool, a_tool], timespan: 1h}
within-events: 5
"""
    )
    assert library.errors == []
    many, sequence = (explain(library, entry) for entry in library.entries[1:])
    assert "Fires when, for each user.id and service.name, more than 30 matches of\n  - A tool\nfall within 1 minute." in many
    assert "Once 7 such windows of a group are known, more than 3 times its own rate; until then 3 times 10." in many
    assert (
        "Fires when, over all events, within 1 hour, among the last 5 tool_call events, in this order,\n  1. A tool\n  2. A tool"
        in sequence
    )
    assert sequence.endswith("gen_ai.tool.name is 'a'\n  It does not alert by itself: a correlation refers to it.")


def test_spans() -> None:
    second = 10**9
    assert [span(n * second) for n in (1, 90, 60, 7200, 86_400 * 7)] == ["1 second", "90 seconds", "1 minute", "2 hours", "7 days"]


COUNTED = """\
---
title: Many
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02
correlation:
  type: value_count
  rules: [a_tool]
  group-by: [who]
  aliases: {who: {a_tool: otel_ir.nobody}}
  timespan: 5m
  condition: {gte: 2, field: otel_ir.mood}
"""
NEW = (
    COUNTED.replace("value_count", "event_count").replace("{gte: 2, field: otel_ir.mood}", "{gte: 1}").replace("otel_ir.nobody", "user.id")
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (COUNTED, ["23:13: nothing fills 'otel_ir.nobody'", "25:23: nothing fills 'otel_ir.mood'"]),
        (NEW + "new_terms: {fields: [user.id, otel_ir.mood]}\n", ["26:31: nothing fills 'otel_ir.mood'"]),
    ],
)
def test_columns_that_a_correlation_reads(text: str, expected: list[str], load: Load) -> None:
    library = load(GOOD + text)
    assert library.errors == []
    found = [f"{item.line}:{item.column}: {item.what}" for item in lint(library)]
    assert [line for line in found if "nothing fills" in line] == expected
    assert not [line for line in found if "'who'" in line]
