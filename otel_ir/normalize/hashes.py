"""Ids as 64-bit numbers, and a table in which many of them are found at once.

Ids come from outside, so the hash takes a secret seed: nobody shall be able to make two of them collide. By chance two of a million
collide once in 37 million such sets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.normalize.few import FEW

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]

# 2**64 divided by the golden ratio, and a shift: multiplicative hashing (Knuth, The Art of Computer Programming, 6.4).
_ODD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)
_SMALLEST = 64


def mixed(seed: int, *columns: pl.Series | Keys) -> Keys:
    """One number, never 0, for each row of these columns (texts, or numbers made here)."""
    total: Any = np.uint64(0)
    for part in hashed(seed, *columns):
        total = (total ^ part) * _ODD
        total ^= total >> _SHIFT
    keys: Keys = np.maximum(total, np.uint64(1))
    return keys


def hashed(seed: int, *columns: pl.Series | Keys) -> list[Keys]:
    """Texts as numbers, in one query; what is numbers already stays as it is."""
    texts = [column.alias(str(index)) for index, column in enumerate(columns) if not isinstance(column, np.ndarray)]
    frame = pl.DataFrame(texts)
    if texts:
        frame = frame.select_seq(pl.all().hash(seed)) if frame.height <= FEW else frame.select(pl.all().hash(seed))
    return [column if isinstance(column, np.ndarray) else frame[str(index)].to_numpy() for index, column in enumerate(columns)]


def firsts(keys: Keys) -> Numbers:
    """The rows, ascending, at which a key comes for the first time."""
    if len(keys) <= FEW:
        seen: dict[int, int] = {}
        for row, key in enumerate(keys.tolist()):
            seen.setdefault(key, row)
        return np.array([*seen.values()], dtype=np.int64)
    return np.sort(pl.Series(keys).arg_unique().to_numpy()).astype(np.int64)


class HashIndex:
    """key (not 0) -> number (not negative). Open addressing, at most half full; keys are spread already.

    Entries are never deleted: numbers below the ``floor`` of a call count as absent, and the owner builds a new table now and then.
    """

    def __init__(self, size: int = 0) -> None:
        capacity = max(_SMALLEST, 1 << (2 * size).bit_length())
        self._last, self._mask = capacity - 1, np.uint64(capacity - 1)
        self._keys = np.zeros(capacity, dtype=np.uint64)
        self._numbers = np.zeros(capacity, dtype=np.int64)
        self.used = 0

    def find(self, keys: Keys, floor: int = 0) -> Numbers:
        """The number of each key, -1 where it is absent."""
        places = self._places(keys)
        found = np.where(places < 0, -1, self._numbers[places])
        return np.where(found < floor, -1, found) if floor else found

    def move(self, keys: Keys, numbers: Numbers) -> None:
        """Gives keys that are there another number."""
        self._numbers[self._places(keys)] = numbers

    def _places(self, keys: Keys) -> Numbers:
        places = np.full(len(keys), -1, dtype=np.int64)
        left, at = np.arange(len(keys)), (keys & self._mask).astype(np.int64)
        while len(left):
            there = self._keys[at]
            hit = there == keys
            places[left[hit]] = at[hit]
            go = np.flatnonzero(~hit & (there != 0))
            left, at, keys = left[go], (at[go] + 1) & self._last, keys[go]
        return places

    def claim(self, keys: Keys, numbers: Numbers, floor: int = 0) -> Numbers:
        """Enters keys that are absent; -> the number that each key has now: of equal keys in one call, that of the first."""
        self._make_room(len(keys), floor)
        result = np.empty(len(keys), dtype=np.int64)
        left, at = np.arange(len(keys)), (keys & self._mask).astype(np.int64)
        while len(left):
            there = self._keys[at]
            same = there == keys
            free = np.flatnonzero(there == 0)
            if floor:
                stale = np.flatnonzero(same)
                free = np.concatenate([free, stale[self._numbers[at[stale]] < floor]])
                free.sort()
            # Of several assignments to one place the last one holds (NumPy, "Assigning values to indexed arrays"): the first row wins.
            free = free[::-1]
            place = at[free]
            self._keys[place], self._numbers[place] = keys[free], numbers[left[free]]
            same[free] = self._keys[place] == keys[free]
            result[left[same]] = self._numbers[at[same]]
            go = np.flatnonzero(~same)
            left, at, keys = left[go], (at[go] + 1) & self._last, keys[go]
        self.used += int((result == numbers).sum())
        return result

    def _make_room(self, more: int, floor: int) -> None:
        if 2 * (self.used + more) <= len(self._keys):
            return
        kept = (self._keys != 0) & (self._numbers >= floor)
        keys, numbers = self._keys[kept], self._numbers[kept]
        self.__init__(2 * (len(keys) + more))  # type: ignore[misc]
        self.claim(keys, numbers)
