"""Rule files into a ``RuleSet``; all errors of all files at once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule

from otel_ir.errors import RuleError
from otel_ir.sigma.columns import Columns
from otel_ir.sigma.compile import compile_detection, needed
from otel_ir.sigma.correlate import CARRIED, compile_correlation
from otel_ir.sigma.extensions import nanoseconds, suggest
from otel_ir.sigma.parse import LEVELS, Entry, detection_errors, names, parse_document, referenced, with_actions
from otel_ir.sigma.pipeline import apply
from otel_ir.sigma.regex import shorten
from otel_ir.sigma.ruleset import Correlation, Plan, Rule, RuleSet
from otel_ir.sigma.shape import MAX_RULES
from otel_ir.sigma.source import Document, read_documents, rule_files

MAX_DEPTH = 8
"""Correlations over correlations over …"""
_MAX_WAY = 1000
"""Correlations that are looked at for a circle; in a longer one they are merely too deep."""


@dataclass(slots=True)
class Library:
    """Documents that could be read, what they compile to, and what could not be.

    ``compiled`` maps an id to its Rule or Correlation; ``broken`` holds ids and names of documents with errors.
    """

    entries: list[Entry] = field(default_factory=list)
    errors: list[RuleError] = field(default_factory=list)
    compiled: dict[str, Rule | Correlation] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    doubtful: list[Entry] = field(default_factory=list)
    """Correlations with errors that may have further ones."""
    refused: dict[tuple[str, int], str] = field(default_factory=dict)
    """File and line of each document (of each file, where it could not be read) that is not in use -> its title."""
    filtered: dict[str, list[str]] = field(default_factory=dict)
    """Id of a rule -> digests of the Sigma filters that apply to it."""
    named: dict[str, list[Entry]] = field(default_factory=dict)
    """By what correlations may refer to them; filled when they are compiled."""
    carried: frozenset[str] | None = CARRIED
    """What alerts of correlations bring along, beside what they are grouped by; None: all of their completing event."""
    depths: dict[str, int] = field(default_factory=dict)
    """Id of a correlation -> 1 where it is over rules only, 2 over such ones, …; without those in a circle or over ``MAX_DEPTH``."""
    ruleset: RuleSet = field(default_factory=lambda: _ruleset([]))

    def entry(self, identity: str) -> Entry:
        """The document with this id. ``KeyError``."""
        return next((entry for entry in self.entries if entry.id == identity), None) or _missing(identity)

    def fail(self, document: Document, *errors: RuleError) -> None:
        self.errors += errors
        self.broken.update(names(document))
        self.refused[document.path, document.node.start_mark.line + 1] = str(document.data.get("title", ""))


def _missing(identity: str) -> Entry:
    raise KeyError(identity)


def load_rules(paths: Sequence[Path], pipeline: ProcessingPipeline | None = None) -> tuple[RuleSet, list[RuleError]]:
    """The rule set of all files at and under ``paths``, and every error (file, line, column, hint) of all of them.

    What has no error is in the set; whether to use it in spite of errors is the caller's choice.
    """
    library = load_library(paths, pipeline)
    return library.ruleset, library.errors


def load_library(paths: Sequence[Path], pipeline: ProcessingPipeline | None = None) -> Library:
    """As ``load_rules``, with the documents."""
    library = read_library(paths, pipeline)
    named = references(library)
    for entry in library.entries:
        if not isinstance(entry.sigma, SigmaCorrelationRule):
            _compile_entry(library, entry, named)
    correlate(library)
    library.errors.sort(key=lambda error: (error.path, error.line, error.column))
    library.ruleset = _ruleset([library.compiled[entry.id] for entry in library.entries if entry.id in library.compiled])
    return library


def correlate(library: Library) -> None:
    """Compiles the correlations of a library whose rules are compiled."""
    for entry in library.entries:
        for name in dict.fromkeys(entry.names):
            library.named.setdefault(name, []).append(entry)
    correlations = [entry for entry in library.entries if isinstance(entry.sigma, SigmaCorrelationRule)]
    library.depths = _depths(library, correlations)
    for entry in sorted(correlations, key=lambda entry: library.depths.get(entry.id, MAX_DEPTH + 1)):
        _correlate_entry(library, entry)
    for entry in library.doubtful:
        with suppress(TypeError, AttributeError, ValueError):  # parts of the wrong type, which were reported
            _correlate_entry(library, entry)
    named = references(library)
    for entry in library.entries:
        compiled = library.compiled.get(entry.id)
        if isinstance(compiled, Correlation) and not alerts_itself(entry, named):
            library.compiled[entry.id] = replace(compiled, alerts=False)


def read_library(paths: Sequence[Path], pipeline: ProcessingPipeline | None = None) -> Library:
    """The documents, parsed, filters and then the pipeline applied, not compiled."""
    library, filters = Library(), list[Entry]()
    files, library.errors = rule_files(paths)
    seen: dict[str, Document] = {}
    for file in files:
        documents, errors = read_documents(file)
        library.errors += errors
        library.refused.update({(error.path, error.line): "" for error in errors})
        for document in with_actions(documents):
            entry, errors = parse_document(document)
            if entry is None or errors:
                library.fail(document, *errors)
                library.doubtful += [entry] if entry is not None and isinstance(entry.sigma, SigmaCorrelationRule) else []
            elif isinstance(entry.sigma, SigmaFilter):
                filters.append(entry)
            elif entry.id in seen:
                first = seen[entry.id]
                where = f"{first.path}:{first.locate('id')[0]}"
                library.fail(document, document.error(f"id {entry.id!r} is already in use", "id", hint=f"first at {where}"))
            else:
                seen[entry.id] = document
                library.entries.append(entry)
    for entry in filters:
        _apply_filter(library, entry)
    if pipeline is not None:
        library.entries = [entry for entry in library.entries if _piped(library, entry, pipeline)]
    return library


def _piped(library: Library, entry: Entry, pipeline: ProcessingPipeline) -> bool:
    try:
        apply(pipeline, entry.sigma)
    except RuleError as error:
        library.fail(entry.document, entry.document.error(error.what, "detection", hint=error.hint))
        return False
    return True


def _apply_filter(library: Library, entry: Entry) -> None:
    """Sigma filters: conditions that site owners add to rules they do not own (Sigma filters specification)."""
    if errors := detection_errors(entry.document):
        library.fail(entry.document, *errors)
        return
    for other in library.entries:
        before = list(other.sigma.detection.condition) if isinstance(other.sigma, SigmaRule) else []
        try:
            entry.sigma.apply_on_rule(other.sigma)
        except SigmaError as error:
            library.fail(entry.document, entry.document.error(shorten(str(error)), "filter"))
            return
        if before and before != other.sigma.detection.condition:
            library.filtered.setdefault(other.id, []).append(_digest(entry.document.data))


def references(library: Library) -> dict[str, bool]:
    """What correlations refer to -> whether one of them lets it alert by itself (``generate: true``)."""
    found: dict[str, bool] = {}
    for entry in library.entries:
        if isinstance(entry.sigma, SigmaCorrelationRule):
            absence = entry.extensions.absence
            for key in (*referenced(entry.sigma), *([absence.rule] if absence else [])):
                for name in (key, key.lower()):
                    found[name] = found.get(name, False) or entry.sigma.generate
    return found


def _compile_entry(library: Library, entry: Entry, named: dict[str, bool]) -> None:
    document, sigma = entry.document, entry.sigma
    columns, plan = Columns(), None
    try:
        predicate = compile_detection(sigma.detection, columns)
        if entry.ours:
            shared = Columns(views=set())
            planned = compile_detection(sigma.detection, shared).alias(entry.id)
            plan = Plan(planned, frozenset(shared.views or ()), needed(sigma.detection))
        suppress = nanoseconds(entry.extensions.suppress, document, "suppress") if entry.extensions.suppress else None
    except RuleError as error:
        library.fail(document, *detection_failure(document, error))
        return
    if not entry.ours:
        columns.used = set()
        predicate = pl.col("event.type").is_null() & pl.col("event.type").is_not_null()  # never: not about agents
    elif sigma.logsource.service is not None:
        predicate = (pl.col("event.type").eq_missing(pl.lit(sigma.logsource.service))) & predicate
    rule = compiled_rule(library, entry, predicate, frozenset(columns.used | {"event.type"}), sigma.logsource.service)
    library.compiled[entry.id] = dataclasses.replace(rule, alerts=alerts_itself(entry, named), suppress=suppress, plan=plan)


def compiled_rule(library: Library, entry: Entry, predicate: pl.Expr, fields: frozenset[str], service: str | None) -> Rule:
    """The rule of a document, which alerts."""
    return Rule(**_common(library, entry), service=service, predicate=predicate, fields=fields, alerts=True, suppress=None)


def alerts_itself(entry: Entry, named: dict[str, bool]) -> bool:
    """Sigma correlations, "Generate": what a correlation refers to alerts by itself only where one says so."""
    generate = [named[name] for name in entry.names if name in named]
    return any(generate) or not generate


def detection_failure(document: Document, error: RuleError) -> list[RuleError]:
    """Where and why a detection cannot be compiled: what is wrong with its parts, else with all of them together."""
    return detection_errors(document) or [document.error(shorten(error.what, 400), "detection", "condition", hint=error.hint)]


def _matching(library: Library, reference: str) -> list[Entry]:
    """The documents that a correlation may mean by this."""
    by_id = (other for other in library.named.get(reference.lower(), ()) if other.names[0] == reference.lower())
    return list({id(other): other for other in (*library.named.get(reference, ()), *by_id)}.values())


def _below(library: Library, entry: Entry) -> list[Entry]:
    """The correlations that a correlation refers to."""
    absence = entry.extensions.absence
    names = dict.fromkeys([*referenced(entry.sigma)[: MAX_RULES + 1], *([absence.rule] if absence else [])])
    return [other for name in names for other in _matching(library, name) if isinstance(other.sigma, SigmaCorrelationRule)]


def _depths(library: Library, correlations: Sequence[Entry]) -> dict[str, int]:
    below = {entry.id: {other.id for other in _below(library, entry)} for entry in correlations}
    depths: dict[str, int] = {}
    for depth in range(1, MAX_DEPTH + 1):
        ready = [identity for identity, needed in below.items() if identity not in depths and needed <= depths.keys()]
        depths |= dict.fromkeys(ready, depth)
    return depths


def _correlate_entry(library: Library, entry: Entry) -> None:
    """Compiles a correlation; the correlations that it refers to have been."""

    def resolve(reference: str) -> Rule | Correlation | RuleError:
        matching = _matching(library, reference)
        if len(matching) > 1:
            return RuleError(f"{len(matching)} rules are named {reference!r}", hint="refer to one by its id")
        if not matching and (reference in library.broken or reference.lower() in library.broken):
            return RuleError(f"the rule {reference!r} has errors of its own")
        if not matching:
            known = [name for other in library.entries for name in other.names if other is not entry]
            return RuleError(f"no rule has the id or name {shorten(reference)!r}", hint=suggest(reference, known))
        return _found(library, matching[0], entry, reference)

    correlation, errors = compile_correlation(entry, _common(library, entry), resolve, library.carried)
    if entry in library.doubtful:
        told = {(error.path, error.line) for error in library.errors}
        library.errors += [error for error in errors if (error.path, error.line) not in told]
    elif correlation is None:
        library.fail(entry.document, *errors)
    else:
        library.compiled[entry.id] = correlation


def _found(library: Library, other: Entry, entry: Entry, reference: str) -> Rule | Correlation | RuleError:
    too_deep = isinstance(other.sigma, SigmaCorrelationRule) and other.id not in library.depths
    if too_deep and (circle := _way(library, other, entry)):
        return RuleError(f"correlations refer to each other in a circle: {shorten(circle, 400)}", hint="one of them has to go")
    if library.depths.get(other.id, 0 if isinstance(other.sigma, SigmaRule) else MAX_DEPTH) >= MAX_DEPTH:
        return RuleError(f"correlations refer to each other more than {MAX_DEPTH} deep")
    return library.compiled.get(other.id) or RuleError(f"the rule {reference!r} has errors of its own")


def _way(library: Library, start: Entry, end: Entry) -> str:
    """How ``start`` refers to ``end`` over others, ``end`` first and last; nothing where it does not, or not within ``_MAX_WAY``."""
    came: dict[str, Entry | None] = {start.id: None}
    ahead = [start]
    for one in ahead:
        if one is end:
            way: list[str] = []
            step: Entry | None = one
            while step is not None:
                way.append(step.id)
                step = came[step.id]
            return " -> ".join([end.id, *reversed(way)])
        if len(came) > _MAX_WAY:
            break
        for other in _below(library, one):
            if other.id not in came:
                came[other.id] = one
                ahead.append(other)
    return ""


def _common(library: Library, entry: Entry) -> dict[str, Any]:
    sigma = entry.sigma
    content = {key: value for key, value in entry.document.data.items() if key != "tests"} | {"filters": library.filtered.get(entry.id, [])}
    return {
        "id": entry.id,
        "signal": str(sigma.name or entry.id),
        "title": sigma.title,
        "description": " ".join(str(sigma.description or sigma.title).split()),
        "severity": LEVELS.get(str(sigma.level), "medium"),
        "stage": entry.extensions.stage,
        "tags": tuple(str(tag) for tag in sigma.tags),
        "path": entry.document.path,
        "digest": _digest(content),
        "response": entry.extensions.response,
    }


def _digest(content: dict[Any, Any]) -> str:
    return hashlib.sha256(json.dumps(_texts(content), sort_keys=True, default=str).encode()).hexdigest()


def _texts(value: Any) -> Any:
    """With texts as keys: YAML knows others, which cannot be sorted together."""
    if isinstance(value, dict):
        return {str(key): _texts(inner) for key, inner in value.items()}
    return [_texts(inner) for inner in value] if isinstance(value, list) else value


def _ruleset(compiled: Sequence[Rule | Correlation]) -> RuleSet:
    rules = tuple(item for item in compiled if isinstance(item, Rule))
    correlations = tuple(item for item in compiled if isinstance(item, Correlation))
    fields = {name for rule in rules for name in rule.fields} | {name for item in correlations for name in columns_of(item)}
    lines = sorted(f"{item.id} {item.digest}" for item in compiled)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return RuleSet(rules=rules, correlations=correlations, digest=digest, fields=frozenset(fields))


def subset(ruleset: RuleSet, identity: str) -> RuleSet:
    """One rule or correlation by itself, with all that it refers to."""
    wanted, more = {identity}, {identity}
    while more:
        used = [item for item in ruleset.correlations if item.id in more]
        more = {name for item in used for name in names_of(item)} - wanted
        wanted |= more
    kept: list[Rule | Correlation] = [rule for rule in ruleset.rules if rule.id in wanted]
    return _ruleset([*kept, *(item for item in ruleset.correlations if item.id in wanted)])


def names_of(item: Correlation) -> tuple[str, ...]:
    """The ids of the rules and correlations that a correlation refers to."""
    return (*item.rules, *([item.absence.rule] if item.absence else []))


def columns_of(item: Correlation) -> set[str]:
    """The columns that a correlation reads, beside those of its rules."""
    grouped = {name for step in range(len(item.rules)) for name in item.read_from(step)}
    return grouped | {*item.fields, *(item.new_terms.fields if item.new_terms else ())}
