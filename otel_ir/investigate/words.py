"""How an investigation says things: calls, texts, values, times. Long texts are not repeated, secrets are masked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from otel_ir.investigate.model import Edge, Outside, Part, Statement, say
from otel_ir.investigate.sources import KINDS
from otel_ir.provenance import leaves, mask_secrets
from otel_ir.provenance.values import KIND_WORDS

SHOWN = 80
"""Characters shown of an argument; of a longer one its size and digest: it may be the very data that was stolen."""
MAX_ARGUMENTS = 6

Row = Mapping[str, Any]


def short(text: str, limit: int = SHOWN) -> Outside:
    """A text from outside, masked and bounded."""
    masked = mask_secrets(text[: 4 * limit])
    return Outside(masked if len(masked) <= limit else masked[: limit - 1] + "…")


def sized(text: str, size: int | None = None) -> Outside:
    """A text from outside, whole if it is short, else what it was."""
    length = max(len(text), size or 0)
    if length <= SHOWN:
        return short(text)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return Outside(f"({length:,} characters, sha256 {digest}…)")


def call(row: Row) -> tuple[Part, ...]:
    """``tool(name=value, …)``."""
    parts: list[Part] = [short(row["gen_ai.tool.name"] or "a tool"), "("]
    arguments = row.get("gen_ai.tool.call.arguments")
    found = leaves(arguments).found if arguments else ()
    for place, leaf in enumerate(found[:MAX_ARGUMENTS]):
        parts += [", "] if place else []
        parts += [short(leaf.path, 40), "="] if leaf.path else []
        parts.append(sized(leaf.text))
    if len(found) > MAX_ARGUMENTS:
        parts.append(", …")
    if not arguments and "absent" in (row.get("otel_ir.content") or ""):
        parts.append("arguments not in the telemetry")
    return (*parts, ")")


def source(edge: Edge) -> tuple[Part, ...]:
    """What the text was: ``the result of read_ticket``."""
    found = edge.source
    if found.kind in ("tool_result", "retrieval") and found.tool:
        return ("the result of ", short(found.tool))
    return (KINDS.get(found.kind, "a text"),)


def capital(first: Part, *rest: Part) -> tuple[Part, ...]:
    """The beginning of a sentence; a value stays as it is."""
    return (first[:1].upper() + first[1:] if isinstance(first, str) else first, *rest)


def value(edge: Edge) -> tuple[Part, ...]:
    """What went along: ``the address audit@collector.example``."""
    word = KIND_WORDS.get(edge.value.kind, "")
    if not edge.value.text:
        return ("its whole text",)
    shown = Outside(f"(secret, {edge.value.fingerprint[:8]})") if edge.value.kind == "secret" else short(edge.shown)
    return (f"{word} " if word else "", shown)


def argument(edge: Edge) -> tuple[Part, ...]:
    """Where it went: ``the argument to of send_email``."""
    name: tuple[Part, ...] = ("the argument ", short(edge.argument, 40), " of ") if edge.argument else ("the argument of ",)
    return (*name, short(edge.tool or "a tool"))


def flow(edge: Edge) -> Statement:
    """One edge as a sentence."""
    spans = (edge.source.span_id, edge.span_id)
    if edge.role == "carry":
        size = f" ({edge.size:,} characters)"
        if edge.share is None:
            return say("The text of ", *source(edge), " stands whole in ", *argument(edge), size, ".", spans=spans)
        shared = f"{edge.share[0]:,} of the {edge.share[1]:,} values"
        return say(f"{shared} in ", *argument(edge), size, " stand in ", *source(edge), ".", spans=spans)
    where = {"same_agent": " (in another conversation of this agent)", "elsewhere": " (of another agent)"}.get(edge.place, "")
    order = f", in text that reads like instructions ({', '.join(edge.signs)})" if edge.signs else ""
    return say(*capital(*source(edge)), where, " held ", *value(edge), order, "; it became ", *argument(edge), ".", spans=spans)
