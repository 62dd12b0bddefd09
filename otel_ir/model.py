"""The nouns of otel_ir: every document, message and column uses these words.

One frame crosses every border between stages: the *event frame*. ``EVENT_COLUMNS`` is its schema, and the published one
(``otel-ir events --schema``). Times are Unix nanoseconds (UTC) as ``Int64`` inside the engine and RFC 3339 with nine
decimals in NDJSON. Ids are lower-case hex strings, as in the OTLP/JSON encoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import polars as pl

SCOPE_NAME = "otel_ir"
"""Instrumentation scope of all telemetry that otel_ir emits; receivers drop it on the way in, so that nothing loops."""

EPOCH = 256
"""Journal records per epoch. Eviction, learning and checkpoints happen only where an epoch ends, and a frame never straddles that."""

RecordKind = Literal["traces", "logs", "control"]


@dataclass(frozen=True, slots=True)
class Record:
    """One journal record: one accepted OTLP request (its bytes, uncompressed protobuf), or one control record (JSON).

    ``ordinal`` counts from 1 without holes; ``received`` is in Unix nanoseconds and never decreases with the ordinal.
    """

    ordinal: int
    kind: RecordKind
    received: int
    body: bytes
    tenant: str = ""
    sender: str = ""


class EventType(StrEnum):
    """Values of ``event.type``. A failure is ``error: true`` on a row, not a type of its own."""

    TOOL_CALL = "tool_call"
    MODEL_OUTPUT = "model_output"
    AGENT_INVOCATION = "agent_invocation"
    HANDOFF = "handoff"
    RETRIEVAL = "retrieval"
    GUARDRAIL = "guardrail"
    APPROVAL = "approval"
    AUTH = "auth"


SEVERITIES = ("low", "medium", "high", "critical")
"""Of alerts, weakest first: the values of ``agent.threat.detection.severity``."""
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
STAGES = ("attempt", "compromise", "anomaly")
"""Values of ``otel_ir.alert.stage``."""
ID_SOURCES = ("own", "ancestor", "sibling", "link", "resource", "none")
"""Values of ``otel_ir.agent.id_source``, best first."""


class Column(NamedTuple):
    """One column of the event frame: its Polars type, meaning, and where the word comes from."""

    dtype: Any
    meaning: str
    source: str


_GENAI = "OpenTelemetry GenAI semantic conventions"
_GENERAL = "OpenTelemetry semantic conventions"
_OURS = "otel_ir"
_OTLP = "OTLP"

EVENT_COLUMNS: dict[str, Column] = {
    "event_time": Column(pl.Int64, "when it ended (logs: their time); clamped to received + 5 minutes; 0 means received", _OURS),
    "start_time": Column(pl.Int64, "when it started", _OTLP),
    "event.type": Column(pl.String, "tool_call, model_output, agent_invocation, handoff, retrieval, guardrail, approval or auth", _OURS),
    "trace_id": Column(pl.String, "trace of the span or log, 32 hex digits", _OTLP),
    "span_id": Column(pl.String, "the span that describes it, 16 hex digits", _OTLP),
    "otel_ir.parent_span_id": Column(pl.String, "parent span, null for a root", _OTLP),
    "otel_ir.span.name": Column(pl.String, "name of the span", _OTLP),
    "service.name": Column(pl.String, "service that sent it", _GENERAL),
    "service.instance.id": Column(pl.String, "process or pod that sent it", _GENERAL),
    "otel_ir.tenant": Column(pl.String, "tenant, as authenticated by the receiver", _OURS),
    "otel_ir.sender": Column(pl.String, "sender, as authenticated by the receiver", _OURS),
    "otel_ir.dialect": Column(pl.String, "which table read it", _OURS),
    "otel_ir.agent.id": Column(pl.String, "service.name/stable id or name of the calling agent; provisional while unknown", _OURS),
    "otel_ir.agent.id_source": Column(pl.String, "own, ancestor, sibling, link, resource or none", _OURS),
    "gen_ai.agent.name": Column(pl.String, "name of the calling agent", _GENAI),
    "gen_ai.agent.id": Column(pl.String, "stable id of the calling agent, where the application set one", _GENAI),
    "gen_ai.conversation.id": Column(pl.String, "conversation, session or thread", _GENAI),
    "user.id": Column(pl.String, "user on whose behalf", _GENERAL),
    "otel_ir.run.id": Column(pl.String, "one run of the agent", _OURS),
    "gen_ai.tool.name": Column(pl.String, "tool", _GENAI),
    "gen_ai.tool.call.id": Column(pl.String, "id of the call, as the model gave it", _GENAI),
    "gen_ai.tool.call.arguments": Column(pl.String, "arguments, JSON where it could be read", _GENAI),
    "gen_ai.tool.call.result": Column(pl.String, "result, JSON or text", _GENAI),
    "otel_ir.arguments.size": Column(pl.Int64, "length of the arguments in characters, a lower bound where otel_ir.content says so", _OURS),
    "otel_ir.result.size": Column(pl.Int64, "length of the result in characters, a lower bound where otel_ir.content says so", _OURS),
    "otel_ir.executed": Column(pl.String, "yes, pending_approval, rejected or unknown: a span is no proof of execution", _OURS),
    "error": Column(pl.Boolean, "whether it failed", _OURS),
    "error.type": Column(pl.String, "class of the failure", _GENERAL),
    "error.message": Column(pl.String, "text of the failure", _OURS),
    "otel_ir.duplicate_of": Column(pl.String, "the event of which this is a second description", _OURS),
    "otel_ir.content": Column(pl.String, "what is missing: comma-separated of absent, truncated, scrubbed, dropped", _OURS),
    "gen_ai.provider.name": Column(pl.String, "model provider", _GENAI),
    "gen_ai.request.model": Column(pl.String, "model asked for", _GENAI),
    "gen_ai.response.model": Column(pl.String, "model that answered", _GENAI),
    "gen_ai.response.id": Column(pl.String, "id of the model's answer", _GENAI),
    "gen_ai.usage.input_tokens": Column(pl.Int64, "tokens read by the model", _GENAI),
    "gen_ai.usage.output_tokens": Column(pl.Int64, "tokens written by the model", _GENAI),
    "gen_ai.system_instructions": Column(pl.String, "system prompt", _GENAI),
    "gen_ai.input.messages": Column(pl.String, "messages to the model, JSON", _GENAI),
    "gen_ai.output.messages": Column(pl.String, "messages from the model, JSON", _GENAI),
    "otel_ir.handoff.from": Column(pl.String, "agent that hands over", _OURS),
    "otel_ir.handoff.to": Column(pl.String, "agent that takes over", _OURS),
    "otel_ir.guardrail.name": Column(pl.String, "guardrail", _OURS),
    "otel_ir.guardrail.triggered": Column(pl.Boolean, "whether it tripped", _OURS),
    "otel_ir.approval.decision": Column(pl.String, "accepted, rejected or pending", _OURS),
    "otel_ir.event.id": Column(
        pl.String,
        "identity of the event: trace/span, for a call known only from messages with #call; after tenant~sender~ if known",
        _OURS,
    ),
    "otel_ir.journal.ordinal": Column(pl.Int64, "journal record at which this version of the event became known", _OURS),
    "otel_ir.journal.position": Column(pl.UInt32, "position within the record at which the event first came", _OURS),
}

EVENT_SCHEMA = pl.Schema({name: column.dtype for name, column in EVENT_COLUMNS.items()})


def scoped(tenant: str | None, sender: str | None, span: str) -> str:
    """``trace/span`` (or more of an event's id) within its tenant and sender: nobody's spans can pass for another sender's."""
    return f"{tenant or ''}~{sender or ''}~{span}" if tenant or sender else span


class SpanRef(NamedTuple):
    """A span, by its ids in hex."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule that fired. Immutable: what is learnt later is an ``AlertUpdate``.

    ``event_time`` and ``received`` are Unix nanoseconds; ``contributing`` is bounded (at most ``MAX_CONTRIBUTING`` newest spans).
    """

    alert_id: str
    rule_id: str
    signal: str
    ruleset: str
    severity: str
    stage: str
    title: str
    description: str
    tags: tuple[str, ...] = ()
    tenant: str = ""
    sender: str = ""
    service: str = ""
    agent_id: str = ""
    agent_id_source: str = "none"
    agent_name: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    tool_name: str | None = None
    trace_id: str = ""
    span_id: str = ""
    event_time: int = 0
    received: int = 0
    ordinal: int = 0
    contributing: tuple[SpanRef, ...] = ()
    group: tuple[tuple[str, str], ...] = ()
    response: str | None = None
    """Playbook which the rule itself asks for, else the policy decides."""

    def to_row(self) -> dict[str, Any]:
        """The NDJSON row of ``otel-ir replay`` (column names are a contract)."""
        from otel_ir.timefmt import rfc3339

        return {
            "alert_id": self.alert_id,
            "rule_id": self.rule_id,
            "agent.threat.detection.severity": self.severity,
            "otel_ir.alert.signal": self.signal,
            "otel_ir.alert.stage": self.stage,
            "otel_ir.agent.id": self.agent_id,
            "otel_ir.agent.id_source": self.agent_id_source,
            "gen_ai.conversation.id": self.conversation_id,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "contributing_span_ids": [ref.span_id for ref in self.contributing],
            "event_time": rfc3339(self.event_time),
            "description": self.description,
            "tags": list(self.tags),
        }


MAX_CONTRIBUTING = 128
"""Newest contributing spans an alert carries: the SDK's default limit of links per span (OpenTelemetry specification, span limits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertUpdate:
    """What became known about an alert after it fired, as of journal record ``ordinal``.

    ``count`` is how many times the condition was met so far (1 when it fired); the identity fields are set where it became better.
    """

    alert_id: str
    ordinal: int
    count: int | None = None
    agent_id: str | None = None
    agent_id_source: str | None = None
    agent_name: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None


PATCH_COLUMNS = (
    "otel_ir.agent.id",
    "otel_ir.agent.id_source",
    "gen_ai.agent.name",
    "gen_ai.agent.id",
    "gen_ai.conversation.id",
    "user.id",
    "gen_ai.tool.call.id",
    "otel_ir.guardrail.triggered",
    "otel_ir.executed",
)
"""Columns of an event that may become known after the event itself. Everything else, but ``TOLD_COLUMNS``, is final at once."""

TOLD_COLUMNS = (
    "gen_ai.tool.name",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "otel_ir.arguments.size",
    "otel_ir.result.size",
    "error",
    "error.type",
    "error.message",
    "otel_ir.handoff.to",
)
"""Columns of an event that another description of the same call, span or log record, may tell later."""

PATCH_SCHEMA = pl.Schema(
    {name: EVENT_SCHEMA[name] for name in ("otel_ir.event.id", "otel_ir.journal.ordinal", *PATCH_COLUMNS, *TOLD_COLUMNS)}
)
"""A patch gives, as of journal record ``otel_ir.journal.ordinal``, the present value of every one of ``PATCH_COLUMNS`` of one event (null:
not known), and those of ``TOLD_COLUMNS`` that were told just now (null: as it was): content is carried once, not with every patch."""


def newest_patches(patches: pl.LazyFrame, keys: list[str], order: str) -> pl.LazyFrame:
    """One row per event: the newest of ``PATCH_COLUMNS``, and of ``TOLD_COLUMNS`` the newest that are not null."""
    names = patches.collect_schema().names()
    values = [name for name in names if name not in {*keys, *TOLD_COLUMNS}]
    # Evidence written before there were such columns has none.
    patches = patches.with_columns(pl.lit(None, dtype=EVENT_SCHEMA[name]).alias(name) for name in TOLD_COLUMNS if name not in names)
    newest = patches.sort(order, maintain_order=True).group_by(keys, maintain_order=True)
    return newest.agg(pl.col(values).last(), *(pl.col(name).drop_nulls().last() for name in TOLD_COLUMNS))


@dataclass(slots=True)
class FoldOutput:
    """What a frame of records brought, in journal order: events (event frame), patches to events (``PATCH_SCHEMA``), alerts, updates."""

    events: pl.DataFrame
    patches: pl.DataFrame
    alerts: list[Alert] = field(default_factory=list)
    updates: list[AlertUpdate] = field(default_factory=list)
