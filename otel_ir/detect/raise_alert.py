"""From what fired to the alert a person reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from otel_ir.detect.edges import Firing
from otel_ir.detect.truth import forward
from otel_ir.model import WHO_COLUMNS, Alert, SpanRef
from otel_ir.sigma.ruleset import Correlation, Rule

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


_NUMBERS = {
    "event_count": "{number} events in {span}",
    "value_count": "{number} different values of {fields} in {span}",
    "value_sum": "{number} is the sum of {fields} in {span}",
    "value_avg": "{number} is the average of {fields} in {span}",
    "value_median": "{number} is the median of {fields} in {span}",
    "value_percentile": "{number} is the {percentile}th percentile of {fields} in {span}",
}
"""What was counted, by kind of correlation; ``new_terms`` and rules together have words of their own."""
_COMPARED = {"gt": "more than", "gte": "at least", "lt": "less than", "lte": "at most", "eq": "exactly", "neq": "other than"}


def _describe(correlation: Correlation, firing: Firing, names: Names, threshold: float) -> str:
    span = _duration(correlation.timespan)
    if correlation.new_terms:
        return f"{correlation.title}: a value of {', '.join(correlation.new_terms.fields)} that is new in {span}"
    if correlation.clauses:
        return f"{correlation.title}: {_sequence(correlation, firing, names, span)}"
    if forward(correlation):
        span = f"the {span} from then on"
    number, than = _figure(firing.number), f"{_COMPARED[correlation.op]} {_figure(threshold)}"
    what = _NUMBERS[correlation.kind].format(
        number=number, span=span, fields=", ".join(correlation.fields), percentile=correlation.percentile
    )
    learnt = f" (normal: {threshold / correlation.baseline.multiple:g})" if correlation.baseline else ""
    return f"{correlation.title}: {what}, {than}{learnt}"


def _sequence(correlation: Correlation, firing: Firing, names: Names, span: str) -> str:
    """The tools of the rules that matched, in their order where it counts, and that something did not."""
    tools = [names.tool(row.data["tool"]) or "?" for row in firing.newest[-16:]]
    steps = " -> ".join(tools) if correlation.kind == "temporal_ordered" else ", ".join(dict.fromkeys(tools))
    missing = ", without what goes with it" if correlation.deferred else ""
    if correlation.absence:
        missing = f", and nothing {correlation.absence.where} that should be there"
    return f"{steps} within {f'the last {correlation.within_events} events' if correlation.within_events else span}{missing}"


def _figure(number: float) -> str:
    return str(int(number)) if abs(number) < 1e15 and number == int(number) else f"{number:g}"


def _duration(nanos: int) -> str:
    seconds = nanos // 1_000_000_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
