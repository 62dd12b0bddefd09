"""The values that ``value_*`` and ``new_terms`` look at, as one 64-bit number per event.

Numbers are the bits of a Float64. Of other values there is a hash with a secret seed: that two of 4,096 values of a group get the same
one happens once in 2 x 10^12 groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect.rows import NO_VALUE
from otel_ir.model import PATCH_COLUMNS
from otel_ir.normalize.few import is_null
from otel_ir.normalize.hashes import mixed
from otel_ir.sigma.columns import as_number
from otel_ir.sigma.ruleset import Correlation

AGENT, SOURCE = "otel_ir.agent.id", "otel_ir.agent.id_source"
NUMERIC = frozenset({"value_sum", "value_avg", "value_percentile", "value_median"})


class Values:
    """What one correlation reads of an event, beside its group.

    ``late``: the value may become known, or change, after the event. ``fixed``: of such a value the columns that do not change; their
    texts are kept beside the tool's name. ``columns``: all that is read.
    """

    def __init__(self, correlation: Correlation) -> None:
        terms = correlation.new_terms
        self.fields = terms.fields if terms else correlation.fields
        self.numeric = correlation.kind in NUMERIC
        grouped = {name for step in range(len(correlation.rules)) for name in correlation.read_from(step)} if terms else set()
        self.named = AGENT in self.fields or AGENT in grouped
        self.late = self.named or any(name in PATCH_COLUMNS for name in self.fields)
        self.fixed = tuple(name for name in self.fields if name not in PATCH_COLUMNS) if self.late else ()
        self.columns = (*self.fields, *([SOURCE] if self.named else []))

    def of(self, events: pl.DataFrame, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """The value of each event (``NO_VALUE``: not known yet), and which events have one or may still get one."""
        if self.numeric:
            values, missing = _numbers(events[self.fields[0]])
        else:
            values = mixed(seed, *(events[name].cast(pl.String) for name in self.fields))
            missing = _any_null(events, self.fields)
        if self.named:
            missing |= (events[SOURCE].cast(pl.String).fill_null("none") == "none").to_numpy()
        possible = ~_any_null(events, self.fixed) if self.late else ~missing
        return np.where(missing, np.uint64(NO_VALUE), values), possible

    def of_one(self, event: dict[str, Any], seed: int) -> tuple[int, bool]:
        """The same for one event that is no frame."""
        values, possible = self.of(pl.DataFrame({name: [event[name]] for name in self.columns}), seed)
        return int(values[0]), bool(possible[0])


def _numbers(column: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    number = as_number(pl.col("value"), column.dtype).cast(pl.Float64).fill_null(float("nan"))
    # Beside the column: what cannot be a number is one literal, which would be one row high.
    numbers = column.alias("value").to_frame().with_columns(number.alias("number"))["number"]
    found = np.ascontiguousarray(numbers.to_numpy())
    return found.view(np.uint64), ~np.isfinite(found)


def _any_null(events: pl.DataFrame, names: tuple[str, ...]) -> NDArray[np.bool_]:
    missing = np.zeros(events.height, dtype=np.bool_)
    for name in names:
        missing |= is_null(events[name])
    return missing


__all__ = ["AGENT", "NUMERIC", "SOURCE", "Values"]
