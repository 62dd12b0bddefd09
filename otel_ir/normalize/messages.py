"""Tool calls and their results inside LLM messages, for dialects whose tool spans lack call ids, or which have no tool spans.

The weaver uses them so: a tool event without a call id takes the id of the message call in the same trace with the same tool name and
equal arguments, else the next one in order; a call that no span describes becomes a ``tool_call`` event of its own, with the result
that a later request carries.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from otel_ir.normalize.columns import event_time
from otel_ir.normalize.few import Mask, contains_any
from otel_ir.normalize.json_text import UNREADABLE, members, raw_list, raw_text, raws
from otel_ir.normalize.sources import Sources, pick
from otel_ir.normalize.table import Dialect

MAX_MESSAGES = 256
"""Newest messages of one request or answer that are looked at."""
MAX_CALLS = 256
"""Calls taken from one answer."""
MAX_RESULTS = 16
"""Newest results taken from one request, if they are not all new: it repeats the whole conversation, and the others were taken before."""
_MAX_PARTS = 2 * MAX_CALLS
"""Calls and results taken from one message."""
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
        "event_type": pl.String,
        "proof": pl.Boolean,
        "begins": pl.String,
    }
)
"""``ordinal``, ``position``, ids: of the LLM span; ``time``: its end, ns. ``side``: ``call`` (the model asked for it), ``result`` (a
request carried it back), ``approval`` (somebody is asked for one, or decided; ``result`` says what) or ``silent`` (the answer does not say
which calls it has, if any; ``arguments`` are the ids that its request repeats). ``begins``: of a result or a silent answer, a hash of what
the conversation begins with, where the reader knows answers that are silent. ``tool`` and ``arguments`` of a
result are those of its call where the same request repeats it. ``executed``: ``yes`` for a result, ``rejected`` or ``pending_approval``
where it says that, else null. ``event_type``: what it is where no span describes it: ``tool_call``, ``handoff`` or ``approval``.
``proof``: whether a result means that the call ran, though no span says so."""


class Call(NamedTuple):
    """One tool call, result or approval in a message; ``arguments`` and ``result`` as they stand there.

    ``agent``: who made the call, where the message itself says so. ``begins``: see ``CALL_SCHEMA``.
    """

    side: str
    call_id: str | None
    tool: str | None
    arguments: str | None = None
    result: str | None = None
    error: bool | None = None
    agent: str | None = None
    begins: str | None = None


Messages = Sequence[Sequence[Call]]
"""What each message of one request says, oldest first; nothing, if it tells of no calls."""


def call_frame(rows: pl.DataFrame, service: pl.Series, calls: list[tuple[int, Call]], tables: list[Dialect]) -> pl.DataFrame:
    """``CALL_SCHEMA`` rows. ``tables``: of each call's row."""
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
    executed = [_executed(call, table) for (_, call), table in zip(calls, tables, strict=True)]
    kinds = [_kind(call, table) for (_, call), table in zip(calls, tables, strict=True)]
    extra = [
        pick(service, np.array(at)).alias("service.name"),
        pl.Series("executed", executed, dtype=pl.String),
        pl.Series("event_type", kinds, dtype=pl.String),
        pl.Series("proof", [not table.spanned for table in tables], dtype=pl.Boolean),
    ]
    return pl.concat([spans, found], how="horizontal").with_columns(extra).select(CALL_SCHEMA.names())


_NO_CALLS = CALL_SCHEMA.to_frame()
_CALL_TYPES = {name: CALL_SCHEMA[name] for name in Call._fields}


def _kind(call: Call, table: Dialect) -> str:
    return "approval" if call.side == "approval" else "handoff" if table.hands_over(call.tool) else "tool_call"


def _executed(call: Call, table: Dialect) -> str | None:
    if call.side != "result":
        return None
    text = (call.result or "")[:1024]
    return next((word for pattern, word in table.verdicts if re.search(pattern, text)), "yes")


# --- GenAI conventions: messages as JSON -------------------------------------------------------------------------------------


def read_json(sources: Sources, where: Mask, before: str = "") -> list[tuple[int, Call]]:
    """``gen_ai.input.messages`` and ``gen_ai.output.messages``: parts ``tool_call`` and ``tool_call_response``, and the chat form
    (``tool_calls``, role ``tool``) that some emitters put there. ``before``: what stands before these names in the sources' names.
    """
    calls: dict[int, list[Call]] = {}
    for side, source in (("result", f"{before}gen_ai.input.messages"), ("call", f"{before}gen_ai.output.messages")):
        rows, positions = sources.places(source)
        kept = where[rows]
        rows, texts = rows[kept], sources.gather(positions[kept])
        hits = contains_any(texts, ("tool_call", '"tool"', "_approval_"))
        for row, text in zip(rows[hits].tolist(), pick(texts, np.flatnonzero(hits)).to_list(), strict=True):
            found = [*json_calls(text)]
            known = {call.call_id for call in calls.setdefault(row, []) if call.side == "result"}
            calls[row] += [call for call in found if call.side != "call" and call.call_id not in known]
            if side == "call":
                calls[row] += [call for call in found if call.side == "call"][:MAX_CALLS]
    return [(row, call) for row in sorted(calls) for call in calls[row]]


def json_calls(text: str) -> Iterator[Call]:
    """Calls in a JSON array of messages, and the results that are ``taken``, oldest first; these know their calls if both stand there."""
    yield from with_calls(json_messages(text))


def json_messages(text: str) -> Messages:
    """What each message of a JSON array says."""
    return [said_in(bytes(message)) for message in raw_list(text)[-MAX_MESSAGES:]]


def taken(messages: Messages) -> list[Call]:
    """All calls, and the results (approvals, too) that are taken from one request: those behind the last message that asked for any, in
    it, or, where none asks, in the last messages on end that answer. These are new, or may be; of older ones only as many as
    make ``MAX_RESULTS`` of all.
    """
    parts = [said[:_MAX_PARTS] for said in messages]
    answers = [any(call.side != "call" for call in said) for said in parts]
    last = max((at for at, does in enumerate(answers) if does), default=-1)
    begin = max((at for at, said in enumerate(parts[: last + 1]) if any(call.side == "call" for call in said)), default=-1)
    if begin < 0:
        begin = max((at + 1 for at, does in enumerate(answers[:last]) if not does), default=0)
    new, old = (sum(call.side != "call" for said in side for call in said) for side in (parts[begin:], parts[:begin]))
    skipped = old - max(0, MAX_RESULTS - new)
    kept: list[Call] = []
    number = 0  # of results
    for call in chain(*parts):
        if call.side == "call" or skipped <= number < old + MAX_CALLS:
            kept.append(call)
        number += call.side != "call"
    return kept


def with_calls(messages: Messages) -> Iterator[Call]:
    """What is ``taken``; results with the tool and the arguments of their calls, as far as both stand in one request.

    OpenAI's Responses have an id for a call's item (``fc_…``) and another one for the call, and some emitters write the former of calls
    and the latter of results. So a result with an id of its own is that of the oldest call to which no result has the id, and counts
    under either.
    """
    asked: dict[str | None, Call] = {}
    answered = {call.call_id for said in messages for call in said if call.side == "result"}
    unanswered: deque[str] = deque()
    for call in taken(messages):
        if call.side == "call":
            if call.call_id is not None and call.call_id.startswith(_ITEM) and call.call_id not in answered and call.call_id not in asked:
                unanswered.append(call.call_id)
            asked[call.call_id] = call
        if call.side != "result":
            yield call
        elif of := asked.get(call.call_id):
            yield call._replace(tool=call.tool or of.tool, arguments=of.arguments)
        else:
            of = asked.pop(unanswered.popleft()) if unanswered and call.call_id is not None else None
            yield call._replace(tool=call.tool or (of.tool if of else None), arguments=of.arguments if of else None)
            if of is not None:
                yield of._replace(side="result", result=call.result, error=call.error)


_ITEM = "fc_"
"""What ids of a call's item in OpenAI's Responses begin with."""


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
    content: msgspec.Raw = msgspec.Raw()


_MESSAGE = msgspec.json.Decoder(_Message)


def said_in(message: bytes) -> tuple[Call, ...]:
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
    if found is None or found.tool_calls is not None or found.tool_call_id or bytes(found.content)[:1] == b"[" or b"approval" in message:
        outer = raws(message)
        return tuple(islice(_of_message(outer, _text(outer, "role")), _MAX_PARTS))
    asked = (_call(part) for part in found.parts or () if part.type in ("tool_call", "tool_call_response"))
    return tuple(islice(asked, _MAX_PARTS))


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
    texts = []
    for part in raw_list(bytes(message.get("parts") or b"null")):
        found = members(bytes(part).decode("utf-8", "replace"))
        kind = found.get("type") or ""
        if kind == "tool_call":
            yield Call("call", found.get("id"), found.get("name"), found.get("arguments"))
        elif kind in _APPROVALS:
            of = members(found.get("function_call") or "")
            decision = _APPROVALS[kind].get(found.get("approved") or "")
            yield Call("approval", of.get("call_id"), of.get("name"), of.get("arguments"), decision)
        elif kind == "tool_call_response":
            result = next((found[key] for key in ("result", "response", "content") if found.get(key) is not None), None)
            yield Call("result", found.get("id"), found.get("name"), None, result)
        elif kind == "text":
            texts.append(found.get("content") or "")
    for item in raw_list(bytes(message.get("tool_calls") or b"null")):
        call = raws(bytes(item))
        function = members(bytes(call.get("function") or b"null").decode("utf-8", "replace"))
        yield Call("call", _text(call, "id"), function.get("name"), function.get("arguments"))
    for item in raw_list(bytes(message.get("content") or b"null")):
        yield from of_block(members(bytes(item).decode("utf-8", "replace")))
    if role == "tool" and "tool_call_id" in message:
        said = _text(message, "content") or ("\n".join(texts) if texts else None)
        yield Call("result", _text(message, "tool_call_id"), _text(message, "name"), None, said)


def of_block(block: dict[str, str | None]) -> Iterator[Call]:
    """A call or a result in one of Anthropic's content blocks."""
    if block.get("type") == "tool_use":
        yield Call("call", block.get("id"), block.get("name"), block.get("input"))
    elif block.get("type") == "tool_result":
        yield Call("result", block.get("tool_use_id"), None, None, block.get("content"), block.get("is_error") == "true" or None)


_APPROVALS = {
    "function_approval_request": {"": "pending"},
    "function_approval_response": {"true": "accepted", "false": "rejected"},
}
"""Part of a message -> ``approved`` -> decision: Microsoft's Agent Framework."""


def _text(found: dict[str, msgspec.Raw], key: str) -> str | None:
    return raw_text(bytes(found[key])) if key in found else None
