"""The guard for everything that starts tool spans through the OpenTelemetry SDK, whatever framework it is.

Two parts. The sampler stands outermost and makes sure that agents' spans are recorded (not: exported) even where their trace is not
sampled, since the SDK calls no processor otherwise: an inbound ``traceparent`` with flags 00 would switch the guard off. The processor
decides when a tool span starts, leaves the evidence on it, ends it, and raises: the framework's tool is never reached.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_ir.errors import ConfigError
from otel_ir.guard import evidence
from otel_ir.guard.decide import Refusal, Stopped
from otel_ir.guard.restriction import CANARY, Restriction
from otel_ir.guard.spans import BARE, FRAMEWORK, SCOPE, SWALLOW, Caller, attributes_of, is_of_agent, tool_of, who

if TYPE_CHECKING:
    from otel_ir.guard.guard import Guard

_NONCE = "otel_ir.guard.nonce"
MAX_LEARNED = 1000
_log = logging.getLogger("otel_ir.guard")


class GuardSampler(Sampler):
    """Outermost sampler: what ``inner`` decides, but agents' spans are always recorded, and refusals always exported."""

    def __init__(self, guard: Guard, inner: Sampler) -> None:
        self._guard, self._inner = guard, inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Never less than ``inner``, but for the guard's own self-test, which nobody is to see."""
        result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        given = attributes or {}
        if _NONCE in given:
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        if result.decision is Decision.RECORD_AND_SAMPLE:
            return result
        if given.get(evidence.MARK) == SCOPE:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, result.trace_state)
        # While something is forbidden every span is looked at: some instrumentations start a tool's span with a bare name.
        if result.decision is Decision.DROP and (not self._guard.idle or is_of_agent(name, given)):
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """As the SDK prints samplers."""
        return f"otel_ir.guard{{{self._inner.get_description()}}}"


class GuardProcessor(SpanProcessor):
    """Knows which spans are open, and stops refused tool calls as their span starts."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._learned: set[str] = set()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Raises ``Refused`` (or ``Stopped``) when the span is that of a tool call which must not run."""
        scope = getattr(span.instrumentation_scope, "name", "")
        if scope == SCOPE:
            return
        self._guard.spans.add(span)
        if self._guard.idle:
            return
        attributes = attributes_of(span)
        tool = tool_of(scope, span.name, attributes) or self._bare(scope, span.name)
        if tool is None or self._has_hook(scope, span):
            return
        known = None
        if (nonce := attributes.get(_NONCE)) is not None:
            known = Caller(conversations=(str(nonce),))
        if refusal := self._guard.stop(tool, known, span=span, at=parent_context):
            self._end(span, scope, tool, refusal)
            raise Stopped(refusal.message) if scope in SWALLOW else self._guard.exception(refusal)

    def _bare(self, scope: str, name: str) -> str | None:
        """The tool where a span starts with nothing but a name: one that is forbidden by name, or ran as a tool before."""
        return name if scope in BARE and (name in self._guard.named or name in self._learned) else None

    def _has_hook(self, scope: str, span: Span) -> bool:
        if self._guard.passed:
            return True
        framework = FRAMEWORK.get(scope)
        if framework is None or not self._guard.hooks(framework, ""):
            return False
        names = (who(scope, one.name, attributes_of(one)).agent_name for one in self._guard.spans.line(span))
        return self._guard.hooks(framework, next(filter(None, names), ""))

    @staticmethod
    def _end(span: Span, scope: str, tool: str, refusal: Refusal) -> None:
        # A raise leaves the span unended, so it would never be exported; and it must read as a tool call whatever it lacked at its start.
        try:
            attributes = span.attributes or {}
            if "gen_ai.tool.name" not in attributes:
                span.set_attribute("gen_ai.tool.name", tool)
            if scope.startswith("openinference."):
                span.set_attribute("openinference.span.kind", "TOOL")
            elif "gen_ai.operation.name" not in attributes:
                span.set_attribute("gen_ai.operation.name", "execute_tool")
            evidence.mark(span, refusal)
            span.end()
        except Exception:  # another processor of the application
            _log.exception("otel_ir guard: the span of a refused call could not be ended")

    def on_end(self, span: ReadableSpan) -> None:
        """Forgets the span, and learns the tool's name where spans start without saying what they are."""
        guard = self._guard
        guard.spans.remove(span)
        scope = getattr(span.instrumentation_scope, "name", "")
        if scope in BARE and len(self._learned) < MAX_LEARNED and tool_of(scope, span.name, span.attributes or {}):
            self._learned.add(span.name)

    def shutdown(self) -> None:
        """Nothing to do: what is forbidden stays so."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Nothing is buffered."""
        return True


def attach(guard: Guard, provider: Any = None) -> None:
    """Puts sampler and processor into ``provider``. Raises ``ConfigError`` when it is not one of the SDK."""
    provider = provider or guard.provider or trace.get_tracer_provider()
    if not hasattr(provider, "sampler") or not hasattr(provider, "add_span_processor"):
        raise ConfigError("the generic guard needs a TracerProvider of the OpenTelemetry SDK: set one up first, or give it as provider=")
    if getattr(provider.sampler, "_guard", None) is not guard:
        provider.sampler = GuardSampler(guard, provider.sampler)
        # Tracers that were handed out already keep the sampler they were made with.
        for tracer in list(getattr(provider, "_tracers", {}).values()):
            tracer.sampler = GuardSampler(guard, tracer.sampler)
        provider.add_span_processor(GuardProcessor(guard))
    guard.provider = guard.provider or provider
    guard.hooked("otel")
    guard.test("otel", lambda: _self_test(guard, provider))


def _self_test(guard: Guard, provider: SdkTracerProvider) -> str:
    """Starts the span of a canary tool in a trace that is not sampled (so that it is not exported): it must be refused."""
    if getattr(provider, "_disabled", False):
        return "OTEL_SDK_DISABLED is set: no span is started, so nothing is seen and nothing can be stopped"
    nonce = str(uuid.uuid4())
    tracer = provider.get_tracer("otel_ir.guard.self_test")
    unsampled = trace.set_span_in_context(
        trace.NonRecordingSpan(trace.SpanContext(uuid.uuid4().int, 1, True, trace.TraceFlags(0))), Context()
    )  # fmt: skip
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": CANARY, _NONCE: nonce}
    guard.restrict(Restriction(nonce, "revoke_tools", ({"gen_ai.conversation.id": nonce},), reason="self-test"))
    try:
        tracer.start_span(f"execute_tool {CANARY}", context=unsampled, attributes=attributes).end()
    except PermissionError:
        return ""
    finally:
        guard.lift(nonce)
    return "a revoked canary span was not stopped"
