"""Calls in the Python repr of Haystack's messages: ``ToolCall(tool_name=…, arguments=…, id=…)``, ``ToolCallResult(result=…, origin=…)``.

A repr is parsed, never run, and only up to ``MAX_LITERAL`` characters for one call: parsing takes a hundred times the text in memory.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec

from otel_ir.normalize.json_text import MAX_LITERAL, UNREADABLE
from otel_ir.normalize.messages import MAX_CALLS, Call

_MADE = re.compile(r"\b(?:ToolCallResult|ToolCall)\(")
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[()]""", re.DOTALL)


def calls_in(text: str) -> Iterator[Call]:
    """Calls and results in the strings of a JSON value, in the order in which they stand; what cannot be parsed is left out."""
    try:
        left = [msgspec.json.decode(text)]
    except UNREADABLE:
        return
    while left:
        value = left.pop()
        if isinstance(value, str) and "ToolCall" in value:
            yield from _calls(value)
        elif isinstance(value, dict | list):
            left += [*(value.values() if isinstance(value, dict) else value)][::-1]


def _calls(text: str) -> Iterator[Call]:
    at = 0
    for _ in range(2 * MAX_CALLS):
        found = _MADE.search(text, at)
        if not found:
            return
        at = _end(text, found.end())
        made = _parsed(text[found.start() : at])
        if made and "result" in made:
            of = made.get("origin") or {}
            said = made["result"] if isinstance(made["result"], str) else _json(made["result"])
            failed = made.get("error") is True or None
            yield Call("result", _str(of.get("id")), _str(of.get("tool_name")), _json(of.get("arguments")), said, failed)
        elif made:
            yield Call("call", _str(made.get("id")), _str(made.get("tool_name")), _json(made.get("arguments")))


def _end(text: str, begin: int) -> int:
    """Behind the bracket that closes the one before ``begin``."""
    depth = 1
    for token in _TOKEN.finditer(text, begin, begin + MAX_LITERAL):
        depth += (token.group() == "(") - (token.group() == ")")
        if not depth:
            return token.end()
    return begin


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node = ast.parse(text, mode="eval").body
        return _keywords(node) if isinstance(node, ast.Call) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _keywords(node: ast.Call) -> dict[str, Any]:
    return {one.arg: _value(one.value) for one in node.keywords if one.arg}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _keywords(node)
    if isinstance(node, ast.List):
        return [_value(one) for one in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _json(value: object) -> str | None:
    try:
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    except (ValueError, TypeError, RecursionError):
        return None
