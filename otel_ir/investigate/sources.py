"""What an agent was given to read, from event rows: results of tools, what users asked, system prompts. Oldest first, each text once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from otel_ir.investigate.model import Source

Row = Mapping[str, Any]

KINDS: dict[str, str] = {
    "tool_result": "a tool result",
    "retrieval": "a retrieved document",
    "user": "the user's request",
    "system": "the system prompt",
    "message": "a message",
}
"""Kinds of sources, and what they are called."""
UNTRUSTED = ("tool_result", "retrieval", "message")
"""Kinds that somebody else than the user or the operator may have written."""
MAX_MESSAGES = 200
"""Of one request: the first ones."""
MAX_TEXT = 262_144

_ROLES = {"user": "user", "system": "system", "developer": "system", "tool": "tool_result"}
_DECODER = msgspec.json.Decoder()


def sources(rows: list[dict[str, Any]]) -> list[Source]:
    """The sources in rows of the event frame, as far as they are there with their content."""
    found: dict[tuple[str, str], Source] = {}
    # Results first: a request repeats them later, without saying which span they came from.
    for row in sorted(rows, key=lambda one: one["event.type"] not in ("tool_call", "retrieval")):
        for source in _of(row):
            key = (_scope(source), hashlib.sha256(source.text.encode("utf-8", "replace")).hexdigest())
            if source.text and (key not in found or _earlier(source, found[key])):
                found[key] = source
    return sorted(found.values(), key=lambda one: one.at)


def _earlier(one: Source, other: Source) -> bool:
    return one.at < other.at and (one.kind, one.tool) == (other.kind, other.tool)


def _scope(source: Source) -> str:
    return source.conversation_id or source.trace_id


def _of(row: Row) -> Iterator[Source]:
    kind = row["event.type"]
    result = row.get("gen_ai.tool.call.result")
    if result and kind in ("tool_call", "retrieval"):
        yield _source(row, "tool_result" if kind == "tool_call" else "retrieval", result, row["event_time"], row["gen_ai.tool.name"] or "")
    prompt = row.get("gen_ai.system_instructions")
    if prompt:
        yield _source(row, "system", _texts(prompt), _start(row))
    messages = row.get("gen_ai.input.messages")
    if messages:
        yield from _messages(row, messages)


def _messages(row: Row, text: str) -> Iterator[Source]:
    try:
        messages = _DECODER.decode(text.encode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError):
        messages = None
    if not isinstance(messages, list):
        yield _source(row, "message", text, _start(row))
        return
    for message in messages[:MAX_MESSAGES]:
        role = message.get("role") if isinstance(message, dict) else None
        parts = message.get("parts") if isinstance(message, dict) else None
        for part in parts[:MAX_MESSAGES] if isinstance(parts, list) else []:
            if not isinstance(part, dict):
                continue
            if part.get("type") == "tool_call_response":
                answer = part.get("result", part.get("response"))
                yield _source(row, "tool_result", _as_text(answer), _start(row), str(part.get("name") or ""))
            elif role != "assistant":
                yield _source(row, _ROLES.get(str(role), "message"), _as_text(part.get("content")), _start(row))


def _as_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _texts(text: str) -> str:
    """The texts of system instructions, which are a list of parts or a plain text."""
    try:
        parts = _DECODER.decode(text.encode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError):
        return text
    if not isinstance(parts, list):
        return text
    return "\n".join(_as_text(part.get("content")) for part in parts if isinstance(part, dict))


def _start(row: Row) -> int:
    """When a request was sent: what stands in it was there by then. 0: the sender did not say."""
    return int(row["start_time"] or row["event_time"] or 0)


def _source(row: Row, kind: str, text: str, at: int, tool: str = "") -> Source:
    return Source(
        kind=kind,
        at=int(at or 0),
        span_id=row["span_id"] or "",
        trace_id=row["trace_id"] or "",
        agent_id=row["otel_ir.agent.id"] or "",
        conversation_id=row["gen_ai.conversation.id"] or "",
        tool=tool,
        text=text[:MAX_TEXT],
    )
