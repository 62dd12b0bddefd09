"""Whether a condition can hold without some columns: against every way to fill the others in, and on rules over covers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_ir.doctor.blind import Blind, blind_rules, can_match
from otel_ir.doctor.coverage import AgentCover, Pattern
from otel_ir.sigma.load import Library, load_library

HEAD = """\
title: T
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
name: t
description: d
level: high
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection:
"""
Load = Callable[[str], Library]
ARGUMENTS = frozenset({"gen_ai.tool.call.arguments"})


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> Library:
        (tmp_path / "rule.yml").write_text(text)
        library = load_library([tmp_path])
        assert library.errors == []
        return library

    return loaded


@pytest.mark.parametrize(("detection", "gone", "can"), [
    ("{a: {user.id: u}, condition: a}", {"user.id"}, False),
    ("{a: {user.id: u}, condition: a}", {"gen_ai.tool.name"}, True),
    ("{a: {user.id: u}, condition: not a}", {"user.id"}, True),
    ("{a: {user.id: null}, condition: a}", {"user.id"}, True),
    ("{a: {user.id: null}, condition: not a}", {"user.id"}, False),
    ("{a: {user.id|exists: true}, condition: a}", {"user.id"}, False),
    ("{a: {user.id|exists: false}, condition: a}", {"user.id"}, True),
    ("{a: {user.id: u, gen_ai.tool.name: t}, condition: a}", {"user.id"}, False),
    ("{a: {user.id: u}, b: {gen_ai.tool.name: t}, condition: a or b}", {"user.id"}, True),
    ("{a: {user.id: u}, b: {gen_ai.tool.name: t}, condition: a or b}", {"user.id", "gen_ai.tool.name"}, False),
    ("{a: {user.id: u}, b: {gen_ai.tool.name: t}, condition: b and not a}", {"user.id"}, True),
    ("{a: {user.id: [u, v]}, condition: a}", {"user.id"}, False),
    ("{a: {user.id|windash: ' -a'}, condition: a}", {"user.id"}, False),
    ("{a: {gen_ai.tool.name|fieldref: user.id}, condition: a}", {"user.id"}, False),
    ("{a: [word], condition: a}", {"user.id"}, True),
])  # fmt: skip
def test_can_match(load: Load, detection: str, gone: set[str], can: bool) -> None:
    library = load(HEAD.replace("detection:\n", f"detection: {detection}\n"))
    trees = [condition.parsed for condition in library.entries[0].sigma.detection.parsed_condition]
    assert any(can_match(tree, gone.__contains__) for tree in trees) is can


def _cover(*patterns: Pattern, came: set[tuple[str, str]] | None = None) -> AgentCover:
    return AgentCover("", "s", "s/a", patterns=list(patterns), came=came or set())


def _calls(missing: frozenset[str], count: int, event: str = "tool_call") -> Pattern:
    return Pattern(event, "otel_genai", missing, count, missing)


BODY = HEAD + "  a: {otel_ir.arguments.body.length|gt: 9}\n  condition: a\n"
SEQUENCE = """\
---
title: S
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02
name: s
description: d
level: critical
correlation: {type: KIND, rules: [t], group-by: [GROUP], timespan: 1m, condition: {gt: 2}}
"""


def _found(library: Library, cover: AgentCover) -> list[dict[str, Any]]:
    return [
        {name: getattr(one, name) for name in ("signal", "events", "of", "wholly", "attribute", "needs")}
        for one in blind_rules(library, cover)
    ]


def test_a_rule_is_blind_where_what_it_reads_is_computed_from_what_is_missing(load: Load) -> None:
    library = load(BODY)
    assert _found(library, _cover(_calls(ARGUMENTS, 3))) == [
        {"signal": "t", "events": 3, "of": 3, "wholly": True, "attribute": False, "needs": ("otel_ir.arguments.body.length",)}
    ]
    assert [(one["events"], one["of"], one["wholly"]) for one in _found(library, _cover(_calls(ARGUMENTS, 3), _calls(frozenset(), 1)))] == [
        (3, 4, False)
    ]
    assert _found(library, _cover(_calls(frozenset(), 3), _calls(ARGUMENTS, 2, "model_output"))) == []
    assert _found(library, _cover(_calls(ARGUMENTS, 2, "model_output"))) == [], "no tool call: it is idle, not blind"


def test_an_attribute_that_never_came_blinds_but_is_no_loss_of_content(load: Load) -> None:
    library = load(HEAD + "  a: {acme.risk: high}\n  condition: a\n")
    assert [(one["attribute"], one["needs"]) for one in _found(library, _cover(_calls(frozenset(), 3)))] == [(True, ("acme.risk",))]
    assert _found(library, _cover(_calls(frozenset(), 3), came={("tool_call", "acme.risk")})) == []


def test_a_correlation_is_as_blind_as_its_rules_and_groups(load: Load) -> None:
    library = load(BODY + SEQUENCE.replace("KIND", "event_count").replace("GROUP", "user.id"))
    both = _found(library, _cover(_calls(ARGUMENTS, 3)))
    assert [(one["signal"], one["wholly"]) for one in both] == [("s", True)], "the rule serves the correlation only"
    named = HEAD + "  a: {gen_ai.tool.name: x}\n  condition: a\n" + SEQUENCE.replace("KIND", "event_count")
    by_user = load(named.replace("GROUP", "user.id"))
    assert [one["needs"] for one in _found(by_user, _cover(_calls(frozenset({"user.id"}), 3)))] == [("user.id",)]
    by_agent = load(named.replace("GROUP", "otel_ir.agent.id"))
    assert _found(by_agent, _cover(_calls(frozenset({"otel_ir.agent.id"}), 3))) == [], "an unknown agent has a provisional id"


VALUE = SEQUENCE.replace("group-by: [GROUP]", "group-by: [otel_ir.agent.id]").replace("{gt: 2}", "{gt: 2, field: user.id}")
NAMED = HEAD + "  a: {gen_ai.tool.name: x}\n  condition: a\n"
OTHER = BODY.replace("7a01", "7a03").replace("name: t", "name: u")


def test_the_values_that_a_correlation_counts_or_knows(load: Load) -> None:
    library = load(NAMED + VALUE.replace("KIND", "value_count"))
    assert [one["needs"] for one in _found(library, _cover(_calls(frozenset({"user.id"}), 3)))] == [("user.id",)]
    assert _found(library, _cover(_calls(frozenset(), 3))) == []


TEMPORAL = """\
---
title: S
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02
name: s
description: d
level: critical
correlation:
  type: temporal
  rules: [t, u]
  group-by: [otel_ir.agent.id]
  timespan: 1m
"""


@pytest.mark.parametrize(("condition", "blind"), [("t or u", []), ("t and u", [("s", True, False)]), ("t and not u", [("s", False, True)])])
def test_a_condition_over_rules_sees_if_one_alternative_does(load: Load, condition: str, blind: list[tuple[str, bool, bool]]) -> None:
    library = load(f"{NAMED}---\n{OTHER}{TEMPORAL}  condition: {condition}\n")
    found = blind_rules(library, _cover(_calls(ARGUMENTS, 3)))
    assert [(one.signal, one.wholly, one.falsely) for one in found] == blind


def test_an_absence_that_cannot_be_seen_may_fire_falsely(load: Load) -> None:
    two = TEMPORAL.replace("temporal", "temporal_ordered").replace("[t, u]", "[t]")
    library = load(f"{NAMED}---\n{OTHER}{two}absence: {{rule: u, where: after}}\n")
    [one] = blind_rules(library, _cover(_calls(ARGUMENTS, 3)))
    assert (one.signal, one.falsely, one.wholly, one.needs) == ("s", True, False, ("otel_ir.arguments.body.length",))


def test_a_correlation_over_correlations_is_as_blind_as_they_are(load: Load) -> None:
    inner = SEQUENCE.replace("KIND", "event_count").replace("GROUP", "otel_ir.agent.id")
    outer = inner.replace("7a02", "7a04").replace("name: s", "name: o").replace("[t]", "[s]")
    library = load(BODY + inner + outer)
    assert [(one.signal, one.wholly) for one in blind_rules(library, _cover(_calls(ARGUMENTS, 3)))] == [("o", True)]
    assert blind_rules(library, _cover(_calls(frozenset(), 3))) == []


def test_the_most_severe_and_wholly_blind_come_first() -> None:
    ones = [Blind("1", "a", "low", 2, 2, ()), Blind("2", "b", "high", 1, 2, ())]
    assert [one.wholly for one in ones] == [True, False]
