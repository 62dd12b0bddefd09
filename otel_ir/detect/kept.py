"""Events that are looked at again: what rules read of them, brought up to date with what patches tell."""

from __future__ import annotations

import polars as pl

from otel_ir.model import PATCH_COLUMNS, TOLD_COLUMNS, WHO_COLUMNS
from otel_ir.normalize.arguments import argument_columns, is_argument
from otel_ir.normalize.slots import solid

MAX_KEPT = 200_000
"""Events; the oldest go first, at fixed ordinals."""
MAX_CHARACTERS = 1 << 28
"""Bytes of their texts beyond the end of an epoch; the oldest go first."""
AT = "__at"
"""Helper column: the journal record that told it, -1 for how the event was before."""
_EVENT, _ORDINAL, _ARGUMENTS = "otel_ir.event.id", "otel_ir.journal.ordinal", "gen_ai.tool.call.arguments"
_ALWAYS = {"event_time", "event.type", "trace_id", "span_id", "gen_ai.tool.name", _EVENT, _ORDINAL, *WHO_COLUMNS, *PATCH_COLUMNS}
_TOLD = {name: f"__{name}" for name in TOLD_COLUMNS}


class Kept:
    """Bounded by number and size. ``fields``: what rules read."""

    def __init__(self) -> None:
        self.events: pl.DataFrame | None = None
        self.fields: frozenset[str] = frozenset()
        self._fresh: list[pl.DataFrame] = []

    def add(self, events: pl.DataFrame) -> None:
        """Events (``EVENT_SCHEMA`` and what rules read) as they came."""
        if events.height:
            self._fresh.append(events[self._columns(events)])

    def told(self, events: pl.DataFrame, patches: pl.DataFrame) -> pl.DataFrame:
        """The events that patches are about as they were (``AT``: -1), and then as of each patch, in journal order. ``events``: for the
        schema alone.
        """
        self._settle(events)
        assert self.events is not None
        before = self.events.filter(pl.col(_EVENT).is_in(patches[_EVENT].unique().implode()))
        before = before.unique(_EVENT, keep="last", maintain_order=True)
        names = [name for name in before.columns if name not in PATCH_COLUMNS]
        after = patches.rename(_TOLD | {_ORDINAL: AT}).join(before[names], on=_EVENT, how="inner", maintain_order="left")
        after = after.with_columns(pl.col(list(_TOLD.values())).forward_fill().over(_EVENT))
        after = after.with_columns(pl.coalesce(told, name).alias(name) for name, told in _TOLD.items() if name in names)
        after = _with_arguments(after, [name for name in names if is_argument(name)])
        after = after[[*before.columns, AT]]
        newest = after.unique(_EVENT, keep="last", maintain_order=True).drop(AT, _ORDINAL)
        self.events = self.events.update(newest, on=_EVENT, how="left", include_nulls=True)
        return pl.concat([before.with_columns(pl.lit(-1, dtype=pl.Int64).alias(AT)), after])

    def end_epoch(self) -> None:
        """Forgets the oldest beyond the bounds."""
        self._fresh = [solid(part) for part in self._fresh]
        if self._fresh:
            self._settle(self._fresh[0])
        if self.events is not None:
            kept = self.events.tail(MAX_KEPT)
            texts = [pl.col(name).str.len_bytes().fill_null(0).cast(pl.Int64) for name, dtype in kept.schema.items() if dtype == pl.String]
            sizes = kept.select(pl.sum_horizontal(texts).cum_sum(reverse=True)).to_series()
            self.events = kept.filter(sizes <= MAX_CHARACTERS)

    def clear(self) -> None:
        """Forgets all."""
        self.events, self._fresh = None, []

    def _columns(self, events: pl.DataFrame) -> list[str]:
        return sorted((_ALWAYS | self.fields) & set(events.columns))

    def _settle(self, events: pl.DataFrame) -> None:
        parts = [] if self.events is None else [self.events]
        # A new rule set may read columns that older events do not have here.
        self.events = pl.concat([*parts, *self._fresh, events[self._columns(events)].clear()], how="diagonal").rechunk()
        self._fresh = []


def _with_arguments(events: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Single arguments, of the arguments that were told."""
    told = events[_TOLD[_ARGUMENTS]]
    if not names or told.null_count() == events.height:
        return events
    columns = argument_columns(told, names)
    return events.with_columns(
        pl.when(told.is_not_null()).then(column).otherwise(pl.col(column.name)).alias(column.name) for column in columns
    )
