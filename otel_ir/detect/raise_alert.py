"""From what fired to the alert a person reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from otel_ir.detect.edges import Firing
from otel_ir.model import Alert, SpanRef
from otel_ir.sigma.ruleset import Correlation, Rule

WHO_COLUMNS = (
    "otel_ir.tenant",
    "otel_ir.sender",
    "service.name",
    "otel_ir.agent.id",
    "otel_ir.agent.id_source",
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "user.id",
)
"""The identity of an event, as an alert carries it."""

AGENT_GROUP = ("otel_ir.agent.id",)
MAX_TEXT = 2_000
_ARGUMENT, _LENGTH = "otel_ir.arguments.", ".length"


def alert_id(scope: tuple[str, str], digest: str, trace_id: str, span_id: str, group: tuple[str, ...] = ()) -> str:
    """SHA-256 (first 16 bytes, hex) of scope, rule digest, completing span, and the group key where that is not the agent.

    The scope is (tenant, sender): a sender that repeats another's span ids must not make the other's alert look known already.

    An agent's name is left out on purpose: it may become known after the alert, and the alert must stay the same one.
    """
    parts = (*scope, digest, trace_id, span_id, *group)
    return hashlib.sha256("\x1f".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()[:32]


def of_rule(rule: Rule, ruleset: str, event: dict[str, Any], ordinal: int, received: int) -> Alert:
    """An alert for one event (a row of the event frame) that matches a rule."""
    trace_id, span_id = event["trace_id"] or "", event["span_id"] or ""
    tool = event["gen_ai.tool.name"]
    what = ", ".join([f"tool {tool}" if tool else str(event["event.type"]), *_measured(rule, event)])
    return Alert(
        alert_id=alert_id(
            (event["otel_ir.tenant"] or "", event["otel_ir.sender"] or ""),
            rule.digest,
            trace_id,
            span_id,
            _suffix(event["otel_ir.event.id"]),
        ),
        **_common(rule, ruleset),
        **addressed([event[name] for name in WHO_COLUMNS]),
        description=f"{rule.title}: {what}"[:MAX_TEXT],
        tool_name=tool,
        trace_id=trace_id,
        span_id=span_id,
        event_time=event["event_time"],
        received=received,
        ordinal=ordinal,
        contributing=(SpanRef(trace_id, span_id),),
    )


def of_window(
    correlation: Correlation,
    ruleset: str,
    firing: Firing,
    names: Names,
    group: tuple[Any, ...],
    threshold: float,
    ordinal: int,
    received: int,
) -> Alert:
    """An alert for a window that turned true. ``group`` is (tenant, values of group_by)."""
    row = firing.row.data
    who = addressed(names.who(row["who"]))
    trace_id, span_id = span_ref(row)
    own_group = () if correlation.group_by == AGENT_GROUP else tuple(str(value) for value in group[1:])
    return Alert(
        alert_id=alert_id((who["tenant"], who["sender"]), correlation.digest, trace_id, span_id, own_group),
        **_common(correlation, ruleset),
        **who,
        description=_describe(correlation, firing, names, threshold)[:MAX_TEXT],
        tool_name=names.tool(row["tool"]),
        trace_id=trace_id,
        span_id=span_id,
        event_time=firing.row.time,
        received=received,
        ordinal=ordinal,
        contributing=tuple(span_ref(one.data) for one in firing.newest),
        group=tuple((name, "" if value is None else str(value)) for name, value in zip(correlation.group_by, group[1:], strict=True)),
    )


class Names:
    """Turns the interned numbers of a row back into words."""

    def __init__(self, who: list[tuple[Any, ...]], tools: list[tuple[Any, ...]]) -> None:
        self._who, self._tools = who, tools

    def who(self, number: Any) -> tuple[Any, ...]:
        """The values of ``WHO_COLUMNS``."""
        values: tuple[Any, ...] = self._who[number]
        return values

    def tool(self, number: Any) -> str | None:
        """The tool's name, or None."""
        name: str | None = self._tools[number][0]
        return name


def span_ref(row: dict[str, Any]) -> SpanRef:
    """The ids of a stored row, in hex."""
    return SpanRef(f"{row['trace_high']:016x}{row['trace_low']:016x}", f"{row['span']:016x}")


def _common(rule: Rule | Correlation, ruleset: str) -> dict[str, Any]:
    return {
        "rule_id": rule.id,
        "signal": rule.signal,
        "ruleset": ruleset,
        "severity": rule.severity,
        "stage": rule.stage,
        "title": rule.title,
        "tags": rule.tags,
        "response": rule.response,
    }


def addressed(values: Iterable[Any]) -> dict[str, Any]:
    """The values of ``WHO_COLUMNS`` as fields of an alert."""
    tenant, sender, service, agent_id, source, name, conversation, user = values
    return {
        "tenant": tenant or "",
        "sender": sender or "",
        "service": service or "",
        "agent_id": agent_id or "",
        "agent_id_source": source or "none",
        "agent_name": name,
        "conversation_id": conversation,
        "user_id": user,
    }


def _measured(rule: Rule, event: dict[str, Any]) -> list[str]:
    """The lengths that the rule looked at, in words."""
    lengths = sorted(name for name in rule.fields if name.startswith(_ARGUMENT) and name.endswith(_LENGTH))
    return [f"{name[len(_ARGUMENT) : -len(_LENGTH)]} of {event[name]:,} characters" for name in lengths if event.get(name) is not None]


def _suffix(event_id: str | None) -> tuple[str, ...]:
    """Calls known only from messages share their span: their own id tells them apart."""
    _, mark, call = (event_id or "").partition("#")
    return (call,) if mark else ()


def _describe(correlation: Correlation, firing: Firing, names: Names, threshold: float) -> str:
    span = _duration(correlation.timespan)
    if correlation.kind == "temporal_ordered":
        steps = " -> ".join(names.tool(row.data["tool"]) or "?" for row in firing.newest[-16:])
        reach = f"the last {correlation.within_events} events" if correlation.within_events else span
        return f"{correlation.title}: {steps} within {reach}"
    learnt = f" (normal: {threshold / correlation.baseline.multiple:g})" if correlation.baseline else ""
    return f"{correlation.title}: {firing.count} events in {span}, more than {threshold:g}{learnt}"


def _duration(nanos: int) -> str:
    seconds = nanos // 1_000_000_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
