"""A seeded load of GenAI spans of which it is known beforehand which alerts it raises.

A fleet of agents works for ten minutes, each about ten tool calls a minute, as ``execute_tool`` spans of the OpenTelemetry GenAI
semantic conventions. Six agents of every ``FLOCK`` misbehave once, each in one way (``Mischief``). Spans leave the services like those
of a BatchSpanProcessor, every 5 s, and are cut into requests of ``PER_REQUEST`` spans, ``SPAN_BYTES`` bytes each on average.

``own``: every tool span says who called. ``late``: tool spans do not; the ``invoke_agent`` span that does ends after its ten spans,
up to a minute later, in a later request.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPAN_BYTES = 674
"""Bytes of a span on the wire, everything included: the measure of DESIGN section 12."""
PER_REQUEST = 512
PER_AGENT = 100
PER_RUN = 10
FLOCK = 200
"""Agents among which each kind of mischief occurs once."""
MINUTE = 60_000_000_000
SECOND = 1_000_000_000
PAST, FUTURE = 8 * MINUTE, 2 * MINUTE
"""The ten minutes lie around the moment of sending: inside the lateness (10 minutes) and the clock skew (5 minutes) that count as exact,
with room for a slow machine.
"""
EXPORT_EVERY = 5 * SECOND
"""Default schedule delay of a BatchSpanProcessor (OpenTelemetry SDK)."""

Identity = Literal["own", "late"]


class Mischief(IntEnum):
    """What an agent does, by its number modulo ``FLOCK``."""

    BURST = 7
    SECRET = 41
    QUERY = 83
    FILE = 109
    EXFILTRATION = 151
    ERRORS = 193


RULES = {
    Mischief.BURST: ("3bb89e60-8b8e-450e-b3cc-2f2f474cefc7", "tool_call_burst"),
    Mischief.SECRET: ("20638931-ff51-4a23-87ed-601ff5491569", "suspicious_tool_sequence"),
    Mischief.QUERY: ("fd574c64-d1de-4b93-8bba-629fc77c7e79", "suspicious_tool_sequence"),
    Mischief.FILE: ("5ff36177-a361-4591-bac1-4c3b85754916", "suspicious_tool_sequence"),
    Mischief.EXFILTRATION: ("c55c682c-8de2-433c-9b6c-e23d56c841b9", "data_exfiltration"),
    Mischief.ERRORS: ("dd736fec-9315-4a15-b52d-2717edac2c56", "error_spike"),
}
"""The rule of rules/classic that each must raise: (id, signal)."""

_SEQUENCES = {
    Mischief.SECRET: ("read_secret", "http_request"),
    Mischief.QUERY: ("database_query", "send_email"),
    Mischief.FILE: ("file_read", "http_request"),
}
_HARMLESS = ("search_docs", "read_ticket", "update_ticket", "get_order", "list_orders", "calculator", "translate", "get_weather")
_OUTWARD = (*_HARMLESS, "http_request", "send_email")
_INWARD = (*_HARMLESS, "read_secret", "database_query", "file_read")
_ARGUMENTS = {
    "http_request": '{{"method":"POST","url":"https://api.example.com/v2/orders/{n}","body":"{text}"}}',
    "send_email": '{{"to":"customer-{n}@example.com","subject":"Your order {n}","body":"{text}"}}',
    "database_query": '{{"sql":"SELECT id, state, total FROM orders WHERE customer = {n} AND state = \'open\'","limit":50}}',
    "file_read": '{{"path":"/srv/reports/2026/{n}.md","encoding":"utf-8"}}',
    "read_secret": '{{"name":"billing/api-token-{n}"}}',
}
_OTHER_ARGUMENTS = '{{"query":"{text}","customer":{n},"page":1}}'
_PROSE = (
    "The order was shipped on Monday and should arrive within three working days; the customer asked for a different address, "
    "which was confirmed by phone. Invoice and delivery note were sent by mail. No further action is needed at the moment. "
) * 60
_EXFILTRATED = 10_001
"""Characters; the rule says more than 10,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Serialized ``ExportTraceServiceRequest``s in sending order, and what they must lead to (``alerts``: rule id -> number)."""

    identity: Identity
    requests: list[bytes]
    spans: int
    agents: int
    alerts: dict[str, int]


@dataclass(slots=True)
class _Call:
    """A span to be: of agent ``agent``; ``tool`` None is the agent's own span. Times in ns."""

    agent: int
    trace_id: bytes
    span_id: bytes
    run_id: bytes
    end: int
    tool: str | None
    failed: bool = False
    body: int = 0
    followed_by: list[_Call] = field(default_factory=list)
    """Calls that must stand right after it, in the same request: requests in flight together are journaled in any order."""


def generate(spans: int, *, anchor: int, identity: Identity = "own", seed: int = 1) -> Load:
    """``spans`` (a multiple of ``PER_AGENT``) around the time ``anchor`` (Unix ns, the moment of sending). Same arguments, same bytes.

    Raises ``ValueError`` when ``spans`` is no multiple of ``PER_AGENT``.
    """
    agents, rest = divmod(spans, PER_AGENT)
    if rest or not agents:
        raise ValueError(f"{spans} spans: give a multiple of {PER_AGENT}, which is what one agent sends")
    chance = random.Random(seed)
    services = max(1, agents // 100)
    calls = [call for agent in range(agents) for call in _agent(chance, agent, anchor - PAST, identity)]
    # A service exports what has ended every five seconds, services one after the other.
    calls.sort(key=lambda call: (_exported(call, services), call.end))
    alerts = {rule: len(range(mischief, agents, FLOCK)) for mischief, (rule, _) in RULES.items()}
    requests = [_encode(chance, batch, services, identity) for batch in _batches(calls)]
    return Load(identity=identity, requests=requests, spans=spans, agents=agents, alerts={r: n for r, n in alerts.items() if n})


def _exported(call: _Call, services: int) -> int:
    offset = call.agent % services * EXPORT_EVERY // services
    return (call.end - offset) // EXPORT_EVERY * EXPORT_EVERY + offset


def _agent(chance: random.Random, agent: int, begin: int, identity: Identity) -> Iterator[_Call]:
    """The spans of one agent: ten runs, one a minute, ten spans each."""
    mischief = next((one for one in Mischief if agent % FLOCK == one), None)
    tools = _HARMLESS if mischief is not None else _INWARD if agent % 2 else _OUTWARD
    # Not all at the same time.
    turn, own_error = agent // FLOCK, chance.randrange(80)
    for run in range(PER_AGENT // PER_RUN):
        # A burst: four runs at the same time, in half a minute.
        hurried = mischief is Mischief.BURST and turn % 6 <= run < turn % 6 + 4
        start, step = begin + (turn % 6 if hurried else run) * MINUTE, 3 * SECOND if hurried else 6 * SECOND
        trace_id, run_id = chance.randbytes(16), chance.randbytes(8)
        calls = [
            _Call(agent, trace_id, chance.randbytes(8), run_id, start + place * step + chance.randrange(step // 2), chance.choice(tools))
            for place in range(PER_RUN - (identity == "late"))
        ]
        for place, call in enumerate(calls):
            number = run * len(calls) + place
            call.failed = 0 <= number - turn % 6 * PER_RUN < 25 if mischief is Mischief.ERRORS else number == own_error
        if run == turn % 10 and mischief is not None:
            _misbehave(mischief, calls)
        yield from calls
        if identity == "late":
            yield _Call(agent, trace_id, run_id, b"", calls[-1].end + SECOND, None)


def _misbehave(mischief: Mischief, calls: list[_Call]) -> None:
    """What happens within one run."""
    if mischief is Mischief.EXFILTRATION:
        calls[2].tool, calls[2].body = "http_request", _EXFILTRATED
    if mischief in _SEQUENCES:
        calls[3].tool, calls[4].tool = _SEQUENCES[mischief]
        calls[4].end = calls[3].end + SECOND
        calls[3].followed_by.append(calls.pop(4))


def _batches(calls: Iterable[_Call]) -> Iterator[list[_Call]]:
    """Requests of ``PER_REQUEST`` spans; calls that belong together stay so."""
    rest = deque(calls)
    while rest:
        batch: list[_Call] = []
        put_off: list[_Call] = []
        while rest and len(batch) < PER_REQUEST:
            call = rest.popleft()
            group = [call, *call.followed_by]
            if len(batch) + len(group) <= PER_REQUEST:
                batch += group
            else:
                put_off.append(call)
        rest.extendleft(reversed(put_off))
        yield batch


def _encode(chance: random.Random, calls: list[_Call], services: int, identity: Identity) -> bytes:
    """One request: a resource for each service, of exactly ``SPAN_BYTES`` a span."""
    request = ExportTraceServiceRequest()
    scopes: dict[int, Any] = {}
    fillers: list[Any] = []
    for call in calls:
        service = call.agent % services
        if service not in scopes:
            scopes[service] = _scope(request, service)
        fillers.append(_span(chance, scopes[service].spans.add(), call, identity))
    _fill(chance, request, fillers, SPAN_BYTES * len(calls))
    return request.SerializeToString()


def _scope(request: ExportTraceServiceRequest, service: int) -> Any:
    resource = request.resource_spans.add()
    _put(resource.resource.attributes, "service.name", f"support-desk-{service:04d}")
    _put(resource.resource.attributes, "service.instance.id", f"pod-{service:04d}-7d9c6b5f48-x2x9q")
    _put(resource.resource.attributes, "telemetry.sdk.language", "python")
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "opentelemetry.util.genai", "0.3b0"
    return scope


def _put(attributes: Any, key: str, text: str) -> Any:
    attribute = attributes.add()
    attribute.key = key
    attribute.value.string_value = text
    return attribute.value


def _span(chance: random.Random, span: Any, call: _Call, identity: Identity) -> Any:
    """Fills in a span; -> the value whose text may be lengthened."""
    span.trace_id, span.span_id = call.trace_id, call.span_id
    if call.run_id:
        span.parent_span_id = call.run_id
    span.end_time_unix_nano = call.end
    put = span.attributes
    if call.tool is None or identity == "own":
        _put(put, "gen_ai.agent.name", f"support-agent-{call.agent:06d}")
        _put(put, "gen_ai.conversation.id", f"conversation-{(call.run_id or call.span_id).hex()}")
    if call.tool is None:
        span.name, span.kind, span.start_time_unix_nano = f"invoke_agent support-agent-{call.agent:06d}", 3, call.end - MINUTE
        _put(put, "gen_ai.operation.name", "invoke_agent")
        _put(put, "gen_ai.provider.name", "openai")
        _put(put, "gen_ai.request.model", "gpt-5-mini")
        return _put(put, "gen_ai.system_instructions", '[{"type":"text","content":"You answer customers. ')
    span.name, span.kind, span.start_time_unix_nano = f"execute_tool {call.tool}", 1, call.end - chance.randrange(20, 1500) * 1_000_000
    _put(put, "gen_ai.operation.name", "execute_tool")
    _put(put, "gen_ai.tool.name", call.tool)
    _put(put, "gen_ai.tool.type", "function")
    _put(put, "gen_ai.tool.call.id", f"call_{call.span_id.hex()}{call.run_id.hex()[:8]}")
    number = chance.randrange(100_000, 1_000_000)
    text = _PROSE[:_EXFILTRATED] if call.body else _prose(chance, 40)
    _put(put, "gen_ai.tool.call.arguments", _ARGUMENTS.get(call.tool, _OTHER_ARGUMENTS).format(n=number, text=text))
    if call.failed:
        span.status.code, span.status.message = 2, f"upstream answered 503 for {number}"
        _put(put, "error.type", "TimeoutError")
    return _put(put, "gen_ai.tool.call.result", "no answer: " if call.failed else f"order {number}: ")


def _prose(chance: random.Random, length: int) -> str:
    start = chance.randrange(8_000)
    return _PROSE[start : start + length]


def _fill(chance: random.Random, request: ExportTraceServiceRequest, fillers: list[Any], size: int) -> None:
    """Lengthens texts, all by about the same number of characters, until the request has exactly ``size`` bytes.

    A longer text may take another byte for its length, at each level around it; so it goes on until the rest is right, each time with
    other texts. Raises ``ValueError`` when the request is too large to begin with.
    """
    missing = size - request.ByteSize()
    if missing < 0:
        raise ValueError(f"a request of {len(fillers)} spans has {-missing} bytes more than {size}")
    turn = 0
    while missing:
        share, rest = divmod(missing, len(fillers)) if missing > 0 else (0, 0)
        for place, value in enumerate(fillers):
            if more := share + ((place - turn) % len(fillers) < rest):
                value.string_value += _prose(chance, more)
        if missing < 0:
            value = fillers[turn % len(fillers)]
            value.string_value = value.string_value[:missing]
        missing, turn = size - request.ByteSize(), turn + 1
