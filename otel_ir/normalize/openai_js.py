"""Tool calls as the instrumentations of OpenAI's client for JavaScript write them where they know no better.

* OpenInference adds up the parts of a stream as if one answer had one call: ids, names and arguments of several run together. The
  arguments are JSON and come apart; the names do with the tools that the request offers, the ids, which are of one length, with these.
* OpenLLMetry keeps the input of a request to the Responses API as one text, and of its answer no calls. A request brings back what the
  answer before it asked for, so the newest of its calls are read there; the others were in earlier requests. What the application or the
  user adds behind the results is no answer yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from otel_ir.normalize.few import Mask, contains_any
from otel_ir.normalize.flat import read_flat
from otel_ir.normalize.json_text import members, raw_list, raws
from otel_ir.normalize.messages import MAX_CALLS, MAX_MESSAGES, Call, with_calls
from otel_ir.normalize.sources import Sources, pick

_OFFERED = re.compile(r"llm\.tools\.\d{1,9}\.tool\.json_schema")
_DECODER = json.JSONDecoder()
_MAX_TEXT, _MAX_NAMES, _MAX_WAYS, _MAX_STEPS = 1 << 20, 1 << 14, 64, 1 << 14
_MAX_OFFERED, _MAX_APART = 1024, 4
"""Tools of a request that are looked at, and calls of a row that are taken apart: an answer has one such call."""
_ASKS, _ANSWERS = ("function_call", "reasoning"), "function_call_output"
_ADDS = ("user", "system", "developer")


def read_run_together(sources: Sources, where: Mask) -> list[tuple[int, Call]]:
    """``messages.read_flat``, and what ran together taken apart."""
    found = read_flat(sources, where)
    rows = {row for row, call in found if _ran_together(call)}
    if not rows:
        return found
    offered = _offered(sources, rows)
    left = dict.fromkeys(rows, _MAX_APART)
    apart: list[tuple[int, Call]] = []
    for row, call in found:
        taken = bool(left.get(row)) and _ran_together(call)
        left[row] = left.get(row, 0) - taken
        apart += [(row, one) for one in (_apart(call, offered.get(row, ())) if taken else (call,))]
    return apart


def _ran_together(call: Call) -> bool:
    return call.side == "call" and "}{" in (call.arguments or "") and not raws(call.arguments or "")


def _offered(sources: Sources, rows: set[int]) -> dict[int, list[str]]:
    """The names of the tools that the request of a row offers."""
    attributes = sources.batch.attributes
    known = np.array([_OFFERED.fullmatch(key) is not None for key in attributes.keys], dtype=np.bool_)
    take = np.flatnonzero(known[attributes.code] & np.isin(attributes.row, [*rows]))
    found: dict[int, list[str]] = {}
    for row, text in zip(attributes.row[take].tolist(), attributes.texts(take).to_list(), strict=True):
        schema = members(text or "") if len(found.get(row, ())) < _MAX_OFFERED else {}
        if name := schema.get("name") or members(schema.get("function") or "").get("name"):
            found.setdefault(row, []).append(name)
    return found


def _apart(call: Call, offered: Sequence[str]) -> list[Call]:
    """The calls, in order; the one as it stands if its parts cannot be told."""
    arguments = _documents(call.arguments or "")
    names = _words(call.tool or "", offered, len(arguments)) if 1 < len(arguments) <= MAX_CALLS else None
    if names is None:
        return [call]
    size, rest = divmod(len(call.call_id or ""), len(arguments))
    ids = [(call.call_id or "")[at * size : (at + 1) * size] or None for at in range(len(arguments))]
    return [Call("call", None if rest else one, name, said) for one, name, said in zip(ids, names, arguments, strict=True)]


def _documents(text: str) -> list[str]:
    """JSON values that stand one behind the other; none if the text is something else."""
    found: list[str] = []
    at = 0
    while at < len(text) <= _MAX_TEXT and len(found) <= MAX_CALLS:
        try:
            _, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        found.append(text[at:end])
        at = end
    return found


def _words(text: str, words: Sequence[str], count: int) -> list[str] | None:
    """The words, ``count`` of them, of which the text is made; None if there are no such words, or it can be read in several ways."""
    known = {word for word in words if word and word in text} if len(text) <= _MAX_NAMES else set()
    sizes = sorted({len(word) for word in known})
    ways: dict[int, list[_Way]] = {0: [None]}
    steps = 0
    for _ in range(count):
        after: dict[int, list[_Way]] = {}
        for at, read in ways.items():
            steps += len(sizes)
            for word in {text[at : at + size] for size in sizes} & known:
                kept = after.setdefault(at + len(word), [])
                kept += [(one, word) for one in read[: 2 - len(kept)]]
        ways = after
        if len(ways) > _MAX_WAYS or steps > _MAX_STEPS:
            return None
    whole = ways.get(len(text), [])
    return _read(whole[0]) if len(whole) == 1 else None


_Way = tuple[Any, str] | None
"""What was read before, and the word behind it."""


def _read(way: _Way) -> list[str]:
    found = []
    while way:
        way, word = way
        found.append(word)
    return found[::-1]


def read_items(sources: Sources, where: Mask) -> list[tuple[int, Call]]:
    """``gen_ai.input.messages`` = ``[{"role": "user", "parts": [{"type": "text", "content": "[{"type": "function_call", …}, …]"}]}]``."""
    rows, positions = sources.places("gen_ai.input.messages")
    kept = where[rows]
    rows, texts = rows[kept], sources.gather(positions[kept])
    hits = contains_any(texts, (_ANSWERS,))
    told = zip(rows[hits].tolist(), pick(texts, np.flatnonzero(hits)).to_list() if hits.any() else (), strict=True)
    return [(row, call) for row, text in told for call in with_calls([[*_newest(text)]])]


def _newest(text: str) -> Iterator[Call]:
    """The calls, and the results behind them, with which the input ends, but for what was added."""
    for message in raw_list(text)[:1]:
        for part in raw_list(bytes(raws(bytes(message)).get("parts") or b"null"))[:1]:
            items = [members(bytes(item)) for item in raw_list(members(bytes(part)).get("content") or "")[-MAX_MESSAGES:]]
            begin = len(items)
            while begin and items[begin - 1].get("role") in _ADDS:
                begin -= 1
            end = begin
            while begin and items[begin - 1].get("type") == _ANSWERS:
                begin -= 1
            results, end = items[begin:end], begin
            while begin and items[begin - 1].get("type") in _ASKS:
                begin -= 1
            asked = [item for item in items[begin:end] if item.get("type") == _ASKS[0]]
            if results:
                yield from (Call("call", item.get("call_id"), item.get("name"), item.get("arguments")) for item in asked)
                yield from (Call("result", item.get("call_id"), None, None, item.get("output")) for item in results)
