"""Quoted text in the reprs of Python objects: what tools and people wrote, which is passed over where their form is looked for.

A quote that is not closed ends with the text, so that each pattern is linear in it.
"""

from __future__ import annotations

import re

QUOTED = r"""'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)"""
"""Alternatives of a pattern with ``re.DOTALL``."""
_QUOTED = re.compile(QUOTED, re.DOTALL)
_WHOLE_CHARACTERS = re.compile(r"(?:[^\\]|\\(?:x..|u.{4}|U.{8}|[^xuU]))*+", re.DOTALL)
_MAX_TEXT, _MAX_QUOTED = 1 << 24, 1 << 14


def shortened(text: str, most: int) -> str:
    """A repr of at most so many characters. Quoted texts that are too long are cut: else one long answer of a tool would hide calls."""
    return _QUOTED.sub(_cut, text[:_MAX_TEXT])[:most]


def _cut(quoted: re.Match[str]) -> str:
    text = quoted.group()
    if len(text) <= _MAX_QUOTED:
        return text
    kept = _WHOLE_CHARACTERS.match(text[:_MAX_QUOTED])
    return (kept.group() if kept else text[0]) + text[0]
