"""Rule files into a rule set, and every message about what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from otel_ir.model import EVENT_SCHEMA
from otel_ir.sigma import Library, Rule, load_rules, matches
from otel_ir.sigma.ruleset import Baseline

Load = Callable[..., Library]
Errors = Callable[..., list[str]]
MINUTE = 60 * 10**9

RULE = """\
title: A tool
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
name: a_tool
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection:
  selection:
    gen_ai.tool.name: a
  condition: selection
"""
COUNT = """\
title: Many
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02
name: many
level: high
description: >
  Many
  of them.
tags: [owasp.asi02]
correlation:
  type: event_count
  rules: [a_tool]
  group-by: [otel_ir.agent.id, user.id]
  timespan: 5m
  condition: {gte: 10}
"""
BOTH = RULE + "---\n" + COUNT


def edited(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_rule(load: Load) -> None:
    library = load(RULE)
    (rule,) = library.ruleset.rules
    assert library.errors == []
    assert (rule.id, rule.signal, rule.title, rule.severity, rule.stage) == (
        "6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01",
        "a_tool",
        "A tool",
        "medium",
        "anomaly",
    )
    assert rule.service == "tool_call"
    assert rule.fields == {"gen_ai.tool.name", "event.type"}
    assert rule.alerts
    assert rule.suppress is None
    assert rule.response is None


def test_a_correlation_and_its_rule_in_one_file(load: Load) -> None:
    library = load(BOTH)
    assert library.errors == []
    (rule,), (many,) = library.ruleset.rules, library.ruleset.correlations
    assert not rule.alerts
    assert (many.kind, many.rules, many.group_by) == ("event_count", (rule.id,), ("otel_ir.agent.id", "user.id"))
    assert (many.timespan, many.suppress, many.threshold, many.service) == (5 * MINUTE, 5 * MINUTE, 9, "tool_call")
    assert (many.severity, many.description, many.tags) == ("high", "Many of them.", ("owasp.asi02",))
    assert library.ruleset.fields == {"gen_ai.tool.name", "event.type", "otel_ir.agent.id", "user.id"}


def test_extensions(load: Load) -> None:
    text = (
        edited(BOTH, ("{gte: 10}", "{gt: 30}"))
        + "baseline: {multiple: 3, default: 10, learn: 5}\nsuppress: 1h\nstage: attempt\nresponse: contain\n"
    )
    library = load(text)
    assert library.errors == []
    (many,) = library.ruleset.correlations
    assert many.baseline == Baseline(multiple=3, default=10, learn=5)
    assert (many.threshold, many.suppress, many.stage, many.response) == (30, 60 * MINUTE, "attempt", "contain")


def test_generate_lets_the_rule_alert_too(load: Load) -> None:
    library = load(edited(BOTH, ("timespan: 5m", "timespan: 5m\n  generate: true")))
    assert [rule.alerts for rule in library.ruleset.rules] == [True]


def test_references_by_id_across_files_and_in_any_order(load: Load) -> None:
    library = load(edited(COUNT, ("[a_tool]", "[6E0A9B7E-7b5a-4a7f-9e0c-0d6f5b1f7a01]")), RULE)
    assert library.errors == []
    assert [item.rules for item in library.ruleset.correlations] == [("6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01",)]
    assert not library.ruleset.rules[0].alerts


def test_sequences_share_a_signal(load: Load) -> None:
    other = edited(RULE, ("name: a_tool", "name: b_tool"), ("7a01", "7a03"), ("tool.name: a", "tool.name: b"))
    sequence = edited(COUNT, ("event_count", "temporal_ordered"), ("[a_tool]", "[a_tool, b_tool]"), ("  condition: {gte: 10}\n", ""))
    second = edited(sequence, ("7a02", "7a04"), ("[a_tool, b_tool]", "[b_tool, a_tool]"))
    library = load("---\n".join([RULE, other, sequence + "within-events: 5\n", second]))
    assert library.errors == []
    assert [(item.signal, item.within_events, item.threshold) for item in library.ruleset.correlations] == [
        ("many", 5, 0),
        ("many", None, 0),
    ]
    assert library.ruleset.correlations[0].rules == tuple(reversed(library.ruleset.correlations[1].rules))


def test_an_ambiguous_name_is_refused_an_id_is_not(load: Load, errors: Errors) -> None:
    twin = edited(RULE, ("7a01", "7a09"))
    assert errors("---\n".join([RULE, twin, COUNT])) == ["0.yml:29:11: 2 rules are named 'a_tool': refer to one by its id"]
    assert load("---\n".join([RULE, twin, edited(COUNT, ("[a_tool]", "[6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a09]"))])).errors == []


def test_digests(load: Load) -> None:
    base = load(BOTH).ruleset
    assert load(edited(BOTH, ("5m", "5m\n"))).ruleset.digest == base.digest
    assert load(BOTH + "tests: [{name: x, events: [{}], expect: true}]\n").ruleset.digest == base.digest
    changed = load(edited(BOTH, ("tool.name: a", "tool.name: b"))).ruleset
    assert changed.digest != base.digest
    assert changed.correlations[0].digest != base.correlations[0].digest, "a correlation is what its rules are"
    titled = load(edited(BOTH, ("title: Many", "title: More"))).ruleset
    assert titled.rules[0].digest == base.rules[0].digest
    assert titled.correlations[0].digest != base.correlations[0].digest


def test_a_filter_narrows_a_rule_it_does_not_own(load: Load) -> None:
    without = load(RULE)
    with_filter = load(
        RULE,
        """\
title: Ours
logsource: {product: opentelemetry, category: ai_agent}
filter:
  rules: [a_tool]
  ours: {gen_ai.agent.name: trusted}
  condition: not ours
""",
    )
    assert with_filter.errors == []
    assert with_filter.ruleset.digest != without.ruleset.digest
    frame = pl.DataFrame({"event.type": ["tool_call"] * 2, "gen_ai.tool.name": ["a", "a"], "gen_ai.agent.name": ["trusted", None]})
    assert matches(with_filter.ruleset.rules, frame).to_series().to_list() == [False, True]
    assert matches(without.ruleset.rules, frame).to_series().to_list() == [True, True]


def test_shared_keys_of_sigma_1(load: Load) -> None:
    text = """\
action: global
title: Shared
logsource: {product: opentelemetry, category: ai_agent}
detection: {condition: sel}
---
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01
detection: {sel: {gen_ai.tool.name: a}}
---
action: repeat
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a02
detection: {sel: {gen_ai.tool.name: b}}
---
action: reset
---
id: 6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a03
title: Alone
logsource: {product: opentelemetry, category: ai_agent}
detection: {sel: {gen_ai.tool.name: c}, condition: sel}
"""
    library = load(text)
    assert library.errors == []
    frame = pl.DataFrame({"event.type": ["tool_call"] * 3, "gen_ai.tool.name": ["a", "b", "c"]})
    assert matches(library.ruleset.rules, frame).rows() == [(True, False, False), (False, True, False), (False, False, True)]
    assert [rule.title for rule in library.ruleset.rules] == ["Shared", "Shared", "Alone"]


def test_matches_fills_what_a_frame_lacks_and_is_never_null(load: Load) -> None:
    library = load(RULE, edited(RULE, ("7a01", "7a05"), ("gen_ai.tool.name: a", "unheard.of|neq: x"), ("name: a_tool", "name: b")))
    frame = pl.DataFrame({"event.type": ["tool_call", "model_output", None]})
    assert matches(library.ruleset.rules, frame).rows() == [(False, True), (False, False), (False, False)]
    assert matches(library.ruleset.rules, frame.clear()).height == 0


def test_numbers_and_truth_in_event_columns(load: Load) -> None:
    def rule(number: int, test: str) -> str:
        return edited(RULE, ("7a01", f"7b{number:02}"), ("gen_ai.tool.name: a", test), ("name: a_tool\n", ""), (", service: tool_call", ""))

    column = "gen_ai.usage.input_tokens"
    tests = [
        f"{column}: 5",
        f"{column}: '5'",
        f"{column}: [5, 7.0]",
        f"{column}|gt: 4.5",
        f"{column}|startswith: '5'",
        "error: true",
        "error: 'TRUE'",
    ]
    library = load(*(rule(number, test) for number, test in enumerate([*tests, f"{column}: 1.5", f"{column}: abc", "error: 1"])))
    assert library.errors == []
    frame = pl.DataFrame({column: [5, 51, None], "error": [True, False, None], "event.type": ["x"] * 3}, schema_overrides=EVENT_SCHEMA)
    found = matches(library.ruleset.rules, frame)
    assert found.row(0) == (True,) * 7 + (False,) * 3
    assert found.row(1) == (False, False, False, True, True, False, False) + (False,) * 3
    assert found.row(2) == (False,) * 10


def test_rules_for_other_products_load_and_never_match(load: Load) -> None:
    library = load(
        edited(RULE, ("product: opentelemetry, category: ai_agent, service: tool_call", "product: windows, category: process_creation"))
    )
    assert library.errors == []
    (rule,) = library.ruleset.rules
    assert rule.fields == {"event.type"}
    frame = pl.DataFrame({"event.type": ["tool_call", None], "gen_ai.tool.name": ["a", "a"]})
    assert frame.select(rule.predicate.alias("hit"))["hit"].to_list() == [False, False]


WRONG = {
    "unknown key": (RULE + "supress: 5m\n", "0.yml:9:1: unknown key 'supress': did you mean 'suppress'?"),
    "unknown key, nothing near": (RULE + "zzz: 1\n", "0.yml:9:1: unknown key 'zzz'"),
    "key of a correlation": (
        RULE + "within-events: 5\n",
        "0.yml:9:1: 'within-events' without a correlation: it belongs to a document with 'correlation'",
    ),
    "extension inside": (
        BOTH + "  suppress: 5m\n",
        "0.yml:24:3: 'suppress' stands inside 'correlation': it is a key of the document itself",
    ),
    "key of a correlation section": (
        edited(BOTH, ("group-by", "group_by")),
        "0.yml:21:3: unknown key 'group_by': did you mean 'group-by'?",
    ),
    "service": (
        edited(RULE, ("service: tool_call", "service: toolcall")),
        "0.yml:4:57: no event type 'toolcall': did you mean 'tool_call'?",
    ),
    "logsource key": (edited(RULE, ("category:", "categroy:")), "0.yml:4:37: unknown key 'categroy': did you mean 'category'?"),
    "stage": (RULE + "stage: atack\n", "0.yml:9:1: stage: no such value 'atack': one of attempt, compromise, anomaly"),
    "suppress": (
        RULE + "suppress: 5 minutes\n",
        "0.yml:9:1: suppress: no time span '5 minutes': a number and one of s, m, h, d, w, M, y, such as 5m",
    ),
    "suppress too long": (RULE + "suppress: 9999d\n", "0.yml:9:1: suppress: 9999d is out of range: from 1s to 366d"),
    "baseline key": (
        edited(BOTH, ("{gte: 10}", "{gt: 30}")) + "baseline: {multipel: 3, default: 10}\n",
        "0.yml:24:12: unknown key 'multipel': did you mean 'multiple'?",
    ),
    "baseline value": (
        edited(BOTH, ("{gte: 10}", "{gt: 30}")) + "baseline: {multiple: 0, default: 10}\n",
        "0.yml:24:12: baseline: Expected `float` > 0.0",
    ),
    "baseline and condition": (
        BOTH + "baseline: {multiple: 3, default: 10}\n",
        "0.yml:23:3: the condition and the baseline disagree: write 'gt: 30': the threshold until a rate is learnt, multiple x default",
    ),
    "tests": (RULE + "tests:\n  - {name: x, events: [], expect: true}\n", "0.yml:10:15: tests: Expected `array` of length >= 1"),
    "tests key": (
        RULE + "tests:\n  - {name: x, events: [{}], expects: true}\n",
        "0.yml:10:29: unknown key 'expects': did you mean 'expect'?",
    ),
    "level": (RULE + "level: hihg\n", "0.yml:9:1: 'hihg' is not a valid Sigma rule level: did you mean 'high'?"),
    "status": (
        RULE + "status: new\n",
        "0.yml:9:1: 'new' is not a valid Sigma rule status: one of unsupported, deprecated, experimental, test, stable",
    ),
    "id": (edited(RULE, ("6e0a9b7e", "x")), "0.yml:2:1: Sigma rule identifier must be an UUID: a UUID, such as one printed by: python -c"),
    "id is a number": (edited(RULE, ("6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01", "7")), "0.yml:2:1: id: 7 is no UUID: a UUID, such as"),
    "tag": (RULE + "tags: [owasp.asi01, injection]\n", "0.yml:9:21: no tag 'injection': namespace.name, such as owasp.asi02"),
    "tags": (RULE + "tags: owasp.asi01\n", "0.yml:9:1: tags are a list"),
    "date": (RULE + "date: soon\n", "0.yml:9:1: Rule date 'soon' is invalid, use yyyy-mm-dd"),
    "impossible date": (RULE + "date: 2026-13-01\n", "0.yml:1: a value cannot be read: month must be in 1..12: put it in quotes"),
    "no title": (edited(RULE, ("title: A tool\n", "")), "0.yml:1:1: Sigma rule must have a title"),
    "no logsource": (
        edited(RULE, ("logsource: {product: opentelemetry, category: ai_agent, service: tool_call}\n", "")),
        "must have a log source",
    ),
    "no condition": (edited(RULE, ("  condition: selection\n", "")), "0.yml:5:1: Sigma rule must contain at least one condition"),
    "modifier": (edited(RULE, ("tool.name:", "tool.name|contians:")), "0.yml:7:5: Unknown modifier 'contians': did you mean 'contains'?"),
    "look-around": (
        edited(RULE, ("tool.name: a", "tool.name|re: (?=a)b")),
        "7:5: Regular expression '(?=a)b' is invalid: invalid perl operator: (?=: look-around is not",
    ),
    "backreference": (
        edited(RULE, ("tool.name: a", r"tool.name|re: (a)\1")),
        "is invalid: invalid escape sequence: \\1: backreferences are not supported",
    ),
    "possessive": (
        edited(RULE, ("tool.name: a", "tool.name|re: a++")),
        "atomic groups and possessive quantifiers are not supported, and not needed",
    ),
    "repetition": (
        edited(RULE, ("tool.name: a", "tool.name|re: '(?:a{1,1000}){1,1000}'")),
        "a repetition is bounded by what it writes out",
    ),
    "regex too large": (
        edited(RULE, ("tool.name: a", "tool.name|re: '((((a{1,60}){1,60}){1,60}){1,60})'")),
        "7:5: Regular expression '((((a{1,60}){1,60}){1,60}){1,60})' is invalid",
    ),
    "too many wildcards": (edited(RULE, ("tool.name: a", f"tool.name: 'a{'?' * 50_000}'")), "…': Compiled regex exceeds size limit"),
    "regex too long": (edited(RULE, ("tool.name: a", f"tool.name|re: '{'a' * 5000}'")), "is invalid: longer than 4096 characters"),
    "broken regex": (edited(RULE, ("tool.name: a", "tool.name|re: '['")), "0.yml:7:5: Regular expression '[' is invalid: missing ]: ["),
    "cidr": (
        edited(RULE, ("tool.name: a", "tool.name|cidr: 10.0.0.1/8")),
        "0.yml:7:5: Invalid CIDR expression: 10.0.0.1/8 has host bits set",
    ),
    "comparison with text": (edited(RULE, ("tool.name: a", "tool.name|lt: a")), "0.yml:7:5: Modifier SigmaLessThanModifier incompatible"),
    "placeholder": (
        edited(RULE, ("tool.name: a", "tool.name|expand: '%who%'")),
        "0.yml:7:5: placeholder %who% has no values: write the values in its place",
    ),
    "value is a map": (edited(RULE, ("tool.name: a", "tool.name: {a: b}")), "0.yml:7:5: Unsupported type: <class 'dict'>"),
    "null without a field": (edited(RULE, ("selection:\n    gen_ai.tool.name: a", "selection: [null]")), "0.yml:6:3: null needs a field"),
    "undefined name": (
        edited(RULE, ("condition: selection", "condition: selecton")),
        "8:3: Detection 'selecton' not defined in detections: did you mean 'selection'?",
    ),
    "selector of nothing": (
        edited(RULE, ("condition: selection", "condition: 1 of x*")),
        "0.yml:8:3: Selector '1 of x*' doesn't match any detection",
    ),
    "broken condition": (
        edited(RULE, ("condition: selection", "condition: selection and")),
        "0.yml:8:3: the condition cannot be read: at its end",
    ),
    "broken condition in the middle": (
        edited(RULE, ("condition: selection", "condition: selection nad x")),
        "0.yml:8:3: the condition cannot be read: from 'nad x' on",
    ),
    "pipe": (
        edited(RULE, ("condition: selection", "condition: selection | count() > 5")),
        "0.yml:8:3: the pipe syntax of conditions is gone from Sigma: write a correlation",
    ),
    "condition is no text": (edited(RULE, ("condition: selection", "condition: 5")), "0.yml:8:3: a condition is text"),
    "deep condition": (
        edited(RULE, ("condition: selection", f"condition: {'not (' * 1000}selection{')' * 1000}")),
        "0.yml:8:3: a condition",
    ),
    "long condition": (
        edited(RULE, ("condition: selection", f"condition: {' or '.join(['selection'] * 1000)}")),
        "0.yml:8:3: a condition of more than 8192 characters",
    ),
    "a condition that multiplies": (
        edited(
            RULE,
            ("tool.name: a", f"tool.name: {list(range(1000))}"),
            ("condition: selection", f"condition: {' or '.join(['1 of them'] * 500)}"),
        ),
        "0.yml:8:3: the condition writes out too many values: split the rule",
    ),
    "many nots": (
        edited(RULE, ("condition: selection", f"condition: {'not ' * 100}selection")),
        "0.yml:8:3: a condition nested more than 64 deep",
    ),
    "too many tests": (
        edited(RULE, ("tool.name: a", "tool.name: [" + ", ".join(f"a{n}" for n in range(20_001)) + "]")),
        "more than 20000 values and conditions: split the rule",
    ),
    "too many separate tests": (
        edited(RULE, ("tool.name: a", "tool.name|contains|all: [" + ", ".join(f"a{n}" for n in range(5001)) + "]")),
        "0.yml:7:5: more than 5000 tests: values that any may match are one test",
    ),
    "unknown rule": (edited(BOTH, ("[a_tool]", "[a_tol]")), "0.yml:20:11: no rule has the id or name 'a_tol': did you mean 'a_tool'?"),
    "rule with errors": (edited(BOTH, ("condition: selection", "condition: x")), "0.yml:20:11: the rule 'a_tool' has errors of its own"),
    "unknown kind": (edited(BOTH, ("event_count", "event_cout")), "0.yml:19:3: 'event_cout' is no valid Sigma correlation type: did you"),
    "no rules": (edited(BOTH, ("  rules: [a_tool]\n", "")), "Sigma correlation rule without rule references"),
    "timespan": (edited(BOTH, ("5m", "5 m")), "0.yml:22:3: Timespan '5 m' is invalid"),
    "always": (edited(BOTH, ("gte: 10", "gte: 0")), "0.yml:23:3: a count is always or never gte 0"),
    "field in event_count": (
        edited(BOTH, ("gte: 10", "gte: 10, field: x")),
        "0.yml:23:3: event_count counts events, not values of a field: remove 'field' and 'percentile'",
    ),
    "within-events with a count": (BOTH + "within-events: 5\n", "0.yml:24:1: 'within-events' goes with temporal_ordered"),
    "too few events": (
        edited(BOTH, ("event_count", "temporal_ordered"), ("[a_tool]", "[a_tool, a_tool, a_tool]"), ("  condition: {gte: 10}\n", ""))
        + "within-events: 2\n",
        "0.yml:23:1: 3 rules cannot match within 2 events",
    ),
    "a sequence of one": (
        edited(BOTH, ("event_count", "temporal_ordered"), ("  condition: {gte: 10}\n", "")),
        "0.yml:20:3: temporal_ordered needs at least two rules",
    ),
    "sequence with a baseline": (
        edited(BOTH, ("event_count", "temporal_ordered"), ("[a_tool]", "[a_tool, a_tool]"), ("  condition: {gte: 10}\n", ""))
        + "baseline: {multiple: 1, default: 2}\n",
        "0.yml:23:1: a baseline goes with event_count",
    ),
    "group-by": (
        edited(BOTH, ("[otel_ir.agent.id, user.id]", str(list("abcdefghi")))),
        "0.yml:21:3: group-by names more than 8 columns",
    ),
    "many rules": (edited(BOTH, ("[a_tool]", str(["a_tool"] * 33))), "0.yml:20:3: a correlation refers to 1 to 31 rules"),
    "same id": (RULE + "---\n" + RULE, "0.yml:11:1: id '6e0a9b7e-7b5a-4a7f-9e0c-0d6f5b1f7a01' is already in use: first at "),
    "filter without rules": (
        RULE + "---\ntitle: F\nlogsource: {product: opentelemetry}\nfilter: {sel: {a: b}, condition: sel}\n",
        "Sigma filter must have a 'rules' field",
    ),
    "filter condition": (
        RULE + "---\ntitle: F\nlogsource: {product: opentelemetry}\nfilter: {rules: any, sel: {a: b}, condition: sle}\n",
        "0.yml:12:35: Detection 'sle' not defined in detections: one of sel",
    ),
    "twice": (RULE + "title: again\n", "0.yml:9:1: the key 'title' is written twice"),
    "no mapping": ("- a\n- b\n", "0.yml:1:1: a rule is a mapping of keys to values"),
    "no YAML": (RULE + "x: [\n", "0.yml:10:1: while parsing a flow node, did not find expected node content"),
    "a tag of Python": (RULE + "x: !!python/object/apply:os.system [ls]\n", "could not determine a constructor for the tag"),
    "nested": ("a: " + "[" * 40 + "]" * 40, "0.yml:1:35: nested more than 32 deep"),
    "recursive alias": ("a: &x [*x]\n", "0.yml:1:8: an alias refers to what it is part of"),
    "bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
        "more than 100000 values, aliases counted",
    ),
    "large": ("#" * 300_000, "0.yml: larger than 256 KiB: split it into several files"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(name: str, errors: Errors) -> None:
    text, expected = WRONG[name]
    found = errors(text)
    assert any(expected in line for line in found), found


def test_all_errors_of_all_files_at_once(errors: Errors) -> None:
    first = edited(RULE, ("tool.name:", "tool.name|contians:"), ("condition: selection", "condition: selecton")) + "levl: high\nstage: x\n"
    found = errors(first, "a: [", edited(COUNT, ("[a_tool]", "[a_tool, nobody]"), ("5m", "5x")))
    assert [line.split(": ")[0] for line in found] == [
        "0.yml:7:5", "0.yml:8:3", "0.yml:9:1", "0.yml:10:1", "1.yml:2:1", "2.yml:11:11", "2.yml:11:19", "2.yml:13:3",
    ]  # fmt: skip


def test_a_broken_document_does_not_hide_its_neighbors(load: Load) -> None:
    library = load(
        edited(RULE, ("tool.name:", "tool.name|x:")) + "---\n" + edited(RULE, ("7a01", "7a02"), ("name: a_tool", "name: b")) + "---\nx: ["
    )
    assert len(library.errors) == 2
    assert [rule.signal for rule in library.ruleset.rules] == ["b"]


def test_aliases_are_fine_within_bounds(load: Load) -> None:
    library = load(edited(RULE, ("    gen_ai.tool.name: a", "    gen_ai.tool.name: &names [a, b]\n  other:\n    user.id: *names")))
    assert library.errors == []


def test_keys_of_other_tools_are_kept_in_rules_for_other_products(load: Load, errors: Errors) -> None:
    other = edited(RULE, ("product: opentelemetry, category: ai_agent, service: tool_call", "product: windows"))
    assert load(other + "regression_tests_path: x\nsimulation: []\n").errors == []
    assert errors(other + "levle: high\n") == ["0.yml:9:1: unknown key 'levle': did you mean 'level'?"]


def test_paths(tmp_path: Path) -> None:
    assert [error.what for error in load_rules([tmp_path])[1]] == ["no rule files"]
    assert [error.what for error in load_rules([tmp_path / "none"])[1]] == ["no such file or folder"]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "r.yaml").write_text(RULE)
    (tmp_path / "deep" / "notes.txt").write_text("x: [")
    ruleset, errors = load_rules([tmp_path, tmp_path / "deep"])
    assert errors == []
    assert [type(rule) for rule in ruleset.rules] == [Rule]
    (tmp_path / "bytes.yml").write_bytes(b"title: \xff")
    assert [str(error) for error in load_rules([tmp_path / "bytes.yml"])[1]] == [
        f"{tmp_path}/bytes.yml: not UTF-8 at byte 7: save it as UTF-8"
    ]
