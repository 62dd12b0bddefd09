"""The guard in an agent's process: a contained tool call is stopped before it runs.

Two lines for an agent developer::

    guard = otel_ir.guard.install(endpoint="http://127.0.0.1:4318")
    guard.pydantic_ai(agent)          # or langchain(), openai_agents(agent), otel() for everything else

It needs the standard library and OpenTelemetry, nothing of the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from otel_ir.errors import Refused
from otel_ir.guard.decide import Call, Hold, Refusal, Stopped
from otel_ir.guard.guard import Guard
from otel_ir.guard.restriction import Restriction
from otel_ir.guard.settings import Fail, resolve

__all__ = ["Call", "Guard", "Hold", "Refusal", "Refused", "Restriction", "Stopped", "install"]


def install(
    *,
    service: str | None = None,
    agent: str = "",
    endpoint: str | None = None,
    token: str | None = None,
    fail: Fail = "open",
    stale_after: float = 60.0,
    pause_seconds: float = 60.0,
    cache: str | Path | bool | None = None,
    self_test: bool = True,
    provider: Any = None,
) -> Guard:
    """A guard that is at work. Raises ``ConfigError`` for settings that cannot be used; later it raises nothing but refusals.

    ``service``: as in the telemetry (default: the provider's resource, OTEL_SERVICE_NAME). ``agent``: who calls where no framework and no
    span says it. ``endpoint``: the OTLP/HTTP address of otel_ir (OTEL_IR_GUARD_ENDPOINT); without one there is no server. ``token``:
    OTEL_IR_GUARD_TOKEN, or the authorization header of OTEL_EXPORTER_OTLP_HEADERS. ``fail``: ``open`` lets calls run while nothing is
    known, ``closed`` refuses them, also after ``stale_after`` seconds without the server. ``pause_seconds``: how long a call of a paused
    agent waits before it is refused. ``cache``: a folder (OTEL_IR_GUARD_CACHE, ~/.cache/otel_ir/guard), or False. ``provider``: the
    TracerProvider that refusals are written to (default: the global one).
    """
    settings = resolve(
        service=service, agent=agent, endpoint=endpoint, token=token, fail=fail, stale_after=stale_after,
        pause_seconds=pause_seconds, cache=cache, self_test=self_test, provider=provider,
    )  # fmt: skip
    guard = Guard(settings, provider=provider)
    guard.start()
    return guard
