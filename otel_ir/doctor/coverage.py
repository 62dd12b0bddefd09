"""What the events of each agent leave out: canonical columns which should have a value, and have none. Pure functions of event frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from otel_ir.model import EVENT_COLUMNS
from otel_ir.normalize.arguments import is_argument
from otel_ir.normalize.table import CONTENT, LOSSES

AGENT, SYSTEM_PROMPT = "otel_ir.agent.id", "system prompt"
MAX_AGENTS = 1000
"""Agents that are looked at, those with the most events."""
MAX_NAME = 1024
"""Characters of the name of a service that are looked at; of an agent's id twice as many."""


class Kind(NamedTuple):
    """A kind of telemetry that may be missing: the canonical column (or columns, any of which will do), and where it is expected."""

    label: str
    columns: tuple[str, ...]
    event: str | None = None


KINDS = (
    Kind("agent", (AGENT,)),
    Kind("conversation id", ("gen_ai.conversation.id",)),
    Kind("user id", ("user.id",)),
    Kind("tool name", ("gen_ai.tool.name",), "tool_call"),
    Kind("call id", ("gen_ai.tool.call.id",), "tool_call"),
    Kind("arguments", ("gen_ai.tool.call.arguments",), "tool_call"),
    Kind("result", ("gen_ai.tool.call.result",), "tool_call"),
    Kind("messages", ("gen_ai.input.messages", "gen_ai.output.messages"), "model_output"),
    Kind(SYSTEM_PROMPT, ("gen_ai.system_instructions",), "model_output"),
    Kind("model", ("gen_ai.request.model", "gen_ai.response.model"), "model_output"),
    Kind("tokens", ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), "model_output"),
)
"""What is told to people, in this order."""

_CALL = pl.col("event.type") == "tool_call"
_MODEL = pl.col("event.type") == "model_output"
_STOPPED = pl.col("otel_ir.executed").is_in(["pending_approval", "rejected"])
_RAN = _CALL & ~(_STOPPED | pl.col("error")).fill_null(value=False)
_EXPECTED: dict[str, pl.Expr] = {
    "gen_ai.agent.name": pl.lit(value=True),
    "gen_ai.conversation.id": pl.lit(value=True),
    "user.id": pl.lit(value=True),
    "gen_ai.tool.name": _CALL,
    "gen_ai.tool.call.id": _CALL,
    "gen_ai.tool.call.arguments": _CALL,
    "gen_ai.tool.call.result": _RAN,
    **dict.fromkeys(
        (
            "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.provider.name",
            "gen_ai.request.model",
        ),
        _MODEL,
    ),
    **dict.fromkeys(
        ("gen_ai.response.model", "gen_ai.response.id", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
        _MODEL & ~pl.col("error").fill_null(value=False),
    ),
    "error.type": pl.col("error").fill_null(value=False),
    "error.message": pl.col("error").fill_null(value=False),
}  # fmt: skip
"""Column -> on which events it should have a value. Of the others (hand-offs, guardrails, approvals) nobody can say that they miss."""
_DERIVED = {
    "otel_ir.arguments.": "gen_ai.tool.call.arguments",
    "otel_ir.result.size": "gen_ai.tool.call.result",
    "otel_ir.origin.": "gen_ai.tool.call.arguments",
}
"""Beginning of a column's name -> the column that it is computed from."""


def base_of(column: str) -> str:
    """The column whose value decides whether this one can have any."""
    return next((base for start, base in _DERIVED.items() if column.startswith(start)), column)


@dataclass(frozen=True, slots=True)
class Pattern:
    """``count`` events of one type and dialect which all lack the same: ``missing`` columns (and ``SYSTEM_PROMPT``), of those expected."""

    event: str
    dialect: str
    missing: frozenset[str]
    count: int
    expected: frozenset[str]


@dataclass(slots=True)
class AgentCover:
    """What the events of one agent hold. ``losses`` counts the flags of ``otel_ir.content``; ``came`` are attributes, by event type."""

    tenant: str
    service: str
    agent: str
    dialects: Counter[str] = field(default_factory=Counter)
    patterns: list[Pattern] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)
    came: set[tuple[str, str]] = field(default_factory=set)

    @property
    def events(self) -> int:
        """How many there are."""
        return sum(one.count for one in self.patterns)

    @property
    def types(self) -> Counter[str]:
        """Events by type."""
        found: Counter[str] = Counter()
        for one in self.patterns:
            found[one.event] += one.count
        return found

    def lacking(self, dialect: str) -> frozenset[str]:
        """What events of this dialect lack."""
        return frozenset[str]().union(*(one.missing for one in self.patterns if one.dialect == dialect))

    def whole(self, dialect: str) -> frozenset[str]:
        """What no event of this dialect lacks that should have it."""
        expected = frozenset[str]().union(*(one.expected for one in self.patterns if one.dialect == dialect))
        return expected - self.lacking(dialect)

    def gaps(self, kind: Kind) -> tuple[int, int]:
        """-> events that should say it and do not, events that should say it."""
        columns = (kind.label,) if kind.label == SYSTEM_PROMPT else kind.columns
        should = [one for one in self.patterns if any(name in one.expected for name in columns)]
        lacking = [one for one in should if all(name in one.missing or name not in one.expected for name in columns)]
        return sum(one.count for one in lacking), sum(one.count for one in should)


def coverage(events: pl.DataFrame, fields: Iterable[str] = ()) -> list[AgentCover]:
    """Event frame in its final form -> one entry per agent, most events first, ``MAX_AGENTS`` at most.

    ``fields``: attributes that rules read as well.
    """
    extra = sorted(name for name in fields if name in events.columns and name not in EVENT_COLUMNS and not is_argument(name))
    unknown = pl.col("otel_ir.agent.id_source").is_null() | pl.col("otel_ir.agent.id_source").is_in(["none", "resource"])
    service = pl.col("service.name").fill_null("").str.slice(0, MAX_NAME)
    identity = {
        "its tenant": pl.col("otel_ir.tenant").fill_null(""),
        "its service": service,
        "its agent": pl.when(unknown).then(service + "/-").otherwise(pl.col(AGENT).str.slice(0, 2 * MAX_NAME)),
    }
    expected = _EXPECTED | {AGENT: pl.lit(value=True), SYSTEM_PROMPT: _MODEL}
    lacks = {name: pl.col(name).is_null() for name in _EXPECTED} | {AGENT: unknown}
    prompted = pl.col("gen_ai.input.messages").str.contains(r'"role"\s*:\s*"(?:system|developer)"').fill_null(value=False)
    lacks[SYSTEM_PROMPT] = pl.col("gen_ai.system_instructions").is_null() & ~prompted
    frame = events.lazy().filter(pl.col("otel_ir.duplicate_of").is_null()).with_columns(**identity)
    # Those with the most events, before anything is counted of each: of a million agents a thousand are enough to tell.
    most = frame.group_by(*identity).len().sort("len", "its tenant", "its agent", descending=[True, False, False]).head(MAX_AGENTS)
    groups = (
        frame.join(most, on=list(identity), how="semi")
        .group_by(
            *identity,
            "event.type",
            "otel_ir.dialect",
            "otel_ir.content",
            *(expected[name].fill_null(value=False).alias(f"expected {name}") for name in lacks),
            *((expected[name] & lack).fill_null(value=False).alias(f"missing {name}") for name, lack in lacks.items()),
        )
        .agg(pl.len().alias("count"), *(pl.col(name).is_not_null().any().alias(f"came {name}") for name in extra))
    )
    found: dict[tuple[str, str, str], AgentCover] = {}
    for row in groups.collect().iter_rows(named=True):
        key = (row["its tenant"], row["its service"], row["its agent"])
        _add(found.setdefault(key, AgentCover(*key)), row, tuple(lacks), extra)
    return sorted(found.values(), key=lambda one: (-one.events, one.tenant, one.agent))


def _add(cover: AgentCover, row: dict[str, Any], columns: tuple[str, ...], extra: list[str]) -> None:
    count, event = row["count"], row["event.type"] or ""
    expected, missing = (frozenset(name for name in columns if row[f"{what} {name}"]) for what in ("expected", "missing"))
    cover.patterns.append(Pattern(event, row["otel_ir.dialect"] or "", missing, count, expected))
    cover.dialects[row["otel_ir.dialect"] or ""] += count
    cover.losses.update(dict.fromkeys((row["otel_ir.content"] or "").split(",") if row["otel_ir.content"] else (), count))
    cover.came.update((event, name) for name in extra if row[f"came {name}"])


__all__ = ["AGENT", "CONTENT", "KINDS", "LOSSES", "AgentCover", "Kind", "Pattern", "base_of", "coverage"]
