"""What adapters share with the rest of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from otel_ir.contain.guard_hub import GuardHub


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Given to every adapter that is built. ``clock`` gives Unix nanoseconds."""

    clock: Callable[[], int] = time.time_ns
    hub: GuardHub = field(default_factory=GuardHub)
    """The guards: the one hub of this server."""
    stopped: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    """Processes (id, start) that were stopped, and by which actions: a process runs again when the last one lets go."""
