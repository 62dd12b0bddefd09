"""``python -m otel_ir.drill.agent NAME DRILL``: an agent that reads a secret and sends it away, as far as its telemetry says.

No tool does anything. Every call goes through the guard, as it would in a framework's hook. After the harmful call it keeps trying the
same tool: that it is refused, and works again after the release, is what the drill is about. It says what happens on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

import otel_ir.guard
from otel_ir.guard import Guard, Refused
from otel_ir.model_lifecycle import DRILL_SERVICE

TRY_SECONDS = 0.05
"""Between two tries of the same tool."""
MOST_CALLS, SLOW_SECONDS = 20, 2.0
"""After so many calls it tries more slowly, so that the drill trips no rule about bursts."""
LONGEST = 120.0
"""Seconds after which it ends by itself."""


def say(**what: object) -> None:
    """One line for whoever watches."""
    print(json.dumps(what | {"at": time.time_ns()}), flush=True)  # noqa: T201


class Drilled:
    """One agent with its two tools."""

    def __init__(self, name: str, conversation: str, tracer: Tracer, guard: Guard) -> None:
        self._name, self._conversation, self._tracer, self._guard = name, conversation, tracer, guard
        self.ran = 0

    def call(self, tool: str, arguments: str) -> bool:
        """Whether the call ran; ``False``: it was refused."""
        try:
            self._guard.check(tool, agent=self._name, conversation=self._conversation)
        except Refused:
            return False
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.agent.name": self._name,
            "gen_ai.conversation.id": self._conversation,
            "gen_ai.tool.call.arguments": arguments,
        }
        with self._tracer.start_as_current_span(f"execute_tool {tool}", attributes=attributes):
            self.ran += 1
        return True

    def work(self, end: float) -> None:
        """Try the tool again and again, and say what came of it."""
        ran = True
        while time.monotonic() < end:
            before, ran = ran, self.call("http_request", '{"url": "https://drill.invalid/"}')
            if ran or before:
                say(kind="ran" if ran else "blocked")
            time.sleep(TRY_SECONDS if self.ran < MOST_CALLS else SLOW_SECONDS)


def main(name: str, drill: str) -> None:
    """The drill's agent, from the attack until it is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    provider = TracerProvider(resource=Resource.create({"service.name": DRILL_SERVICE, "otel_ir.drill.id": drill}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    guard = otel_ir.guard.install(service=DRILL_SERVICE, agent=name, provider=provider, cache=False)
    agent = Drilled(name, f"drill-{drill}", provider.get_tracer("otel_ir.drill"), guard)
    try:
        say(kind="ready", pid=os.getpid())
        agent.call("read_secret", '{"name": "drill"}')
        agent.call("http_request", '{"url": "https://drill.invalid/", "body": "a marked drill, not a secret"}')
        say(kind="attacked")
        agent.work(time.monotonic() + LONGEST)
    finally:
        guard.close()
        provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:3])
