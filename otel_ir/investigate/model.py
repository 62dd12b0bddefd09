"""What an investigation starts from, and what it finds: plain data, no store behind it. Times are Unix nanoseconds.

A *statement* is a sentence whose words are ours and whose values are not: ``Outside`` marks every text that came from telemetry or from
a person, so that whoever shows it can escape it; ``spans`` are the ids that prove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_ir.model import Alert
from otel_ir.provenance import Value


class Outside(NamedTuple):
    """Text that is not ours: hostile until it was escaped."""

    text: str


Part = str | Outside


class Statement(NamedTuple):
    """One sentence, and the spans it rests on (empty: it rests on the ledger)."""

    parts: tuple[Part, ...]
    spans: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As plain text, its values as they are: for JSON, never for a terminal or a page."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)


def say(*parts: Part, spans: tuple[str, ...] | list[str] = ()) -> Statement:
    """A statement; what is empty is left out, and no span is cited twice."""
    return Statement(tuple(part for part in parts if part != ""), tuple(dict.fromkeys(span for span in spans if span)))


# From the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFacts:
    """An alert, how often its condition was met, and when the ledger had it (``None``: not known)."""

    alert: Alert
    count: int = 1
    recorded_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """One step in the life of an action; ``state`` as in ``model_lifecycle.ActionState``."""

    at: int
    state: str
    detail: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFacts:
    """An action with every step. ``state`` is its true state now."""

    action_id: str
    verb: str
    adapter: str
    mode: str
    state: str
    requested_at: int
    alert_id: str | None = None
    subject: str = ""
    cause: str = "alert"
    reason: str = ""
    target: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    detail: str = ""
    dispatched_at: int | None = None
    applied_at: int | None = None
    verified_at: int | None = None
    ended_at: int | None = None
    expires_at: int | None = None
    steps: tuple[StepFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFacts:
    """An entry of the incident's log: what happened or was said beside alerts and actions."""

    at: int
    kind: str
    who: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFacts:
    """Everything the ledger knows of an incident. Alerts and actions are oldest first."""

    incident_id: str
    agent_id: str
    state: str
    opened_at: int
    tenant: str = ""
    service: str = ""
    title: str = ""
    severity: str = ""
    drill: bool = False
    contained_at: int | None = None
    recovering_at: int | None = None
    closed_at: int | None = None
    watch_until: int | None = None
    alerts: tuple[AlertFacts, ...] = ()
    actions: tuple[ActionFacts, ...] = ()
    notes: tuple[NoteFacts, ...] = ()
    cut: tuple[str, ...] = ()
    """What was left out, in words."""

    @property
    def first(self) -> AlertFacts | None:
        """The alert that opened it."""
        return self.alerts[0] if self.alerts else None

    @property
    def main(self) -> AlertFacts | None:
        """The alert it is named after: the first of the worst severity."""
        worst = [one for one in self.alerts if one.alert.severity == self.severity]
        return worst[0] if worst else self.first


# Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A text that the agent was given: where it stands and when it was there. ``kind``: a key of ``trace.KINDS``.

    ``place``: same_conversation, same_agent or elsewhere, as seen from the call it is compared with.
    """

    kind: str
    at: int
    span_id: str
    trace_id: str
    agent_id: str
    conversation_id: str
    tool: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A value went from a source into an argument of a call.

    ``role``: ``steer`` (the argument says where to or what: it was told), ``carry`` (the argument is content: it took something along).
    ``signs``: what makes the text around the value instruction-like; empty if nothing does. ``share``: values of the argument that
    stand in the source, of all it has, for ``carry``; ``None`` there: it
    stands there whole.
    """

    role: str
    value: Value
    source: Source
    call: str
    """Event id of the call."""
    tool: str
    span_id: str
    at: int
    argument: str
    place: str
    shown: str = ""
    """The value as it was written in the argument."""
    signs: tuple[str, ...] = ()
    excerpt: str = ""
    share: tuple[int, int] | None = None
    size: int = 0
    """Characters of the argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compromise:
    """Where it began. ``basis``: ``data_flow`` (an edge leads there) or ``first_contributing`` (no edge: merely the first event cited)."""

    basis: str
    at: int
    span_id: str
    kind: str
    tool: str
    conversation_id: str
    statement: Statement
    edge: Edge | None = None
    path: tuple[Edge, ...] = ()
    """Edges from it to the harmful call, in that order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An entry of the timeline. ``kind``: origin, call, model, alert, action, incident, note; ``mark``: what a picture may stress."""

    at: int
    kind: str
    statement: Statement
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """Calls of one tool by the agent since the first anomaly."""

    tool: str
    calls: int
    failed: int
    refused: int
    first_span: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where calls since the first anomaly pointed to. ``from_outside``: the value came from a text that was given to the agent."""

    kind: str
    text: str
    tools: tuple[str, ...]
    spans: tuple[str, ...]
    calls: int
    from_outside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """Another agent to which the same could happen, and why we think so."""

    agent_id: str
    reasons: tuple[Statement, ...]
    exposed: bool = False
    """Whether the very values of this incident were seen there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """``key`` is stable, so that what people write about it stays with it; ``hours`` until it should be done, from the alert."""

    key: str
    action: Statement
    because: Statement
    hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A time that was taken; ``nanos`` is ``None`` where its end has not come, ``why`` says what it is or why it is missing."""

    key: str
    name: str
    nanos: int | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigation:
    """What was found out about an incident. Every list is bounded; ``cut`` and ``notes`` say what is missing and why."""

    facts: IncidentFacts
    window: tuple[int, int]
    total_events: int
    compromise: Compromise | None
    first_anomaly: int | None
    edges: tuple[Edge, ...]
    timeline: tuple[Moment, ...]
    tools: tuple[ToolUse, ...]
    destinations: tuple[Destination, ...]
    conversations: tuple[str, ...]
    users: tuple[str, ...]
    similar: tuple[Similar, ...]
    recommendations: tuple[Recommendation, ...]
    durations: tuple[Duration, ...]
    evidence: tuple[tuple[str, Statement], ...]
    """Span id -> what it is: of every span that a statement cites and that the evidence holds."""
    cut: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
