"""Which groups may be true at some row: a vectorized pass over more rows than any one window has.

Each kind's test is one that more rows never make false, so that what it calls silent was silent after every single record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from otel_ir.detect.conditions import Condition
from otel_ir.detect.rows import NO_VALUE

SLACK = 1e-6
"""More than sums of 4,000,000 numbers that are not exact may be off, as a part of the sum."""


def not_silent(condition: Condition, rows: pl.DataFrame, limits: pl.DataFrame) -> set[int]:
    """``rows``: ``key``, ``time``, ``seq``, ``steps``, ``value`` of all rows that the groups held in a frame and its windows.

    ``limits``: ``key`` and ``limit``, what the number of that group is compared with.
    """
    if condition.clauses:
        return _with_steps(condition, rows)
    if condition.kind != "event_count":
        rows = rows.filter(pl.col("value") != NO_VALUE)
    return _SUSPECTS[condition.kind](condition, rows, limits)


def _with_steps(condition: Condition, rows: pl.DataFrame) -> set[int]:
    steps = rows.filter(pl.col("steps") != 0).group_by("key").agg(pl.col("steps").bitwise_or())
    some = [(pl.col("steps") & mask) == mask for mask in condition.masks]
    return set(steps.filter(pl.any_horizontal(some) if len(some) > 1 else some[0])["key"].to_list())


def _counted(condition: Condition, rows: pl.DataFrame, limits: pl.DataFrame) -> set[int]:
    return _crowded(condition, rows, rows["key"].value_counts(name="n"), limits)


def _distinct(condition: Condition, rows: pl.DataFrame, limits: pl.DataFrame) -> set[int]:
    return _crowded(condition, rows, rows.group_by("key").agg(n=pl.col("value").n_unique()), limits)


def _crowded(condition: Condition, rows: pl.DataFrame, counts: pl.DataFrame, limits: pl.DataFrame) -> set[int]:
    """Groups that have more than their limit in all, and so many rows in one window."""
    crowded = counts.join(limits, on="key").filter(pl.col("n") > pl.col("limit"))
    if condition.within_events or crowded.is_empty():
        return set(crowded["key"].to_list())
    rows = rows.join(crowded, on="key").sort("key", "time", "seq")
    return _dense(rows["key"].to_numpy(), rows["time"].to_numpy(), rows["limit"].to_numpy(), condition.timespan)


def _summed(condition: Condition, rows: pl.DataFrame, limits: pl.DataFrame) -> set[int]:  # noqa: ARG001 - one face
    """No window comes to more than all that is positive."""
    values = np.maximum(np.ascontiguousarray(rows["value"].to_numpy()).view(np.float64), 0)
    most = pl.DataFrame({"key": rows["key"], "most": values}).group_by("key").agg(pl.col("most").sum())
    # A sum may be too large for a number: then it is infinite, and the group is looked at.
    return set(most.join(limits, on="key").filter(pl.col("most") * (1 + SLACK) >= pl.col("limit"))["key"].to_list())


def _dense(keys: np.ndarray[Any, Any], times: np.ndarray[Any, Any], limits: np.ndarray[Any, Any], timespan: int) -> set[int]:
    """Keys of which some row has more than ``limit`` rows up to itself in ``(t - timespan, t]``. Input sorted by key and time."""
    index = np.arange(len(keys))
    earlier = index - np.floor(limits).astype(np.int64)
    first = np.searchsorted(keys, keys, "left")
    inside = earlier >= first
    inside[inside] = times[index[inside]] - times[earlier[inside]] < timespan
    return set(np.unique(keys[inside]).tolist())


_SUSPECTS = {"event_count": _counted, "value_count": _distinct, "value_sum": _summed}

__all__ = ["not_silent"]
