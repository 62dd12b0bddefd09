"""Calls in the Python repr of Haystack's messages: ``ToolCall(tool_name=…, arguments=…, id=…)``, ``ToolCallResult(result=…, origin=…)``.

A repr is parsed, never run, and only up to ``MAX_LITERAL`` characters for one call: parsing takes a hundred times the text in memory.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from otel_ir.normalize.json_text import MAX_LITERAL, UNREADABLE, compact, plain_text
from otel_ir.normalize.messages import MAX_CALLS, Call
from otel_ir.normalize.quoted import QUOTED, shortened

_TOKEN = re.compile(QUOTED + r"|(?P<made>\b(?:ToolCallResult|ToolCall)\()|[()]", re.DOTALL)


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
    for part in islice(_made(shortened(text, len(text))), 2 * MAX_CALLS):
        made = _parsed(part)
        if made and "result" in made:
            of = made["origin"] if isinstance(made.get("origin"), dict) else {}
            said = plain_text(made["result"]) if isinstance(made["result"], str) else _said(made["result"])
            failed = made.get("error") is True or None
            yield Call("result", plain_text(of.get("id")), plain_text(of.get("tool_name")), _said(of.get("arguments")), said, failed)
        elif made:
            yield Call("call", plain_text(made.get("id")), plain_text(made.get("tool_name")), _said(made.get("arguments")))


def _made(text: str) -> Iterator[str]:
    """What is made of calls and results, each from its name to the bracket that closes it, unless it stands in another one."""
    opened: list[int | None] = []
    outer = 0  # where in ``opened`` the outermost of them is
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if token["made"]:
            outer = outer or len(opened) + 1
            opened.append(token.start())
        elif mark == "(":
            opened.append(None)
        elif mark == ")" and opened:
            begin = opened.pop()
            if begin is not None and len(opened) < outer:
                outer = 0
                yield text[begin : token.end()]


def _parsed(text: str) -> dict[str, Any] | None:
    if len(text) > MAX_LITERAL:
        return None
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


def _said(value: object) -> str | None:
    return None if value is None else compact(value)
