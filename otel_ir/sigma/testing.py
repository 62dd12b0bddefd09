"""The tests inside rule files: a few events, and whether the rule alerts on them.

Events are written in the columns of the event frame. What is left out has a default (``_DEFAULTS``); ``at``, ``every`` and
``repeat`` place them in time. They run through the engine's own fold, which the caller passes in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from otel_ir.errors import RuleError
from otel_ir.model import EVENT_SCHEMA, Alert
from otel_ir.sigma.columns import event_dtype
from otel_ir.sigma.extensions import NS, CaseConfig, suggest
from otel_ir.sigma.load import Library, subset
from otel_ir.sigma.parse import Entry
from otel_ir.sigma.ruleset import RuleSet

Fold = Callable[[RuleSet, pl.DataFrame], list[Alert]]
"""Alerts of a rule set on an event frame of one event a record (``otel_ir.detect.run_events``)."""

START = 1_767_225_600 * NS
"""Time of the first event of a test: 2026-01-01T00:00:00Z."""
MAX_EVENTS = 20_000
"""Events of one test, repetitions counted."""

ARGUMENTS = "gen_ai.tool.call.arguments"
_PLACING = ("at", "every", "repeat")
_DEFAULTS: dict[str, Any] = {
    "otel_ir.agent.id": "test/agent",
    "otel_ir.agent.id_source": "own",
    "gen_ai.agent.name": "agent",
    "service.name": "test",
    "gen_ai.conversation.id": "conversation",
    "otel_ir.dialect": "test",
    "otel_ir.tenant": "",
    "otel_ir.sender": "",
    "otel_ir.executed": "yes",
    "error": False,
}
_SPAN = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": NS // 1000, "s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86_400 * NS}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test. ``reason`` is empty where it passed."""

    rule_id: str
    signal: str
    test: str
    reason: str
    path: str
    line: int

    @property
    def passed(self) -> bool:
        return not self.reason


def run_tests(library: Library, fold: Fold) -> list[Outcome]:
    """All tests of all documents that alert; one that lacks a test that fires, or one that stays silent, has failed."""
    return [outcome for entry in _alerting(library) for outcome in _run_entry(library, entry, fold)]


def check_tests(library: Library) -> list[RuleError]:
    """What is wrong with the events of tests, without running them."""
    errors = []
    for entry in library.entries:
        for index, case in enumerate(entry.extensions.tests):
            if entry.id in library.compiled:
                try:
                    case_events(library, entry, index, case)
                except RuleError as error:
                    errors.append(error)
    return errors


def _alerting(library: Library) -> Iterator[Entry]:
    for entry in library.entries:
        compiled = library.compiled.get(entry.id)
        if compiled is not None and compiled.alerts:
            yield entry


def _run_entry(library: Library, entry: Entry, fold: Fold) -> Iterator[Outcome]:
    compiled, document = library.compiled[entry.id], entry.document

    def outcome(test: str, reason: str, *place: str | int) -> Outcome:
        return Outcome(entry.id, compiled.signal, test, reason, document.path, document.locate(*place)[0])

    cases = entry.extensions.tests
    for wanted, what in ((True, "fires"), (False, "stays silent")):
        if not any(bool(case.expect) is wanted for case in cases):
            yield outcome(f"a test that {what}", "missing: every rule that alerts needs one", "tests")
    for index, case in enumerate(cases):
        try:
            alerts = fold(subset(library.ruleset, entry.id), case_events(library, entry, index, case))
            raised = sum(alert.rule_id == entry.id for alert in alerts)
            met = raised == case.expect if type(case.expect) is int else (raised > 0) is case.expect
            yield outcome(case.name, "" if met else _difference(case.expect, raised), "tests", index)
        except RuleError as error:
            yield Outcome(entry.id, compiled.signal, case.name, f"{error.what}: {error.hint}".rstrip(": "), error.path, error.line)


def _difference(expect: bool | int, raised: int) -> str:
    wanted = {True: "an alert", False: "silence"}[expect] if isinstance(expect, bool) else f"{expect} alerts"
    return f"expected {wanted}, got {raised or 'no'} alert{'s' if raised != 1 else ''}"


def case_events(library: Library, entry: Entry, index: int, case: CaseConfig) -> pl.DataFrame:
    """The event frame of one test: ``EVENT_SCHEMA`` and the columns that the rule reads, one event a record, ordinals from 1."""
    rules = subset(library.ruleset, entry.id)
    schema = dict(EVENT_SCHEMA) | {name: event_dtype(name) for name in sorted(rules.fields)}
    rows = list[dict[str, Any]]()
    now = START - NS
    for position, written in enumerate(case.events):
        place = ("tests", index, "events", position)
        try:
            row = _row(written, schema, library.compiled[entry.id].service)
            times = _times(written, now)
        except RuleError as error:
            raise entry.document.error(error.what, *place, error.path, hint=error.hint) from None
        now = times[-1]
        rows += ({**row, "event_time": time, "start_time": row.get("start_time") or time} for time in times)
        if len(rows) > MAX_EVENTS:
            raise entry.document.error(f"more than {MAX_EVENTS} events", *place)
    for number, row in enumerate(rows, 1):
        _identify(row, number)
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in schema}, schema=schema)


def _identify(row: dict[str, Any], number: int) -> None:
    row.setdefault("trace_id", f"{1:032x}")
    row.setdefault("span_id", f"{number:016x}")
    row.setdefault("otel_ir.event.id", f"{row['trace_id']}/{row['span_id']}")
    row["otel_ir.journal.ordinal"] = number
    row["otel_ir.journal.position"] = 0


def _times(written: dict[str, Any], before: int) -> list[int]:
    start = START + _offset(written["at"], "at") if "at" in written else before + NS
    step = _offset(written.get("every", "1s"), "every")
    repeat = written.get("repeat", 1)
    if type(repeat) is not int or not 1 <= repeat <= MAX_EVENTS:
        raise RuleError(f"repeat: {repeat!r} is no number of times", path="repeat", hint=f"a whole number from 1 to {MAX_EVENTS}")
    return [start + step * turn for turn in range(repeat)]


def _offset(spec: object, key: str) -> int:
    parsed = _SPAN.fullmatch(spec) if isinstance(spec, str) else None
    if parsed is None:
        raise RuleError(f"{key}: no time span {spec!r}", path=key, hint="a number and one of ms, s, m, h, d, such as 90s")
    return int(parsed[1]) * _UNITS[parsed[2]]


def _row(written: dict[str, Any], schema: dict[str, Any], service: str | None) -> dict[str, Any]:
    """The columns of one event. Errors carry the key in ``path``; the caller knows the file."""
    row = dict(_DEFAULTS)
    row["event.type"] = service or "tool_call"
    for name, value in written.items():
        if name in _PLACING:
            continue
        if name not in schema and not name.startswith("otel_ir.arguments."):
            hint = suggest(name, [*schema, *_PLACING])
            raise RuleError(f"no column {name!r}, and the rule does not read one of that name", path=name, hint=hint)
        row[name] = _value(name, value, schema.get(name, pl.String()))
    if row["event.type"] == "tool_call":
        row.setdefault("gen_ai.tool.name", "tool")
    _derive_arguments(row, schema)
    return row


def _value(name: str, value: Any, dtype: Any) -> Any:
    if value is None:
        return None
    if dtype == pl.String:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    fits = isinstance(value, bool) if dtype == pl.Boolean else isinstance(value, int) and not isinstance(value, bool)
    if not fits:
        raise RuleError(f"{name}: {value!r} is not {'true or false' if dtype == pl.Boolean else 'a whole number'}", path=name)
    return value


def _derive_arguments(row: dict[str, Any], schema: dict[str, Any]) -> None:
    """The columns that the normalizer would make of the arguments: their size, and ``otel_ir.arguments.<name>`` with its length."""
    text = row.get(ARGUMENTS)
    try:
        arguments = json.loads(text) if text else {}
    except ValueError:
        arguments = {}
    if text is not None:
        row.setdefault("otel_ir.arguments.size", len(text))
    prefix = "otel_ir.arguments."
    for name in schema:
        if name.startswith(prefix) and not name.endswith(".length") and isinstance(arguments, dict) and name[len(prefix) :] in arguments:
            row.setdefault(name, _value(name, arguments[name[len(prefix) :]], pl.String()))
    for name in schema:
        if name.startswith(prefix) and name.endswith(".length"):
            base = name.removesuffix(".length")
            value = row.get(base, arguments.get(base[len(prefix) :]) if isinstance(arguments, dict) else None)
            if value is not None:
                row.setdefault(name, len(_value(base, value, pl.String())))
