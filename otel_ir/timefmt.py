"""Unix nanoseconds as RFC 3339, and back: one spelling everywhere a person or a file reads a time."""

from __future__ import annotations

from datetime import UTC, datetime

_SECOND = 1_000_000_000


def rfc3339(nanos: int) -> str:
    """``1767225600000000001`` -> ``2026-01-01T00:00:00.000000001Z`` (nine decimals, UTC)."""
    seconds, rest = divmod(nanos, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_rfc3339(text: str) -> int:
    """The inverse of ``rfc3339``; fewer decimals and UTC offsets are understood too. Raises ``ValueError``."""
    head, dot, tail = text.strip().partition(".")
    if not dot:
        return int(datetime.fromisoformat(head).timestamp()) * _SECOND
    digits = tail.rstrip("Zz").split("+")[0].split("-")[0]
    zone = tail[len(digits) :] or "Z"
    return int(datetime.fromisoformat(head + zone).timestamp()) * _SECOND + int(digits[:9].ljust(9, "0"))
