"""Tool calls and their results inside LLM messages, for dialects whose tool spans lack call ids, or which have no tool spans.

The weaver uses them so: a tool event without a call id takes the id of the message call in the same trace with the same tool name and
equal arguments, else the next one in order; a call that no span describes becomes a ``tool_call`` event of its own, with the result
that a later request carries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from otel_ir.normalize.columns import event_time
from otel_ir.normalize.few import Mask, contains_any
from otel_ir.normalize.sources import Sources, pick
from otel_ir.normalize.unwrap import UNREADABLE, members, raw_list, raw_text, raws

MAX_MESSAGES = 256
"""Newest messages of one request or answer that are looked at."""
MAX_CALLS = 256
"""Calls taken from one answer."""
MAX_RESULTS = 16
"""Newest results taken from one request: it repeats the whole conversation, and the others were taken when they were new."""
CALL_SCHEMA = pl.Schema(
    {
        "ordinal": pl.Int64,
        "position": pl.UInt32,
        "tenant": pl.String,
        "sender": pl.String,
        "service.name": pl.String,
        "trace_id": pl.String,
        "span_id": pl.String,
        "parent_span_id": pl.String,
        "time": pl.Int64,
        "side": pl.String,
        "call_id": pl.String,
        "tool": pl.String,
        "arguments": pl.String,
        "result": pl.String,
        "error": pl.Boolean,
        "executed": pl.String,
        "agent": pl.String,
    }
)
"""``ordinal``, ``position``, ids: of the LLM span; ``time``: its end, ns. ``side``: ``call`` (the model asked for it) or ``result`` (a
request carried it back). ``tool`` and ``arguments`` of a result are those of its call where the same request repeats it.
``executed``: ``yes`` for a result, ``rejected`` where it says that a person refused, null for a call."""


class Call(NamedTuple):
    """One tool call or result in a message; ``arguments`` and ``result`` as they stand there.

    ``agent``: who made the call, where the message itself says so.
    """

    side: str
    call_id: str | None
    tool: str | None
    arguments: str | None = None
    result: str | None = None
    error: bool | None = None
    agent: str | None = None


def call_frame(rows: pl.DataFrame, service: pl.Series, calls: list[tuple[int, Call]], rejected: dict[int, str]) -> pl.DataFrame:
    """``CALL_SCHEMA`` rows. ``rejected``: row -> regular expression on results."""
    if not calls:
        return _NO_CALLS
    at = [row for row, _ in calls]
    known = rows.columns  # a log record has a time instead of an end, and stands in the span that it names
    parent = pl.col("parent_span_id") if "parent_span_id" in known else pl.col("span_id").alias("parent_span_id")
    end = pl.col("end") if "end" in known else pl.when(pl.col("time") > 0).then("time").otherwise("observed")
    spans = (
        rows[at]
        .select(
            "ordinal",
            "position",
            "tenant",
            "sender",
            "trace_id",
            "span_id",
            parent,
            end.alias("_time"),
            pl.col("received").alias("_received"),
        )
        .with_columns(event_time().alias("time"))
    )
    said = zip(*(call for _, call in calls), strict=True)
    found = pl.DataFrame([pl.Series(name, listed, dtype=dtype) for (name, dtype), listed in zip(_CALL_TYPES.items(), said, strict=True)])
    executed = [_executed(call, rejected.get(row)) for row, call in calls]
    extra = [pick(service, np.array(at)).alias("service.name"), pl.Series("executed", executed, dtype=pl.String)]
    return pl.concat([spans, found], how="horizontal").with_columns(extra).select(CALL_SCHEMA.names())


_NO_CALLS = CALL_SCHEMA.to_frame()
_CALL_TYPES = {name: CALL_SCHEMA[name] for name in Call._fields}


def _executed(call: Call, rejected: str | None) -> str | None:
    if call.side == "call":
        return None
    return "rejected" if rejected and call.result and re.search(rejected, call.result[:1024]) else "yes"


# --- OpenInference: messages flattened into attributes -----------------------------------------------------------------------

_FLAT = re.compile(r"llm\.(input|output)_messages\.(\d{1,9})\.message\.(.+)")
_FLAT_CALL = re.compile(r"tool_calls\.(\d{1,9})\.tool_call\.(id|function\.name|function\.arguments)")
_FLAT_TEXT = re.compile(r"contents\.\d{1,9}\.message_content\.text")


def read_flat(sources: Sources, where: Mask) -> list[tuple[int, Call]]:
    """OpenInference: ``llm.{input,output}_messages.N.message.*``.

    Adds the sources ``@input_messages`` and ``@output_messages``: JSON in the form of the GenAI conventions.
    """
    attributes = sources.batch.attributes
    paths = [_FLAT.fullmatch(key) if key.startswith("llm.") else None for key in attributes.keys]
    known = np.array([path is not None for path in paths], dtype=np.bool_)
    if not known.any() or not where.any():
        return []
    take = np.flatnonzero(known[attributes.code] & where[attributes.row])
    spans: dict[int, dict[str, dict[int, dict[str, Any]]]] = {}
    for row, code, text in zip(
        attributes.row[take].tolist(), attributes.code[take].tolist(), attributes.texts(take).to_list(), strict=True
    ):
        path = paths[code]
        if path is not None and text is not None:
            messages = spans.setdefault(row, {"input": {}, "output": {}})[path.group(1)]
            _put(messages.setdefault(int(path.group(2)), {}), path.group(3), text)
    calls: list[tuple[int, Call]] = []
    for side in ("input", "output"):
        texts = {row: text for row, sides in spans.items() if (text := as_json(sides[side]))}
        if texts:
            sources.add(f"@{side}_messages", np.array(list(texts), dtype=np.int64), pl.Series(list(texts.values()), dtype=pl.String))
    for row, sides in spans.items():
        found = [*_flat_results(sides["input"])][-MAX_RESULTS:] + [*_flat_calls(sides["output"])][:MAX_CALLS]
        calls += [(row, call) for call in found]
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


def _flat_results(messages: dict[int, dict[str, Any]]) -> Iterator[Call]:
    asked: dict[str | None, Call] = {}
    for message in _newest(messages):
        asked.update((call.call_id, call) for call in _flat_calls({0: message}))
        if message.get("role") == "tool" or "tool_call_id" in message:
            of = asked.get(message.get("tool_call_id"))
            tool = message.get("name") or (of.tool if of else None)
            yield Call("result", message.get("tool_call_id"), tool, of.arguments if of else None, _content(message))


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


# --- GenAI conventions: messages as JSON -------------------------------------------------------------------------------------


def read_json(sources: Sources, where: Mask) -> list[tuple[int, Call]]:
    """``gen_ai.input.messages`` and ``gen_ai.output.messages``: parts ``tool_call`` and ``tool_call_response``, and the chat form
    (``tool_calls``, role ``tool``) that some emitters put there.
    """
    calls: dict[int, list[Call]] = {}
    for side, source in (("result", "gen_ai.input.messages"), ("call", "gen_ai.output.messages")):
        rows, positions = sources.places(source)
        kept = where[rows]
        rows, texts = rows[kept], sources.gather(positions[kept])
        hits = contains_any(texts, ("tool_call", '"tool"'))
        for row, text in zip(rows[hits].tolist(), pick(texts, np.flatnonzero(hits)).to_list(), strict=True):
            if found := [call for call in json_calls(text) if call.side == side]:
                calls.setdefault(row, []).extend(found[-MAX_RESULTS:] if side == "result" else found[:MAX_CALLS])
    return [(row, call) for row in sorted(calls) for call in calls[row]]


def json_calls(text: str) -> Iterator[Call]:
    """Calls and results in a JSON array of messages, oldest first; a result knows its call where both stand there."""
    asked: dict[str | None, Call] = {}
    for message in raw_list(text)[-MAX_MESSAGES:]:
        for call in told(bytes(message)):
            if call.side == "call":
                asked[call.call_id] = call
                yield call
            else:
                of = asked.get(call.call_id)
                yield call._replace(tool=call.tool or of.tool, arguments=of.arguments) if of else call


class _Part(msgspec.Struct, gc=False):
    type: Any = None
    id: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    arguments: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None
    tool_calls: Any = None
    tool_call_id: msgspec.Raw = msgspec.Raw()


_MESSAGE = msgspec.json.Decoder(_Message)


def told(message: bytes) -> tuple[Call, ...]:
    """Calls and results of one message. Conversations are repeated with every request, so short messages are remembered."""
    if b"tool" not in message and b"approval" not in message and b"\\u" not in message:
        return ()
    return _remembered(message) if len(message) <= _MAX_REMEMBERED else _read(message)


def _read(message: bytes) -> tuple[Call, ...]:
    """What has the form of the conventions, and nothing else in it, is read in one step."""
    try:
        found = _MESSAGE.decode(message)
    except UNREADABLE:
        found = None
    if found is None or found.tool_calls is not None or found.tool_call_id or b"approval" in message:
        outer = raws(message)
        return tuple(_of_message(outer, _text(outer, "role")))
    return tuple(_call(part) for part in found.parts or () if part.type in ("tool_call", "tool_call_response"))


_remembered = lru_cache(maxsize=8192)(_read)
_MAX_REMEMBERED = 2048
"""Bytes."""


def _call(part: _Part) -> Call:
    if part.type == "tool_call":
        return Call("call", _raw(part.id), _raw(part.name), _raw(part.arguments))
    results = (_raw(part.result), _raw(part.response), _raw(part.content))
    return Call("result", _raw(part.id), _raw(part.name), None, next((one for one in results if one is not None), None))


def _raw(raw: msgspec.Raw) -> str | None:
    return raw_text(bytes(raw)) if raw else None


def _of_message(message: dict[str, msgspec.Raw], role: str | None) -> Iterator[Call]:
    for part in raw_list(bytes(message.get("parts") or b"null")):
        found = members(bytes(part).decode("utf-8", "replace"))
        if found.get("type") == "tool_call":
            yield Call("call", found.get("id"), found.get("name"), found.get("arguments"))
        elif found.get("type") == "tool_call_response":
            result = next((found[key] for key in ("result", "response", "content") if found.get(key) is not None), None)
            yield Call("result", found.get("id"), found.get("name"), None, result)
    for item in raw_list(bytes(message.get("tool_calls") or b"null")):
        call = raws(bytes(item))
        function = members(bytes(call.get("function") or b"null").decode("utf-8", "replace"))
        yield Call("call", _text(call, "id"), function.get("name"), function.get("arguments"))
    if role == "tool" and "tool_call_id" in message:
        yield Call("result", _text(message, "tool_call_id"), _text(message, "name"), None, _text(message, "content"))


def _text(found: dict[str, msgspec.Raw], key: str) -> str | None:
    return raw_text(bytes(found[key])) if key in found else None
