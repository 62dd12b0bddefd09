"""Who called a tool whose span stands alone: the agent whose model asked for it, or whose own span tells of the call.

The span that tells stands for the parent. One that says nothing of who it is, and has none above it that might, tells nobody; of the others
the first in the journal counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

MAX_PLACED = 20_000
"""Spans of which it is remembered that their place is known, beyond the end of an epoch."""
Place = tuple[str | None, str | None, str | None, str | None]
"""Of a span: tenant, sender, trace, its id."""


class Askers:
    """State: the events whose place is known, and the journal record that told it."""

    def __init__(self) -> None:
        self.placed: dict[str, int] = {}

    def fold(self, met: Iterable[tuple[str, int, dict[str, Any]]], knows: Callable[[list[Place]], list[bool]]) -> dict[str, Place]:
        """(event of a span that stands alone, journal record, message row of its call) -> event: where the one stands who tells.

        ``knows``: whether these spans, or others above them, may say who they are.
        """
        told = [(event, ordinal, _place(row)) for event, ordinal, row in met if event not in self.placed and row["trace_id"]]
        found: dict[str, Place] = {}
        for (event, ordinal, place), known in zip(told, knows([place for *_, place in told]), strict=True):
            if known and event not in found:
                found[event] = place
                self.placed[event] = ordinal
        return found

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``, and the oldest beyond ``MAX_PLACED``."""
        placed = {event: at for event, at in self.placed.items() if at >= first}
        self.placed = {event: placed[event] for event in [*placed][-MAX_PLACED:]}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode(self.placed)

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.placed = msgspec.msgpack.decode(state, type=dict[str, int])


def _place(row: dict[str, Any]) -> Place:
    return row["tenant"], row["sender"], row["trace_id"], row["span_id"]
