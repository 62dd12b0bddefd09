"""What correlations keep of the events of a file until its end: a few numbers for each row, and the lines aside.

A row is an event that one of the rules matched, in the group that its ``group-by`` values make (docs/semantics.md). Values are the texts
that rules compare; a list of several is one value, as its JSON. The group by which an event is read may have another field for each rule.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_ir.detect.rows import ABSENCE
from otel_ir.detect.truth import Arrays
from otel_ir.detect.values import AGENT, NUMERIC, SOURCE
from otel_ir.sigma.evaluate import field_text
from otel_ir.sigma.ruleset import Correlation

MAX_ROWS = 10_000_000
"""Rows of all correlations together, 44 bytes each."""
MAX_KEPT = 4 * 2**30
"""Bytes of the lines that are kept aside, in a temporary file from 64 MiB on."""
_IN_MEMORY = 64 * 2**20
_MAX_TEXT = 1_000
"""Characters of a group's value; of a longer one the rest is a hash."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
Read = Callable[[str], str | list[str] | None]
"""The text (or texts) of a field of one event, None where it has none."""


@dataclass(slots=True)
class Aside:
    """Lines in a temporary file, found again by where they begin."""

    size: int = 0
    _file: Any = field(default_factory=lambda: SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115 - lives as long as this
    _last: tuple[int, int] = (-1, -1)

    def keep(self, number: int, line: str) -> int:
        """Where the line begins, -1 where it does not fit any more. A line is kept once, also when asked for several times on end."""
        if self._last[0] == number:
            return self._last[1]
        written = line.encode("utf-8", "replace") + b"\n"
        at = self.size if self.size + len(written) <= MAX_KEPT else -1
        if at >= 0:
            self._file.seek(at)
            self._file.write(written)
            self.size += len(written)
        self._last = (number, at)
        return at

    def close(self) -> None:
        """Forgets the lines."""
        self._file.close()

    def line(self, at: int) -> str:
        self._file.seek(at)
        return str(self._file.readline(), "utf-8").removesuffix("\n")


class Part(NamedTuple):
    """The rules of a correlation whose events are grouped by the same fields: id -> bits of the steps."""

    columns: tuple[str, ...]
    bits: dict[str, int]


class Sorted(NamedTuple):
    """The rows of a correlation by group, time and line. ``at``: where each row's line begins, -1 where no rule matched it."""

    arrays: Arrays
    number: NDArray[np.int64]
    at: NDArray[np.int64]


class Taken:
    """The rows of one correlation."""

    def __init__(self, correlation: Correlation) -> None:
        self.correlation = correlation
        self.parts = _parts(correlation)
        self.groups: dict[tuple[str, ...], int] = {}
        self._key, self._steps = array("I"), array("I")
        self._time, self._number, self._at, self._value = array("q"), array("q"), array("q"), array("Q")
        self._fields = correlation.new_terms.fields if correlation.new_terms else correlation.fields
        self._every = correlation.within_events is not None

    def __len__(self) -> int:
        return len(self._key)

    def take(self, read: Read, rules: Iterable[str], time: int, number: int, keep: Callable[[], int]) -> bool:
        """Takes the rows of an event, if it makes any. False: its line could not be kept, and it is none.

        With ``within-events`` every event of the rules' event type is a row.
        """
        matched, fits = tuple(rules), True
        for part in self.parts:
            steps = 0
            for rule in matched:
                steps |= part.bits.get(rule, 0)
            if not steps and not (self._every and self._of_type(read)):
                continue
            group = tuple(value_of(read, name) for name in part.columns)
            value = self._value_of(read)
            if None in group or value is None:
                continue
            at = keep() if steps else -1
            if steps and at < 0:
                fits = False
                continue
            self._key.append(self.groups.setdefault(group, len(self.groups)))  # type: ignore[arg-type]
            for column, cell in ((self._time, time), (self._number, number), (self._at, at), (self._steps, steps), (self._value, value)):
                column.append(cell)
        return fits

    def _of_type(self, read: Read) -> bool:
        service = self.correlation.service
        return service is None or read("event.type") == service

    def _value_of(self, read: Read) -> int | None:
        """64 bits, 0 where none is needed; None: the event lacks it."""
        if not self._fields:
            return 0
        if self.correlation.kind in NUMERIC:
            return _number_of(read(self._fields[0]))
        texts = [value_of(read, name) for name in self._fields]
        if None in texts or (AGENT in self._fields and read(SOURCE) == "none"):
            return None
        return int.from_bytes(blake2b(json.dumps(texts).encode(), digest_size=8).digest())

    def sorted(self) -> Sorted:
        """Gives the rows away."""
        key, time, number = np.array(self._key, np.uint32), np.array(self._time, np.int64), np.array(self._number, np.int64)
        order = np.lexsort((number, time, key))
        steps, value, at = np.array(self._steps, np.uint32), np.array(self._value, np.uint64), np.array(self._at, np.int64)
        for column in (self._key, self._time, self._number, self._steps, self._value, self._at):
            del column[:]
        return Sorted(Arrays(key[order], time[order], steps[order], value[order]), number[order], at[order])


def value_of(read: Read, name: str) -> str | None:
    """A field as one text; None where it has no value."""
    found = read(name)
    if isinstance(found, list):
        found = found[0] if len(found) == 1 else json.dumps(found, ensure_ascii=False) if found else None
    if found is not None and len(found) > _MAX_TEXT:
        return f"{found[:_MAX_TEXT]}…{blake2b(found.encode(), digest_size=16).hexdigest()}"
    return found


def reader(event: dict[str, Any], over: Mapping[str, str] | None = None) -> Read:
    """Reads the fields of an event; those of ``over`` from there."""
    if not over:
        return lambda name: field_text(event, name)
    return lambda name: over[name] if name in over else field_text(event, name)


def _number_of(found: str | list[str] | None) -> int | None:
    """The bits of a finite number, also of a text that is one. -0.0 is 0."""
    if isinstance(found, list):
        found = found[0] if len(found) == 1 else None
    if found is None or not _NUMBER.fullmatch(found) or not isfinite(number := float(found) + 0.0):
        return None
    return int(np.float64(number).view(np.uint64))


def _parts(correlation: Correlation) -> tuple[Part, ...]:
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for step, rule in enumerate(correlation.rules):
        bits = found.setdefault(correlation.read_from(step), {})
        bits[rule] = bits.get(rule, 0) | (1 << step if correlation.clauses else 1)
    if correlation.absence:
        bits = found.setdefault(correlation.group_by, {})
        bits[correlation.absence.rule] = bits.get(correlation.absence.rule, 0) | ABSENCE
    return tuple(Part(columns, bits) for columns, bits in found.items())


__all__ = ["MAX_KEPT", "MAX_ROWS", "Aside", "Part", "Read", "Sorted", "Taken", "reader", "value_of"]
