"""Where each family of dialects keeps the tool calls inside LLM messages. ``messages.py`` has the two forms that most of them share.

A reader takes the rows in question and gives ``(row, Call)``, results before calls; a table names it (``Dialect.messages``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from otel_ir.normalize.assign import CODES, Reading
from otel_ir.normalize.crew import crew_calls
from otel_ir.normalize.few import Mask, contains_any
from otel_ir.normalize.flat import read_flat
from otel_ir.normalize.json_text import members, raw_list, raw_text, raws
from otel_ir.normalize.langchain_js import read_refusals
from otel_ir.normalize.messages import (
    MAX_CALLS,
    MAX_MESSAGES,
    Call,
    json_calls,
    json_messages,
    read_json,
    said_in,
    with_calls,
)
from otel_ir.normalize.numbered import Found, in_order, read_numbered
from otel_ir.normalize.openai_js import read_items, read_run_together
from otel_ir.normalize.reprs import calls_in
from otel_ir.normalize.sources import Sources, pick
from otel_ir.normalize.unwrap import moved_messages


def read_messages(sources: Sources, found: list[Reading], codes: Any) -> Found:
    """``(row, call)`` of every LLM row whose dialect names a reader, in row order, results before calls."""
    rows: Found = []
    for dialect, mine in found:
        if dialect.messages:
            rows += _READERS[dialect.messages](sources, mine & np.isin(codes, [CODES[kind] for kind in dialect.speaks]))
    return sorted(rows, key=lambda one: one[0]) if len(found) > 1 else rows


def _texts(sources: Sources, source: str, where: Mask, parts: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Rows in ``where`` whose text of this source contains one of the parts."""
    rows, positions = sources.places(source)
    kept = where[rows]
    rows, texts = rows[kept], sources.gather(positions[kept])
    hits = contains_any(texts, parts)
    yield from zip(rows[hits].tolist(), pick(texts, np.flatnonzero(hits)).to_list() if hits.any() else (), strict=True)


def _read_numbered_or_refused(sources: Sources, where: Mask) -> Found:
    """The same, and calls that a person refused: no model's span tells of them."""
    refused = read_refusals(sources, where, "traceloop.entity.output")
    asked = [(row, call._replace(side="call", result=None)) for row, call in refused]
    return sorted([*read_numbered(sources, where), *asked, *refused], key=lambda one: one[0])


def _read_flat_or_refused(sources: Sources, where: Mask) -> Found:
    return sorted([*read_flat(sources, where), *read_refusals(sources, where, "output.value")], key=lambda one: one[0])


# --- LangChain's own messages (LangSmith) ------------------------------------------------------------------------------------


def _read_langchain(sources: Sources, where: Mask) -> Found:
    """``gen_ai.prompt`` = ``{"messages": [[…]]}`` and ``gen_ai.completion`` = ``{"generations": [[{"message": …}]]}``."""
    results = {row: list(_langchain(text)) for row, text in _texts(sources, "gen_ai.prompt", where, ("tool_call",))}
    calls = {row: list(chain(*_langchain(text))) for row, text in _texts(sources, "gen_ai.completion", where, ("tool_call",))}
    return in_order(results, calls)


def _langchain(text: str) -> Iterator[list[Call]]:
    outer = raws(text)
    listed = raw_list(bytes(outer.get("messages") or outer.get("generations") or b"null"))
    for batch in listed:
        for item in raw_list(bytes(batch))[-MAX_MESSAGES:] or [batch]:
            found = raws(bytes(item))
            if "message" in found:
                found = raws(bytes(found["message"]))
            yield list(_of_langchain(raws(bytes(found["kwargs"])) if "kwargs" in found else found))


def _of_langchain(found: dict[str, msgspec.Raw]) -> Iterator[Call]:
    for one in raw_list(bytes(found.get("tool_calls") or b"null")):
        call = members(bytes(one).decode("utf-8", "replace"))
        yield Call("call", call.get("id"), call.get("name"), call.get("args"))
    if "tool_call_id" in found:
        said = {name: raw_text(bytes(found[name])) for name in ("tool_call_id", "name", "content", "status") if name in found}
        failed = said.get("status") == "error" or None
        yield Call("result", said["tool_call_id"], said.get("name"), None, said.get("content"), failed)


# --- the events of the conventions 1.28 to 1.36, as one attribute (Logfire) --------------------------------------------------


def _read_events(sources: Sources, where: Mask) -> Found:
    """``events`` = ``[{"event.name": "gen_ai.choice", "message": {"tool_calls": …}}, {"event.name": "gen_ai.tool.message", …}]``."""
    results, calls = {}, {}
    for row, text in _texts(sources, "events", where, ("tool_calls", "gen_ai.tool.message")):
        results[row], calls[row] = list(_events(text, answers=False)), list(chain(*_events(text, answers=True)))
    return in_order(results, calls)


def _events(text: str, *, answers: bool) -> Iterator[list[Call]]:
    events = [raws(bytes(event)) for event in raw_list(text)[-MAX_MESSAGES:]]
    names = [raw_text(bytes(found.get("event.name") or b"null")) for found in events]
    # Where no choice is marked as one, the answer is what the assistant said last.
    last = max((at for at, name in enumerate(names) if name != "gen_ai.assistant.message"), default=-1)
    for at, (name, found) in enumerate(zip(names, events, strict=True)):
        answer = name == "gen_ai.choice" if "gen_ai.choice" in names else at > last
        if answer is answers:
            yield list(_of_event(name, found))


def _of_event(name: str | None, found: dict[str, msgspec.Raw]) -> Iterator[Call]:
    said = raws(bytes(found["message"])) if "message" in found else found
    for item in raw_list(bytes(said.get("tool_calls") or b"null")):
        call = raws(bytes(item))
        function = members(bytes(call.get("function") or b"null").decode("utf-8", "replace"))
        yield Call("call", raw_text(bytes(call.get("id") or b"null")), function.get("name"), function.get("arguments"))
    if name == "gen_ai.tool.message":
        texts = {key: raw_text(bytes(found[key])) for key in ("id", "name", "content") if key in found}
        yield Call("result", texts.get("id"), texts.get("name"), None, texts.get("content"))


# --- Pydantic AI ---------------------------------------------------------------------------------------------------------------


_MESSAGES, _ENDS_WITH_CALLS = "pydantic_ai.all_messages", '"finish_reason":"tool_call"}]'


def _read_pydantic(sources: Sources, where: Mask) -> Found:
    """What an agent's ``final_result`` says of approvals that are asked for; of every call that runs there is a span. The results in its
    messages tell of calls that ran, or were refused, when an earlier run had asked for them. Without content there is no such result, and a
    run whose messages end with calls asks for them.
    """
    found: Found = []
    for row, text in _texts(sources, _MESSAGES, where & ~sources.has("final_result"), (_ENDS_WITH_CALLS,)):
        for message in raw_list(text)[-1:] if text.endswith(_ENDS_WITH_CALLS) else ():
            found += [(row, call) for call in [*said_in(bytes(message))][:MAX_CALLS] if call.side == "call"]
    for row, text in _texts(sources, "final_result", where, ('"approvals"',)):
        outer = raws(text)
        for item in raw_list(bytes(outer["approvals"] if "calls" in outer else b"null"))[:MAX_CALLS]:
            call = members(bytes(item).decode("utf-8", "replace"))
            asked = Call("call", call.get("tool_call_id"), call.get("tool_name"), call.get("args"))
            found += [(row, asked), (row, asked._replace(side="approval", result="pending"))]
    for source, reader in ((_MESSAGES, json_messages), ("all_messages_events", _pydantic_events)):
        for row, text in _texts(sources, source, where, ("tool_call_response", '"tool"')):
            found += [(row, call) for call in with_calls(reader(text)) if call.side == "result"]
    return sorted(found, key=lambda one: one[0])


def _pydantic_events(text: str) -> list[list[Call]]:
    """Results in the messages of format 1."""
    messages = [members(bytes(item).decode("utf-8", "replace")) for item in raw_list(text)[-MAX_MESSAGES:]]
    return [
        [Call("result", said.get("id"), said.get("name"), None, said.get("content"))] if said.get("role") == "tool" else []
        for said in messages
    ]


# --- Logfire on model clients --------------------------------------------------------------------------------------------------


def _read_logfire(sources: Sources, where: Mask) -> Found:
    """The conventions, their events, or before 5.0 ``request_data`` = ``{"messages": …}`` and ``response_data`` = ``{"message": …}``."""
    results, calls = {}, {}
    for row, text in _texts(sources, "request_data", where, ("tool_call_id", "tool_result")):
        results[row] = json_messages(bytes(raws(text).get("messages") or b"null").decode("utf-8", "replace"))
    for row, text in _texts(sources, "response_data", where, ("tool_calls",)):
        answer = bytes(raws(text).get("message") or b"null").decode("utf-8", "replace")
        calls[row] = [one._replace(arguments=_inner(one.arguments)) for one in json_calls(f"[{answer}]")]
    found = [*read_json(sources, where), *_read_events(sources, where), *in_order(results, calls)]
    return sorted(found, key=lambda one: one[0])


def _inner(arguments: str | None) -> str | None:
    """Of Anthropic's answers Logfire kept the arguments as ``{"input": …}``, and no ids."""
    outer = raws(arguments or "")
    return raw_text(bytes(outer["input"])) if outer.keys() == {"input"} and bytes(outer["input"])[:1] == b"{" else arguments


# --- Vercel AI SDK -----------------------------------------------------------------------------------------------------------


def _read_vercel(sources: Sources, where: Mask) -> Found:
    """``ai.response.toolCalls`` and the ``tool-result`` parts of ``ai.prompt.messages``."""
    results = {row: list(_vercel_messages(text)) for row, text in _texts(sources, "ai.prompt.messages", where, ("tool-result",))}
    calls: dict[int, list[Call]] = {}
    for row, text in _texts(sources, "ai.response.toolCalls", where, ("toolCallId",)):
        calls[row] = [_vercel_call(bytes(item)) for item in raw_list(text)]
    return in_order(results, calls)


def _vercel_messages(text: str) -> Iterator[list[Call]]:
    return (list(_vercel_parts(bytes(message))) for message in raw_list(text)[-MAX_MESSAGES:])


def _vercel_parts(message: bytes) -> Iterator[Call]:
    for part in raw_list(bytes(raws(message).get("content") or b"null")):
        found = members(bytes(part).decode("utf-8", "replace"))
        if found.get("type") == "tool-call":
            yield _vercel_call(bytes(part))
        elif found.get("type") == "tool-result":
            output = members(found.get("output") or "")
            kind, value = output.get("type") or "", output.get("value")
            result = value if value is not None else found.get("output") or found.get("result")
            failed = kind.startswith("error") or found.get("isError") == "true"
            yield Call("result", found.get("toolCallId"), found.get("toolName"), None, result, failed or None)


def _vercel_call(item: bytes) -> Call:
    found = members(item.decode("utf-8", "replace"))
    return Call("call", found.get("toolCallId"), found.get("toolName"), found.get("input") or found.get("args"))


# --- Strands: content blocks, in span events or (ADOT) in log records -------------------------------------------------------


def _read_strands(sources: Sources, where: Mask) -> Found:
    """Span events ``gen_ai.choice`` and the last ``gen_ai.tool.message``; those of the newer conventions, or attributes."""
    read_flat(sources, where)  # OpenInference's processor puts what several tools gave into one message: no calls, but what was said.
    modern = [call for before in (_DETAILS, "") for call in read_json(sources, where, before)]
    results = {row: [list(_blocks(text))] for row, text in _texts(sources, "event:gen_ai.tool.message/content", where, ("toolResult",))}
    calls = {row: list(_blocks(text)) for row, text in _texts(sources, "event:gen_ai.choice/message", where, ("toolUse",))}
    return sorted([*modern, *in_order(results, calls)], key=lambda one: one[0])


def _read_moved(sources: Sources, where: Mask) -> Found:
    """The same, as ADOT moves it: the newest message that answers, and the newest one that asks."""
    results, calls = {}, {}
    for row, text in _texts(sources, "@body", where, ("toolUse", "toolResult", "tool_call")):
        inward, outward = ([list(_moved(message)) for message in moved_messages(text, side)] for side in ("input", "output"))
        answers = [found for found in inward if any(call.side == "result" for call in found)]
        calls[row] = [*chain(*outward[-1:])]
        results[row] = [[*chain(*answers[-1:]), *(call for call in calls[row] if call.side == "result")]]
    return in_order(results, calls)


def _moved(message: bytes) -> Iterator[Call]:
    content = raw_text(bytes(raws(message).get("content") or b"null")) or ""
    inner = members(content)
    # A step repeats what the model asked for; only the model's own answer has a reason why it ended.
    answers = not inner or "finish_reason" in inner
    for text in inner.values() or (content,):
        yield from (call for call in (*_blocks(text or ""), *json_calls(text or "")) if answers or call.side == "result")


def _blocks(text: str) -> Iterator[Call]:
    for item in raw_list(text)[-MAX_MESSAGES:]:
        found = members(bytes(item).decode("utf-8", "replace"))
        asked, given = members(found.get("toolUse") or ""), members(found.get("toolResult") or "")
        if asked:
            yield Call("call", asked.get("toolUseId"), asked.get("name"), asked.get("input"))
        if given:
            failed = given.get("status") == "error" or None
            yield Call("result", given.get("toolUseId"), None, None, given.get("content"), failed)


_DETAILS = "event:gen_ai.client.inference.operation.details/"

# --- Mastra ------------------------------------------------------------------------------------------------------------------

_ASKED = ("mastra.model_step.output", "mastra.model_generation.output", "output")


def _read_mastra(sources: Sources, where: Mask) -> Found:
    """``toolCalls`` of what a step or a loop gave; of an agent's span, the call that it waits for, and the one that was refused."""
    results: dict[int, list[list[Call]]] = {}
    calls: dict[int, list[Call]] = {}
    for source in _ASKED:
        for row, text in _texts(sources, source, where, ('"toolCalls"',)):
            given = raw_list(bytes(raws(text).get("toolCalls") or b"null"))
            calls.setdefault(row, []).extend(_vercel_call(bytes(item)) for item in given)
    for row, text in _texts(sources, "mastra.agent_run.output", where, ('"tool-call-approval"',)):
        found = members(text)
        if found.get("reason") == "tool-call-approval":
            calls.setdefault(row, []).append(Call("call", found.get("toolCallId"), found.get("toolName")))
    for row, text in _texts(sources, "mastra.agent_run.input", where, ('{"approved":false',)):
        found = members(text)
        results.setdefault(row, []).append([Call("result", found.get("toolCallId"), found.get("toolName"), None, text)])
    return in_order(results, calls)


# --- Haystack ----------------------------------------------------------------------------------------------------------------


_MAX_REPR = 1 << 20


def _read_haystack(sources: Sources, where: Mask) -> Found:
    """``{"replies": […]}``, ``{"tool_messages": […]}`` and ``{"messages": […]}`` with content ``tool_call`` and ``tool_call_result``."""
    results: dict[int, list[list[Call]]] = {}
    calls: dict[int, list[Call]] = {}
    for source in ("haystack.agent.step.llm.input", "haystack.agent.step.llm.output", "haystack.component.output"):
        for row, text in _texts(sources, source, where, ('"tool_call',)):
            found = [*_haystack(text)]
            results.setdefault(row, []).extend(found)
            if not source.endswith("input"):
                calls.setdefault(row, []).extend(chain(*found))
    return in_order(results, calls)


def _haystack(text: str) -> Iterator[list[Call]]:
    return (list(_of_haystack(bytes(one))) for listed in raws(text).values() for one in raw_list(bytes(listed))[-MAX_MESSAGES:])


def _of_haystack(message: bytes) -> Iterator[Call]:
    for part in raw_list(bytes(raws(message).get("content") or b"null")):
        found = members(bytes(part))
        asked, given = members(found.get("tool_call") or ""), members(found.get("tool_call_result") or "")
        if asked:
            yield Call("call", asked.get("id"), asked.get("tool_name"), asked.get("arguments"))
        if given:
            of = members(given.get("origin") or "")
            failed = given.get("error") == "true" or None
            yield Call("result", of.get("id"), of.get("tool_name"), of.get("arguments"), given.get("result"), failed)


def _read_reprs(sources: Sources, where: Mask) -> Found:
    """OpenInference on Haystack: the messages of an agent's ``output.value`` are reprs."""
    found = _texts(sources, "output.value", where, ("ToolCall(",))
    told = {row: list(calls_in(text)) for row, text in found if len(text) <= _MAX_REPR}
    messages = {row: [[call] for call in calls] for row, calls in told.items()}
    return sorted([*read_flat(sources, where), *in_order(messages, told)], key=lambda one: one[0])


# --- CrewAI's repr of what its tasks gave ------------------------------------------------------------------------------------


def _read_crew(sources: Sources, where: Mask) -> Found:
    """``crewai.crew.tasks_output``: the repr of a list of ``TaskOutput``, with the messages of each task and the role of its agent."""
    return [(row, call) for row, text in _texts(sources, "crewai.crew.tasks_output", where, ("tool_call",)) for call in crew_calls(text)]


_READERS: dict[str, Callable[[Sources, Mask], Found]] = {
    "openinference": read_flat,
    "openinference or refused": _read_flat_or_refused,
    "openinference or reprs": _read_reprs,
    "openinference, run together": read_run_together,
    "genai": read_json,
    "flat or genai": read_numbered,
    "flat, genai or refused": _read_numbered_or_refused,
    "flat, genai or items": lambda sources, where: sorted(
        [*read_numbered(sources, where), *read_items(sources, where)], key=lambda one: one[0]
    ),
    "langchain": _read_langchain,
    "events": _read_events,
    "vercel": _read_vercel,
    "mastra": _read_mastra,
    "haystack": _read_haystack,
    "crew": _read_crew,
    "pydantic": _read_pydantic,
    "logfire": _read_logfire,
    "strands": _read_strands,
    "moved": _read_moved,
}
