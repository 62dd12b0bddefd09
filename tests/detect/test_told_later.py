"""Rules on content that a log record, or a message, tells after the event: one alert, whatever comes first."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize.otlp_maker import TRACE, logs, span, traces
from normalize.test_logs_join_spans import Request, records, requests
from thorough import examples

from otel_ir.detect import kept
from otel_ir.engine import Fold
from otel_ir.model import Alert
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet

RULES = """
title: Mail goes out
id: 00000000-0000-4000-8000-000000000011
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {otel_ir.arguments.to|endswith: '@evil.example'}, condition: selection}
level: high
---
title: Long recipient
id: 00000000-0000-4000-8000-000000000012
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {otel_ir.arguments.to.length|gte: 16}, condition: selection}
level: high
---
title: Raw text
id: 00000000-0000-4000-8000-000000000013
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.call.arguments|contains: evil.example}, condition: selection}
level: high
---
title: Mail of somebody known
id: 00000000-0000-4000-8000-000000000014
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {otel_ir.arguments.to|endswith: '@evil.example', gen_ai.conversation.id: '*'}, condition: selection}
level: high
"""
ALL = ["11", "12", "13", "14"]


def rules(folder: Path, text: str = RULES) -> RuleSet:
    (folder / "rules.yml").write_text(text)
    found, errors = load_rules([folder / "rules.yml"])
    assert not errors
    return found


@pytest.fixture(scope="module")
def ruleset(tmp_path_factory: pytest.TempPathFactory) -> RuleSet:
    return rules(tmp_path_factory.mktemp("rules"))


def run(found: RuleSet, sent: list[Request], sizes: list[int] | None = None, *, epoch: int = 8, restart: bool = False) -> list[Alert]:
    """The alerts; records in frames of these sizes, over and over, and after each epoch perhaps another process."""
    stream, sizes = records(sent), sizes or [1]
    fold, alerts, at, turn = Fold(found, epoch=epoch), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        for frame in fold.frames(stream[at : at + size]):
            alerts += fold.fold(frame).alerts
            if restart and fold.at_epoch:
                state, fold = fold.state(), Fold(found, epoch=epoch)
                fold.restore(state)
        at, turn = at + size, turn + 1
    return alerts


def fired(alerts: list[Alert]) -> list[str]:
    return sorted(alert.rule_id[-2:] for alert in alerts)


def said(alerts: list[Alert]) -> bytes:
    return msgspec.json.encode([asdict(alert) for alert in alerts])


def _call(body: str = '{"to":"bob@evil.example"}') -> tuple[Request, Request]:
    """A tool span of Claude Code without arguments, and the log record that brings them."""
    who = {"session.id": "s-1", "tool_name": "send_email", "tool_use_id": "c-1"}
    one = span(who | {"span.type": "tool"}, id="a" * 16, parent="b" * 16)
    told = {"attributes": who | {"event.name": "tool_result", "tool_input": body}, "trace": TRACE, "span": "b" * 16}
    return (
        ("traces", traces(one, scope="com.anthropic.claude_code.tracing")),
        ("logs", logs(told, scope="com.anthropic.claude_code.events")),
    )


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("again", [1, 3])
def test_a_rule_on_arguments_fires_once_whatever_comes_first(ruleset: RuleSet, turn: int, size: int, again: int) -> None:
    sent = [*_call()][::turn] * again
    alerts = run(ruleset, sent, [size])
    assert fired(alerts) == ALL
    assert {(alert.tool_name, alert.conversation_id) for alert in alerts} == {("send_email", "s-1")}
    assert {alert.ordinal for alert in alerts} == ({2} if turn == 1 else {1})


def test_arguments_that_do_not_match_raise_nothing(ruleset: RuleSet) -> None:
    assert fired(run(ruleset, [*_call('{"to":"x@y.example"}')])) == []


@pytest.mark.parametrize("spans_first", [True, False])
@pytest.mark.parametrize("sizes", [[1], [1000]])
def test_a_capture_of_claude_code_alerts_once_for_each_rule(ruleset: RuleSet, *, spans_first: bool, sizes: list[int]) -> None:
    sent = requests("claude_code_content")
    sent = sorted(sent, key=lambda one: (one[0] == "logs") == spans_first)
    assert fired(run(ruleset, sent, sizes)) == ALL
    assert fired(run(ruleset, sent + sent, sizes)) == ALL


def test_content_that_comes_with_the_record_of_its_call_is_judged_at_once(ruleset: RuleSet) -> None:
    """The arguments stand in the messages of a model call that comes in the same request as the span."""
    tool = span(
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "send_email", "gen_ai.tool.call.id": "c-1"},
        id="a" * 16,
        parent="c" * 16,
    )
    part = {"type": "tool_call", "id": "c-1", "name": "send_email", "arguments": {"to": "bob@evil.example"}}
    said = msgspec.json.encode([{"role": "assistant", "parts": [part]}]).decode()
    model = span(
        {"gen_ai.operation.name": "chat", "gen_ai.output.messages": said, "gen_ai.conversation.id": "s"}, id="b" * 16, parent="c" * 16
    )
    together = run(ruleset, [("traces", traces(model, tool))])
    apart = run(ruleset, [("traces", traces(tool)), ("traces", traces(model))])
    assert fired(together) == fired(apart) == ALL
    assert {alert.alert_id for alert in together} == {alert.alert_id for alert in apart}


@settings(max_examples=examples(5), deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
def test_framing_and_kills_change_nothing(ruleset: RuleSet, chance: random.Random, sizes: list[int], restart: Any) -> None:
    sent = requests("claude_code_content")
    sent += sent[::2]
    chance.shuffle(sent)
    want = run(ruleset, sent)
    assert fired(want) == ALL
    assert said(run(ruleset, sent, sizes, restart=restart)) == said(want)


def test_what_suppress_holds_back_stays_held_back(tmp_path: Path) -> None:
    """More that is told of an event which matched already raises nothing, and a late match asks ``suppress`` as well."""
    found = rules(tmp_path, RULES.split("---", maxsplit=1)[0] + "suppress: 1h\n")
    who = {"session.id": "s-1", "tool_name": "send_email", "gen_ai.agent.name": "a"}
    sent = []
    for number in range(4):
        more = {"tool_use_id": f"c-{number}"}
        one = span(who | more | {"span.type": "tool"}, id=f"{number + 1:016x}", parent="b" * 16)
        body = '{"to":"bob@evil.example"' + ', "n": 1' * number + "}"
        told = {"attributes": who | more | {"event.name": "tool_result", "tool_input": body}, "trace": TRACE, "span": "b" * 16}
        sent += [
            ("traces", traces(one, scope="com.anthropic.claude_code.tracing")),
            ("logs", logs(told, scope="com.anthropic.claude_code.events")),
        ]
    for order in (sent, sent[::-1], sent[::2] + sent[1::2]):
        alerts = run(found, order, epoch=100)
        assert said(run(found, order, [3], epoch=100)) == said(alerts)
        assert [alert.agent_id for alert in alerts] == ["svc/a"]


def test_streams_that_nothing_more_is_told_of_keep_nothing(ruleset: RuleSet) -> None:
    whole = {
        "gen_ai.tool.call.arguments": "{}",
        "gen_ai.tool.call.result": "x",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "t",
    }
    fold = Fold(ruleset, epoch=2)
    fold.fold(records([("traces", traces(span(whole, id="a" * 16)))]))
    held = fold.detector.late.told.events
    assert held is None or held.is_empty()


def test_what_is_kept_is_bounded(ruleset: RuleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT", 3)
    fold = Fold(ruleset, epoch=1)
    for number, record in enumerate(records([_call()[0], _call()[0]]), start=1):
        fold.fold([record])
        assert fold.detector.late.told.events is not None, number
    monkeypatch.setattr(kept, "MAX_CHARACTERS", 10)
    fold.detector.late.told.end_epoch()
    held: pl.DataFrame | None = fold.detector.late.told.events
    assert held is not None
    assert held.is_empty()
