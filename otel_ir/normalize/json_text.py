"""Values of attributes as JSON, or as Python literals: read in part, and never with an error; and Python values as text again.

JSON is read in time linear in its length, to the depth at which the parser stops; a Python literal only up to ``MAX_LITERAL``
characters, because the Python parser spends a hundred times the text in memory. What Python has read may hold lone surrogates, which no
frame takes: ``plain_text`` and ``compact`` give none.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

import msgspec

MAX_LITERAL = 1 << 16
"""Characters of a Python literal that are parsed at most."""
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def plain_text(value: object) -> str | None:
    """A text, with ``?`` for each lone surrogate; None for what is no text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def compact(value: Any) -> str | None:
    """Python data as compact JSON, lone surrogates as escapes; what JSON does not know as Python writes it. None where it has no JSON."""
    try:
        said = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    except (ValueError, TypeError, RecursionError):  # members whose names are no names, numbers of thousands of digits, depth
        return None
    return _SURROGATE.sub(lambda one: f"\\u{ord(one.group()):04x}", said)
