"""A seeded load of whole agent runs as the OpenTelemetry GenAI conventions have them: what an instrumented fleet sends, mixed.

A run is an ``invoke_agent`` span over ``TURNS`` times a ``chat`` span and the ``execute_tool`` span that it asks for, and a last
``chat``. Runs overlap, and spans leave when they end, so the agent's own span comes last, in a later request than its first children.

``own``: every span names the agent and the conversation. ``late``: only the agent's span does. With ``content``, each chat repeats the
whole conversation so far, and no two conversations have a text in common.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TURNS = 4
PER_RUN = 2 * TURNS + 2
AT_ONCE = 200
"""Runs that go on at the same time."""
SERVICES, AGENTS = 20, 100
_SECOND = 1_000_000_000
_WORDS = ("order", "invoice", "address", "customer", "refund", "parcel", "delivery", "account", "ticket", "stock", "price", "total")
_TOOLS = ("search_docs", "get_order", "update_ticket", "send_email")
Attributes = dict[str, str | int]


def agent_runs(
    spans: int, *, identity: str, content: bool, per_request: int, anchor: int, seed: int = 1
) -> tuple[list[bytes], Counter[Any]]:
    """Requests of at least ``spans`` spans around the time ``anchor`` (Unix ns), and how many events of (type, agent's name) they give."""
    chance = random.Random(seed)
    runs = -(-spans // PER_RUN)
    ended = []
    said: Counter[tuple[str, str]] = Counter()
    for run in range(runs):
        agent = f"support-agent-{run % AGENTS:03d}"
        said.update({("agent_invocation", agent): 1, ("model_output", agent): TURNS + 1, ("tool_call", agent): TURNS})
        begin = anchor + run * PER_RUN * _SECOND // AT_ONCE
        ended += [(end, run, *one) for end, *one in _run(chance, run, agent, begin, own=identity == "own", content=content)]
    ended.sort(key=lambda one: one[:2])
    return [_request(ended[at : at + per_request]) for at in range(0, len(ended), per_request)], said


def _run(chance: random.Random, run: int, agent: str, begin: int, *, own: bool, content: bool) -> Iterator[tuple[Any, ...]]:
    """(end, trace, span, parent, name, attributes) of the spans of a run, in the order in which they end."""
    trace, root = chance.randbytes(16), chance.randbytes(8)
    who: Attributes = {"gen_ai.agent.name": agent, "gen_ai.conversation.id": f"conversation-{run}"}
    base: Attributes = dict(who) if own else {}
    history = [_message("user", {"type": "text", "content": _prose(chance, 30)})]
    at = begin
    for turn in range(TURNS + 1):
        at += chance.randrange(_SECOND, 2 * _SECOND)
        call_id, tool = f"call_{chance.randbytes(12).hex()}", chance.choice(_TOOLS)
        arguments = json.dumps({"query": _prose(chance, 8), "customer": chance.randrange(10**6)})
        call = {"type": "tool_call", "id": call_id, "name": tool, "arguments": json.loads(arguments)}
        answer = _message("assistant", {"type": "text", "content": _prose(chance, 20)} if turn == TURNS else call)
        chat = base | _chat(chance)
        if content:
            chat |= {"gen_ai.input.messages": json.dumps(history), "gen_ai.output.messages": json.dumps([answer])}
        yield at, trace, chance.randbytes(8), root, "chat gpt-5-mini", chat
        if turn == TURNS:
            break
        at += chance.randrange(_SECOND // 10, _SECOND)
        result = _prose(chance, 25)
        history += [answer, _message("tool", {"type": "tool_call_response", "id": call_id, "response": result})]
        call_span: Attributes = base | {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.id": call_id}
        if content:
            call_span |= {"gen_ai.tool.call.arguments": arguments, "gen_ai.tool.call.result": result}
        yield at, trace, chance.randbytes(8), root, f"execute_tool {tool}", call_span
    yield at + _SECOND // 100, trace, root, b"", f"invoke_agent {agent}", {"gen_ai.operation.name": "invoke_agent", **who}


def _chat(chance: random.Random) -> Attributes:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.model": "gpt-5-mini-2026-01-01",
        "gen_ai.response.id": f"resp_{chance.randbytes(12).hex()}",
        "gen_ai.usage.input_tokens": chance.randrange(200, 9000),
        "gen_ai.usage.output_tokens": chance.randrange(10, 900),
    }


def _message(role: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": [part]}


def _prose(chance: random.Random, words: int) -> str:
    return f"{chance.randrange(10**9)} " + " ".join(chance.choices(_WORDS, k=words))


def _request(ended: list[tuple[Any, ...]]) -> bytes:
    """One resource for each service, as a Collector's batch has it."""
    request = ExportTraceServiceRequest()
    scopes: dict[int, Any] = {}
    for end, run, trace, span_id, parent, name, attributes in ended:
        service = run % AGENTS % SERVICES
        if service not in scopes:
            resource = request.resource_spans.add()
            _put(resource.resource.attributes, {"service.name": f"support-desk-{service:02d}", "telemetry.sdk.language": "python"})
            scopes[service] = resource.scope_spans.add()
            scopes[service].scope.name = "opentelemetry.util.genai"
        span = scopes[service].spans.add(trace_id=trace, span_id=span_id, parent_span_id=parent, name=name)
        span.start_time_unix_nano, span.end_time_unix_nano = end - _SECOND, end
        _put(span.attributes, attributes)
    return request.SerializeToString()


def _put(target: Any, attributes: Attributes) -> None:
    for key, value in attributes.items():
        attribute = target.add(key=key)
        if isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = value
