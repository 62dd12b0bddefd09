"""OpenInference: messages flattened into attributes, ``llm.{input,output}_messages.N.message.*``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import polars as pl

from otel_ir.normalize.few import Mask
from otel_ir.normalize.messages import MAX_CALLS, MAX_MESSAGES, Call, taken
from otel_ir.normalize.sources import Sources

_FLAT = re.compile(r"(?:llm|gen_ai)\.(input|output)[_.]messages\.(\d{1,9})\.message\.(.+)")
_FLAT_CALL = re.compile(r"tool_calls\.(\d{1,9})\.tool_call\.(id|function\.name|function\.arguments)")
_FLAT_TEXT = re.compile(r"contents\.\d{1,9}\.message_content\.text")


def read_flat(sources: Sources, where: Mask) -> list[tuple[int, Call]]:
    """``llm.{input,output}_messages.N.message.*``, and ``gen_ai.{input,output}.messages`` of who renamed it; results before calls.

    Adds the sources ``@input_messages`` and ``@output_messages``: JSON in the form of the GenAI conventions.
    """
    spans: dict[int, dict[str, dict[int, dict[str, Any]]]] = {}
    for row, path, text in sources.matching(_FLAT, ("llm.", "gen_ai."), where):
        messages = spans.setdefault(row, {"input": {}, "output": {}})[path.group(1)]
        _put(messages.setdefault(int(path.group(2)), {}), path.group(3), text)
    calls: list[tuple[int, Call]] = []
    for side in ("input", "output"):
        texts = {row: made for row, sides in spans.items() if (made := as_json(sides[side]))}
        if texts:
            sources.add(f"@{side}_messages", np.array(list(texts), dtype=np.int64), pl.Series(list(texts.values()), dtype=pl.String))
    for row, sides in spans.items():
        calls += [(row, call) for call in taken([*_flat_messages(sides["input"])]) if call.side != "call"]
        calls += [(row, call) for call in islice(_flat_calls(sides["output"]), MAX_CALLS)]
    return calls


def _put(message: dict[str, Any], path: str, text: str) -> None:
    call = _FLAT_CALL.fullmatch(path)
    if call:
        message.setdefault("calls", {}).setdefault(int(call.group(1)), {})[call.group(2).rpartition(".")[2]] = text
    elif _FLAT_TEXT.fullmatch(path):
        message.setdefault("texts", []).append(text)
    elif path in ("role", "content", "name", "tool_call_id"):
        message[path] = text


def _newest(messages: dict[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (messages[index] for index in sorted(messages)[-MAX_MESSAGES:])


def _flat_calls(messages: dict[int, dict[str, Any]]) -> Iterator[Call]:
    for message in _newest(messages):
        for _, call in sorted(message.get("calls", {}).items()):
            yield Call("call", call.get("id"), call.get("name"), call.get("arguments"))


def _flat_messages(messages: dict[int, dict[str, Any]]) -> Iterator[list[Call]]:
    """What each says; a result with the tool and the arguments of its call."""
    asked: dict[str | None, Call] = {}
    unanswered: list[Call] = []
    for message in _newest(messages):
        calls = list(islice(_flat_calls({0: message}), MAX_CALLS))
        asked.update((call.call_id, call) for call in calls)
        unanswered = calls or unanswered
        said = list(calls)
        if message.get("role") == "tool" or "tool_call_id" in message:
            # Who writes no ids answers in the order of the calls.
            of = asked.get(message["tool_call_id"]) if "tool_call_id" in message else next(iter(unanswered), None)
            unanswered = [call for call in unanswered if call is not of]
            tool = message.get("name") or (of.tool if of else None)
            call_id = message.get("tool_call_id") or (of.call_id if of else None)
            said.append(Call("result", call_id, tool, of.arguments if of else None, _content(message)))
        yield said


def _content(message: dict[str, Any]) -> str | None:
    text = message.get("content")
    return text if text is not None else "\n".join(message["texts"]) if "texts" in message else None


def as_json(messages: dict[int, dict[str, Any]]) -> str | None:
    if not messages:
        return None
    return msgspec.json.encode([_genai_message(message) for message in _newest(messages)]).decode()


def _genai_message(message: dict[str, Any]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    content = _content(message)
    if message.get("role") == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif content is not None:
        parts.append({"type": "text", "content": content})
    for _, call in sorted(message.get("calls", {}).items()):
        parts.append({"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("arguments")})
    return {"role": message.get("role"), "parts": parts}
