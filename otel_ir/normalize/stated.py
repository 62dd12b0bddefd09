"""Where a key stands in a column that only grows: what came since the last sort is looked through, and sorted in when it is much."""

from __future__ import annotations

import numpy as np
import polars as pl

from otel_ir.normalize.hashes import Keys

_LOOKED_THROUGH, _SHARE = 1024, 4
"""Rows that are not sorted in: so many, or this part of those that are."""


class Places:
    """A new one is needed where rows were taken out of the column."""

    def __init__(self) -> None:
        self._keys: Keys = np.zeros(0, dtype=np.uint64)
        self._rows = np.zeros(0, dtype=np.int64)
        self._rest: Keys = np.zeros(0, dtype=np.uint64)

    def find(self, column: pl.Series, key: int) -> list[int]:
        """The rows with this key, ascending."""
        if len(column) != len(self._keys) + len(self._rest):
            self._rest = column[len(self._keys) :].to_numpy()
            if len(self._rest) > max(_LOOKED_THROUGH, len(self._keys) // _SHARE):
                every = column.to_numpy()
                self._rows = np.argsort(every, kind="stable")
                self._keys, self._rest = every[self._rows], every[:0]
        wanted = np.uint64(key)
        start, end = np.searchsorted(self._keys, wanted), np.searchsorted(self._keys, wanted, "right")
        return [*self._rows[start:end].tolist(), *(np.flatnonzero(self._rest == wanted) + len(self._keys)).tolist()]
