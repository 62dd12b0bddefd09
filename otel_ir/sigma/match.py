"""Rules over a frame of events: what they share is computed once, and a rule that cannot match there costs nothing.

Rules are grouped by service (event type); each group looks at its own rows only, and not at all where there are none, or where a column
that a rule needs is null throughout. Columns in lower case are made once per group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.sigma.columns import SHARED, event_dtype, event_frame, shared_name
from otel_ir.sigma.ruleset import Rule

TALL = 1 << 14
"""From so many rows on it pays to let Polars look for what else rules share: that costs much for each rule, and nothing for each row."""


def matches(rules: Sequence[Rule], frame: pl.DataFrame) -> pl.DataFrame:
    """One Boolean column per rule, named by its id, as high as ``frame``; columns that rules read and the frame lacks count as null."""
    frame = event_frame(frame, sorted({"event.type"}.union(*(rule.fields for rule in rules))))
    never = pl.Series(np.zeros(frame.height, dtype=np.bool_))
    found: dict[str, pl.Series] = {}
    for rows, some in _groups(rules, frame) if frame.height else ():
        part = frame[sorted({"event.type"}.union(*(rule.fields for rule in some)))]
        for rule_id, column in _evaluate(some, part if rows is None else part[pl.Series(rows)]):
            found[rule_id] = column if rows is None else _spread(column, rows, frame.height)
    return pl.DataFrame([found.get(rule.id, never).alias(rule.id) for rule in rules])


def _groups(rules: Sequence[Rule], frame: pl.DataFrame) -> Iterable[tuple[NDArray[np.uint32] | None, list[Rule]]]:
    """Rules that look at the same rows, and the numbers of these; None: all rows."""
    services: dict[str | None, list[Rule]] = {}
    for rule in rules:
        services.setdefault(rule.service if rule.plan else None, []).append(rule)
    types = frame["event.type"] if services.keys() - {None} else None
    for service, some in services.items():
        if service is None or types is None:
            yield None, some
            continue
        rows = (types == service).arg_true()
        if len(rows):
            yield (None if len(rows) == frame.height else rows.to_numpy()), some


def _evaluate(rules: list[Rule], frame: pl.DataFrame) -> Iterable[tuple[str, pl.Series]]:
    """The rules that match some event: id, and which."""
    empty = {name for rule in rules if rule.plan for name in rule.plan.needs}
    empty = {name for name in empty if frame[name].null_count() == frame.height}
    rules = [rule for rule in rules if rule.plan is None or not rule.plan.needs & empty]
    if not rules:
        return
    views = {view for rule in rules if rule.plan for view in rule.plan.views}
    # One column of the frame beside them: predicates that read none would be one row high.
    frame = frame.with_columns_seq(
        SHARED[view](pl.col(name), event_dtype(name)).alias(shared_name(view, name)) for view, name in sorted(views)
    )
    predicates = [rule.plan.predicate if rule.plan else rule.predicate.alias(rule.id) for rule in rules]
    if frame.height < TALL:
        found = frame.select_seq(pl.first().alias("\0"), *predicates)
    else:
        found = frame.lazy().select(pl.first().alias("\0"), *predicates).collect()
    for rule in rules:
        column = found[rule.id]
        if column.any():
            yield rule.id, column


def _spread(column: pl.Series, rows: NDArray[np.uint32], height: int) -> pl.Series:
    """A column of some rows as one of all rows, false elsewhere."""
    every = np.zeros(height, dtype=np.bool_)
    every[rows] = column.to_numpy()
    return pl.Series(every)
