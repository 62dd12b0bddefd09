"""What spans tell before their work runs: that it is a tool call, of which tool, and who makes it.

Tables, measured against real instrumentations: what each knows when it starts a tool span differs, sometimes it is only the name.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from opentelemetry import baggage, context, trace
from opentelemetry.context import Context

from otel_ir.guard.decide import AGENT, CONVERSATION, NAME, TRACE, Pair

SCOPE = "otel_ir.guard"
"""The guard's own scope. Not ``otel_ir``: receivers drop that one, and a refusal is evidence."""

MAX_OPEN = 10_000
MAX_DEPTH = 64
MAX_NAME = 256

SWALLOW = frozenset({
    "openinference.instrumentation.langchain",
    "opentelemetry.instrumentation.genai.langchain",
    "opentelemetry.instrumentation.langchain",
    "openinference.instrumentation.openai_agents",
    "opentelemetry.instrumentation.genai.openai_agents",
    "opentelemetry.instrumentation.openai_agents",
})  # fmt: skip
"""Scopes whose instrumentation catches every Exception that starting a span raises, and lets the tool run. Exact: elsewhere a
BaseException kills MCP sessions, leaks current spans (smolagents) or is tried again hundreds of times (Strands)."""

BARE = frozenset({"openinference.instrumentation.langchain", "langsmith"})
"""Scopes that start a tool span with nothing but the tool's bare name."""

FRAMEWORK = {
    "pydantic-ai": "pydantic_ai",
    "logfire.pydantic_ai": "pydantic_ai",
    **{scope: "openai_agents" if "openai_agents" in scope else "langchain" for scope in SWALLOW},
}
"""Scope -> the framework whose own hook is better than this guard, where it is in use."""

_PREFIXES = ("execute_tool ", "tools/call ", "MCP send tools/call ", "running tool: ")
_KINDS = (("gen_ai.operation.name", "execute_tool"), ("openinference.span.kind", "TOOL"), ("traceloop.span.kind", "tool"))
_TOOL_NAMES = ("gen_ai.tool.name", "tool.name", "traceloop.entity.name")
_AGENT_NAMES = ("gen_ai.agent.name", "agent_name")
_CONVERSATIONS = ("gen_ai.conversation.id", "session.id")
_NAMED_AFTER_AGENT = frozenset({"openinference.instrumentation.openai_agents", "openinference.instrumentation.smolagents"})
"""Scopes whose AGENT spans start with their agent's name as their own, and without the attribute."""
_PLACEHOLDERS = frozenset({"OpenAI Agent"})
"""Names an instrumentation writes where it does not know the agent."""
_UUID = re.compile(r"(?i)(?:^|[_/:-])[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$")
"""No stable id: it names one run or one object in memory."""

Attributes = Mapping[str, Any]


def tool_of(scope: str, name: str, attributes: Attributes) -> str | None:
    """The tool that a span is about to call, or None where it is something else (or cannot be told)."""
    if name.startswith("handoff to "):
        return None
    for key, value in _KINDS:
        if (kind := attributes.get(key)) is not None:
            return _tool_name(scope, name, attributes) if kind == value else None
    if attributes.get("mcp.method.name") == "tools/call" or name.startswith(_PREFIXES) or name == "running tool":
        return _tool_name(scope, name, attributes)
    return name.removesuffix(".tool") if name.endswith(".tool") and scope.startswith("opentelemetry.instrumentation.") else None


def _tool_name(scope: str, name: str, attributes: Attributes) -> str:
    if given := _text(attributes, _TOOL_NAMES):
        return given[:MAX_NAME]
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)[:MAX_NAME]
    return (name.removesuffix(".run") if scope.endswith(".crewai") else name)[:MAX_NAME]


def is_of_agent(name: str, attributes: Attributes) -> bool:
    """A span of an agent, a model or a tool, as opposed to the rest of the application."""
    if name.startswith((*_PREFIXES, "invoke_agent", "agent run", "running tool")) or name.endswith((".tool", ".agent")):
        return True
    return any(key in attributes for key in ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind", "mcp.method.name"))


class Who(NamedTuple):
    """What one span says about its caller; empty where it does not."""

    agent_id: str = ""
    agent_name: str = ""
    conversation: str = ""


def who(scope: str, name: str, attributes: Attributes) -> Who:
    """By the keys that the server reads too, and the names of agent spans, which are there before their attributes."""
    agent = _text(attributes, _AGENT_NAMES)
    if not agent and attributes.get("openinference.span.kind") == "AGENT":
        agent = _text(attributes, ("agent.name", "graph.node.id")) or (name.removesuffix(".run") if scope in _NAMED_AFTER_AGENT else "")
    if not agent and name.startswith("invoke_agent "):
        agent = name.removeprefix("invoke_agent ").strip()
    stable = _text(attributes, ("gen_ai.agent.id",))
    return Who(
        "" if stable and _UUID.search(stable) else stable, "" if agent in _PLACEHOLDERS else agent, _text(attributes, _CONVERSATIONS)
    )


def _text(attributes: Attributes, keys: tuple[str, ...]) -> str:
    for key in keys:
        value = attributes.get(key)
        if value and isinstance(value, str):
            return value
    return ""


def attributes_of(span: Any) -> Attributes:
    """A plain dict: the SDK's own mapping is many times slower to ask for what it does not have."""
    return dict(span.attributes or ())


class OpenSpans:
    """The spans this process has open, at most ``MAX_OPEN`` (the oldest go first), so that a call finds its agent further up."""

    def __init__(self) -> None:
        self._spans: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: Any) -> None:
        with self._lock:
            if len(self._spans) >= MAX_OPEN:
                del self._spans[next(iter(self._spans))]
            self._spans[span.context.span_id] = span

    def remove(self, span: Any) -> None:
        with self._lock:
            self._spans.pop(span.context.span_id, None)

    def line(self, span: Any) -> Iterator[Any]:
        """The span, its parent, and so on, as far as they are open here."""
        for _ in range(MAX_DEPTH):
            if span is None or not hasattr(span, "attributes"):
                return
            yield span
            parent = getattr(span, "parent", None)
            span = self._spans.get(parent.span_id) if parent is not None else None


class Caller(NamedTuple):
    """What a framework's own hook knows about who calls."""

    agent_id: str = ""
    agent_name: str = ""
    conversations: tuple[str, ...] = ()


def identity(
    service: str, default: str, spans: OpenSpans, *, span: Any = None, at: Context | None = None, known: Caller | None = None
) -> tuple[Pair, ...]:
    """The identity of a call: what the framework says, else the nearest open span that says it, else the guard's own agent."""
    known = known or Caller()
    span = trace.get_current_span(at) if span is None else span
    agents = [known.agent_id, known.agent_name]
    conversations = [*known.conversations]
    for one in spans.line(span):
        said = who(_scope(one), one.name, attributes_of(one))
        if not any(agents):
            agents = [said.agent_id, said.agent_name]
        if said.conversation and not any(conversations):
            conversations = [said.conversation]
        if any(agents) and any(conversations):
            break
    # Where spans are nothing but names, the agent is one of those above; a call made for a contained agent is contained too.
    bare: list[str] = []
    if not any(agents):
        bare = [one.name for one in spans.line(span) if one is not span and _scope(one) in BARE]
        agents = ["", "" if bare else default]
    pairs = [(AGENT, f"{service}/{one}") for one in (*agents, *reversed(bare)) if one]
    pairs += [(NAME, agents[1])] if agents[1] else []
    pairs += [(CONVERSATION, one) for one in chain(conversations, _ambient(at)) if one]
    if (trace_id := span.get_span_context().trace_id) != 0:
        pairs.append((TRACE, f"{trace_id:032x}"))
    return tuple(dict.fromkeys(pairs))


def _scope(span: Any) -> str:
    return getattr(getattr(span, "instrumentation_scope", None), "name", "")


def _ambient(at: Context | None) -> Iterator[str]:
    """The conversation that the application put into OpenTelemetry's context (OpenInference's ``using_session``) or baggage."""
    carried = baggage.get_all(at)
    for found in (context.get_value("session.id", at), *(carried.get(key) for key in _CONVERSATIONS if carried)):
        if found and isinstance(found, str):
            yield found
