"""Rules as they are written, through the compiler and the fold: what they say in an alert, and fields of any name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from reference.both import kind, rule_set

from otel_ir.detect import Detector, detector, run_events
from otel_ir.detect.intake import MAX_SALTS
from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, Alert
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet

NS = 1_000_000_000
START = 1_790_000_000 * NS
CALL = """
title: Call
id: 00000000-0000-4000-8000-000000000001
name: call
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {event.type: tool_call}, condition: selection}
---
title: Mail
id: 00000000-0000-4000-8000-000000000002
name: mail
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: mail}, condition: selection}
---
"""
DESTINATION = """
title: Agents call the same new destination
id: 00000000-0000-4000-8000-000000000003
level: high
correlation:
  type: value_count
  rules: [call]
  group-by: [server.address]
  timespan: 5m
  condition: {field: otel_ir.agent.id, gte: 3}
"""


def rules(path: Path, *texts: str) -> RuleSet:
    file = path / "rules.yml"
    file.write_text("\n---\n".join([CALL.rstrip().removesuffix("---"), *texts]))
    ruleset, errors = load_rules([file])
    assert not errors, errors
    return ruleset


def events(rows: list[dict[str, Any]], **types: Any) -> pl.DataFrame:
    """A record each. ``at``: seconds."""
    made = [
        {
            "event_time": START + row.pop("at", number) * NS,
            "event.type": "tool_call",
            "trace_id": f"{1:032x}",
            "span_id": f"{number:016x}",
            "otel_ir.tenant": "",
            "otel_ir.sender": "",
            "service.name": "svc",
            "otel_ir.agent.id": "svc/x",
            "otel_ir.agent.id_source": "own",
            "gen_ai.tool.name": "tool",
            "otel_ir.event.id": f"{1:032x}/{number:016x}",
            "otel_ir.journal.ordinal": number,
            "otel_ir.journal.position": 0,
            **row,
        }
        for number, row in enumerate(rows, 1)
    ]
    return pl.DataFrame(made, schema=dict(EVENT_SCHEMA) | types)


def agents(*calls: tuple[str, str, int], source: str = "own") -> pl.DataFrame:
    """(agent, destination, second)"""
    rows = [
        {"otel_ir.agent.id": f"svc/{agent}", "server.address": to, "at": at, "otel_ir.agent.id_source": source} for agent, to, at in calls
    ]
    return events(rows, **{"server.address": pl.String})


def test_three_agents_call_the_same_destination_in_five_minutes(tmp_path: Path) -> None:
    ruleset = rules(tmp_path, DESTINATION)
    (alert,) = run_events(
        ruleset, agents(("a", "evil.example", 0), ("b", "evil.example", 10), ("a", "evil.example", 20), ("c", "evil.example", 299))
    )
    assert alert.description == ("Agents call the same new destination: 3 different values of otel_ir.agent.id in 5m, more than 2")
    assert alert.group == (("server.address", "evil.example"),)
    assert alert.agent_id == "svc/c"
    assert len(alert.contributing) == 4
    assert not run_events(ruleset, agents(("a", "evil.example", 0), ("b", "evil.example", 10), ("c", "evil.example", 300)))
    assert not run_events(ruleset, agents(("a", "evil.example", 0), ("b", "good.example", 10), ("c", "evil.example", 20)))
    assert not run_events(ruleset, agents(("a", "evil.example", 0), ("b", "evil.example", 10), ("c", "evil.example", 20), source="none"))


def test_agents_that_become_known_call_the_same_destination(tmp_path: Path) -> None:
    fold = Detector(rules(tmp_path, DESTINATION))
    frame = agents(("~1/1", "evil.example", 0), ("~1/2", "evil.example", 1), ("~1/3", "evil.example", 2), source="none")
    received = {ordinal: START + ordinal * NS for ordinal in range(1, 8)}
    assert not fold.fold(frame, PATCH_SCHEMA.to_frame(), received)[0]
    found: list[Alert] = []
    for number, name in enumerate(["a", "b", "c"], 1):
        patch = {
            "otel_ir.event.id": f"{1:032x}/{number:016x}", "otel_ir.journal.ordinal": 3 + number,
            "otel_ir.agent.id": f"svc/{name}", "otel_ir.agent.id_source": "ancestor",
        }  # fmt: skip
        found += fold.fold(frame.clear(), pl.DataFrame([patch], schema=PATCH_SCHEMA), received)[0]
    (alert,) = found
    assert (alert.ordinal, alert.agent_id, len(alert.contributing)) == (6, "svc/c", 3)


def correlation(kind: str, condition: str, *, named: str = "", group_by: str = "otel_ir.agent.id", over: str = "[call]") -> str:
    return (
        f"title: T\nid: 00000000-0000-4000-8000-0000000000{len(kind):02d}\nname: c{len(kind)}\ncorrelation:\n  type: {kind}\n"
        f"  rules: {over}\n  group-by: [{group_by}]\n  timespan: 10s\n  condition: {condition}\n{named}"
    )


@pytest.mark.parametrize(
    ("kind", "condition", "says"),
    [
        ("event_count", "{gte: 2}", "T: 2 events in 10s, more than 1"),
        (
            "value_count",
            "{field: [gen_ai.tool.name, amount], gt: 1}",
            "T: 2 different values of gen_ai.tool.name, amount in 10s, more than 1",
        ),
        ("value_sum", "{field: amount, gte: 2.5}", "T: 2.5 is the sum of amount in 10s, at least 2.5"),
        ("value_sum", "{field: amount, gt: 2}", "T: 2.5 is the sum of amount in 10s, more than 2"),
    ],
)
def test_an_alert_says_what_was_counted(tmp_path: Path, kind: str, condition: str, says: str) -> None:
    made = events([{"amount": "1"}, {"amount": "1.5"}], amount=pl.String)
    (alert,) = run_events(rules(tmp_path, correlation(kind, condition)), made)
    assert alert.description == says


def test_an_alert_names_the_tools_of_rules_together(tmp_path: Path) -> None:
    together = (
        "title: T\nid: 00000000-0000-4000-8000-000000000009\ncorrelation:\n  type: temporal\n  rules: [mail, call]\n"
        "  group-by: [otel_ir.agent.id]\n  timespan: 1m\n"
    )
    (alert,) = run_events(rules(tmp_path, together), events([{"gen_ai.tool.name": "read"}, {"gen_ai.tool.name": "mail"}]))
    assert alert.description == "T: read, mail within 1m"


def test_a_group_shows_an_alias_by_its_name(tmp_path: Path) -> None:
    aliased = (
        "title: T\nid: 00000000-0000-4000-8000-000000000009\ncorrelation:\n  type: temporal\n  rules: [mail, call]\n"
        "  group-by: [person]\n  aliases: {person: {mail: to, call: user.id}}\n  timespan: 1m\n"
    )
    rows = [{"user.id": "ann"}, {"gen_ai.tool.name": "mail", "to": "ann", "user.id": "bob"}]
    (alert,) = run_events(rules(tmp_path, aliased), events(rows, to=pl.String))
    assert alert.group == (("person", "ann"),)


def test_an_outer_correlation_counts_what_inner_ones_carry(tmp_path: Path) -> None:
    inner = correlation("event_count", "{gte: 2}", named="suppress: 1s\n")
    outer = correlation("value_count", "{field: gen_ai.tool.name, gte: 2}", over="[c11]", group_by="service.name").replace("10s", "1m")
    outer = outer.replace("000000000011", "000000000012").replace("name: c11", "name: outer")
    rows = [{"gen_ai.tool.name": name, "at": at} for name, at in (("a", 0), ("a", 1), ("b", 30), ("b", 31))]
    for order in ((inner, outer), (outer, inner)):
        alerts = run_events(rules(tmp_path, *order), events([dict(row) for row in rows]))
        assert [(alert.ordinal, alert.signal) for alert in alerts] == [(4, "outer")]
    both = outer.replace("correlation:", "correlation:\n  generate: true")
    alerts = run_events(rules(tmp_path, inner, both), events([dict(row) for row in rows]))
    assert sorted((alert.ordinal, alert.signal) for alert in alerts) == [(2, "c11"), (4, "c11"), (4, "outer")]


@pytest.mark.parametrize("name", ["key", "who", "tool", "value", "uid", "time", "seq", "ordinal", "steps", "came", "n", "hit", "span"])
@pytest.mark.parametrize("few", [0, 1000])
def test_an_attribute_may_be_called_as_a_column_of_ours(tmp_path: Path, name: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("detector", "intake", "rows"):
        monkeypatch.setattr(f"otel_ir.detect.{module}.FEW", few)
    monkeypatch.setattr(detector, "MANY_WORDS", 0)
    about = {"field": f"[{name}, otel_ir.agent.id]", "group_by": f"{name}, gen_ai.tool.name"}
    fold = Detector(rules(tmp_path, correlation("value_count", f"{{field: {about['field']}, gte: 2}}", group_by=about["group_by"])))
    frame = events([{name: "1"}, {name: "1", "otel_ir.agent.id_source": "none"}, {name: "2"}], **{name: pl.String})
    received = {ordinal: START + ordinal * NS for ordinal in range(1, 8)}
    assert not fold.fold(frame, PATCH_SCHEMA.to_frame(), received)[0]
    patch = {
        "otel_ir.event.id": f"{1:032x}/{2:016x}", "otel_ir.journal.ordinal": 4, "otel_ir.agent.id": "svc/y",
        "otel_ir.agent.id_source": "ancestor",
    }  # fmt: skip
    (alert,) = fold.fold(frame.clear(), pl.DataFrame([patch], schema=PATCH_SCHEMA), received)[0]
    assert alert.group == ((name, "1"), ("gen_ai.tool.name", "tool"))


def test_a_checkpoint_from_before_there_were_values_is_read(tmp_path: Path) -> None:
    ruleset = rules(tmp_path, correlation("event_count", "{gte: 3}"))
    before, after = Detector(ruleset), Detector(ruleset)
    before.fold(events([{}, {}]), PATCH_SCHEMA.to_frame(), {1: START, 2: START})
    before.end_epoch(START)
    state = {
        name: part.drop("value") if isinstance(part, pl.DataFrame) and name.startswith("rows.") else part
        for name, part in before.state().items()
    }
    after.restore(state)
    third = events([{}, {}, {}]).tail(1)
    assert [alert.ordinal for alert in after.fold(third, PATCH_SCHEMA.to_frame(), {3: START})[0]] == [3]


def test_the_ways_of_an_event_through_correlations_are_bounded() -> None:
    levels = [[kind(f"{level}.{at}", ("any",) if not level else below, below, threshold=0) for at in range(5)]
              for level in range(5) for below in [tuple(f"{level - 1}.{at}" for at in range(5)) if level else ()]]  # fmt: skip
    fold = Detector(rule_set([case for level in levels[::-1] for case in level]))
    for intake in fold.intakes.values():
        assert sum(len(part.salts) for part in intake.parts) <= MAX_SALTS + len(intake.parts)
    alerts, _ = fold.fold(events([{}]), PATCH_SCHEMA.to_frame(), {1: START})
    assert len(alerts) == 25
