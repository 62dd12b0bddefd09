"""CrewAI's repr of what its tasks gave: ``[TaskOutput(…, messages=[{…}, …], agent='…'), …]`` -> the calls in the messages of each task.

What tools and people wrote stands there as quoted text, and is passed over where the form is looked for: it opens no task, names no agent,
and ends no list. Linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from otel_ir.normalize.json_text import literal, plain_text
from otel_ir.normalize.messages import MAX_MESSAGES, Call
from otel_ir.normalize.quoted import QUOTED, shortened

_TASK = re.compile(QUOTED + r"|(?P<it>\bTaskOutput\()", re.DOTALL)
_MESSAGES = re.compile(QUOTED + r"|(?P<it>\bmessages=\[)", re.DOTALL)
_AGENT = re.compile(r"\bagent='(?P<it>(?:[^'\\]|\\.){1,256})'|" + QUOTED, re.DOTALL)
_FAILURE = re.compile(QUOTED + r"|(?P<it>\bToolFailure\((?:[^()'\"]|" + QUOTED + r"|\([^()]*\)){0,4096}\))", re.DOTALL)
_FAILED_ID = re.compile(r"\btool_call_id='(?P<it>[^'\\]{1,256})'|" + QUOTED, re.DOTALL)
_TOKEN = re.compile(QUOTED + r"|[\[\]{}]", re.DOTALL)
_MAX_REPR = 1 << 20


def crew_calls(text: str) -> Iterator[Call]:
    """Calls and results, task by task."""
    text = shortened(text, _MAX_REPR)
    starts = [match.start() for match in _unquoted(_TASK, text)][:MAX_MESSAGES]
    for start, end in pairwise([*starts, len(text)]):
        yield from _task(text[start:end])


def _unquoted(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    return (match for match in pattern.finditer(text) if match["it"] is not None)


def _task(text: str) -> Iterator[Call]:
    begin, messages, end = _messages(text)
    outside = text[:begin] + text[end:]
    agent = next((match["it"] for match in _unquoted(_AGENT, outside)), None)
    failures = {one["it"] for failure in _unquoted(_FAILURE, outside) for one in _unquoted(_FAILED_ID, failure["it"])}
    asked: dict[str, Call] = {}
    for message in map(literal, messages[-MAX_MESSAGES:]):
        if not isinstance(message, dict):
            continue
        for item in _list(message.get("tool_calls")):
            function = item.get("function") if isinstance(item, dict) else None
            if isinstance(function, dict):
                call = Call(
                    "call", plain_text(item.get("id")), plain_text(function.get("name")), plain_text(function.get("arguments")), agent=agent
                )
                if call.call_id and call.tool:
                    asked[call.call_id] = call
                    yield call
        of = asked.get(plain_text(message.get("tool_call_id")) or "")
        if message.get("role") == "tool" and of:
            result = plain_text(message.get("content"))
            failed = of.call_id in failures or (result or "").startswith("Error executing tool")
            yield of._replace(side="result", result=result, error=failed or None)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _messages(text: str) -> tuple[int, list[str], int]:
    """Begin, items and end of the list of messages in the repr of a task; as far as it goes, if it was cut."""
    opening = next(_unquoted(_MESSAGES, text), None)
    if opening is None:
        return 0, [], 0
    items, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text, opening.end() - 1):
        mark = token.group()
        depth += (mark in "[{") - (mark in "]}")
        if mark == "{" and depth == 2:
            start = token.start()
        elif mark == "}" and depth == 1:
            items.append(text[start : token.end()])
        elif depth == 0:
            return opening.start(), items, token.end()
    return opening.start(), items, len(text)
