"""Text from outside as people may look at it: every character that could act, hide or turn the line around is shown, not obeyed."""

from __future__ import annotations

import re
import unicodedata

MAX_SHOWN = 2_000
"""Characters of one text; what is longer was bounded long before."""
_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are shown as escapes: controls, formats (also changes of direction), surrogates, unassigned, separators."""
_RUNS = re.compile("`+")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&!])")


def visible(text: str, limit: int = MAX_SHOWN) -> str:
    r"""One line that shows what is there: ``\n`` for a line break, ``\u202e`` for a change of direction."""
    cut = text[:limit]
    if cut.isascii() and cut.isprintable():
        shown = cut
    else:
        shown = "".join(_escape(char) if unicodedata.category(char) in _ACTING else char for char in cut)
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def code_span(text: str, *, cell: bool = False) -> str:
    """Text from outside in Markdown: a code span, in which nothing means anything. In a table's ``cell`` a bar would still end it."""
    shown = visible(text).strip(" ") or "(empty)"
    if cell:
        shown = shown.replace("|", "\\u007c")
    fence = "`" * (max((len(run) for run in _RUNS.findall(shown)), default=0) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def markdown_text(text: str) -> str:
    """Our own words in Markdown: what would mean something is escaped."""
    return _SPECIAL.sub(r"\\\1", text)


def _escape(char: str) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    return known or (f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}")
