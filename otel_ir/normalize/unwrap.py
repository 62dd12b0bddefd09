"""Named unwrappers: one attribute value -> its members as text. The only place where normalizing takes a Python step per value.

Each is a function ``text -> {member: text or None}`` and never raises; what it cannot read has no members, and the raw value stands.
JSON is read in time linear in its length, to the depth at which the parser stops; a Python literal only up to ``MAX_LITERAL``
characters, because the Python parser spends a hundred times the text in memory.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

MAX_LITERAL = 1 << 16
"""Characters of a Python literal that are parsed at most."""

Members = Mapping[str, str | None]
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


def members(text: str) -> dict[str, str | None]:
    """Top-level members of a JSON object: strings as they are, null as None, anything else as JSON text. ``{}`` if it is none."""
    return {name: raw_text(bytes(raw)) for name, raw in raws(text).items()}


def raws(text: str | bytes) -> dict[str, msgspec.Raw]:
    """Top-level members of a JSON object, unparsed; ``{}`` if the text is no JSON object."""
    try:
        return _MEMBERS.decode(text)
    except _UNREADABLE:
        return {}


def raw_list(text: str | bytes) -> list[msgspec.Raw]:
    """Items of a JSON array, unparsed; ``[]`` if the text is no JSON array."""
    try:
        return _RAWS.decode(text)
    except _UNREADABLE:
        return []


def raw_text(raw: bytes) -> str | None:
    """One JSON value as text: strings as they are, null as None, anything else as it stands."""
    if raw == b"null":
        return None
    if not raw.startswith(b'"'):
        return raw.decode("utf-8", "replace")
    try:
        return _TEXT.decode(raw)
    except _UNREADABLE:  # a lone surrogate is legal JSON, but no text
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


def _python_literal(text: str) -> Members:
    """``{'id': 42}`` -> ``value``: the same as JSON."""
    value = literal(text)
    if not isinstance(value, dict | list | tuple):
        return {}
    try:
        return {"value": json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)}
    except (ValueError, TypeError, RecursionError):
        return {}


def _keyword_call(text: str) -> Members:
    """``{"args": [], "kwargs": {…}, "sanitize_inputs_outputs": …}`` -> ``kwargs``; only when these are all the members there are."""
    found = raws(text)
    wrapped = "kwargs" in found and found.keys() <= {"args", "kwargs", "sanitize_inputs_outputs"}
    return {"kwargs": raw_text(bytes(found["kwargs"]))} if wrapped else {}


def _tool_message(text: str) -> Members:
    """LangChain's ``{"type": "tool", "data": {content, tool_call_id, status}}`` (or its ``lc`` constructor form)
    -> ``content``, ``id``, ``error``.
    """
    outer = raws(text)
    inner = raws(bytes(outer.get("data") or outer.get("kwargs") or b"null"))
    if "tool_call_id" not in inner:
        return {}
    failed = bytes(inner.get("status", b"null")) == b'"error"'
    return {
        "content": raw_text(bytes(inner.get("content", b"null"))),
        "id": raw_text(bytes(inner["tool_call_id"])),
        "error": "true" if failed else None,
    }


def _tool_output(text: str) -> Members:
    """llama-index's ``{"blocks": …, "tool_name": …, "raw_output": …, "is_error": …}`` -> ``raw_output``, ``error``;
    ADK's ``{"id": …, "name": …, "response": …}`` -> ``raw_output``, ``id``.
    """
    found = raws(text)
    if "raw_output" in found and "tool_name" in found:
        failed = bytes(found.get("is_error", b"null")) == b"true"
        return {"raw_output": raw_text(bytes(found["raw_output"])), "error": "true" if failed else None}
    if found.keys() == {"id", "name", "response"}:
        return {"raw_output": raw_text(bytes(found["response"])), "id": raw_text(bytes(found["id"]))}
    return {}


def _after(separator: str) -> Callable[[str], Members]:
    def after(text: str) -> Members:
        head, found, tail = text.partition(separator)
        return {"rest": tail} if found and not head and tail else {}

    return after


def _before(suffix: str) -> Callable[[str], Members]:
    def before(text: str) -> Members:
        return {"rest": text.removesuffix(suffix)} if text.endswith(suffix) and len(text) > len(suffix) else {}

    return before


UNWRAPPERS: dict[str, Callable[[str], Members]] = {
    "members": members,
    "python literal": _python_literal,
    "keyword call": _keyword_call,
    "tool message": _tool_message,
    "tool output": _tool_output,
    "after 'handoff to '": _after("handoff to "),
    "before '.run'": _before(".run"),
}
