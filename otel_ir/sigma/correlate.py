"""Sigma correlations into ``Correlation``, over the rules and correlations they refer to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from otel_ir.errors import RuleError
from otel_ir.model import WHO_COLUMNS
from otel_ir.sigma.clauses import MAX_CLAUSES, clauses_of
from otel_ir.sigma.extensions import nanoseconds, suggest
from otel_ir.sigma.parse import Entry, referenced
from otel_ir.sigma.ruleset import Absence, Baseline, Clause, Correlation, NewTerms, Rule
from otel_ir.sigma.shape import MAX_GROUP_BY, MAX_RULES


@dataclass(frozen=True, slots=True)
class Kind:
    """What a correlation type takes: values of a ``field``, or the order or presence of its rules (``steps``)."""

    values: bool = False
    several: bool = False
    percentile: bool = False
    steps: bool = False


KINDS = {
    "event_count": Kind(),
    "value_count": Kind(values=True, several=True),
    "value_sum": Kind(values=True),
    "value_avg": Kind(values=True),
    "value_percentile": Kind(values=True, percentile=True),
    "value_median": Kind(values=True),
    "temporal": Kind(steps=True),
    "temporal_ordered": Kind(steps=True),
}
"""Sigma correlation rules specification 2.1, "Correlation types"; ``value_median`` is pySigma's."""
COUNTS = ("event_count", "value_count")
MAX_VALUE = 1e300
"""A sum of 4,096 such values is still a number."""
CARRIED = frozenset({*WHO_COLUMNS, "gen_ai.tool.name"})
"""What an alert of a correlation brings along of its completing event, beside what it is grouped by."""
Found = Rule | Correlation
Resolve = Callable[[str], "Found | RuleError"]


def compile_correlation(
    entry: Entry, common: dict[str, Any], resolve: Resolve, carried: frozenset[str] | None = CARRIED
) -> tuple[Correlation | None, list[RuleError]]:
    """The correlation, or everything that is wrong with it.

    ``common`` are the fields of ``Definition``; ``resolve`` finds a rule or correlation by its id or name. ``carried``: the columns that
    alerts of inner correlations have beside their groups; None for all.
    """
    problems = _Problems(entry)
    kind = problems.kind()
    rules = problems.rules(resolve)
    group_by, columns = problems.groups(len(rules))
    timespan = problems.span("timespan", "correlation", "timespan")
    new_terms, absence = problems.new_terms(kind), problems.absence(kind, len(rules), resolve)
    quiet = 0 if new_terms else timespan
    suppress = problems.span("suppress", "suppress") if entry.extensions.suppress else quiet
    op, threshold = problems.threshold(kind)
    fields, percentile = problems.values(kind)
    baseline = problems.baseline(kind)
    clauses = problems.clauses(kind, len(rules))
    problems.check_inner(rules, columns or (group_by,) * len(rules), (*fields, *(new_terms.fields if new_terms else ())), carried)
    if problems.errors:
        return None, problems.errors
    services = {rule.service for rule in rules}
    digests = [str(common.pop("digest")), *(rule.digest for rule in rules), *([absence.digest] if absence else [])]
    return Correlation(
        **common,
        digest=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        service=services.pop() if len(services) == 1 else None,
        kind="new_terms" if new_terms else kind,
        rules=tuple(rule.id for rule in rules),
        inner=frozenset(rule.id for rule in rules if isinstance(rule, Correlation)),
        group_by=group_by,
        columns=columns,
        timespan=timespan,
        within_events=entry.extensions.within_events,
        op="gt" if clauses else op,
        threshold=0 if clauses else threshold,
        fields=fields,
        percentile=percentile,
        clauses=clauses,
        baseline=baseline,
        absence=Absence(absence.id, entry.extensions.absence.where) if absence and entry.extensions.absence else None,
        new_terms=new_terms,
        suppress=suppress,
    ), []


class _Problems:
    """Reads one key of the correlation after the other and keeps what is wrong, so that all of it is reported at once."""

    def __init__(self, entry: Entry) -> None:
        self.entry, self.errors = entry, list[RuleError]()
        self.written: dict[str, Any] = entry.document.data["correlation"]
        self.names = referenced(entry.sigma)

    def refuse(self, what: str, *keys: str | int, hint: str = "") -> None:
        self.errors.append(self.entry.document.error(what, *keys, hint=hint))

    def kind(self) -> str:
        kind = str(getattr(self.entry.sigma.type, "name", "")).lower()
        if kind and kind not in KINDS:
            self.refuse(f"correlation type {kind!r}", "correlation", "type", hint=suggest(kind, KINDS))
        return kind

    def rules(self, resolve: Resolve) -> list[Found]:
        place = ("correlation", "rules" if self.entry.sigma.rules else "condition")
        if not self.names or len(self.names) > MAX_RULES:
            self.refuse(f"a correlation refers to 1 to {MAX_RULES} rules", *place)
        found = list[Found]()
        for index, reference in enumerate(self.names[:MAX_RULES]):
            rule = resolve(reference)
            if isinstance(rule, RuleError):
                self.refuse(rule.what, *place, *([index] if place[1] == "rules" else []), hint=rule.hint)
            else:
                found.append(rule)
        return found

    def groups(self, rules: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Group-by as written, and for each rule the columns it is read from (nothing where no alias is used)."""
        group_by = tuple(dict.fromkeys(self.entry.sigma.group_by or ()))
        if len(group_by) > MAX_GROUP_BY:
            self.refuse(f"group-by names more than {MAX_GROUP_BY} columns", "correlation", "group-by")
        aliases = {
            alias: {str(reference.reference): field for reference, field in one.mapping.items()}
            for alias, one in (getattr(self.entry.sigma.aliases, "aliases", None) or {}).items()
        }
        for alias, mapping in aliases.items():
            place = ("correlation", "aliases", alias)
            for reference in mapping:
                if reference not in self.names:
                    self.refuse(
                        f"alias {alias!r} names {reference!r}, which is none of the rules", *place, hint=suggest(reference, self.names)
                    )
            missing = [name for name in self.names if name not in mapping]
            if missing:
                self.refuse(f"alias {alias!r} says nothing of {missing[0]!r}", *place, hint="name the field of each rule")
            if alias not in group_by:
                self.refuse(f"alias {alias!r} is not in group-by", *place, hint="an alias names a field of group-by")
        if not aliases or self.errors:
            return group_by, ()
        return group_by, tuple(tuple(aliases.get(name, {}).get(rule, name) for name in group_by) for rule in self.names[:rules])

    def span(self, key: str, *place: str) -> int:
        value = self.entry.extensions.suppress if key == "suppress" else self.written.get("timespan")
        try:
            return nanoseconds(value, self.entry.document, *place)
        except RuleError as error:
            self.errors.append(error)
            return 0

    def threshold(self, kind: str) -> tuple[str, float]:
        """Operator and number. Counts are whole numbers, so that ``gte: N`` is ``gt: N - 1``."""
        condition, place = self.entry.sigma.condition, ("correlation", "condition")
        operator = getattr(condition, "op", None)
        if kind not in KINDS or operator is None:
            return "gt", 0
        op, number = operator.name.lower(), condition.count
        if KINDS[kind].steps and self.names:
            least = {"gte": math.ceil(number), "gt": math.floor(number) + 1, "eq": number}.get(op, 0)
            if not 1 <= least <= len(self.names) or (op == "eq" and number != len(self.names)):
                hint = "leave the condition out for all of them, or write 'gte: N', or a condition over their names"
                self.refuse(f"{kind} counts which of its {len(self.names)} rules matched", *place, hint=hint)
            return "gte", least
        if kind not in COUNTS:
            if abs(number) > MAX_VALUE:
                self.refuse(f"{op}: a number beyond {MAX_VALUE:g}", *place)
            return op, number
        return self._count(op, number)

    def _count(self, op: str, number: float) -> tuple[str, float]:
        """At a row the count is at least 1."""
        place = ("correlation", "condition")
        if op in ("gt", "gte"):
            op, number = "gt", math.floor(number) if op == "gt" else math.ceil(number) - 1
        never = {"lt": number <= 1, "lte": number < 1, "eq": number < 1 or number != math.floor(number)}
        always = {"gt": number < 0, "neq": number < 1 or number != math.floor(number)}
        if number >= 2**31 or never.get(op) or always.get(op):
            self.refuse(
                f"a count is always or never {self.entry.sigma.condition.op.name.lower()} {self.entry.sigma.condition.count}", *place
            )
        return op, number

    def values(self, kind: str) -> tuple[tuple[str, ...], int]:
        """The fields whose values count, and the percentile."""
        condition, place = self.entry.sigma.condition, ("correlation", "condition")
        named, percentile = getattr(condition, "fieldref", None), getattr(condition, "percentile", None)
        about = KINDS.get(kind, Kind())
        if kind in KINDS and not about.values and (named is not None or percentile is not None):
            self.refuse(f"{kind} counts events, not values of a field", *place, hint="remove 'field' and 'percentile'")
        fields = tuple(dict.fromkeys([named] if isinstance(named, str) else named or ()))
        if about.values and not about.several and len(fields) > 1:
            self.refuse(f"{kind} looks at one field", *place)
        if about.percentile and percentile is None:
            self.refuse("value_percentile without a percentile", *place, hint="such as 'percentile: 95'")
        if percentile is not None and about.values and not about.percentile:
            self.refuse(f"{kind} takes no percentile", *place, hint="value_percentile does")
        return (fields if about.values else ()), percentile or 50

    def clauses(self, kind: str, rules: int) -> tuple[Clause, ...]:
        """What has to be there, of ``temporal`` and ``temporal_ordered``."""
        if kind not in KINDS or not KINDS[kind].steps or not self.names:
            return ()
        tree = getattr(self.entry.sigma.condition, "parsed", None)
        within = self.entry.extensions.within_events
        if tree is None:
            found: Sequence[Clause] = self._some(rules)
        else:
            try:
                found = clauses_of(tree, self.names)
            except RuleError as error:
                self.refuse(error.what, "correlation", "condition", hint=error.hint)
                return ()
        if any(not clause.required for clause in found):
            hint = "name a rule that has to match in every alternative"
            self.refuse("a condition that is true where nothing matched", "correlation", "condition", hint=hint)
        if within is not None and kind != "temporal_ordered":
            self.refuse("'within-events' goes with temporal_ordered", "within-events")
        elif within is not None and any(clause.absent for clause in found):
            self.refuse("'within-events' and 'not' do not go together", "within-events", hint="within-events follows journal order")
        elif within is not None and not self.errors and min(len(clause.required) for clause in found) > within:
            self.refuse(f"{rules} rules cannot match within {within} events", "within-events")
        if kind == "temporal_ordered" and not self.errors and rules < 2 and self.entry.extensions.absence is None:
            self.refuse("temporal_ordered needs at least two rules", "correlation", "rules")
        return tuple(found)

    def _some(self, rules: int) -> list[Clause]:
        """``gte: N``: any N of the rules."""
        least = int(self.threshold("temporal")[1]) if not self.errors else rules
        if math.comb(rules, least) > MAX_CLAUSES:
            self.refuse(f"more than {MAX_CLAUSES} ways to choose {least} of {rules} rules", "correlation", "condition")
            return []
        return [Clause(steps) for steps in combinations(range(rules), least)]

    def baseline(self, kind: str) -> Baseline | None:
        """The condition must state what holds until a rate is learnt, so that other Sigma tools read the same rule."""
        config = self.entry.extensions.baseline
        if self.entry.extensions.within_events is not None and kind in KINDS and not KINDS[kind].steps:
            self.refuse("'within-events' goes with temporal_ordered", "within-events")
        if config is None:
            return None
        if kind != "event_count":
            self.refuse("a baseline goes with event_count", "baseline")
            return None
        expected = config.multiple * config.default
        condition = self.entry.sigma.condition
        operator = getattr(condition, "op", None)
        if operator is None or operator.name != "GT" or condition.count != expected:
            hint = f"write 'gt: {expected:g}': the threshold until a rate is learnt, multiple x default"
            self.refuse("the condition and the baseline disagree", "correlation", "condition", hint=hint)
        return Baseline(multiple=config.multiple, default=config.default, learn=config.learn)

    def new_terms(self, kind: str) -> NewTerms | None:
        """Other Sigma tools read the rule as "any event"; the condition must say so."""
        config = self.entry.extensions.new_terms
        if config is None:
            return None
        condition = self.entry.sigma.condition
        if kind != "event_count" or getattr(getattr(condition, "op", None), "name", "") != "GTE" or condition.count != 1:
            self.refuse("new_terms goes with event_count and 'gte: 1'", "new_terms", hint="one event with a new value is enough")
        for other in ("baseline", "absence", "within_events"):
            if getattr(self.entry.extensions, other) is not None:
                self.refuse(f"new_terms and {other.replace('_', '-')} do not go together", "new_terms")
        return NewTerms(tuple(dict.fromkeys(config.fields)), config.learn)

    def absence(self, kind: str, rules: int, resolve: Resolve) -> Found | None:
        """The rule of which there must be no match."""
        config = self.entry.extensions.absence
        if config is None:
            return None
        if kind != "temporal_ordered":
            self.refuse("an absence goes with temporal_ordered", "absence", hint="the rules in their order, and what must not be there")
        elif config.where == "between" and rules == 1:
            self.refuse("nothing lies between one rule", "absence", "where", hint="write 'where: after', or name two rules")
        if self.entry.extensions.within_events is not None or hasattr(self.entry.sigma.condition, "parsed"):
            self.refuse("an absence goes with a plain list of rules", "absence", hint="without within-events and without a condition")
        rule = resolve(config.rule)
        if isinstance(rule, RuleError):
            self.refuse(rule.what, "absence", "rule", hint=rule.hint)
            return None
        if isinstance(rule, Correlation):
            self.refuse(f"{config.rule!r} is a correlation", "absence", "rule", hint="name a rule that matches single events")
            return None
        if self.written.get("aliases"):
            self.refuse("an absence and aliases do not go together", "absence", hint="group by columns that all rules share")
        return rule

    def check_inner(
        self, rules: list[Found], columns: tuple[tuple[str, ...], ...], fields: tuple[str, ...], carried: frozenset[str] | None
    ) -> None:
        """Of an alert of an inner correlation only so much is known as it carries."""
        for rule, needed in zip(rules, columns, strict=False):
            if not isinstance(rule, Correlation):
                continue
            if self.entry.extensions.within_events is not None:
                self.refuse("'within-events' counts events, not alerts of correlations", "within-events")
            known = None if carried is None else carried.union(rule.group_by)
            for name in dict.fromkeys((*needed, *fields)):
                if known is not None and name not in known:
                    hint = f"alerts of {rule.signal!r} carry what it is grouped by, the agent's identity and the tool"
                    self.refuse(f"{rule.signal!r} does not carry {name!r}", "correlation", "group-by", hint=hint)
