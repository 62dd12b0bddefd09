"""Any Sigma rules over any events, fields as they are: ``otel-ir rules eval``.

An event is a JSON object. A field of a rule is looked up as a key, else along its dots through nested objects; through a list,
any element counts. Values are compared as rules compare them (docs/rules.md): a value of the wrong type does not match.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl
from sigma.rule import SigmaRule

from otel_ir.errors import InputError, RuleError
from otel_ir.sigma.columns import PRESENCE, Columns
from otel_ir.sigma.compile import compile_detection
from otel_ir.sigma.extensions import ours
from otel_ir.sigma.load import Library, alerts_itself, detection_failure, references
from otel_ir.sigma.parse import Entry

BATCH = 4096
MAX_LINE = 16 * 1024 * 1024
"""Characters of one event."""
MAX_DEPTH = 64
ALL = "\x00all"
"""Column of every text of an event, for keywords."""


@dataclass(slots=True)
class Evaluator:
    """Runs the plain rules of a library, but for those that only serve correlations.

    ``skipped`` counts lines that are no JSON object, ``correlations`` what cannot be evaluated on single events.
    """

    library: Library
    skipped: int = 0
    correlations: int = 0
    entries: list[Entry] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=lambda: {ALL})
    _compiled: dict[str, tuple[frozenset[str], pl.Expr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        referenced = references(self.library)
        for entry in self.library.entries:
            if not isinstance(entry.sigma, SigmaRule):
                self.correlations += 1
            elif alerts_itself(entry, referenced):
                try:
                    self.fields |= self._compile(entry)
                    self.entries.append(entry)
                except RuleError as error:
                    self.library.fail(entry.document, *detection_failure(entry.document, error))

    def run(self, lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(rule id, event) for each match, in the order of the events, then of the rules."""
        source = iter(lines)
        while batch := list(islice(source, BATCH)):
            yield from self._batch([event for line in batch if (event := self._event(line)) is not None])

    def _event(self, line: str) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            if len(line) > MAX_LINE:
                raise InputError("too long")
            event = json.loads(line)
        except (ValueError, RecursionError, InputError):
            event = None
        if isinstance(event, dict):
            return event
        self.skipped += 1
        return None

    def _batch(self, events: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        if not events or not self.entries:
            return
        frame = self._frame(events)
        outdated = [entry for entry in self.entries if self._compiled[entry.id][0] & self.lists]
        for entry in outdated:
            self._compile(entry)
        predicates = [self._compiled[entry.id][1].alias(str(number)) for number, entry in enumerate(self.entries)]
        found = frame.lazy().with_columns(predicates).select(str(number) for number in range(len(predicates))).collect()
        hits = sorted((row, number) for number in range(len(predicates)) for row in found.to_series(number).arg_true())
        for row, number in hits:
            yield self.entries[number].id, events[row]

    def _compile(self, entry: Entry) -> frozenset[str]:
        """Compiles a rule for the columns as they are now, and says which it reads."""
        columns = Columns({name: pl.List(pl.String) for name in self.lists}, lambda _: pl.String(), (ALL,), presence=True)
        predicate = compile_detection(entry.sigma.detection, columns)
        if ours(entry.document.data.get("logsource")) and entry.sigma.logsource.service is not None:
            columns.used.add("event.type")
            predicate &= columns.test("event.type", lambda value, _: value, lambda text: text == entry.sigma.logsource.service)
        used = frozenset(columns.used)
        self._compiled[entry.id] = (used - self.lists, predicate.fill_null(value=False))
        return used

    def _frame(self, events: list[dict[str, Any]]) -> pl.DataFrame:
        """One column of text per field that rules read; of lists of text, for good, from the first event on that has several values."""
        columns: dict[str, pl.Series] = {}
        for name in self.fields:
            if name == ALL:
                values: list[Any] = [list(_leaves(event, 0)) for event in events]
            elif name.endswith(PRESENCE):
                bare = name.removesuffix(PRESENCE)
                columns[name] = pl.Series(name, [bool(_look_up(event, bare)) for event in events], pl.Boolean)
                continue
            else:
                values = [_field_text(event, name) for event in events]
            if name not in self.lists and any(isinstance(value, list) for value in values):
                self.lists.add(name)
            if name in self.lists:
                values = [[value] if isinstance(value, str) else value for value in values]
            columns[name] = pl.Series(name, values, pl.List(pl.String) if name in self.lists else pl.String)
        return pl.DataFrame(columns) if columns else pl.DataFrame({"": [None] * len(events)})


def _look_up(event: Any, name: str, depth: int = 0) -> list[Any]:
    """All values of a field: none where the event lacks it."""
    if isinstance(event, list):
        return [value for item in event for value in _look_up(item, name, depth + 1)] if depth < MAX_DEPTH else []
    if not isinstance(event, dict):
        return []
    if name in event:
        return [event[name]]
    for index, char in enumerate(name):
        if char == "." and name[:index] in event and depth < MAX_DEPTH:
            found = _look_up(event[name[:index]], name[index + 1 :], depth + 1)
            if found:
                return found
    return []


def _field_text(event: dict[str, Any], name: str) -> str | list[str] | None:
    """The value as text; None where there is none; a list of several, of which objects give none (they are no value to compare)."""
    found = _look_up(event, name)
    if not found:
        return None
    if len(found) == 1 and not isinstance(found[0], list | dict):
        return text(found[0])
    return [leaf for value in found for leaf in _elements(value)]


def _elements(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        written = text(item)
        if written is not None:
            yield written


def text(value: Any) -> str | None:
    """A JSON scalar as rules read it; None for null, objects and lists."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value  # JSON may hold half a surrogate pair
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or isinstance(value, dict | list) else json.dumps(value)


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, dict | list):
        if depth < MAX_DEPTH:
            for item in value.values() if isinstance(value, dict) else value:
                yield from _leaves(item, depth + 1)
    elif (written := text(value)) is not None:
        yield written
