"""What an investigation says: the article's fields, times, impact, similar agents, recommendations; and that it says no more."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from otel_ir.investigate import Evidence, article, investigate, trace
from otel_ir.investigate.load import FLEET_SCHEMA, window_of
from otel_ir.investigate.recommend import TABLE
from otel_ir.investigate.timeline import MAX_CALLS, MAX_MOMENTS
from tests.investigate.story import (
    AGENT,
    FULL,
    INCIDENT,
    NOON,
    SECOND,
    TALK,
    action,
    alert,
    call,
    demo_incident,
    demo_rows,
    frame,
    from_store,
    incident,
    look,
    row,
    span,
)


def test_the_report_has_the_fields_of_the_article() -> None:
    found = article(look(demo_incident(), demo_rows()))
    assert list(found) == ["incident_id", "agent_id", "alert", "timeline", "affected_tools", "recommended_actions"]
    assert found["incident_id"] == INCIDENT
    assert found["agent_id"] == AGENT
    assert found["alert"] == "suspicious_tool_sequence"
    assert found["timeline"] == {
        "first_anomaly": "2026-01-01T12:00:00.700000000Z",
        "alert_triggered": "2026-01-01T12:00:01.500000000Z",
        "total_events": 4,
    }
    assert found["affected_tools"] == ["read_ticket", "database_query", "send_email"]
    assert {
        "Review agent system prompt for injection vulnerabilities",
        "Audit all data accessed by agent in last 24 hours",
        "Notify affected data owners",
        "Review tool permission policies",
        "Conduct post-mortem within 48 hours",
    } <= set(found["recommended_actions"])


def test_tools_that_were_called_before_it_began_are_not_affected() -> None:
    rows = [call(9, 0.1, "look_up_order", {"order": 1}, "none"), *demo_rows()]
    assert "look_up_order" not in article(look(demo_incident(), rows))["affected_tools"]
    unknown = look(incident([alert([9], 0.1)]), rows)
    assert article(unknown)["affected_tools"] == ["look_up_order", "read_ticket", "database_query", "send_email"]


def test_every_time_is_told_apart() -> None:
    found = {one.key: one.nanos for one in look(demo_incident(), demo_rows()).durations}
    seconds = {key: None if nanos is None else round(nanos / 1e9, 2) for key, nanos in found.items()}
    assert seconds == {
        "detect": 0.95,
        "attack": 0.8,
        "sender": 0.1,
        "judge": 0.05,
        "dispatch": 0.11,
        "verify": 0.4,
        "contain": 1.3,
        "release": 1800.5,
        "recover": 3597.5,
        "total": 5399.3,
    }


def test_times_that_did_not_come_are_not_told() -> None:
    failed = (action("revoke_tools", (("requested", 1.7), ("failed", 2.0))),)
    found = {one.key: one for one in look(incident([alert([3, 4], 1.5)], failed), demo_rows()).durations}
    assert found["verify"].nanos is None
    assert "failed" in found["verify"].why
    assert found["contain"].nanos is None
    assert found["total"].nanos is None


def test_the_timeline_goes_from_the_request_to_the_end_in_order() -> None:
    found = look(demo_incident(), demo_rows())
    kinds = [one.kind for one in found.timeline]
    assert kinds[:2] == ["asked", "origin"]
    assert [one.at for one in found.timeline] == sorted(one.at for one in found.timeline)
    assert [one.mark for one in found.timeline if one.kind == "incident"] == ["open", "contained", "recovering", "closed"]
    assert found.timeline[-1].statement.text == "Log, close by ada: the ticket was cleaned."
    assert len([one for one in found.timeline if one.mark == "verified"]) == 2


def test_the_word_contained_is_not_said_of_what_was_not_verified() -> None:
    for state in ("applied", "unverified", "failed", "dry_run", "dispatched", "requested"):
        steps = (("requested", 1.7), (state, 1.8)) if state != "requested" else (("requested", 1.7),)
        found = look(incident([alert([3, 4], 1.5)], (action("revoke_tools", steps),)), demo_rows())
        assert not [one.statement.text for one in found.timeline if "contained" in one.statement.text], state


def test_every_sentence_about_telemetry_cites_spans_that_exist() -> None:
    found = look(demo_incident(), demo_rows())
    known = {span(number) for number in range(1, 5)}
    for one in found.timeline:
        if one.kind in ("asked", "origin", "call", "alert"):
            assert one.statement.spans, one.statement.text
            assert set(one.statement.spans) <= known
    assert {key for key, _ in found.evidence} == known


def test_a_long_argument_and_a_secret_are_not_repeated() -> None:
    rows = demo_rows()
    rows[1]["gen_ai.tool.call.arguments"] = '{"ticket": 4711, "api_key": "sk-abcdefabcdefabcdef12"}'
    text = str(look(demo_incident(), rows).timeline)
    assert "ada.ahrens0@customers.example" not in text
    assert "(14,896 characters" in text
    assert "sk-abcdefabcdefabcdef12" not in text


def test_refusals_are_told() -> None:
    guard = {"otel_ir__guardrail__name": "otel_ir.guard", "otel_ir__guardrail__triggered": True, "gen_ai__tool__name": "send_email"}
    rows = [
        *demo_rows(),
        row(5, 3.0, "guardrail", **guard),
        call(6, 3.1, "send_email", {"to": "x@y.example"}, None, otel_ir__executed="rejected"),
    ]
    rows.append(row(7, 3.1, "guardrail", **guard, otel_ir__parent_span_id=span(6)))
    found = look(demo_incident(), rows)
    refused = [one.statement.text for one in found.timeline if one.mark == "refused"]
    assert refused[0] == "The guard refused a call of send_email."
    assert refused[1].endswith("It was refused.")
    assert len(refused) == 2  # what the guard says below a refused call is about that call
    assert next(one for one in found.tools if one.tool == "send_email").refused == 1


def test_destinations_users_and_conversations() -> None:
    rows = [dict(one, **{"user.id": "ada"}) for one in demo_rows()]
    rows.append(call(5, 1.9, "http_request", {"url": "https://api.example/v1"}, "ok"))
    found = look(demo_incident(), rows)
    assert [(one.kind, one.text, one.from_outside) for one in found.destinations] == [
        ("email", "audit@collector.example", True),
        ("url", "https://api.example/v1", False),
    ]
    assert found.users == ("ada",)
    assert found.conversations == (TALK,)


def _fleet(*rows: tuple[str, list[str], list[str]]) -> pl.DataFrame:
    return pl.DataFrame([(agent, prompts, span(1), tools, span(2)) for agent, prompts, tools in rows], schema=FLEET_SCHEMA, orient="row")


def test_similar_agents_and_why() -> None:
    facts = demo_incident()
    fleet = _fleet(
        (AGENT, ["p"], ["read_ticket", "send_email"]),
        ("x/prompt", ["p"], ["other"]),
        ("x/tools", ["q"], ["read_ticket", "send_email"]),
        ("x/source", ["q"], ["read_ticket"]),
        ("x/none", ["q"], ["other"]),
    )
    evidence = Evidence(window=window_of(facts), total_events=4, events=frame(demo_rows()), fleet=fleet)
    found = {one.agent_id: " ".join(reason.text for reason in one.reasons) for one in investigate(facts, evidence).similar}
    assert found.keys() == {"x/prompt", "x/tools", "x/source"}
    assert "same system prompt" in found["x/prompt"]
    assert "same 2 tools" in found["x/tools"]
    assert "through which the instruction came in" in found["x/source"]


def test_recommendations_follow_from_signals_and_facts() -> None:
    burst = look(incident([alert([2], 0.7, "tool_call_burst", stage="anomaly")], severity="critical"), demo_rows())
    keys = [one.key for one in burst.recommendations]
    assert "burst" in keys
    assert "audit-data" not in keys
    assert "enforce" in keys
    assert keys[-1] == "post-mortem"
    whole = [one.key for one in look(demo_incident(), demo_rows()).recommendations]
    assert whole.index("unproven") < whole.index("review-prompt")
    assert "enforce" not in whole
    blind = look(incident([alert([1], 0.5)]), [row(1, 0.5, gen_ai__tool__name="send_email", otel_ir__content="absent")])
    assert "content" in [one.key for one in blind.recommendations]


def test_recommendations_have_stable_names() -> None:
    keys = [entry.key for entry in TABLE]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z-]{3,30}", key) for key in keys)


def test_a_thousand_calls_are_bounded_and_that_is_said() -> None:
    rows = [call(number, 1 + number / 100, "send_email", {"to": f"a{number}@b.example"}, "sent") for number in range(1, 1001)]
    steps = (*(("dispatched", 12 + number) for number in range(5)), ("applied", 20))
    many = tuple(action(f"verb{number}", (("requested", 11), *steps)) for number in range(100))
    found = look(incident([alert(list(range(873, 1001)), 11)], many), rows)
    assert len(found.timeline) <= MAX_MOMENTS
    assert sum(one.kind == "call" for one in found.timeline) <= MAX_CALLS
    assert any("timeline shows" in text for text in found.cut)
    assert any("in its middle" in text for text in found.cut)
    assert len(found.edges) <= 100
    assert len(found.destinations) <= 50


def test_hostile_arguments_are_survived() -> None:
    texts = [
        "[" * 50_000,
        '{"a":' * 50_000,
        "\x00\x1b[31m\u202e",
        "a" * 300_000,
        '{"to": ["' + "x@y.example,".join([""] * 5000) + '"]}',
        "9" * 10_000,
    ]
    rows = [call(number, number / 10, "\u202etool`|<b>", text, text) for number, text in enumerate(texts, 1)]
    found = look(incident([alert(list(range(1, len(texts) + 1)), 0.6)]), rows)
    assert found.compromise


def test_too_much_text_is_searched_in_bounded_time_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MAX_SCANNED", 20_000_000)
    steps = [f"step {number} of the plan {number * 7919}" for number in range(50)]
    rows = [
        call(number, number / 10, "do", {f"a{place}": f"{step} {number}" for place, step in enumerate(steps)}, "ab " * 20_000)
        for number in range(1, 201)
    ]
    began = time.process_time()
    found = look(incident([alert(list(range(150, 201)), 20)]), rows)
    assert time.process_time() - began < 30
    assert any("word for word" in text for text in found.cut)


def test_the_same_facts_give_the_same_findings(tmp_path: Path) -> None:
    facts, rows = demo_incident(), demo_rows()
    assert look(facts, rows) == look(facts, list(reversed(rows)))
    stored = from_store(tmp_path, facts, rows)
    assert replace(stored, similar=()) == replace(look(facts, rows), similar=())


@pytest.mark.parametrize("state", ["violated", "escalated"])
def test_a_broken_containment_is_a_matter_of_hours(state: str) -> None:
    broken = action("revoke_tools", (*FULL[:4], ("violated", 9.0), *((("escalated", 9.5),) if state == "escalated" else ())))
    found = look(incident([alert([3, 4], 1.5), alert([4], 9, "containment_violated")], (broken,)), demo_rows())
    first = found.recommendations[0]
    assert (first.key, first.hours) == ("containment", 4)
    assert "unproven" in [one.key for one in found.recommendations]
    assert NOON + 9 * SECOND in {one.at for one in found.timeline}
