"""Times for people: UTC to the millisecond, offsets, durations."""

from __future__ import annotations

from otel_ir.timefmt import rfc3339

_MS = 1_000_000


def moment(nanos: int | None) -> str:
    """``2026-11-26 20:51:36.678`` (UTC); a dash for none."""
    return rfc3339(nanos)[:23].replace("T", " ") if nanos else "-"


def span(nanos: int | None) -> str:
    """``0.31 s``, ``4 min 10 s``, ``2 h 05 min``, ``3 d 4 h``; a dash for none. Negative where clocks differ."""
    if nanos is None:
        return "-"
    sign, size = ("-" if nanos < 0 else ""), abs(nanos)
    if size < 60_000 * _MS:
        return f"{sign}{size / 1e9:.2f} s"
    seconds = round(size / 1e9)
    if seconds < 3_600:
        return f"{sign}{seconds // 60} min {seconds % 60:02} s"
    if seconds < 86_400:
        return f"{sign}{seconds // 3_600} h {seconds % 3_600 // 60:02} min"
    return f"{sign}{seconds // 86_400} d {seconds % 86_400 // 3_600} h"
