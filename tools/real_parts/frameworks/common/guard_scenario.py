"""One scenario for the guard in every framework: the model asks for two tools in one turn, then says what it got.

``play`` runs it once for the hijacked agent, once for a benign one, and for many of both at the same time in threads; it prints what ran
and what the telemetry says of it as one JSON object. OTEL_IR_GUARD_ENDPOINT says where the server is, and GUARD_EXPECTED how many
restrictions must be in force before it begins (from the server, or from the cache when that is down).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ir.guard

HIJACKED, BENIGN = "hijacked", "benign"
TOOLS = ("look_up", "send_email")
"""What the model asks for in its first turn; the second is revoked for the hijacked agent."""
DONE = "done"
THREADS = 6

logging.basicConfig(stream=sys.stderr)
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
guard = otel_ir.guard.install(provider=provider, agent=os.environ.get("GUARD_AGENT", ""))

Run = Callable[[], str]
Build = Callable[[str, list[Callable[..., str]]], Run]


def tools(ran: list[str]) -> list[Callable[..., str]]:
    """The two tools of an agent; what ran is noted."""

    def look_up(customer: str) -> str:
        """Look up a customer.

        Args:
            customer: Who.

        """
        ran.append("look_up")
        return f"{customer} is a gold customer"

    def send_email(customer: str) -> str:
        """Send an e-mail.

        Args:
            customer: To whom.

        """
        ran.append("send_email")
        return f"sent to {customer}"

    return [look_up, send_email]


def _once(build: Build, agent: str) -> dict[str, Any]:
    ran: list[str] = []
    try:
        ended = build(agent, tools(ran))()
    except (Exception, otel_ir.guard.Stopped) as error:
        ended = f"{type(error).__name__}: {error}"
    return {"agent": agent, "ran": sorted(ran), "ended": ended[-600:]}


def _spans() -> dict[str, Any]:
    told = [span for span in exporter.get_finished_spans() if span.instrumentation_scope.name == "otel_ir.guard"]
    marked = [span for span in exporter.get_finished_spans() if (span.attributes or {}).get("otel_ir.executed") == "rejected"]
    by_id = {span.context.span_id for span in exporter.get_finished_spans()}
    return {
        "refusals": [{"name": span.name, **dict(span.attributes or {})} for span in told],
        "rejected": [span.name for span in marked],
        "below": sum(span.parent is not None and span.parent.span_id in by_id for span in told),
    }


def play(build: Build) -> None:
    """Plays all of it with agents made by ``build(name, tools)``, which gives what runs one of them."""
    expected, deadline = int(os.environ["GUARD_EXPECTED"]), time.monotonic() + 60
    while len(guard.restrictions) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    about = {"in_force": len(guard.restrictions), "self_test": guard.self_test, "before": len(exporter.get_finished_spans())}
    one = {agent: {**_once(build, agent), **_spans()} for agent in (HIJACKED, BENIGN) if not exporter.clear()}
    exporter.clear()
    with ThreadPoolExecutor(THREADS) as pool:
        many = list(pool.map(lambda agent: _once(build, agent), [HIJACKED, BENIGN] * (THREADS // 2)))
    print(json.dumps({**about, "one": one, "many": many, "refused": len(_spans()["refusals"])}))
    guard.close()
