"""Rule files into a ``RuleSet``; all errors of all files at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule

from otel_ir.errors import RuleError
from otel_ir.sigma.columns import Columns, event_frame
from otel_ir.sigma.compile import compile_detection
from otel_ir.sigma.correlate import compile_correlation
from otel_ir.sigma.extensions import nanoseconds, suggest
from otel_ir.sigma.parse import LEVELS, Entry, detection_errors, names, parse_document, with_actions
from otel_ir.sigma.pipeline import apply
from otel_ir.sigma.regex import shorten
from otel_ir.sigma.ruleset import Correlation, Rule, RuleSet
from otel_ir.sigma.source import Document, read_documents, rule_files


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
    referenced = references(library)
    correlations = [entry for entry in library.entries if isinstance(entry.sigma, SigmaCorrelationRule)]
    for entry in library.entries:
        for name in dict.fromkeys(entry.names):
            library.named.setdefault(name, []).append(entry)
        if not isinstance(entry.sigma, SigmaCorrelationRule):
            _compile_entry(library, entry, referenced)
    for entry in correlations:
        _correlate_entry(library, entry)
    for entry in library.doubtful:
        with suppress(TypeError, AttributeError, ValueError):  # parts of the wrong type, which were reported
            _correlate_entry(library, entry)
    library.errors.sort(key=lambda error: (error.path, error.line, error.column))
    library.ruleset = _ruleset([library.compiled[entry.id] for entry in library.entries if entry.id in library.compiled])
    return library


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
    referenced: dict[str, bool] = {}
    for entry in library.entries:
        if isinstance(entry.sigma, SigmaCorrelationRule):
            for reference in entry.sigma.rules or ():
                key = str(reference.reference)
                for name in (key, key.lower()):
                    referenced[name] = referenced.get(name, False) or entry.sigma.generate
    return referenced


def _compile_entry(library: Library, entry: Entry, referenced: dict[str, bool]) -> None:
    document, sigma = entry.document, entry.sigma
    columns = Columns()
    try:
        predicate = compile_detection(sigma.detection, columns)
        suppress = nanoseconds(entry.extensions.suppress, document, "suppress") if entry.extensions.suppress else None
    except RuleError as error:
        library.fail(document, *detection_failure(document, error))
        return
    if not entry.ours:
        columns.used = set()
        predicate = pl.col("event.type").is_null() & pl.col("event.type").is_not_null()  # never: not about agents
    elif sigma.logsource.service is not None:
        predicate = (pl.col("event.type").eq_missing(pl.lit(sigma.logsource.service))) & predicate
    library.compiled[entry.id] = Rule(
        **_common(library, entry),
        service=sigma.logsource.service,
        predicate=predicate,
        fields=frozenset(columns.used | {"event.type"}),
        alerts=alerts_itself(entry, referenced),
        suppress=suppress,
    )


def alerts_itself(entry: Entry, referenced: dict[str, bool]) -> bool:
    """Sigma correlations, "Generate": what a correlation refers to alerts by itself only where one says so."""
    generate = [referenced[name] for name in entry.names if name in referenced]
    return any(generate) or not generate


def detection_failure(document: Document, error: RuleError) -> list[RuleError]:
    """Where and why a detection cannot be compiled: what is wrong with its parts, else with all of them together."""
    return detection_errors(document) or [document.error(shorten(error.what, 400), "detection", "condition", hint=error.hint)]


def _correlate_entry(library: Library, entry: Entry) -> None:
    def resolve(reference: str) -> Rule | RuleError:
        by_id = (other for other in library.named.get(reference.lower(), ()) if other.names[0] == reference.lower())
        matching = list({id(other): other for other in (*library.named.get(reference, ()), *by_id)}.values())
        if len(matching) > 1:
            return RuleError(f"{len(matching)} rules are named {reference!r}", hint="refer to one by its id")
        if not matching and (reference in library.broken or reference.lower() in library.broken):
            return RuleError(f"the rule {reference!r} has errors of its own")
        if not matching:
            known = [name for other in library.entries for name in other.names if other is not entry]
            return RuleError(f"no rule has the id or name {reference!r}", hint=suggest(reference, known))
        rule = library.compiled.get(matching[0].id)
        if isinstance(rule, Rule):
            return rule
        if isinstance(matching[0].sigma, SigmaCorrelationRule):
            return RuleError(f"{reference!r} is itself a correlation", hint="this version correlates plain rules")
        return RuleError(f"the rule {reference!r} has errors of its own")

    correlation, errors = compile_correlation(entry, _common(library, entry), resolve)
    if entry in library.doubtful:
        told = {(error.path, error.line) for error in library.errors}
        library.errors += [error for error in errors if (error.path, error.line) not in told]
    elif correlation is None:
        library.fail(entry.document, *errors)
    else:
        library.compiled[entry.id] = correlation


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
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _ruleset(compiled: Sequence[Rule | Correlation]) -> RuleSet:
    rules = tuple(item for item in compiled if isinstance(item, Rule))
    correlations = tuple(item for item in compiled if isinstance(item, Correlation))
    fields = {name for rule in rules for name in rule.fields} | {name for item in correlations for name in item.group_by}
    lines = sorted(f"{item.id} {item.digest}" for item in compiled)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return RuleSet(rules=rules, correlations=correlations, digest=digest, fields=frozenset(fields))


def subset(ruleset: RuleSet, identity: str) -> RuleSet:
    """One rule or correlation by itself, with the rules that it refers to."""
    correlations = [item for item in ruleset.correlations if item.id == identity]
    wanted = {identity, *(name for item in correlations for name in item.rules)}
    return _ruleset([*(rule for rule in ruleset.rules if rule.id in wanted), *correlations])


_FEW = 16


def matches(rules: Sequence[Rule], frame: pl.DataFrame) -> pl.DataFrame:
    """One Boolean column per rule, named by its id, as high as ``frame``; columns that rules read and the frame lacks count as null.

    Through the lazy engine, so that what rules share (a column in lower case) is computed once; for a few rows to plan costs more.
    """
    frame = event_frame(frame, sorted({name for rule in rules for name in rule.fields}))
    if frame.height <= _FEW:
        # One column of the frame beside them: predicates that read none would be one row high.
        found = frame.select_seq(pl.first(), *(rule.predicate.alias(rule.id) for rule in rules))
        return found[[rule.id for rule in rules]]
    computed = frame.lazy().with_columns(rule.predicate.alias(rule.id) for rule in rules)
    return computed.select(rule.id for rule in rules).collect()
