"""Sigma correlations into ``Correlation``, over the rules they refer to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

from otel_ir.errors import RuleError
from otel_ir.sigma.extensions import nanoseconds
from otel_ir.sigma.parse import Entry
from otel_ir.sigma.ruleset import Baseline, Correlation, Rule

KINDS = ("event_count", "temporal_ordered")
MAX_RULES = 32
MAX_GROUP_BY = 8
Resolve = Callable[[str], Rule | RuleError]


def compile_correlation(entry: Entry, common: dict[str, Any], resolve: Resolve) -> tuple[Correlation | None, list[RuleError]]:
    """The correlation, or everything that is wrong with it.

    ``common`` are the fields of ``Definition``; ``resolve`` finds a rule by its id or name.
    """
    problems = _Problems(entry)
    kind = problems.kind()
    rules = problems.rules(resolve)
    group_by = problems.group_by()
    timespan = problems.span("timespan", "correlation", "timespan")
    suppress = problems.span("suppress", "suppress") if entry.extensions.suppress else timespan
    threshold = problems.threshold(kind)
    baseline = problems.baseline(kind)
    problems.check_sequence(kind, len(rules))
    if problems.errors:
        return None, problems.errors
    services = {rule.service for rule in rules}
    digests = [str(common.pop("digest")), *(rule.digest for rule in rules)]
    return Correlation(
        **common,
        digest=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        service=services.pop() if len(services) == 1 else None,
        kind=kind,
        rules=tuple(rule.id for rule in rules),
        group_by=group_by,
        timespan=timespan,
        within_events=entry.extensions.within_events,
        threshold=threshold,
        baseline=baseline,
        suppress=suppress,
    ), []


class _Problems:
    """Reads one key of the correlation after the other and keeps what is wrong, so that all of it is reported at once."""

    def __init__(self, entry: Entry) -> None:
        self.entry, self.errors = entry, list[RuleError]()
        self.written: dict[str, Any] = entry.document.data["correlation"]

    def refuse(self, what: str, *keys: str | int, hint: str = "") -> None:
        self.errors.append(self.entry.document.error(what, *keys, hint=hint))

    def kind(self) -> str:
        kind = getattr(self.entry.sigma.type, "name", "").lower()
        if kind and kind not in KINDS:
            self.refuse(f"correlation type {kind!r}", "correlation", "type", hint=f"this version runs {' and '.join(KINDS)}")
        if self.entry.sigma.aliases:
            hint = "name the same event column in group-by of all rules: agent events share one schema"
            self.refuse("this version takes no field aliases", "correlation", "aliases", hint=hint)
        return str(kind)

    def rules(self, resolve: Resolve) -> list[Rule]:
        references = [reference.reference for reference in self.entry.sigma.rules or ()]
        if not references or len(references) > MAX_RULES:
            self.refuse(f"a correlation refers to 1 to {MAX_RULES} rules", "correlation", "rules")
        found = []
        for index, reference in enumerate(references[:MAX_RULES]):
            rule = resolve(str(reference))
            if isinstance(rule, RuleError):
                self.refuse(rule.what, "correlation", "rules", index, hint=rule.hint)
            else:
                found.append(rule)
        return found

    def group_by(self) -> tuple[str, ...]:
        columns = tuple(dict.fromkeys(self.entry.sigma.group_by or ()))
        if len(columns) > MAX_GROUP_BY:
            self.refuse(f"group-by names more than {MAX_GROUP_BY} columns", "correlation", "group-by")
        return columns

    def span(self, key: str, *place: str) -> int:
        value = self.entry.extensions.suppress if key == "suppress" else self.written.get("timespan")
        try:
            return nanoseconds(value, self.entry.document, *place)
        except RuleError as error:
            self.errors.append(error)
            return 0

    def threshold(self, kind: str) -> int:
        """``gt: N`` and ``gte: N`` as "greater than"; counts are whole numbers."""
        condition, place = self.entry.sigma.condition, ("correlation", "condition")
        operator = getattr(condition, "op", None)
        if operator is None:
            self.refuse("this version takes no condition over rule names", *place, hint="leave it out: all rules, in their order")
            return 0
        limits = {"GT": math.floor(condition.count), "GTE": math.ceil(condition.count) - 1}
        if kind == "temporal_ordered":
            if "condition" in self.written and limits.get(operator.name) != len(self.entry.sigma.rules or ()) - 1:
                self.refuse("temporal_ordered fires when all its rules matched in order", *place, hint="leave the condition out")
            return 0
        if kind != "event_count":
            return 0
        if condition.fieldref is not None or condition.percentile is not None:
            self.refuse("event_count counts events, not values of a field", *place, hint="remove 'field' and 'percentile'")
        threshold = limits.get(operator.name)
        if threshold is None:
            self.refuse(f"event_count with {operator.name.lower()!r}", *place, hint="this version compares with gt and gte")
        elif not 0 <= threshold < 2**31:
            self.refuse(f"a count is always or never {operator.name.lower()} {condition.count}", *place)
        return threshold or 0

    def baseline(self, kind: str) -> Baseline | None:
        """The condition must state what holds until a rate is learnt, so that other Sigma tools read the same rule."""
        config = self.entry.extensions.baseline
        if config is None:
            return None
        if kind != "event_count":
            self.refuse("a baseline goes with event_count", "baseline")
        expected = config.multiple * config.default
        condition = self.entry.sigma.condition
        operator = getattr(condition, "op", None)
        if operator is None or operator.name != "GT" or condition.count != expected:
            hint = f"write 'gt: {expected:g}': the threshold until a rate is learnt, multiple x default"
            self.refuse("the condition and the baseline disagree", "correlation", "condition", hint=hint)
        return Baseline(multiple=config.multiple, default=config.default, learn=config.learn)

    def check_sequence(self, kind: str, rules: int) -> None:
        within = self.entry.extensions.within_events
        if within is not None and kind != "temporal_ordered":
            self.refuse("'within-events' goes with temporal_ordered", "within-events")
        elif within is not None and within < rules:
            self.refuse(f"{rules} rules cannot match within {within} events", "within-events")
        if kind == "temporal_ordered" and not self.errors and rules < 2:
            self.refuse("temporal_ordered needs at least two rules", "correlation", "rules")
