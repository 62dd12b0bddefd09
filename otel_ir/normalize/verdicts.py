"""A guardrail's verdict may stand on the span above it (``tripped``), which comes before or after the guardrail's own."""

from __future__ import annotations

from typing import Any

from otel_ir.normalize.aging import forget, oldest, renew
from otel_ir.normalize.calls import Extra

_TRIGGERED = "otel_ir.guardrail.triggered"


class Verdicts:
    """State, by the key of the span above: ``guards``: events without a verdict, and ``known``: verdicts; both with journal record."""

    def __init__(self) -> None:
        self.guards: dict[str, list[tuple[str, int]]] = {}
        self.known: dict[str, tuple[bool, int]] = {}

    def guardrail(self, event: dict[str, Any], found: list[Extra]) -> None:
        """A guardrail event; a row of ``join_rows``."""
        key = event["parent_key"]
        if event["triggered"] is not None or key is None:
            return
        if key in self.known:
            found.append(Extra(event["id"], event["ordinal"], _TRIGGERED, self.known[key][0]))
        else:
            self.guards.setdefault(key, []).append((event["id"], event["ordinal"]))

    def judge(self, key: str, ordinal: int, found: list[Extra], *, tripped: bool) -> None:
        """A span that says how the guardrails below it decided."""
        self.known.setdefault(key, (tripped, ordinal))
        found += [Extra(event, ordinal, _TRIGGERED, tripped) for event, _ in self.guards.pop(key, [])]

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``."""
        forget(self.known, oldest(self.known, lambda verdict: verdict[1] < first))
        renew(self.guards, lambda guard: guard[1] >= first)
