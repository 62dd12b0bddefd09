"""Which class folds a correlation, and what each of them owes to the detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect.deferred import Deferred
from otel_ir.detect.terms import Terms
from otel_ir.detect.windows import Fire, WindowLimits, Windows
from otel_ir.sigma.ruleset import Correlation

Raised = list[tuple[int, str, int]]
"""(ordinal, alert id, count) where the count of an alert rose."""


class Engine(Protocol):
    """The state of one correlation, and its fold. ``Windows`` says what the methods mean."""

    correlation: Correlation
    counts: dict[str, int]
    """alert id -> how often, of all alerts that are still remembered"""
    evicted: int
    settled: int

    def advance(self, received: dict[int, int]) -> bool:
        """Hears of the records of a frame and their receive times (ns), before their rows are folded.

        -> whether ``fold`` must be called even where no row comes and none moves.
        """

    def fold(self, arrivals: pl.DataFrame, moves: pl.DataFrame, fire: Fire) -> Raised: ...
    def fold_few(self, arrivals: list[dict[str, Any]], moves: list[dict[str, Any]], fire: Fire) -> Raised: ...
    def finish(self, ordinal: int, fire: Fire) -> Raised:
        """Nothing more will come: judges, in the record ``ordinal``, what still waits."""

    def held(self, uids: list[int]) -> dict[int, dict[str, Any]]: ...
    def by_uid(self, uids: pl.Series) -> pl.DataFrame: ...
    def threshold(self, key: int) -> float:
        """What the number of a group is compared with."""

    def end_epoch(self, received: int, remembered: int = 0) -> None: ...
    def used(self) -> tuple[set[int], set[int], set[int]]: ...
    def renumber(self, keys: NDArray[np.uint32], who: NDArray[np.uint32], tools: NDArray[np.uint32]) -> None: ...
    def state(self) -> tuple[pl.DataFrame, dict[str, Any]]: ...
    def restore(self, rows: pl.DataFrame, rest: dict[str, Any]) -> None: ...


ENGINES: dict[str, Callable[[Correlation, WindowLimits | None], Engine]] = {
    "immediate": Windows,
    "deferred": Deferred,
    "new_terms": Terms,
}


def engine_of(correlation: Correlation, limits: WindowLimits | None) -> Engine:
    """A new engine for a correlation."""
    mode = "new_terms" if correlation.new_terms else "deferred" if correlation.deferred else "immediate"
    return ENGINES[mode](correlation, limits)


__all__ = ["ENGINES", "Engine", "Raised", "engine_of"]
