"""Which table reads which row, and what kind of event the row is."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.decode import Batch
from otel_ir.model import EventType
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.few import FEW, Mask
from otel_ir.normalize.sources import Sources
from otel_ir.normalize.table import DETAIL, EVENT_TYPE, NO_EVENT, Dialect

EVENTS = (NO_EVENT, *EventType, DETAIL)
"""Event types by code; 0 is structure only, the last one part of another event."""
CODES = {name: code for code, name in enumerate(EVENTS)}
_DEFAULT = len(DIALECTS) - 1
_DIFFERENT = 8
_MAX_SCOPE = 256
"""Characters of a scope's name and version that are looked up."""


class Reading(NamedTuple):
    """A dialect that occurs in a batch, and its rows."""

    dialect: Dialect
    rows: Mask


@lru_cache(maxsize=4096)
def of_scope(scope: str, version: str = "", signal: str = "traces") -> int:
    """The dialect of a scope for a signal, -1 if none claims it; a version beats an exact name, and that beats a pattern."""
    patterns = [(pattern, index) for index, dialect in enumerate(DIALECTS) if _reads(dialect, signal) for pattern in dialect.scopes]
    versioned = [index for pattern, index in patterns if pattern == f"{scope}@{version}"]
    exact = [index for pattern, index in patterns if pattern == scope]
    wild = [index for pattern, index in patterns if pattern.endswith("*") and scope.startswith(pattern[:-1])]
    return (versioned or exact or wild or [-1])[0]


def _reads(dialect: Dialect, signal: str) -> bool:
    return dialect.signal in (None, signal)


def assign(batch: Batch) -> NDArray[np.int64]:
    """Index of the dialect that reads each row: by scope, else by marker attributes, else the table of what applications state."""
    chosen: NDArray[np.int64] = _of_scopes(batch)[batch.rows["scope"].to_numpy()]
    if (chosen < 0).any():
        for index, dialect in enumerate(DIALECTS):
            for marker in dialect.markers:
                rows = batch.attributes.row[batch.attributes.entries(marker)]
                chosen[rows[chosen[rows] < 0]] = index
        chosen[chosen < 0] = _DEFAULT
    return chosen


def _of_scopes(batch: Batch) -> NDArray[np.int64]:
    """The dialect of each scope. Few are different in nearly every batch: the first ones are compared with all at once."""
    scopes = batch.scopes
    found = np.full(scopes.height, -1, dtype=np.int64)
    left = np.arange(scopes.height)
    for _ in range(_DIFFERENT):
        if len(left) <= FEW:
            break
        rest = scopes[pl.Series(left.astype(np.uint32))]
        name, version = rest.row(0)
        same = ((rest["name"] == name) & (rest["version"] == version)).to_numpy()
        found[left[same]] = _of_one(name, version, batch.signal)
        left = left[~same]
    if len(left):
        found[left] = [_of_one(name, version, batch.signal) for name, version in scopes[pl.Series(left.astype(np.uint32))].iter_rows()]
    return found


def _of_one(name: str, version: str, signal: str) -> int:
    return of_scope(name, version, signal) if len(name) + len(version) < _MAX_SCOPE else -1


def readings(chosen: NDArray[np.int64]) -> list[Reading]:
    """The dialects that occur, in registry order."""
    return [Reading(DIALECTS[index], chosen == index) for index in np.unique(chosen)]


def conditions(found: list[Reading], *, logs: bool) -> list[str]:
    """Every condition that the tables ask of this batch."""
    return [text for dialect, _ in found for text in dialect.conditions(logs=logs)]


def classify(sources: Sources, found: list[Reading], masks: dict[str, Mask], *, logs: bool) -> NDArray[np.int64]:
    """Event code of each row: what the application states, else the first rule of its dialect that holds."""
    codes = np.zeros(sources.size, dtype=np.int64)
    for dialect, mine in found:
        open_rows = mine.copy()
        for event, *texts in dialect.classify_logs if logs else dialect.classify:
            hit = open_rows.copy()
            for text in texts:
                hit &= masks[text]
            codes[hit] = CODES[event]
            open_rows &= ~hit
    rows, positions = sources.places(EVENT_TYPE)
    if len(rows):
        stated = np.array([CODES.get(text or "", -1) if text != DETAIL else -1 for text in sources.gather(positions)], dtype=np.int64)
        codes[rows[stated >= 0]] = stated[stated >= 0]
    return codes


def any_of(found: list[Reading], masks: dict[str, Mask], kind: Literal["error", "tripped"], size: int) -> Mask:
    """Rows for which one of their dialect's ``error`` (``tripped``) conditions holds."""
    hit = np.zeros(size, dtype=np.bool_)
    for dialect, mine in found:
        for text in getattr(dialect, kind):
            hit |= mine & masks[text]
    return hit
