"""An agent in a process of its own, without a framework: plain SDK spans, otel_ir.guard, and a test that tells it what to do.

    python guarded_agent.py SERVICE NAME[,NAME] CACHE

One JSON object a line on stdin: ``{"tool": …, "agent": …, "conversation": …, "body": N, "guarded": true}`` is one call of a tool. The
answer on stdout says whether it ran. Endpoint and token come from the standard variables.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import otel_ir.guard
from otel_ir.guard import Refused


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


def main(service: str, names: str, cache: str) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=2), schedule_delay_millis=50))
    tracer = provider.get_tracer("tests.agent")
    guard = otel_ir.guard.install(service=service, provider=provider, cache=Path(cache))
    for name in names.split(","):
        guard.hooked("manual", name)
    say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        agent, conversation, tool = asked["agent"], asked["conversation"], asked["tool"]
        try:
            if asked["guarded"]:
                guard.check(tool, agent=agent, conversation=conversation)
        except Refused as refused:
            say(ran=False, action=refused.action_id, why=str(refused))
            continue
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.agent.name": agent,
            "gen_ai.conversation.id": conversation,
            "gen_ai.tool.call.arguments": json.dumps({"body": "x" * asked["body"]}),
        }
        with tracer.start_as_current_span(f"execute_tool {tool}", attributes=attributes):
            pass
        say(ran=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
