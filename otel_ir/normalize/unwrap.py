"""Named unwrappers: one attribute value -> its members as text. The only place where normalizing takes a Python step per value.

Each is a function ``text -> {member: text or None}`` and never raises; what it cannot read has no members, and the raw value stands.
Those of the results of tools, and of words and names, are in ``results.py`` and ``words.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from otel_ir.normalize.json_text import UNREADABLE, compact, literal, members, raw_list, raw_text, raws
from otel_ir.normalize.results import RESULTS
from otel_ir.normalize.words import WORDS

Members = Mapping[str, str | None]
_TEXT = msgspec.json.Decoder(str)
_OBJECT = re.compile(rb'"<[\w.]{1,256} object at 0x[0-9a-f]{1,16}>"')


def _python_literal(text: str) -> Members:
    """``{'id': 42}`` -> ``value``: the same as JSON."""
    value = literal(text)
    if not isinstance(value, dict | list | tuple):
        return {}
    said = compact(value)
    return {} if said is None else {"value": said}


def _keyword_call(text: str) -> Members:
    """``{"args": [], "kwargs": {…}, "sanitize_inputs_outputs": …}`` -> ``kwargs``; only when these are all the members there are. Objects
    that the framework puts in are no arguments. ``to_agent``: a member of ``kwargs``.
    """
    found = raws(text)
    if "kwargs" not in found or not found.keys() <= {"args", "kwargs", "sanitize_inputs_outputs"}:
        return {}
    given = raws(bytes(found["kwargs"]))
    own = {name: value for name, value in given.items() if not _OBJECT.fullmatch(bytes(value))}
    kwargs = bytes(found["kwargs"]) if len(own) == len(given) else msgspec.json.encode(own)
    return {"kwargs": raw_text(kwargs), "to_agent": raw_text(bytes(given.get("to_agent", b"null")))}


def _named_call(text: str, parameters: str | None) -> Members:
    """``{"args": [1], "kwargs": {"b": 2}}`` beside ``{"a": …, "b": …}`` -> ``named``: ``{"a": 1, "b": 2}``; the text itself where there
    are too few names.
    """
    found = raws(text)
    positional, names = raw_list(bytes(found.get("args") or b"null")), list(raws(parameters or ""))
    if not positional:
        return {}
    if len(positional) > len(names):
        return {"named": text}
    given = dict(zip(names, positional, strict=False)) | raws(bytes(found.get("kwargs") or b"null"))
    return {"named": msgspec.json.encode(given).decode()}


def _tool_message(text: str) -> Members:
    """LangChain's ``{"type": "tool", "data": {content, tool_call_id, status}}``, its ``lc`` constructor form (``kwargs``) or the message
    itself, also as ``{"output": …}`` -> ``content``, ``id``, ``name``, ``error``. Of a command (``{"update": {"messages": […]}}``)
    and of what a graph's node gives (``{"messages": […]}``) its last message.
    """
    outer = raws(text)
    outer = raws(bytes(outer["update"])) if "update" in outer else outer
    if "messages" in outer:
        messages = raw_list(bytes(outer["messages"]))
        outer = raws(bytes(messages[-1])) if messages else {}
    outer = raws(bytes(outer["output"])) or outer if "output" in outer else outer
    inner = outer if "tool_call_id" in outer else raws(bytes(outer.get("data") or outer.get("kwargs") or b"null"))
    if "tool_call_id" not in inner:
        return {}
    failed = bytes(inner.get("status", b"null")) == b'"error"'
    return {
        "content": raw_text(bytes(inner.get("content", b"null"))),
        "id": raw_text(bytes(inner["tool_call_id"])),
        "name": raw_text(bytes(inner.get("name", b"null"))),
        "error": "true" if failed else None,
    }


def _node_call(text: str) -> Members:
    """What OpenLLMetry keeps of a tool's input in JavaScript, ``{"args": ["…"]}`` -> ``arguments``; and LangGraph.js of that of the node
    around it, ``{"messages": […], "lg_tool_call": {"name", "args", "id"}}`` -> ``arguments``, ``tool``, ``id``, ``agent`` (the name in the
    message that asked for it), ``graph``: that it is one.
    """
    outer = raws(text)
    if "lg_tool_call" not in outer:
        given = raw_list(bytes(outer.get("args") or b"null"))
        return {"arguments": raw_text(bytes(given[0]))} if len(given) == 1 and outer.keys() == {"args"} else {}
    asked = members(bytes(outer["lg_tool_call"]))
    said = (raws(bytes(raws(bytes(one)).get("kwargs") or b"null")) for one in reversed(raw_list(bytes(outer.get("messages") or b"null"))))
    agent = next((raw_text(bytes(one.get("name") or b"null")) for one in said if "tool_calls" in one), None)
    return {"arguments": asked.get("args"), "tool": asked.get("name"), "id": asked.get("id"), "agent": agent, "graph": "tools"}


def _traceloop_input(text: str) -> Members:
    """What OpenLLMetry keeps of a tool's input: LangChain's ``{input_str, tags, metadata, inputs, kwargs}`` or MCP's ``{tool_name,
    arguments}`` and ``{method, params: {name, arguments}}`` -> ``arguments``, ``id``, ``tool``, and of the metadata ``agent``,
    ``conversation``, ``user``, ``to``. Of the input of a chain or a graph, which has no ``input_str``, conversation and user only.
    """
    outer = raws(text)
    if "tool_name" in outer and "arguments" in outer:
        return {"arguments": raw_text(bytes(outer["arguments"]))}
    if bytes(outer.get("method") or b"") == b'"tools/call"':
        asked = members(bytes(outer.get("params") or b"null").decode("utf-8", "replace"))
        return {"arguments": asked.get("arguments"), "tool": asked.get("name")}
    said, more = (members(bytes(outer.get(name) or b"null").decode("utf-8", "replace")) for name in ("metadata", "kwargs"))
    who = {"conversation": said.get("session_id") or said.get("thread_id"), "user": said.get("user_id")}
    if "input_str" not in outer:
        return who
    inputs, string = raw_text(bytes(outer.get("inputs") or b"null")), raw_text(bytes(outer["input_str"]))
    return who | {
        "arguments": inputs if inputs is not None else _python_literal(string or "").get("value", string),
        "id": more.get("tool_call_id"),
        "agent": said.get("lc_agent_name"),
        "to": said.get("__handoff_destination"),
    }


def _traceloop_output(text: str) -> Members:
    """The same of its output: a tool message (``_tool_message``), MCP's ``{result, is_error}`` and ``{content, isError}``, or ``{output}``
    -> ``content``, ``id``, ``error``, ``failure`` (the content, if it says what went wrong).
    """
    found = dict(_tool_message(text))
    outer = {} if found else raws(text)
    if "result" in outer and outer.keys() <= {"result", "is_error"}:
        failed = bytes(outer.get("is_error", b"null")) == b"true"
        found = {"content": raw_text(bytes(outer["result"])), "error": "true" if failed else None}
    elif "content" in outer and "isError" in outer:
        failed = bytes(outer["isError"]) == b"true"
        found = {"content": _only_text(bytes(outer["content"])), "error": "true" if failed else None}
    elif "output" in outer and outer.keys() <= {"output", "kwargs"}:
        found = {"content": raw_text(bytes(outer["output"]))}
    return {**found, "failure": found["content"]} if found.get("error") else found


def _only_text(blocks: bytes) -> str | None:
    """The text of MCP's content, if that is all of it."""
    found = [members(bytes(block).decode("utf-8", "replace")) for block in raw_list(blocks)]
    texts = [block.get("text") for block in found if block.get("type") == "text"]
    return "\n".join(text or "" for text in texts) if texts and len(texts) == len(found) else raw_text(blocks)


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


def _model_answer(text: str) -> Members:
    """Logfire's ``{"message": …, "usage": …}`` -> ``messages``, ``input_tokens``, ``output_tokens``."""
    outer = members(text)
    usage = members(outer.get("usage") or "")
    return {
        "messages": f"[{outer['message']}]" if outer.get("message") else None,
        "input_tokens": usage.get("input_tokens") or usage.get("prompt_tokens"),
        "output_tokens": usage.get("output_tokens") or usage.get("completion_tokens"),
    }


def _run(text: str) -> Members:
    """BeeAI's ``{"input": …, "options": …}`` -> ``input``."""
    outer = raws(text)
    return {"input": raw_text(bytes(outer["input"]))} if outer.keys() == {"input", "options"} else {}


def _json_text(text: str) -> Members:
    """A string in JSON -> ``text``."""
    try:
        return {"text": _TEXT.decode(text)}
    except UNREADABLE:
        return {}


def _replies(text: str) -> Members:
    """Haystack's ``{"replies": [{"meta": {"model", "usage": …}}]}``, or ``meta`` beside them -> ``model``, ``input_tokens``,
    ``output_tokens``.
    """
    outer = raws(text)
    meta = (
        raw_list(bytes(outer["meta"]))
        if "meta" in outer
        else [raws(bytes(one)).get("meta") or b"" for one in raw_list(bytes(outer.get("replies") or b"null"))]
    )
    said = members(bytes(meta[0])) if meta else {}
    usage = members(said.get("usage") or "")
    return {
        "model": said.get("model"),
        "input_tokens": usage.get("prompt_tokens") or usage.get("input_tokens"),
        "output_tokens": usage.get("completion_tokens") or usage.get("output_tokens"),
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


def _answer(text: str) -> Members:
    """``{"id": "…", …`` -> ``answer``: that id."""
    found = _LEADING_ID.match(text)
    return {"answer": found.group(1)} if found else {}


_LEADING_ID = re.compile(r'\{"id": ?"([^"\\]{1,256})"')


def _langgraph(text: str) -> Members:
    """LangGraph's metadata -> its members, and ``node``: the node of the graph above in which the graph of this span stands."""
    found = members(text)
    path = (found.get("langgraph_checkpoint_ns") or "").split("|")
    return {**found, "node": path[-2].partition(":")[0] or None} if len(path) > 1 else found


def _graph(text: str, metadata: str | None) -> Members:
    """The name of a span beside LangGraph's metadata -> ``agent``, where the span is that of a graph: the whole, or one which is a node."""
    node = members(metadata or "").get("langgraph_node")
    return {"agent": text} if node in (None, text) and text not in _NO_AGENTS else {}


_NO_AGENTS = ("agent", "AgentExecutor", "LangGraph")
"""Names that LangChain itself gives to parts of agents."""


def _moved_messages(text: str) -> Members:
    """``{"input": {"messages": […]}, "output": {"messages": […]}}`` -> what the last message of either side says, and of the input its
    member ``agent_name``.
    """
    found = {side: _said(moved_messages(text, side)) for side in ("input", "output")}
    return found | {"agent_name": members(found["input"] or "").get("agent_name")}


def moved_messages(text: str, side: str) -> list[bytes]:
    """The messages of one side of such a body, unparsed."""
    return [bytes(one) for one in raw_list(bytes(raws(bytes(raws(text).get(side) or b"null")).get("messages") or b"null"))]


def _said(messages: list[bytes]) -> str | None:
    content = raws(messages[-1]).get("content") if messages else None
    if content is None:
        return None
    inner = members(bytes(content).decode("utf-8", "replace"))
    return _of_one_call(next((inner[key] for key in ("content", "message") if key in inner), raw_text(bytes(content))))


def _of_one_call(text: str | None) -> str | None:
    """What a message of the newer conventions says of the one call in it, its arguments or its result; other texts as they are."""
    parts = [part for one in raw_list(text or "") for part in raw_list(bytes(raws(bytes(one)).get("parts") or b"null"))]
    said = members(bytes(parts[0]).decode("utf-8", "replace")) if len(parts) == 1 else {}
    return said.get(_OF_PART.get(said.get("type") or "", "")) or text


_OF_PART = {"tool_call": "arguments", "tool_call_response": "response"}


def _scheduled(text: str) -> Members:
    """A finished call as Gemini CLI keeps it: ``{"status", "response": {"responseParts": [{"functionResponse": {"response": …}}]}}``."""
    found = raws(text)
    parts = raw_list(bytes(raws(bytes(found.get("response") or b"null")).get("responseParts") or b"null"))[:1]
    answered = raws(bytes(raws(bytes(parts[0])).get("functionResponse") or b"null")) if parts else {}
    said = members(bytes(answered.get("response") or b"null").decode("utf-8", "replace"))
    status = raw_text(bytes(found.get("status") or b"null"))
    if status == "cancelled":
        return {"executed": "rejected"}
    failed = status == "error"
    return {"error": "true" if failed else None, "message": said.get("error"), "result": None if failed else said.get("output")}


UNWRAPPERS: dict[str, Callable[[str], Members]] = {
    "members": members,
    "python literal": _python_literal,
    "keyword call": _keyword_call,
    "tool message": _tool_message,
    "tool output": _tool_output,
    "traceloop input": _traceloop_input,
    "traceloop output": _traceloop_output,
    "node call": _node_call,
    "only input": _only_input,
    "failure": _failure,
    "model answer": _model_answer,
    "run": _run,
    "json text": _json_text,
    "replies": _replies,
    "langgraph": _langgraph,
    "answer": _answer,
    "moved messages": _moved_messages,
    "scheduled call": _scheduled,
    **RESULTS,
    **WORDS,
}
UNWRAPPERS_BESIDE: dict[str, Callable[[str, str | None], Members]] = {"named call": _named_call, "graph": _graph}
"""Those that look at a second text, too (``Unwrap.beside``)."""
