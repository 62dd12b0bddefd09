"""``otel_ir.arguments.<name>`` and its ``.length``: single arguments of a tool call, for the names that rules read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np
import polars as pl

from otel_ir.normalize.few import FEW, contains_any
from otel_ir.normalize.json_text import compact, literal, plain_text
from otel_ir.normalize.sources import nulls, pick

PREFIX = "otel_ir.arguments."
LENGTH = ".length"
_OWN = "otel_ir.arguments.size"
MAX_BARE, MAX_SHORT = 4096, 512
"""Bytes of arguments that are compared with those in messages: of a bare one, and of all."""
_MAX_DEPTH = 64
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OPEN_STRING = re.compile(r'"(?:[^"\\]|\\.)*+\\?', re.DOTALL)
_HALF_WORD = re.compile(r"(?<=[\s:,\[])(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|-)\s*\Z")
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


def is_argument(field: str) -> bool:
    """Whether a rule's field is an argument of the call (or its length)."""
    return field.startswith(PREFIX) and field != _OWN


def argument_columns(arguments: pl.Series, fields: list[str]) -> list[pl.Series]:
    """One column per field, out of the texts of ``gen_ai.tool.call.arguments``.

    String arguments as they are, others as compact JSON; ``….length``: its characters (Int64). Null where the call has no such argument.
    JSON that was cut is read as far as it goes, so a value there may be a part and its length a lower bound.
    """
    names = sorted({_name(field) for field in fields})
    found = _read(arguments, tuple(names))
    return [_column(field, found[_name(field)]) for field in fields]


def _name(field: str) -> str:
    return field.removeprefix(PREFIX).removesuffix(LENGTH)


def _column(field: str, texts: pl.Series) -> pl.Series:
    if not field.endswith(LENGTH):
        return texts.alias(field)
    if len(texts) <= FEW:
        return pl.Series(field, [None if text is None else len(text) for text in texts.to_list()], dtype=pl.Int64)
    return texts.str.len_chars().cast(pl.Int64).alias(field)


def _read(arguments: pl.Series, names: tuple[str, ...]) -> dict[str, pl.Series]:
    """Only texts in which one of the names occurs are parsed; a name may be spelt with escapes, hence the backslashes."""
    rows = np.flatnonzero(contains_any(arguments, [f"{quote}{name}{quote}" for name in names for quote in "\"'"] + ["\\u", '\\"']))
    if not len(rows):
        return {name: nulls(len(arguments)) for name in names}
    read = _reader(names)
    values = [read(text) for text in pick(arguments, rows).to_list()]
    slots = np.full(len(arguments), len(rows), dtype=np.int64)
    slots[rows] = np.arange(len(rows))
    columns = ([_text(value[index]) for value in values] for index in range(len(names)))
    return {name: pick(pl.Series([*column, None], dtype=pl.String), slots) for name, column in zip(names, columns, strict=True)}


@cache
def _reader(names: tuple[str, ...]) -> Callable[[str], tuple[Any, ...]]:
    """Reads these members of a JSON object, and nothing else of it, in a tenth of a microsecond."""
    members = [(f"f{index}", Any, msgspec.field(default=None, name=name)) for index, name in enumerate(names)]
    decode = msgspec.json.Decoder(msgspec.defstruct("Arguments", members)).decode

    def read(text: str) -> tuple[Any, ...]:
        try:
            return msgspec.structs.astuple(decode(text))
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            found = _second_try(text)
            return tuple(found.get(name) for name in names)

    return read


def _second_try(text: str) -> dict[str, Any]:
    """What the strict parser refuses: lone surrogates, JSON inside a JSON string, a Python literal, JSON that was cut."""
    value = _loads(text)
    if isinstance(value, str):
        value = _loads(value)
    if value is None and text.lstrip()[:1] == "{":
        value = literal(text)
        value = value if isinstance(value, dict) else _loads(mend(text))
    return value if isinstance(value, dict) else {}


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    if value is None or (type(value) is str and value.isascii()):
        return value
    return plain_text(value) if isinstance(value, str) else compact(value)


def mend(text: str) -> str:
    """Closes what is open in JSON that was cut in the middle; a member without a value is dropped. Linear in the text's length."""
    stack, start, end = [], 0, 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark in "{[":
            stack.append("}" if mark == "{" else "]")
        elif mark in "}]" and stack:
            stack.pop()
        elif mark[0] == '"':
            start, end = token.span()
        if len(stack) > _MAX_DEPTH:
            return text
    if end and not text[end:].strip():
        before = text[:start].rstrip()
        if stack and stack[-1] == "}" and not before.endswith(":"):
            text = before
        elif _OPEN_STRING.fullmatch(text, start, end):
            text = _HALF_ESCAPE.sub("", text) + '"'
    text = _HALF_WORD.sub("", text).rstrip()
    if text.endswith(":"):
        text = text[: text.rfind('"', 0, text.rfind('"'))].rstrip()
    return text.removesuffix(",") + "".join(reversed(stack))


def short_texts(arguments: pl.Series) -> pl.Series:
    """Arguments that tell calls apart which share an id: of a tool with a single one, which some frameworks give as it is, without its
    name; short ones in whatever form. Null where they are empty or longer.
    """
    size = arguments.str.len_bytes()
    short = (size <= MAX_SHORT) | (~arguments.str.contains(r'\A\s*[{\["]') & (size <= MAX_BARE))
    short &= ~arguments.str.contains(r"\A\s*\z")
    return arguments.zip_with(short.fill_null(value=False), pl.Series([None], dtype=pl.String))
