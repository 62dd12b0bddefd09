"""Masks of a column. For a few rows a step of Python each is quicker than a query, of which even the smallest costs 50 µs.

The in-process plug-in folds frames of one span, and its caller waits.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

FEW = 16
"""Up to so many rows."""
_WORDS = 2
"""Up to so many words, comparing with each is quicker than a set of them."""
Mask = NDArray[np.bool_]


def is_null(column: pl.Series) -> Mask:
    """Rows that have no value."""
    missing = column.null_count()
    if missing in (0, len(column)):
        return np.full(len(column), missing > 0)
    return column.is_null().to_numpy()


def is_among(column: pl.Series, words: Collection[str]) -> Mask:
    """Rows whose text is one of the words; null is none of them."""
    if len(column) <= FEW:
        return np.array([text in words for text in column.to_list()], dtype=np.bool_)
    if len(words) > _WORDS:
        return filled(column.is_in(list(words)))
    found = np.zeros(len(column), dtype=np.bool_)
    for word in words:
        found |= filled(column == word)
    return found


def contains_any(column: pl.Series, parts: Collection[str]) -> Mask:
    """Rows whose text contains one of the parts; null contains none."""
    if len(column) <= FEW:
        return np.array([text is not None and any(part in text for part in parts) for text in column.to_list()], dtype=np.bool_)
    return filled(column.str.contains_any(list(parts)))


def matches(column: pl.Series, pattern: str) -> Mask:
    """Rows whose text matches the regular expression (of an unwrapper: white space stands outside of brackets in it)."""
    if len(column) <= FEW:
        search = compiled(pattern).search
        return np.array([text is not None and search(text) is not None for text in column.to_list()], dtype=np.bool_)
    return filled(column.str.contains(pattern))


def filled(mask: pl.Series) -> Mask:
    """A column of truth values; null is none."""
    return (mask.fill_null(value=False) if mask.null_count() else mask).to_numpy()


_WHITE = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
"""Unicode's White_Space, which is what Rust takes for white space; Python takes a few separators more."""


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(r"\s", _WHITE))
