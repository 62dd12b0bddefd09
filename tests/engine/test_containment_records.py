"""Containment through the whole fold, from OTLP bytes: control records, what guards write, and calls that only messages know."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from normalize.otlp_maker import NOW, TRACE, span, traces

from otel_ir.engine import Fold
from otel_ir.model import Alert, Record
from otel_ir.offline import NO_RULES
from otel_ir.store import CheckpointStore

SECOND = 1_000_000_000
ASK, TOOL, REQUEST = "aa" * 8, "bb" * 8, "cc" * 8


def contain(**more: Any) -> bytes:
    said = {
        "type": "containment", "action_id": "act-1", "state": "verified", "verb": "revoke_tools", "incident_id": "INC-1",
        "since": NOW - 10 * SECOND, "tenant": "", "service": "svc", "selectors": [{"trace_id": TRACE}], "tools": None, "read_only": None,
    }  # fmt: skip
    return msgspec.json.encode(said | more)


def fold(*bodies: bytes, into: Fold | None = None) -> tuple[Fold, list[Alert]]:
    """Control records are JSON, anything else is a request; each is a record of its own."""
    one, alerts = into or Fold(NO_RULES, epoch=4), []
    first = one.ordinal + 1
    records = [Record(at, "control" if body[:1] in b"{[" else "traces", NOW, body) for at, body in enumerate(bodies, first)]
    for frame in one.frames(records):
        alerts += one.fold(frame).alerts
    return one, alerts


def call(**attributes: Any) -> dict[str, Any]:
    asked = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "send_email", "gen_ai.tool.call.arguments": "{}"}
    return span(asked | attributes, id=TOOL, start=NOW - SECOND)


def refusal(**other: Any) -> bytes:
    said = {
        "otel_ir.event.type": "guardrail", "otel_ir.guardrail.name": "otel_ir.guard", "otel_ir.guardrail.triggered": True,
        "gen_ai.tool.name": "send_email", "otel_ir.action.id": "act-1", "otel_ir.action.verb": "revoke_tools",
        "otel_ir.refusal.reason": "contained",
    }  # fmt: skip
    return traces(span(said, id="dd" * 8, name="otel_ir.guard.refused send_email", start=NOW - SECOND) | other, scope="otel_ir.guard")


def test_a_call_that_ran_is_a_violation_and_one_that_the_guard_stopped_is_none() -> None:
    _, alerts = fold(contain(), traces(call()))
    assert [(alert.signal, alert.severity, alert.group) for alert in alerts] == [
        ("containment_violated", "critical", (("otel_ir.action.id", "act-1"),))
    ]
    _, alerts = fold(contain(verb="pause_agent"), refusal(parent=TOOL), traces(call(**{"otel_ir.executed": "rejected"})))
    assert alerts == []


@pytest.mark.parametrize("refused", [True, False])
def test_what_a_guard_refused_comes_back_in_messages_and_is_no_violation(refused: bool) -> None:
    asked = [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "call-1", "name": "send_email", "arguments": {"to": "a@b.example"}}]}
    ]
    answer = [*asked, {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-1", "response": "refused: contained"}]}]
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    model = [
        traces(span(chat | {"gen_ai.output.messages": json.dumps(asked)}, id=ASK), scope="opentelemetry.instrumentation.openai_v2"),
        traces(span(chat | {"gen_ai.input.messages": json.dumps(answer)}, id=REQUEST), scope="opentelemetry.instrumentation.openai_v2"),
    ]
    one, alerts = fold(contain(), model[0], *([refusal()] if refused else []), model[1])
    assert [alert.tool_name for alert in alerts] == ([] if refused else ["send_email"])
    assert not one.rejected


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"type": 5}', b'{"type": "tomorrow"}', b'{"type": "ruleset_activated"}',
     b'{"type": "ruleset_activated", "digest": []}', b'{"type": "containment"}', b'{"type": "containment", "action_id": "\xff"}',
     b"[" * 100_000, contain(selectors=[]), contain(since="now")],
)  # fmt: skip
def test_a_malformed_control_record_changes_nothing_and_is_reported(body: bytes) -> None:
    one, alerts = fold(contain(), body, traces(call()))
    assert len(alerts) == 1
    assert [(rejected.ordinal, rejected.reason[:16]) for rejected in one.rejected] == [(2, "control record: ")]


def test_a_checkpoint_carries_what_is_in_force_and_who_may_yet_be_meant(tmp_path: Any) -> None:
    agent = [{"otel_ir.agent.id": "svc/triage"}]
    checkpoints = CheckpointStore(tmp_path, code="1")
    one, alerts = fold(contain(selectors=agent), traces(call() | {"parent": "ee" * 8}), refusal())
    assert alerts == []
    assert one.at_epoch
    checkpoints.save(one.ordinal, one.state())
    other = Fold(NO_RULES, epoch=4)
    restored = checkpoints.load().checkpoint
    assert restored
    other.restore(restored.state)
    named = traces(span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "triage"}, id="ee" * 8))
    _, alerts = fold(named, into=other)
    assert [(alert.agent_id, alert.span_id, alert.ordinal) for alert in alerts] == [("svc/triage", TOOL, 4)]
    assert fold(named, into=one)[1] == alerts
