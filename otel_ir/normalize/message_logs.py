"""Tool calls and results in log records: one message each, as the GenAI conventions 1.28 to 1.36 have it (``gen_ai.choice`` and so on).

The message is the body, structured or as JSON text, or the attribute ``gen_ai.event.content`` (Azure). What was asked stands in ``choice``;
every later request repeats it in ``assistant`` or ``user`` messages, with the results. Gemini has parts of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np

from otel_ir.normalize.json_text import members, raw_list, raw_text, raws
from otel_ir.normalize.messages import MAX_CALLS, Call, json_calls
from otel_ir.normalize.sources import Sources

CONTENT = "gen_ai.event.content"
READ = ("@event", "@body", CONTENT)
_ASKED = "gen_ai.choice"
_ANSWERED = ("gen_ai.tool.message", "gen_ai.user.message", "gen_ai.assistant.message")


def read_logs(sources: Sources) -> list[tuple[int, Call]]:
    """``(row, call)`` of the log records that are such messages, in row order."""
    calls: list[tuple[int, Call]] = []
    rows, positions = sources.places("@event")
    names = sources.gather(positions).to_list() if len(rows) else []
    told = [(row, name) for row, name in zip(rows.tolist(), names, strict=True) if name == _ASKED or name in _ANSWERED]
    if not told:
        return calls
    texts = sources.column(CONTENT, "@body")[np.array([row for row, _ in told])].to_list()
    for (row, name), text in zip(told, texts, strict=True):
        found = _calls(text or "") if name == _ASKED else _results(text or "", name)
        calls += [(row, call) for call in islice(found, MAX_CALLS)]
    return calls


def _calls(text: str) -> Iterator[Call]:
    outer = raws(text)
    message = raws(bytes(outer["message"])) if "message" in outer else outer
    for item in raw_list(bytes(message.get("tool_calls") or outer.get("tool_calls") or b"null")):
        call = members(bytes(item).decode("utf-8", "replace"))
        function = members(call.get("function") or "")
        yield Call("call", call.get("id"), function.get("name") or call.get("name"), function.get("arguments") or call.get("arguments"))
    yield from _of_parts(message, "call")
    for part in _parts(message):
        if asked := part.get("function_call") or part.get("functionCall"):
            call = members(asked)
            yield Call("call", call.get("id"), call.get("name"), call.get("args"))


def _results(text: str, name: str) -> Iterator[Call]:
    message = members(text)
    call_id = message.get("id") or message.get("tool_call_id")
    if name == "gen_ai.tool.message" and call_id:
        yield Call("result", call_id, message.get("name"), None, message.get("content"))
    yield from _of_parts(raws(text), "result")
    for part in _parts(raws(text)):
        if given := part.get("function_response") or part.get("functionResponse"):
            answer = members(given)
            yield Call("result", answer.get("id"), answer.get("name"), None, answer.get("response"))


def _of_parts(message: dict[str, msgspec.Raw], side: str) -> Iterator[Call]:
    """``{parts: [{type: tool_call, …}]}``, as messages are written since 1.37."""
    if "parts" in message:
        text = f'[{{"parts":{bytes(message["parts"]).decode("utf-8", "replace")}}}]'
        yield from (call for call in json_calls(text) if call.side == side)


def _parts(message: dict[str, msgspec.Raw]) -> Iterator[dict[str, str | None]]:
    """Gemini: ``{content: {parts: […]}}``."""
    content = raws(bytes(message.get("content") or b"null"))
    for part in raw_list(bytes(content.get("parts") or b"null")):
        yield members(raw_text(bytes(part)) or "")
