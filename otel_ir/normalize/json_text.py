"""Values of attributes as JSON, or as Python literals: read in part, and never with an error.

JSON is read in time linear in its length, to the depth at which the parser stops; a Python literal only up to ``MAX_LITERAL``
characters, because the Python parser spends a hundred times the text in memory.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

import msgspec

MAX_LITERAL = 1 << 16
"""Characters of a Python literal that are parsed at most."""
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


def members(text: str | bytes) -> dict[str, str | None]:
    """Top-level members of a JSON object: strings as they are, null as None, anything else as JSON text. ``{}`` if it is none."""
    return {name: raw_text(bytes(raw)) for name, raw in raws(text).items()}


def raws(text: str | bytes) -> dict[str, msgspec.Raw]:
    """Top-level members of a JSON object, unparsed; ``{}`` if the text is no JSON object."""
    try:
        return _MEMBERS.decode(text)
    except UNREADABLE:
        return {}


def raw_list(text: str | bytes) -> list[msgspec.Raw]:
    """Items of a JSON array, unparsed; ``[]`` if the text is no JSON array."""
    try:
        return _RAWS.decode(text)
    except UNREADABLE:
        return []


def raw_text(raw: bytes) -> str | None:
    """One JSON value as text: strings as they are, null as None, anything else as it stands."""
    if raw == b"null":
        return None
    if not raw.startswith(b'"'):
        return raw.decode("utf-8", "replace")
    try:
        return _TEXT.decode(raw)
    except UNREADABLE:  # a lone surrogate is legal JSON, but no text
        return raw[1:-1].decode("utf-8", "replace")


def literal(text: str) -> Any:
    """A Python literal (the ``repr`` of plain data) as data; None when it is none or too long."""
    if len(text) > MAX_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
