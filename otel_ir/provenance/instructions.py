"""Whether a text reads as if it told an agent what to do: by a table of expressions, all on RE2 (linear). A sign, not a verdict."""

from __future__ import annotations

from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

AROUND = 600
"""Characters before and after a place that belong to the same instruction."""
EXCERPT = 240
"""Characters of the text that are quoted."""
MAX_CHARACTERS = 1024 * 1024
"""Of one text that are looked at."""

SIGNS: dict[str, str] = {
    "overrides earlier instructions": (
        r"(?:ignore|disregard|forget|override|bypass)\s+(?:\w+\s+){0,4}(?:instruction|prompt|rule|guideline|polic|message)"
    ),
    "poses as the system": (
        r"(?:\bsystem|\badmin(?:istrator)?|\bdeveloper)\s*(?:notice|message|prompt|instruction|override|update|note|alert)\b"
        r"|<\|?/?(?:system|im_start|assistant|instructions?|important)\b|\[/?(?:system|inst)\]|^\s*#+\s*(?:system|instruction)"
    ),
    "addresses the assistant": (
        r"\b(?:to|dear|hey|attention|note\s+(?:to|for))\s+(?:the\s+|any\s+|all\s+)?"
        r"(?:ai\b|assistant|agent|language\s+model|llm|chatbot)"
    ),
    "says what it must do": (
        r"\b(?:you|assistant|agent|ai)\s+(?:must|should|shall|need\s+to|have\s+to|are\s+(?:now|required|instructed|authorized))\b"
        r"|\bbefore\s+(?:you\s+(?:do|answer|reply|continue|proceed|solve)|(?:answering|replying|solving))"
    ),
    "asks for secrecy": r"\b(?:do\s+not|don't|never|without)\s+(?:mention|tell|inform|reveal|disclos|notify|ask)",
    "asks for a tool": (
        r"\b(?:run|execute|call|use|invoke)\s+(?:the\s+)?(?:following|tool|function|command|select\b|query|[a-z]+_[a-z_]+)"
        r"|\b(?:send|mail|email|e-mail|forward|post|upload|transfer|wire|pay|exfiltrate)\b[^.\n]{0,120}\bto\b"
    ),
    "claims importance": r"<important>|\bimportant\s*(?:!|:|instruction|message|note)|\burgent\s*[:!]",
}
"""Sign -> expression, without case. From published prompt injections (InjecAgent, AgentDojo) and their templates."""

ENOUGH = 2
"""Different signs near a place that make it instruction-like; one alone is ordinary English."""


class Instruction(NamedTuple):
    """What reads like an instruction: the signs that were found, and the text around it, at most ``EXCERPT`` characters."""

    signs: tuple[str, ...]
    excerpt: str


def _compiled(expression: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(f"(?im){expression}", options)


_SIGNS = {sign: _compiled(expression) for sign, expression in SIGNS.items()}


def find_instruction(text: str, near: int | None = None) -> Instruction | None:
    """The instruction-like text around character ``near`` (``None``: anywhere), or ``None``."""
    start, end = (0, MAX_CHARACTERS) if near is None else (max(0, near - AROUND), near + AROUND)
    part = text[start:end]
    places = {sign: found.start() for sign, expression in _SIGNS.items() if (found := expression.search(part))}
    if len(places) < ENOUGH:
        return None
    # Quoted from the first sign on, but so that the place itself is in it.
    first = min(places.values())
    if near is not None and near - start > first + EXCERPT - 40:
        first = max(0, near - start - EXCERPT // 2)
    return Instruction(tuple(places), part[first : first + EXCERPT])
