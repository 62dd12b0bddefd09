"""What is normal for a group: its own learnt rate per time span."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.sigma.ruleset import Baseline


class Rates:
    """Learns, per group, the mean number of rows in tumbling windows of the correlation's time span.

    Only windows with at least one row count (an agent that sleeps at night is not thereby slow), and windows over the threshold
    teach nothing, so that an attack does not become normal. Until ``learn`` windows are known the correlation's own threshold holds.
    Learning happens at fixed journal ordinals only.
    """

    def __init__(self, baseline: Baseline | None, timespan: int, threshold: float, max_groups: int = 1_000_000) -> None:
        self.baseline, self.timespan, self.default, self.max_groups = baseline, timespan, threshold, max_groups
        self.open: dict[tuple[int, int], int] = {}
        self.learnt: dict[int, tuple[int, int]] = {}
        self.folded = -(2**62)

    def threshold(self, key: int) -> float:
        """The count above which this group is out of the ordinary."""
        if self.baseline is not None and (known := self.learnt.get(key)) and known[0] >= self.baseline.learn:
            return self.baseline.multiple * known[1] / known[0]
        return self.default

    def thresholds(self, keys: pl.Series) -> pl.DataFrame:
        """``key``, ``limit`` for these groups."""
        if self.baseline is None or not self.learnt:
            return pl.DataFrame({"key": keys}).with_columns(limit=pl.lit(float(self.default)))
        return pl.DataFrame(
            {"key": keys, "limit": [float(self.threshold(key)) for key in keys.to_list()]}, schema_overrides={"limit": pl.Float64}
        )

    def count(self, arrivals: pl.DataFrame, moves: pl.DataFrame) -> None:
        """Counts rows that came, and recounts those that moved (``key``, ``from``, ``time``)."""
        if self.baseline is None:
            return
        self._add(arrivals, "key", 1)
        if moves.height:
            moved = moves.filter(pl.col("key") != pl.col("from"))
            self._add(moved, "from", -1)
            self._add(moved, "key", 1)

    def count_few(self, arrivals: Iterable[dict[str, Any]], moves: Iterable[dict[str, Any]]) -> None:
        """The same for rows one by one."""
        if self.baseline is None:
            return
        changes = [(row["key"], row["time"], 1) for row in arrivals]
        for move in moves:
            if move["key"] != move["from"]:
                changes += [(move["from"], move["time"], -1), (move["key"], move["time"], 1)]
        for key, time, change in changes:
            start = time // self.timespan * self.timespan
            if start >= self.folded:
                self.open[key, start] = self.open.get((key, start), 0) + change

    def _add(self, rows: pl.DataFrame, key: str, change: int) -> None:
        start = pl.col("time") // self.timespan * self.timespan
        counts = rows.group_by(pl.col(key).alias("key"), start.alias("start")).len()
        for group, at, number in counts.filter(pl.col("start") >= self.folded).iter_rows():
            self.open[group, at] = self.open.get((group, at), 0) + change * number

    def learn(self, watermark: int) -> None:
        """Closes the windows that end at or before the watermark (ns)."""
        closed = watermark // self.timespan * self.timespan
        for window, count in sorted(self.open.items()):
            key, start = window
            if start < closed:
                if 0 < count <= self.threshold(key):
                    windows, total = self.learnt.pop(key, (0, 0))
                    self.learnt[key] = (windows + 1, total + count)
                del self.open[window]
        self.folded = max(self.folded, closed)
        for key in list(self.learnt)[: max(0, len(self.learnt) - self.max_groups)]:
            del self.learnt[key]

    def renumber(self, keys: NDArray[np.uint32]) -> None:
        """Groups got other numbers: ``keys[old]``."""
        self.open = {(int(keys[key]), start): count for (key, start), count in self.open.items()}
        self.learnt = {int(keys[key]): known for key, known in self.learnt.items()}

    def groups(self) -> set[int]:
        """All groups that something is known of."""
        return {*self.learnt, *(key for key, _ in self.open)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "open": [[*window, count] for window, count in self.open.items()],
            "learnt": [[key, *known] for key, known in self.learnt.items()],
            "folded": self.folded,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.open = {(key, start): count for key, start, count in state["open"]}
        self.learnt = {key: (windows, total) for key, windows, total in state["learnt"]}
        self.folded = state["folded"]
