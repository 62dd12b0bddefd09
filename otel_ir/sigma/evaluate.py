"""Any Sigma rules over any events, fields as they are: ``otel-ir rules eval``.

An event is a JSON object. A field of a rule is looked up as a key, else along its dots through nested objects; through a list,
any element counts. Values are compared as rules compare them (docs/rules.md): a value of the wrong type does not match.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl
from sigma.rule import SigmaRule

from otel_ir.errors import InputError, RuleError
from otel_ir.sigma.columns import PRESENCE, Columns
from otel_ir.sigma.compile import compile_detection
from otel_ir.sigma.load import Library, alerts_itself, compiled_rule, correlate, detection_failure, names_of, references
from otel_ir.sigma.parse import Entry
from otel_ir.sigma.ruleset import Correlation, Rule

BATCH = 16_384
"""Events looked at together. More cost less each: what 1,000 rules cost a batch is in good part the same for few events and for many."""
MAX_BATCH = 32 * 1024 * 1024
"""Characters of a batch, but for its last line."""
MAX_LINE = 16 * 1024 * 1024
"""Characters of one event."""
MAX_DEPTH = 64
ALL = "\x00all"
"""Column of every text of an event, for keywords."""


class Hit(NamedTuple):
    """One match. ``line`` is the event as it was written, ``number`` that of its line, from 1.

    ``lines`` and ``group`` are those of a correlation (detect/over_events.py), which a rule has not.
    """

    rule_id: str
    event: dict[str, Any]
    line: str
    number: int
    lines: tuple[str, ...] = ()
    group: dict[str, str] | None = None


class Read(NamedTuple):
    """An event, its line as it was written, and the number of that line, from 1."""

    event: dict[str, Any]
    line: str
    number: int


@dataclass(slots=True)
class Evaluator:
    """Runs the plain rules of a library, and compiles its correlations.

    ``skipped`` counts lines that are no JSON object (``on_bad_line`` hears of each: its number, and why), ``events`` the others.
    ``heard`` is called for each batch with its events and (index of the event, rule id) for every match, also of rules that only serve
    correlations. ``loud``: ids of what matches by itself.
    """

    library: Library
    on_bad_line: Callable[[int, str], None] | None = None
    heard: Callable[[list[Read], list[tuple[int, str]]], None] | None = None
    skipped: int = 0
    events: int = 0
    correlations: tuple[Correlation, ...] = ()
    entries: list[Entry] = field(default_factory=list)
    loud: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=lambda: {ALL})
    _compiled: dict[str, tuple[frozenset[str], pl.Expr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        library, referenced = self.library, references(self.library)
        library.carried = None
        self.loud = {entry.id for entry in library.entries if alerts_itself(entry, referenced)}
        for entry in library.entries:
            if isinstance(entry.sigma, SigmaRule):
                try:
                    fields = self._compile(entry)
                except RuleError as error:
                    library.fail(entry.document, *detection_failure(entry.document, error))
                else:
                    service = entry.sigma.logsource.service if entry.ours else None
                    library.compiled[entry.id] = compiled_rule(library, entry, self._compiled[entry.id][1], fields, service)
        correlate(library)
        known = (library.compiled.get(entry.id) for entry in library.entries)
        self.correlations = tuple(item for item in known if isinstance(item, Correlation))
        needed = self.loud.union(*(names_of(item) for item in self.correlations))
        for entry in library.entries:
            if isinstance(rule := library.compiled.get(entry.id), Rule) and entry.id in needed:
                self.entries.append(entry)
                self.fields |= rule.fields

    def run(self, lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(rule id, event) for each match, in the order of the events, then of the rules."""
        for hit in self.hits(lines):
            yield hit.rule_id, hit.event

    def hits(self, lines: Iterable[str]) -> Iterator[Hit]:
        """As ``run``, with the lines."""
        for batch in _batches(lines):
            read = [Read(event, line, number) for number, line in batch if (event := self._event(line, number)) is not None]
            self.events += len(read)
            found = list(self._batch([one.event for one in read]))
            if self.heard is not None:
                self.heard(read, found)
            for row, rule_id in found:
                if rule_id in self.loud:
                    yield Hit(rule_id, *read[row])

    def _event(self, line: str, number: int) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            if len(line) > MAX_LINE:
                raise InputError(f"longer than {MAX_LINE // 2**20} Mi characters")
            event = json.loads(line.removeprefix("\ufeff"), parse_constant=_no_constant)
            if not isinstance(event, dict):
                raise InputError(f"no JSON object but {_KINDS.get(type(event), 'a number')}")
        except RecursionError:
            self._skip(number, "nested too deep")
        except (ValueError, InputError) as error:
            self._skip(number, f"no JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error))
        else:
            return event
        return None

    def _skip(self, number: int, why: str) -> None:
        self.skipped += 1
        if self.on_bad_line is not None:
            self.on_bad_line(number, why)

    def _batch(self, events: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
        """(row, rule id) for each match."""
        if not events or not self.entries:
            return
        frame = self._frame(events)
        for entry in self.entries:
            if self._compiled[entry.id][0] & self.lists:
                self._compile(entry)
        predicates = [self._compiled[entry.id][1].alias(str(number)) for number, entry in enumerate(self.entries)]
        found = frame.lazy().with_columns(predicates).select(str(number) for number in range(len(predicates))).collect()
        fired = [number for number, any_row in enumerate(found.select(pl.all().any()).row(0)) if any_row]
        hits = sorted((row, number) for number in fired for row in found.to_series(number).arg_true())
        for row, number in hits:
            yield row, self.entries[number].id

    def _compile(self, entry: Entry) -> frozenset[str]:
        """Compiles a rule for the columns as they are now, and says which it reads."""
        columns = text_columns(self.lists)
        predicate = compile_detection(entry.sigma.detection, columns)
        if entry.ours and entry.sigma.logsource.service is not None:
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
                columns[name] = pl.Series(name, [bool(look_up(event, bare)) for event in events], pl.Boolean)
                continue
            else:
                values = [field_text(event, name) for event in events]
            if name not in self.lists and any(isinstance(value, list) for value in values):
                self.lists.add(name)
            if name in self.lists:
                values = [[value] if isinstance(value, str) else value for value in values]
            columns[name] = pl.Series(name, values, pl.List(pl.String) if name in self.lists else pl.String)
        return pl.DataFrame(columns) if columns else pl.DataFrame({"": [None] * len(events)})


_KINDS: dict[type, str] = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def text_columns(lists: Iterable[str] = (ALL,)) -> Columns:
    """Every field as text, those of ``lists`` as lists of it."""
    return Columns({name: pl.List(pl.String()) for name in lists}, lambda _: pl.String(), (ALL,), presence=True)


def _batches(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines, as many as are looked at together."""
    batch, size = list[tuple[int, str]](), 0
    for number, line in enumerate(lines, 1):
        batch.append((number, line))
        size += len(line)
        if len(batch) >= BATCH or size >= MAX_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _no_constant(name: str) -> None:
    raise InputError(f"{name} is no JSON")


def look_up(event: Any, name: str, depth: int = 0) -> list[Any]:
    """All values of a field: none where the event lacks it."""
    if isinstance(event, list):
        return [value for item in event for value in look_up(item, name, depth + 1)] if depth < MAX_DEPTH else []
    if not isinstance(event, dict):
        return []
    if name in event:
        return [event[name]]
    for index, char in enumerate(name):
        if char == "." and name[:index] in event and depth < MAX_DEPTH:
            found = look_up(event[name[:index]], name[index + 1 :], depth + 1)
            if found:
                return found
    return []


def field_text(event: dict[str, Any], name: str) -> str | list[str] | None:
    """The value as text; None where there is none; a list of several, of which objects give none (they are no value to compare)."""
    plain = event.get(name)
    if type(plain) is str and plain.isascii():
        return plain
    found = look_up(event, name)
    if all(value is None for value in found):
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
