"""Long arguments in brief: enough to tell whether two descriptions are of one call, in a bounded text. Short ones stay as they are.

What is kept of a long value is its head, its length and its digest; of a long JSON object that of each member, so that what two objects
both have is compared like the whole. Two texts that are the same have the same brief form, which is its
own.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import islice

import msgspec

from otel_ir.normalize.columns import SCRUBBED
from otel_ir.normalize.json_text import raw_text, raws

MAX_WHOLE = 4096
"""Characters of arguments that are kept as they are."""
MAX_VALUE, HEAD = 320, 256
"""Characters of a value, or an id, that are kept as they are; and those that are kept of a longer one."""
MAX_MEMBERS = 64
_MARKED = re.compile(r"\x1f(\d{1,12})\x1f[0-9a-f]{16}\Z")


def brief(text: str) -> str:
    """Arguments in one spelling -> at most ``MAX_MEMBERS`` values of ``MAX_VALUE`` characters."""
    if len(text) <= MAX_WHOLE:
        return text
    named = raws(text)
    if not named:
        return short(text)
    kept: dict[str, str | None] = {}
    more = len(named) > MAX_MEMBERS
    for name, raw in islice(named.items(), MAX_MEMBERS - more):
        value = raw_text(bytes(raw))
        # A single argument may be given without its name, and then is all there is.
        kept[short(name)] = value and (brief(value) if len(named) == 1 and value.startswith("{") else short(value))
    if more:
        kept[f"\x1fmore {_digest(text)}"] = None
    return msgspec.json.encode(kept, order="sorted").decode()


def short(text: str) -> str:
    """A value, or what is cut from it and marks it; a text that hides something says so still."""
    if len(text) <= MAX_VALUE:
        return text
    hidden = next((mark for mark in SCRUBBED if mark in text), "")
    return f"{text[:HEAD]}{hidden}\x1f{len(text)}\x1f{_digest(text)}"


def same(one: str, other: str) -> bool:
    """Whether two values are the same, of which either may be short."""
    return one == other or (head(one)[1] == head(other)[1] and short(one) == short(other))


def head(value: str) -> tuple[str, int]:
    """What is there of a value, and how long it was."""
    marked = _MARKED.search(value, HEAD) if HEAD < len(value) <= MAX_VALUE else None
    return (value[:HEAD], int(marked.group(1))) if marked else (value, len(value))


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
