"""What sampling does to rules: which count too little, miss steps, or fire falsely, and by how much, where a sampler says what it kept."""

from __future__ import annotations

import math
from typing import NamedTuple

from otel_ir.doctor.blind import Looks, alerting
from otel_ir.doctor.coverage import AgentCover
from otel_ir.sigma.load import Library
from otel_ir.sigma.ruleset import Correlation, Rule

UNDERCOUNTS, STEPS, EVENTS = "undercounts", "misses steps", "misses events"
FALSELY, ESTIMATES, LEARNS = "may fire falsely", "estimates", "learns less"
BY_KIND = {
    "event_count": UNDERCOUNTS,
    "value_count": UNDERCOUNTS,
    "value_sum": UNDERCOUNTS,
    "value_avg": ESTIMATES,
    "value_percentile": ESTIMATES,
    "value_median": ESTIMATES,
    "temporal": STEPS,
    "temporal_ordered": STEPS,
    "new_terms": LEARNS,
}
"""Sigma's correlation types -> what sampling does to them."""
_ORDER = (UNDERCOUNTS, FALSELY, STEPS, EVENTS, LEARNS, ESTIMATES)
_SEVERITIES = ("critical", "high", "medium", "low")


class Distorted(NamedTuple):
    """A rule that sampling distorts. ``detail`` says by how much, empty where nobody knows."""

    rule_id: str
    signal: str
    severity: str
    effect: str
    detail: str


def distorted(library: Library, cover: AgentCover, kept: float | None) -> list[Distorted]:
    """The rules and correlations that look at this agent's events, of which a share ``kept`` came (None: a share that nobody states)."""
    looks, found = Looks(library, cover), []
    for item in alerting(library):
        if looks.at(item.id).of:
            effect = _effect(item)
            found.append(Distorted(item.id, item.signal, item.severity, effect, _detail(item, effect, kept)))
    return sorted(found, key=lambda one: (_ORDER.index(one.effect), _SEVERITIES.index(one.severity), one.signal))


def _effect(item: Rule | Correlation) -> str:
    if isinstance(item, Rule):
        return EVENTS
    absent = item.absence is not None or any(clause.absent for clause in item.clauses)
    return FALSELY if absent or (item.op in ("lt", "lte", "eq", "neq") and not item.clauses) else BY_KIND[item.kind]


def _detail(item: Rule | Correlation, effect: str, kept: float | None) -> str:
    if kept is None or not 0 < kept < 1:
        return ""
    if effect == UNDERCOUNTS and isinstance(item, Correlation) and item.kind == "event_count":
        # A baseline learns the sampled rate, so that the multiple of it still holds; only what counts until then does not.
        limit = item.baseline.multiple * item.baseline.default if item.baseline else item.threshold
        until = ", until the usual is learnt" if item.baseline else ""
        return f"more than {limit:g} are seen from about {math.ceil((math.floor(limit) + 1) / kept)} on{until}"
    if effect == STEPS and isinstance(item, Correlation):
        steps = min((len(clause.required) for clause in item.clauses), default=1)
        share = kept**steps
        return f"{share:.2%} (across traces) to {kept:.2%} (within one) come whole" if steps > 1 else ""
    return f"about {kept:.2%} of what it looks for comes" if effect in (UNDERCOUNTS, EVENTS) else ""
