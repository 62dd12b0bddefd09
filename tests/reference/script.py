"""A readable script of spans, run through the reference fold and the engine: both must say the same, and the test says what.

Spans, traces and parents are called by short hexadecimal names; times are nanoseconds after ``START``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reference.both import Case, Told, engine, framing, reference
from reference.fold import Limits, Record
from reference.streams import contain

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
EPOCH = 8
"""Records 7, 15, 23 … end an epoch."""


def span(
    name: str,
    at: int,
    *,
    kind: str | None = None,
    tool: str | None = None,
    parent: str | None = "f",
    trace: str = "1",
    agent: str | None = None,
    conversation: str | None = None,
    user: str | None = None,
    sender: str = "",
    start: int | None = None,
    executed: str | None = None,
) -> dict[str, Any]:
    """A span that ended ``at``; without ``kind`` it is structure, no event. ``start``: when it began, 0 for not known, None for ``at``."""
    return {
        "trace": f"{int(trace, 16):032x}",
        "span": f"{int(name, 16):016x}",
        "parent": None if parent is None else f"{int(parent, 16):016x}",
        "time": START + at,
        "start": START + start if start else start,
        "executed": executed or ("yes" if kind == "tool_call" else None),
        "service": "svc",
        "type": kind,
        "tool": tool,
        "agent": agent and f"svc/{agent}",
        "conversation": conversation,
        "user": user,
        "sender": sender,
        "error": False,
        "lends": kind in ("tool_call", "model_output"),
    }


def tool(name: str, at: int, what: str = "a", **more: Any) -> dict[str, Any]:
    return span(name, at, kind="tool_call", tool=what, **more)


def model(name: str, at: int, **more: Any) -> dict[str, Any]:
    return span(name, at, kind="model_output", **more)


def agent(name: str, at: int, called: str, *, parent: str | None = None, **more: Any) -> dict[str, Any]:
    return span(name, at, kind="agent_invocation", agent=called, parent=parent, **more)


@dataclass
class At:
    """A record that was received at a time of its own; others when the newest span so far had ended."""

    received: int
    spans: list[dict[str, Any]] = field(default_factory=list)


Script = Sequence["list[dict[str, Any]] | dict[str, Any] | At"]
"""Records: spans, or what a control record says."""


def held(action: str, verb: str, since: int, *selectors: dict[str, str], **more: Any) -> dict[str, Any]:
    """A control record: the action is in force since then. A selector of one trace: ``TRACE``; an agent: ``who("name")``."""
    return contain(action, verb, START + since, *selectors, **more)


TRACE = {"trace_id": f"{1:032x}"}


def who(agent: str) -> dict[str, str]:
    return {"otel_ir.agent.id": f"svc/{agent}"}


def records(script: Script) -> list[Record]:
    made: list[Record] = []
    received = START
    for ordinal, one in enumerate(script, start=1):
        if isinstance(one, dict):
            made.append(Record(ordinal, received, control=one))
            continue
        spans = one.spans if isinstance(one, At) else one
        received = START + one.received if isinstance(one, At) else max([received, *(span["time"] for span in spans)])
        rows = [span | {"position": position} for position, span in enumerate(spans)]
        made.append(Record(ordinal, received, rows, [dict(row) for row in rows if row["type"] is not None]))
    return made


def quiet(number: int) -> list[list[dict[str, Any]]]:
    """Records that bring nothing: time passes."""
    return [[] for _ in range(number)]


@dataclass
class Shown:
    """What a test says by hand. ``alerts``: (record, agent, span, contributing spans); ``counts``: span -> count.

    ``moved``: (record, span, agent, source). A span follows the name of its rule (or action) unless there is just one.
    """

    alerts: list[tuple[int, str, str, str]]
    counts: dict[str, int]
    moved: list[tuple[int, str, str, str]]


def play(script: Script, one: Case | list[Case], *, switches: Mapping[int, Iterable[Case]] | None = None, **limits: Any) -> Shown:
    """Runs the script through the reference, and through the engine, each record alone and all together; all must say the same."""
    cases: list[Case] = [one] if isinstance(one, tuple) else list(one)
    bounds = Limits(epoch=EPOCH, **({"lateness": 600 * SECOND, "trace_ttl": 3600 * SECOND} | limits))
    made = records(script)
    want = reference(made, cases, bounds, switches)
    for seed in (None, 0):
        cut = framing(made, EPOCH, switches or (), seed=seed, alone=0)
        assert engine(cut, cases, bounds, switches) == want
    return _shown(want, several=len(cases) != 1 or bool(switches))


def _shown(told: Told, *, several: bool) -> Shown:
    def short(place: str) -> str:
        trace, span = (part.lstrip("0") for part in place.split("/"))
        sender, _, trace = trace.rpartition("~")
        return "".join((f"{sender.strip('~')}:" if sender else "", f"{trace.lstrip('0')}/" if trace.lstrip("0") != "1" else "", span))

    def called(agent: str) -> str:
        name = agent.removeprefix("svc/")
        return f"~{name.rpartition('/')[2].lstrip('0')}" if name.startswith("~") else name

    def about(rule: str, place: str) -> str:
        return f"{rule} {short(place)}" if several else short(place)

    return Shown(
        alerts=[
            (ordinal, called(group), about(rule, place), " ".join(span.lstrip("0") for _, span in inside))
            for ordinal, rule, group, place, _, inside in told.alerts
        ],
        counts={about(rule, place): count for (rule, place), count in told.counts.items()},
        moved=[(ordinal, about(rule, place), called(agent), source) for ordinal, rule, place, agent, source, _, _ in told.moved],
    )
