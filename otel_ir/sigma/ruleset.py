"""What the rest of the system knows of a rule: compiled, immutable, without a trace of YAML or pySigma."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

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


@dataclass(frozen=True, slots=True)
class Plan:
    """How a rule is evaluated among others, over events of its service only.

    ``predicate`` (named by the rule's id) reads ``views``: (name of a view in ``columns.SHARED``, column), computed once for all rules.
    Where all events lack one of the columns ``needs`` it is false for each of them.
    """

    predicate: pl.Expr
    views: frozenset[tuple[str, str]]
    needs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Definition):
    """A Sigma detection rule. ``predicate`` is Boolean and never null over an event frame that has the columns ``fields``."""

    predicate: pl.Expr = field(repr=False, compare=False)
    fields: frozenset[str]
    alerts: bool
    """False when it only serves correlations (none of which says ``generate: true``)."""
    suppress: int | None
    """Nanoseconds; None: every matching event alerts."""
    plan: Plan | None = field(default=None, repr=False, compare=False)
    """The same as ``predicate``, cheaper where there are many rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Threshold of a group = ``multiple`` x its own learnt rate per timespan; ``default`` is the rate until ``learn`` windows were seen."""

    multiple: float
    default: float
    learn: int


class Clause(NamedTuple):
    """One way in which a ``temporal`` or ``temporal_ordered`` condition is true.

    ``required``: the steps (indices into ``rules``) that occur in the window, of ``temporal_ordered`` in this order. ``absent``: those that
    do not.
    """

    required: tuple[int, ...]
    absent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Absence:
    """No match of ``rule`` (an id): ``between`` the first and the last step, or ``after`` the last step within the timespan."""

    rule: str
    where: str


@dataclass(frozen=True, slots=True)
class NewTerms:
    """A value (of several ``fields``: a tuple) that this group did not have within the timespan before.

    Only groups of which ``learn`` terms are known say that one is new.
    """

    fields: tuple[str, ...]
    learn: int


KIND_WORDS = {
    "event_count": "how many events match",
    "value_count": "how many different values a field has",
    "value_sum": "the sum of a field",
    "value_avg": "the average of a field",
    "value_percentile": "a percentile of a field",
    "value_median": "the median of a field",
    "temporal": "which rules match, in whatever order",
    "temporal_ordered": "which rules match, in the order given",
}
"""Sigma's correlation types -> what is looked at, in words."""
IMMEDIATE = ("gt", "gte")
"""Operators of conditions that more rows never make false, where rows count up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation(Definition):
    """A Sigma correlation over ``rules`` (ids of rules or correlations, in the order written)."""

    kind: str
    """A key of ``otel_ir.sigma.correlate.KINDS``, or ``new_terms``."""
    rules: tuple[str, ...]
    inner: frozenset[str] = frozenset()
    """Those of ``rules`` that are correlations: each of their alerts is an event."""
    group_by: tuple[str, ...]
    """As written; aliases among them."""
    columns: tuple[tuple[str, ...], ...] = ()
    """For each of ``rules`` the columns that ``group_by`` is read from: ``group_by`` itself where nothing is an alias (also when empty)."""
    timespan: int
    """Nanoseconds."""
    within_events: int | None
    op: str = "gt"
    """How the number is compared with ``threshold``: gt, gte, lt, lte, eq, neq. Counts with ``gte`` are written as ``gt``."""
    threshold: float
    """0 and unused for ``temporal``, ``temporal_ordered`` and ``new_terms``."""
    fields: tuple[str, ...] = ()
    """Columns of the value that ``value_*`` looks at; several only with ``value_count``."""
    percentile: int = 50
    clauses: tuple[Clause, ...] = ()
    """Of ``temporal`` and ``temporal_ordered``: true where one of them is."""
    baseline: Baseline | None
    absence: Absence | None = None
    new_terms: NewTerms | None = None
    alerts: bool = True
    """False when it only serves other correlations (none of which says ``generate: true``)."""
    suppress: int
    """Nanoseconds, ``timespan`` (``new_terms``: 0) unless the document says otherwise."""

    @property
    def deferred(self) -> bool:
        """Whether what is still to come can make it false, so that it waits for the watermark (docs/semantics.md)."""
        if self.clauses:
            return self.absence is not None or any(clause.absent for clause in self.clauses)
        return self.kind in ("value_avg", "value_percentile", "value_median") or self.op not in IMMEDIATE

    def read_from(self, step: int) -> tuple[str, ...]:
        """The columns that make the group of an event of one of its rules."""
        return self.columns[step] if self.columns else self.group_by


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Rules in the order of their files. ``fields`` are all columns that rules read or correlations group by."""

    rules: tuple[Rule, ...]
    correlations: tuple[Correlation, ...]
    digest: str
    fields: frozenset[str]
