"""Columns of the event frame as columns of a Delta table, both ways: names and types."""

from __future__ import annotations

from collections.abc import Container
from typing import Any
from urllib.parse import quote, unquote

_FORBIDDEN = frozenset(" ,;{}()\n\t=%")
"""What Delta's reference writer refuses in a column name (Delta protocol, "Column Mapping"), and ``%``, our escape."""


def stored_name(name: str, taken: Container[str]) -> str:
    """The name in the table: what Delta forbids is percent-encoded. ``taken`` are the case-folded names of the table.

    Delta tells names apart without case, so of a name that is taken but for case as many first characters are encoded as needed.
    """
    for encoded in range(len(name) + 1):
        stored = "".join(_encoded(char) if place < encoded or char in _FORBIDDEN else char for place, char in enumerate(name))
        if stored.casefold() not in taken:
            break
    return stored


def logical_name(stored: str) -> str:
    """The inverse of ``stored_name``."""
    return unquote(stored)


def _encoded(char: str) -> str:
    return f"%{ord(char):02X}" if char.isascii() else quote(char)


def delta_type(dtype: Any) -> str:
    """Delta's primitive type for a Polars type; ``""`` for nested ones, which are not kept. Delta has no unsigned integers."""
    names = {"Boolean": "boolean", "Date": "date", "Null": "string", "Object": "", "Binary": ""}
    if dtype.is_integer():
        return "long"
    if dtype.is_float():
        return "double"
    return "" if dtype.is_nested() else names.get(str(dtype), "string")
