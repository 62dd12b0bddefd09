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
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)


def members(text: str) -> dict[str, str | None]:
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
    """LangChain's ``{"type": "tool", "data": {content, tool_call_id, status}}``, its ``lc`` constructor form (``kwargs``) or the message
    itself, also as ``{"output": …}`` -> ``content``, ``id``, ``error``.
    """
    outer = raws(text)
    outer = raws(bytes(outer["output"])) or outer if "output" in outer else outer
    inner = outer if "tool_call_id" in outer else raws(bytes(outer.get("data") or outer.get("kwargs") or b"null"))
    if "tool_call_id" not in inner:
        return {}
    failed = bytes(inner.get("status", b"null")) == b'"error"'
    return {
        "content": raw_text(bytes(inner.get("content", b"null"))),
        "id": raw_text(bytes(inner["tool_call_id"])),
        "error": "true" if failed else None,
    }


def _traceloop_input(text: str) -> Members:
    """What OpenLLMetry keeps of a tool's input: LangChain's ``{input_str, tags, metadata, inputs, kwargs}`` or MCP's ``{tool_name,
    arguments}`` -> ``arguments``, ``id``, and of the metadata ``agent``, ``conversation``, ``user``.
    """
    outer = raws(text)
    if "tool_name" in outer and "arguments" in outer:
        return {"arguments": raw_text(bytes(outer["arguments"]))}
    if "input_str" not in outer:
        return {}
    said, more = (members(bytes(outer.get(name) or b"null").decode("utf-8", "replace")) for name in ("metadata", "kwargs"))
    inputs, string = raw_text(bytes(outer.get("inputs") or b"null")), raw_text(bytes(outer["input_str"]))
    return {
        "arguments": inputs if inputs is not None else _python_literal(string or "").get("value", string),
        "id": more.get("tool_call_id"),
        "agent": said.get("lc_agent_name"),
        "conversation": said.get("session_id") or said.get("thread_id"),
        "user": said.get("user_id"),
    }


def _traceloop_output(text: str) -> Members:
    """The same of its output: a tool message (``_tool_message``), MCP's ``{result, is_error}``, or ``{output}``
    -> ``content``, ``id``, ``error``.
    """
    if found := _tool_message(text):
        return found
    outer = raws(text)
    if "result" in outer and "is_error" in outer:
        failed = bytes(outer["is_error"]) == b"true"
        return {"content": raw_text(bytes(outer["result"])), "error": "true" if failed else None}
    wrapped = "output" in outer and outer.keys() <= {"output", "kwargs"}
    return {"content": raw_text(bytes(outer["output"]))} if wrapped else {}


def _only_input(text: str) -> Members:
    """``{"input": …}`` and nothing else -> ``input``, as JSON where it is a Python literal: a LangChain tool called with one text."""
    outer = raws(text)
    if outer.keys() != {"input"}:
        return {}
    value = raw_text(bytes(outer["input"]))
    return {"input": _python_literal(value or "").get("value", value)}


def _failure(text: str) -> Members:
    """The OpenAI Agents SDK's ``{"message": …, "data": {"error": …}}`` -> ``message``: both of them."""
    outer = members(text)
    data = members(outer.get("data") or "")
    said = [part for part in (outer.get("message"), data.get("error")) if part]
    return {"message": ": ".join(said)} if said else {}


def _verdict(text: str) -> Members:
    """``gen_ai.guardrail.verdict.type`` -> ``triggered``; what it may say besides these is left open."""
    word = text.strip().lower()
    stopped, passed = word in ("deny", "denied", "block", "blocked", "fail", "failed"), word in ("allow", "allowed", "pass", "passed")
    return {"triggered": "true" if stopped else "false"} if stopped or passed else {}


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


def _as_member(name: str) -> Callable[[str], Members]:
    """A value of which the dialect says only one member of the arguments, as an object."""

    def as_member(text: str) -> Members:
        return {"object": json.dumps({name: text}, ensure_ascii=False, separators=(",", ":"))}

    return as_member


def _moved_messages(text: str) -> Members:
    """``{"input": {"messages": […]}, "output": {"messages": […]}}`` -> what the last message of either side says."""
    found = raws(text)
    return {side: _said(bytes(found[side])) for side in ("input", "output") if side in found}


def _said(side: bytes) -> str | None:
    newest = raw_list(bytes(raws(side).get("messages") or b"null"))[-1:]
    content = raws(bytes(newest[0])).get("content") if newest else None
    if content is None:
        return None
    inner = members(bytes(content).decode("utf-8", "replace"))
    return next((inner[key] for key in ("content", "message") if key in inner), raw_text(bytes(content)))


UNWRAPPERS: dict[str, Callable[[str], Members]] = {
    "members": members,
    "python literal": _python_literal,
    "keyword call": _keyword_call,
    "tool message": _tool_message,
    "tool output": _tool_output,
    "traceloop input": _traceloop_input,
    "traceloop output": _traceloop_output,
    "only input": _only_input,
    "failure": _failure,
    "verdict": _verdict,
    "after 'handoff to '": _after("handoff to "),
    "before '.run'": _before(".run"),
    "moved messages": _moved_messages,
    "as command": _as_member("command"),
    "as file_path": _as_member("file_path"),
}
