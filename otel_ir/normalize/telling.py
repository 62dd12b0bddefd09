"""What is told of a call's event, by messages and by spans: when they meet, when a result proves that it ran, when it becomes an event."""

from __future__ import annotations

import re
from typing import Any

from otel_ir.normalize.calls import Call, Extra, Trace, agree, canonical, is_only, key_of, only, others, variant
from otel_ir.normalize.json_text import members

BY_CALL = ("ordinal", "position", "result", "error", "executed", "proof")
TO, _TO_MEMBER = "otel_ir.handoff.to", "agent_name"
ARGUMENTS, RESULT, EXECUTED = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "otel_ir.executed"
TAKER = re.compile(r"(?:Handoff-)?(?:handoff|transfer)_to_(?!agent$)(.+)")
_SIZE = "otel_ir.arguments.size"
_JOINED = {
    ARGUMENTS: "arguments",
    RESULT: "result",
    EXECUTED: "result",
    _SIZE: "arguments",
    "otel_ir.result.size": "result",
    TO: "to",
}
"""Column -> what a row of ``join_rows`` must lack for it to be told."""


def may_be_told(event: dict[str, Any], column: str) -> bool:
    """Whether messages may say this of the event: they only repeat what was said, and what ran was not refused."""
    if column == (EXECUTED if event["type"] == "handoff" else TO) or (column == EXECUTED and event["executed"] == "yes"):
        return False
    return event[_JOINED[column]] is None


def tell_name(call: Call, event: str, text: str | None, ordinal: int, found: list[Extra]) -> None:
    """Tells the name of a single argument, where the span gives its bare text and the message the whole."""
    if call.row["arguments"] is not None and is_only(text, call.arguments):
        found.append(Extra(event, ordinal, ARGUMENTS, call.row["arguments"]))
        found.append(Extra(event, ordinal, _SIZE, len(call.row["arguments"])))


def meet(call: Call, event: dict[str, Any], found: list[Extra]) -> None:
    """A span describes the call; if messages did so before, it is the second description."""
    if call.taken is not None:
        tell_again(call.taken, event, call.arguments, found)
    else:
        tell(event["id"], event["ordinal"], ARGUMENTS, call.row["arguments"], found)
        tell_name(call, event["id"], event["arguments"], event["ordinal"], found)
    call.taken, call.met = call.taken or event["id"], True


def tell_again(taken: str, event: dict[str, Any], arguments: str | None, found: list[Extra]) -> None:
    """The span is the second description of an event, whose arguments as messages have them may be more than the span's."""
    found.append(Extra(event["id"], event["ordinal"], "otel_ir.duplicate_of", taken))
    said = _said(event)
    if is_only(event["arguments"], arguments):
        del said[ARGUMENTS], said[_SIZE]
    found += [Extra(taken, event["ordinal"], column, value) for column, value in said.items() if value is not None]


def replaced(trace: Trace, event: dict[str, Any], found: list[Extra]) -> bool:
    """Whether the span ran instead of a call of its id, between the model's answer and the result, and so describes that call's event."""
    for call in others(trace, event["call_id"], event["tool"]):
        if call.taken is not None and not call.met and call.row["time"] <= int(event["start"] or 0) <= (call.until or 0):
            tell_again(call.taken, event, None, found)
            call.met = True
            return True
    return False


def _said(event: dict[str, Any]) -> dict[str, Any]:
    """What a span says of a call, which counts for more than what messages say: they only repeat it."""
    ran = event["error"] or event["result"] is not None or event["executed"] == "yes"
    far = event["executed"] if event["executed"] in ("rejected", "pending_approval") and event["result"] is not None else "yes"
    return {
        ARGUMENTS: event["arguments"],
        _SIZE: event["arguments_size"],
        RESULT: event["result"],
        "otel_ir.result.size": event["result_size"],
        EXECUTED: far if ran and event["type"] == "tool_call" else None,
        "error": event["error"],
        "error.type": event["error_type"],
        "error.message": event["error_message"],
        TO: event["to"],
    }


def told_at_last(call: Call, row: dict[str, Any], found: list[Extra]) -> None:
    """An answer tells of a call that only a later request told of before, perhaps in another spelling."""
    if "echo" in call.row and call.taken is not None and row["arguments"] is not None:
        for column, value in ((ARGUMENTS, row["arguments"]), (_SIZE, len(row["arguments"]))):
            found.append(Extra(call.taken, row["ordinal"], column, value, fill=call.met))


def told_more(call: Call, row: dict[str, Any], found: list[Extra]) -> None:
    """Another answer gives the arguments of a call, which the one that told of it first leaves out."""
    if call.arguments is not None or row["arguments"] is None:
        return
    call.arguments = canonical(row["arguments"])
    call.row, call.only = call.row | {"arguments": row["arguments"]}, only(call.arguments)
    if call.taken is not None:
        tell(call.taken, row["ordinal"], ARGUMENTS, row["arguments"], found)


def told_before(call: Call, row: dict[str, Any]) -> list[dict[str, Any]]:
    """A call stands where it was told of first, in time; where its event stands elsewhere, this is the event's second description."""
    if row["time"] >= call.row["time"]:
        return []
    kept = {"arguments": call.row["arguments"]} if row["arguments"] is None else {}
    call.row = row | kept | {"call_id": call.row["call_id"] or row["call_id"]}
    if call.taken is None or call.met:
        return []
    return [call.row | {"id": f"{row['event']}#{call.taken}", "duplicate_of": call.taken}]


def is_in_trace(event: str | None, row: dict[str, Any]) -> bool:
    """Whether a span is of the trace of a message row."""
    return event is not None and row["trace_id"] is not None and f"{row['trace_id']}/" in event


def mark_changed(trace: Trace, call_id: str, tool: str | None, said: list[str | None], until: int | None = None) -> None:
    """Whether a call with this id was made with other arguments than any of the model's calls with that id.

    ``said``: the arguments, as spans and results of this id give them; ``until``: of calls that were made before it, ns.
    """
    changed = any(variant(trace, key_of(call_id, tool), one) not in trace.calls for one in said)
    for call in others(trace, call_id, tool):
        if not changed or until is None or call.row["time"] < until:
            call.changed = changed


def compare(trace: Trace, row: dict[str, Any], stated: list[dict[str, Any]]) -> None:
    """Whether what spans and results say of a new call's id is of it, or of another one with that id."""
    if row["call_id"] is not None:
        said = [canonical(one["text"]) for one in stated]
        early = [one for one in trace.early if (one["call_id"], one["tool"]) == (row["call_id"], row["tool"])]
        said += [canonical(one["arguments"]) for one in early]
        if said and None not in said:
            mark_changed(trace, row["call_id"], row["tool"], said)


def says_itself(call: Call, row: dict[str, Any]) -> bool:
    """Whether another span than the first one that describes a call says its result: the call was made again."""
    spans = [one for one in row["stated"] or () if one["ordinal"] <= row["ordinal"] and one["id"] != call.taken and not one["bare"]]
    return call.met and any(agree(canonical(one["text"]), call.arguments) for one in spans)


def tell_result(trace: Trace, call: Call, result: dict[str, Any], found: list[Extra], *, itself: bool = False) -> list[dict[str, Any]]:
    """The event of a call that ran and that nothing describes yet. ``result``: the message row of the result; ``itself``: whether a span
    says it that is not the call's event.
    """
    first, call.answered = not call.answered, True
    call.until = min(result["time"], call.until or result["time"])
    if call.taken is not None:
        if first and not itself and (call.bare or not call.met):
            tell(call.taken, result["ordinal"], RESULT, result["result"], found)
            tell(call.taken, result["ordinal"], EXECUTED, result["executed"], found)
        return []
    if call.changed:
        call.later = result  # the span that differs is what ran, unless its own call comes
        return []
    return as_event(trace, call, by_result(result))


def by_result(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says of a call that nothing else describes."""
    more = {name: result[name] for name in BY_CALL}
    return more if result["proof"] or result["executed"] != "yes" else more | {"executed": "unknown"}


def as_event(trace: Trace, call: Call, more: dict[str, Any]) -> list[dict[str, Any]]:
    first = taken = f"{call.row['event']}#{call.row['call_id'] or '-'}"
    used = {one.taken for one in trace.calls.values()}
    number = 1
    while taken in used:  # one answer may use an id twice, for two tools
        number += 1
        taken = f"{first}/{number}"
    call.taken = taken
    return [call.row | more | {"id": taken}]


def tell(event: str, ordinal: int, column: str, value: Any, found: list[Extra]) -> None:
    """Tells an event what it may lack."""
    if value is None:
        return
    found.append(Extra(event, ordinal, column, value, fill=True))
    if column == ARGUMENTS and (to := taker(None, value)):
        found.append(Extra(event, ordinal, TO, to, fill=True))
    if column != EXECUTED:
        found.append(Extra(event, ordinal, f"otel_ir.{column.rpartition('.')[2]}.size", len(value), fill=True))


def taker(tool: str | None, arguments: str | None) -> str | None:
    """Who takes over, by the arguments or the name of a tool that hands over."""
    named = TAKER.fullmatch(tool or "")
    return members(arguments or "").get(_TO_MEMBER) or (named.group(1) if named else None)
