"""Messages as numbered attributes: ``gen_ai.prompt.N.*`` and ``gen_ai.completion.N.*`` (OpenLLMetry before 0.5x, LiteLLM).

Some of these emitters do not say which calls an answer has (``echoes.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from otel_ir.normalize.echoes import SEPARATOR
from otel_ir.normalize.few import Mask
from otel_ir.normalize.flat import as_json
from otel_ir.normalize.json_text import members, raw_list, raws
from otel_ir.normalize.messages import MAX_CALLS, MAX_MESSAGES, Call, Messages, json_calls, of_block, read_json, with_calls
from otel_ir.normalize.sources import Sources

Found = list[tuple[int, Call]]


def in_order(results: Mapping[int, Messages], calls: Mapping[int, Sequence[Call]]) -> Found:
    """Results of a row before its calls, both bounded; a result takes name and arguments from its call in the same request."""
    found: Found = []
    for row in sorted({*results, *calls}):
        found += [(row, one) for one in with_calls(results.get(row, ())) if one.side == "result"]
        found += [(row, one) for one in calls.get(row, ()) if one.side == "call"][:MAX_CALLS]
    return found


_NUMBERED = re.compile(r"gen_ai\.(prompt|completion)\.(\d{1,9})\.(.+)")
_NUMBERED_CALL = re.compile(r"tool_calls\.(\d{1,9})\.(id|name|arguments)")


def read_numbered(sources: Sources, where: Mask) -> Found:
    """``gen_ai.prompt.N.*`` and ``gen_ai.completion.N.{tool_calls.M.*, function_call.*}``; rows with messages as JSON are read from those
    where they tell of calls.

    Adds the sources ``@input_messages`` and ``@output_messages``. Some of these emitters do not say which calls an answer has.
    """
    modern, spans = read_json(sources, where), _numbered(sources, where)
    for side, name in (("prompt", "@input_messages"), ("completion", "@output_messages")):
        texts = {row: text for row, sides in spans.items() if (text := as_json(sides[side]))}
        if texts:
            sources.add(name, np.array(list(texts), dtype=np.int64), pl.Series(list(texts.values()), dtype=pl.String))
    told = {row for row, call in modern if call.side == "call"}
    answered = {row for row, call in modern if call.side == "result"}
    results = {row: list(_flat_messages(sides["prompt"])) for row, sides in spans.items() if row not in answered}
    calls = {row: list(chain(*_flat_messages(sides["completion"]))) for row, sides in spans.items() if row not in told}
    found = [*modern, *in_order(results, calls)]
    begins, silent = _begins(sources, where, spans, {row for row, call in found if call.side == "result"})
    found = [(row, call._replace(begins=begins.get(row)) if call.side == "result" else call) for row, call in found]
    return sorted([*found, *silent], key=lambda one: (one[0], one[1].side == "call"))


_Spans = dict[int, dict[str, dict[int, dict[str, Any]]]]


def _numbered(sources: Sources, where: Mask) -> _Spans:
    """Row -> ``prompt`` and ``completion`` -> number -> message."""
    spans: _Spans = {}
    for row, path, text in sources.matching(_NUMBERED, ("gen_ai.",), where):
        messages = spans.setdefault(row, {"prompt": {}, "completion": {}})[path.group(1)]
        _put(messages.setdefault(int(path.group(2)), {}), path.group(3), text)
    return spans


def _begins(sources: Sources, where: Mask, spans: _Spans, wanted: set[int]) -> tuple[dict[int, str], Found]:
    """What the conversations of the wanted rows begin with, and of those whose answers are silent; -> also these answers."""
    begins: dict[int, str] = {}
    silent: Found = []
    for row, sides in spans.items():
        mute = bool(sides["prompt"]) and _is_silent(sides["completion"])
        if mute or row in wanted:
            asked = (sides["prompt"][number] for number in sorted(sides["prompt"]))
            begins[row] = _hashed(next((one.get("content") for one in asked if one.get("role") not in _SYSTEM), None))
        if mute:
            silent.append((row, _silent(chain(*_flat_messages(sides["prompt"])), begins[row])))
    rows, positions = sources.places("gen_ai.input.messages")
    answered, _ = sources.places("gen_ai.output.messages")
    mutes = where[rows] & ~np.isin(rows, answered) & ~np.isin(rows, [*spans])
    kept = mutes | np.isin(rows, [*wanted.difference(spans)])
    for row, text, mute in zip(rows[kept].tolist(), sources.gather(positions[kept]).to_list(), mutes[kept].tolist(), strict=True):
        asked = (raws(bytes(one)) for one in raw_list(text))
        first = next((one for one in asked if bytes(one.get("role", b"")).strip(b'"').decode() not in _SYSTEM), {})
        begins[row] = _hashed(b"".join(bytes(first[name]) for name in ("parts", "content") if name in first))
        if mute:
            silent.append((row, _silent(json_calls(text), begins[row])))
    return begins, silent


_SYSTEM = ("system", "developer")
_ASKS = ("tool_use", "tool_calls", "tool_call", "function_call")
"""Finish reasons of an answer that has calls."""


def _is_silent(answer: dict[int, dict[str, Any]]) -> bool:
    """Whether an answer does not say which calls it has: nothing is told of it, or that it has some, but not which."""
    if any("calls" in one or '"tool_use"' in (one.get("content") or "") for one in answer.values()):
        return False
    return not any(one.get("content") for one in answer.values()) or any(one.get("finish_reason") in _ASKS for one in answer.values())


def _silent(asked: Iterator[Call], begins: str) -> Call:
    return Call("silent", None, None, SEPARATOR.join(dict.fromkeys(call.call_id for call in asked if call.call_id)), begins=begins)


def _hashed(text: str | bytes | None) -> str:
    encoded = text.encode("utf-8", "replace") if isinstance(text, str) else text or b""
    return blake2b(encoded, digest_size=8).hexdigest()


def _put(message: dict[str, Any], path: str, text: str) -> None:
    call = _NUMBERED_CALL.fullmatch(path)
    if call:
        message.setdefault("calls", {}).setdefault(int(call.group(1)), {})[call.group(2)] = text
    elif path in ("function_call.name", "function_call.arguments"):
        # The tool calls of an answer stand under one key here, and only the last of them is kept by the emitter.
        message.setdefault("calls", {}).setdefault(-1, {})[path.partition(".")[2]] = text
    elif path in ("role", "content", "tool_call_id", "name", "finish_reason"):
        message[path] = text


def _flat_messages(messages: dict[int, dict[str, Any]]) -> Iterator[list[Call]]:
    return (list(_flat(messages[index])) for index in sorted(messages)[-MAX_MESSAGES:])


def _flat(message: dict[str, Any]) -> Iterator[Call]:
    for _, call in sorted(message.get("calls", {}).items()):
        yield Call("call", call.get("id"), call.get("name"), call.get("arguments"))
    if message.get("role") == "tool" or "tool_call_id" in message:
        yield Call("result", message.get("tool_call_id"), message.get("name"), None, message.get("content"))
    elif '"tool_result"' in (message.get("content") or "") or '"tool_use"' in (message.get("content") or ""):
        blocks = (members(bytes(one).decode("utf-8", "replace")) for one in raw_list(message["content"])[-MAX_CALLS:])
        told = (call for block in blocks for call in of_block(block))
        yield from (call for call in told if call.side == "result" or "calls" not in message)
