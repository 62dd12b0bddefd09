"""What the rest of the system knows of a rule: compiled, immutable, without a trace of YAML or pySigma."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What rules and correlations have in common.

    ``signal`` is the ``name`` of the document, else its id. ``digest`` is the SHA-256 (hex) of everything the document and
    the documents it refers to say, except their ``tests``.
    """

    id: str
    signal: str
    title: str
    description: str
    severity: str
    stage: str
    tags: tuple[str, ...]
    path: str
    digest: str
    response: str | None
    service: str | None
    """``logsource.service``, the ``event.type`` it looks at; None for every event. Of a correlation: what its rules have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Definition):
    """A Sigma detection rule. ``predicate`` is Boolean and never null over an event frame that has the columns ``fields``."""

    predicate: pl.Expr = field(repr=False, compare=False)
    fields: frozenset[str]
    alerts: bool
    """False when it only serves correlations (none of which says ``generate: true``)."""
    suppress: int | None
    """Nanoseconds; None: every matching event alerts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Threshold of a group = ``multiple`` x its own learnt rate per timespan; ``default`` is the rate until ``learn`` windows were seen."""

    multiple: float
    default: float
    learn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation(Definition):
    """A Sigma correlation over the rules ``rules`` (ids, in the order written)."""

    kind: str
    """``event_count`` or ``temporal_ordered``."""
    rules: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan: int
    """Nanoseconds."""
    within_events: int | None
    threshold: int
    """``event_count`` fires when the count is greater; 0 and unused for ``temporal_ordered``."""
    baseline: Baseline | None
    suppress: int
    """Nanoseconds, ``timespan`` unless the document says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Rules in the order of their files. ``fields`` are all columns that rules read or correlations group by."""

    rules: tuple[Rule, ...]
    correlations: tuple[Correlation, ...]
    digest: str
    fields: frozenset[str]
