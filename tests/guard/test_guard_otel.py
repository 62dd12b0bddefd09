"""The generic guard on the real SDK: what it stops, by which exception, what it sees of spans that are not sampled, its evidence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from guard.peer import SERVICE, guarding, paused, revoked, until
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from otel_ir.errors import ConfigError
from otel_ir.guard import Guard, Refused, Stopped
from otel_ir.guard.spans import SWALLOW, OpenSpans, tool_of, who

TOOL = {"gen_ai.operation.name": "execute_tool"}
HIJACKED = {"gen_ai.agent.name": "hijacked"}


class App:
    """An instrumented application with a guard, and what it exported."""

    def __init__(self, guard: Guard, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        self.guard, self.provider, self._exporter = guard, provider, exporter

    def calls(self, tool: str, *, scope: str = "some.framework", name: str = "", **attributes: Any) -> bool:
        """One tool call as an instrumentation writes it; whether it ran."""
        given = {**TOOL, "gen_ai.tool.name": tool, **HIJACKED, **attributes}
        try:
            with self.provider.get_tracer(scope).start_as_current_span(name or f"execute_tool {tool}", attributes=given):
                return True
        except (Refused, Stopped):
            return False

    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (one,) = [span for span in self.spans() if span.name == name]
        return one


@contextmanager
def app(sampler: Sampler | None = None, *, early: str = "", **settings: Any) -> Iterator[App]:
    provider = TracerProvider(sampler=sampler or ALWAYS_ON, resource=Resource({"service.name": SERVICE}), shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    if early:
        provider.get_tracer(early)
    with guarding(provider=provider, **settings) as guard:
        guard.otel()
        assert guard.self_test == {"outcome": "passed", "detail": "otel"}
        assert not exporter.get_finished_spans()  # a self-test is nobody's telemetry
        yield App(guard, provider, exporter)
    provider.shutdown()


@contextmanager
def remote(flags: int) -> Iterator[None]:
    """An inbound traceparent."""
    parent = trace.SpanContext(0x1234567890ABCDEF1234567890ABCDEF, 0x1234567890ABCDEF, True, trace.TraceFlags(flags))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def test_a_revoked_call_does_not_run_and_the_refusal_is_telemetry() -> None:
    with app() as it:
        assert it.calls("send_email")
        it.guard.restrict(revoked("send_email"))
        assert not it.calls("send_email", **{"gen_ai.conversation.id": "c-1"})
        assert it.calls("get_order")
        assert it.calls("send_email", **{"gen_ai.agent.name": "benign"})
        first, refused, call, *_ = it.spans()
    assert first.name == call.name == "execute_tool send_email"
    assert call.attributes is not None
    assert call.attributes["otel_ir.executed"] == "rejected"
    assert call.attributes["otel_ir.action.id"] == "a-1"
    assert call.end_time is not None
    assert refused.name == "otel_ir.guard.refused send_email"
    assert refused.parent is not None
    assert refused.parent.span_id == call.context.span_id
    assert refused.instrumentation_scope is not None
    assert refused.instrumentation_scope.name == "otel_ir.guard"
    assert dict(refused.attributes or {}) == {
        "otel_ir.event.type": "guardrail",
        "otel_ir.guardrail.name": "otel_ir.guard",
        "otel_ir.guardrail.triggered": True,
        "gen_ai.tool.name": "send_email",
        "gen_ai.agent.name": "hijacked",
        "gen_ai.conversation.id": "c-1",
        "otel_ir.action.id": "a-1",
        "otel_ir.action.verb": "revoke_tools",
        "otel_ir.incident.id": "INC-1",
        "otel_ir.refusal.reason": "it mailed customer data",
    }
    (blocked,) = it.guard._link.report()["blocked"]
    assert blocked["span_id"] == f"{call.context.span_id:016x}"
    assert blocked["trace_id"] == f"{call.context.trace_id:032x}"


@pytest.mark.parametrize("scope", sorted(SWALLOW))
def test_instrumentations_that_swallow_exceptions_get_one_they_cannot(scope: str) -> None:
    with app() as it:
        it.guard.restrict(revoked("send_email"))
        with pytest.raises(Stopped, match="send_email was not run"):
            it.provider.get_tracer(scope).start_span("execute_tool send_email", attributes={**TOOL, **HIJACKED})


@pytest.mark.parametrize("scope", ["strands.telemetry.tracer", "mcp-python-sdk", "openinference.instrumentation.langchain.extra", "x"])
def test_all_others_get_an_ordinary_one(scope: str) -> None:
    with app() as it:
        it.guard.restrict(revoked("send_email"))
        with pytest.raises(PermissionError, match="send_email was not run"):
            it.provider.get_tracer(scope).start_span("execute_tool send_email", attributes={**TOOL, **HIJACKED})


@pytest.mark.parametrize(
    "sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0), ParentBased(ALWAYS_ON), ParentBased(TraceIdRatioBased(0.0))], ids=str
)
@pytest.mark.parametrize("late", [True, False])
def test_what_is_not_sampled_is_stopped_too_and_only_the_refusal_is_exported(sampler: Sampler, late: bool) -> None:
    with app(sampler, early="" if late else "some.framework") as it, remote(0):
        assert it.calls("send_email")
        with it.provider.get_tracer("some.framework").start_as_current_span("invoke_agent hijacked"):
            it.guard.restrict(revoked("send_email"))
            assert not it.calls("send_email", **{"gen_ai.agent.name": ""})  # by its agent's span, which is not sampled either
            assert it.calls("get_order", **{"gen_ai.agent.name": ""})
        assert [span.name for span in it.spans()] == ["otel_ir.guard.refused send_email"]


def test_nothing_else_of_the_application_is_recorded_more_than_before() -> None:
    with app(ALWAYS_OFF) as it:
        tracer = it.provider.get_tracer("http")
        assert not tracer.start_span("GET /", attributes={"http.request.method": "GET"}).is_recording()
        assert tracer.start_span("chat", attributes={"gen_ai.operation.name": "chat"}).is_recording()
        assert "otel_ir.guard" in it.provider.sampler.get_description()
        assert not it.spans()


def test_the_agent_is_the_nearest_open_span_that_says_it() -> None:
    with app(agent="") as it:
        it.guard.restrict(revoked("send_email"))
        tracer = it.provider.get_tracer("some.framework")
        nameless = {"gen_ai.agent.name": ""}
        with tracer.start_as_current_span("invoke_agent benign"), tracer.start_as_current_span("step"):
            assert it.calls("send_email", **nameless)
            with tracer.start_as_current_span("run") as run:
                run.set_attribute("gen_ai.agent.name", "hijacked")  # said only after the start
                assert not it.calls("send_email", **nameless)
        with tracer.start_as_current_span("invoke_agent hijacked"):
            pass
        assert it.calls("send_email", **nameless)
        assert len(it.guard.spans) == 0
    with app(agent="hijacked") as it:
        it.guard.restrict(revoked("send_email"))
        assert not it.calls("send_email", **nameless)


def test_the_conversation_may_be_in_the_context() -> None:
    with app() as it:
        it.guard.restrict(revoked("send_email", selector={"gen_ai.conversation.id": "c-1"}))
        assert it.calls("send_email")
        for place in (context.set_value("session.id", "c-1"), baggage.set_baggage("gen_ai.conversation.id", "c-1")):
            token = context.attach(place)
            try:
                assert not it.calls("send_email")
            finally:
                context.detach(token)
        with it.provider.get_tracer("x").start_as_current_span("chat", attributes={"session.id": "c-1"}):
            assert not it.calls("send_email")


def test_a_trace_can_be_meant() -> None:
    with app() as it, remote(1):
        it.guard.restrict(revoked("send_email", selector={"trace_id": "1234567890abcdef1234567890abcdef"}))
        assert not it.calls("send_email")


def test_spans_that_are_nothing_but_names() -> None:
    bare = "openinference.instrumentation.langchain"
    with app() as it:
        tracer = it.provider.get_tracer(bare)

        def run(tool: str) -> bool:
            try:
                with tracer.start_as_current_span(tool) as span:
                    span.set_attribute("openinference.span.kind", "TOOL")  # as it does at its end
                    return True
            except Stopped:
                return False

        with tracer.start_as_current_span("hijacked"), tracer.start_as_current_span("tools"):
            assert run("seen_before")
            it.guard.restrict(revoked("send_email"))
            assert not run("send_email")
            assert run("get_order")
            it.guard.restrict(revoked())
            assert not run("seen_before")
            assert not run("get_order")
        with tracer.start_as_current_span("benign"):
            assert run("send_email")
        refused = [span for span in it.spans() if (span.attributes or {}).get("otel_ir.executed") == "rejected"]
        assert all((span.attributes or {})["openinference.span.kind"] == "TOOL" for span in refused)


def test_parallel_calls_in_threads() -> None:
    with app() as it, ThreadPoolExecutor(8) as pool:
        it.guard.restrict(revoked("send_email"))
        ran = list(pool.map(lambda number: it.calls(("send_email", "get_order")[number % 2]), range(200)))
        assert ran == [False, True] * 100
        assert sum(span.name == "otel_ir.guard.refused send_email" for span in it.spans()) == 100
        assert it.guard._link.report()["blocked_total"] == 100


def test_a_pause_holds_a_thread() -> None:
    with app() as it:
        it.guard.restrict(paused())
        ran: list[bool] = []
        thread = threading.Thread(target=lambda: ran.append(it.calls("send_email")))
        thread.start()
        until(lambda: it.guard.spans)
        assert not ran
        it.guard.lift("a-2")
        thread.join(20)
        assert ran == [True]


def test_a_framework_with_a_hook_of_its_own_is_left_to_it() -> None:
    with app() as it:
        it.guard.restrict(revoked("send_email"))
        it.guard.hooked("pydantic_ai", "hijacked")
        assert it.calls("send_email", scope="pydantic-ai")
        it.guard.restrict(revoked("send_email", action="b", selector={"otel_ir.agent.id": f"{SERVICE}/unhooked"}))
        assert not it.calls("send_email", scope="pydantic-ai", **{"gen_ai.agent.name": "unhooked"})
        assert not it.calls("send_email", scope="another")
        with it.guard.judged():
            assert it.calls("send_email", scope="another")


def test_the_sdk_switched_off_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    provider = TracerProvider(shutdown_on_exit=False)
    with guarding(provider=provider) as guard:
        guard.otel()
        assert guard.self_test["outcome"] == "failed"
        assert "OTEL_SDK_DISABLED" in guard.self_test["detail"]
    assert "may NOT be stopped" in caplog.text


def test_a_provider_of_the_sdk_is_needed_and_each_is_guarded_once() -> None:
    with guarding() as guard, pytest.raises(ConfigError, match="needs a TracerProvider of the OpenTelemetry SDK"):
        guard.otel(trace.NoOpTracerProvider())
    with app() as it:
        it.guard.otel(it.provider)
        assert it.provider.sampler.get_description().count("otel_ir.guard") == 1


def test_a_processor_of_the_application_that_fails_does_not_let_the_call_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with app() as it:
        it.guard.restrict(revoked("send_email"))

        def broken(*_: object, **__: object) -> str:
            raise RuntimeError("disk full")

        monkeypatch.setattr("otel_ir.guard.evidence.record", broken)
        monkeypatch.setattr("otel_ir.guard.evidence.mark", broken)
        assert not it.calls("send_email")
        assert it.guard._link.report()["blocked_total"] == 1


@pytest.mark.parametrize(("fail", "ran"), [("open", True), ("closed", False)])
def test_a_fault_of_the_guard_itself(monkeypatch: pytest.MonkeyPatch, fail: str, ran: bool) -> None:
    with app(fail=fail) as it:
        it.guard.restrict(revoked("send_email"))

        def broken(*_: object, **__: object) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr("otel_ir.guard.guard.identity", broken)
        assert it.calls("get_order") is ran


# --- reading ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "name", "attributes", "tool"),
    [
        ("pydantic-ai", "execute_tool a", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "a"}, "a"),
        ("pydantic-ai", "running tool", {"gen_ai.tool.name": "a"}, "a"),
        ("pydantic-ai", "running tools", {}, None),
        ("gcp.vertex.agent", "execute_tool a", {}, "a"),
        ("gcp.vertex.agent", "invoke_agent a", {}, None),
        ("openinference.instrumentation.openai_agents", "a", {"openinference.span.kind": "TOOL"}, "a"),
        ("openinference.instrumentation.openai_agents", "handoff to b", {"openinference.span.kind": "TOOL"}, None),
        ("openinference.instrumentation.crewai", "a.run", {"openinference.span.kind": "TOOL"}, "a"),
        ("openinference.instrumentation.smolagents", "SimpleTool", {"openinference.span.kind": "TOOL", "tool.name": "a"}, "a"),
        ("openinference.instrumentation.x", "a", {"openinference.span.kind": "CHAIN"}, None),
        ("opentelemetry.instrumentation.langchain", "execute_tool a", {}, "a"),
        ("opentelemetry.instrumentation.mcp", "a.tool", {}, "a"),
        ("opentelemetry.instrumentation.x", "y", {"traceloop.span.kind": "tool", "traceloop.entity.name": "a"}, "a"),
        ("opentelemetry.instrumentation.x", "y", {"traceloop.span.kind": "workflow"}, None),
        ("mcp-python-sdk", "tools/call a", {"mcp.method.name": "tools/call"}, "a"),
        ("mcp-python-sdk", "MCP send tools/call a", {"mcp.method.name": "tools/call"}, "a"),
        ("mcp-python-sdk", "tools/list", {"mcp.method.name": "tools/list"}, None),
        ("agent_framework", "execute_tool a", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": 7}, "a"),
        ("x", "chat gpt", {"gen_ai.operation.name": "chat", "gen_ai.tool.name": "a"}, None),
        ("x", "GET /", {}, None),
        ("x", "some.tool", {}, None),
    ],
)
def test_which_tool_a_span_is_about_to_call(scope: str, name: str, attributes: dict[str, Any], tool: str | None) -> None:
    assert tool_of(scope, name, attributes) == tool


def test_who_a_span_says_it_is() -> None:
    uuid = "01a219b1-49b2-7568-a5e0-2cd815f2d343"
    assert who("x", "s", {"gen_ai.agent.name": "a", "gen_ai.agent.id": uuid, "session.id": "c"}) == ("", "a", "c")
    assert who("x", "s", {"gen_ai.agent.id": "asst_1"}) == ("asst_1", "", "")
    assert who("x", "invoke_agent a", {}) == ("", "a", "")
    assert who("x", "s", {"gen_ai.agent.name": "OpenAI Agent"}) == ("", "", "")
    assert who("openinference.instrumentation.openai_agents", "a", {"openinference.span.kind": "AGENT"}) == ("", "a", "")
    assert who("openinference.instrumentation.smolagents", "a.run", {"openinference.span.kind": "AGENT"}) == ("", "a", "")
    assert who("openinference.instrumentation.x", "Flow", {"openinference.span.kind": "AGENT", "agent.name": "a"}) == ("", "a", "")
    assert who("openinference.instrumentation.x", "Flow", {"openinference.span.kind": "AGENT"}) == ("", "", "")


attributes = st.dictionaries(
    st.sampled_from(["gen_ai.operation.name", "gen_ai.tool.name", "openinference.span.kind", "tool.name", "mcp.method.name", "session.id"]),
    st.sampled_from(["execute_tool", "TOOL", "tool", "tools/call", "", "x" * 1000]) | st.integers() | st.lists(st.text(), max_size=2),
)


@given(st.text(max_size=20), st.text(max_size=300), attributes)
def test_reading_never_fails(scope: str, name: str, attributes: dict[str, Any]) -> None:
    tool = tool_of(scope, name, attributes)
    assert tool is None or len(tool) <= 300
    assert all(isinstance(one, str) for one in who(scope, name, attributes))


def test_open_spans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.guard.spans.MAX_OPEN", 100)
    provider = TracerProvider(shutdown_on_exit=False)
    tracer, spans = provider.get_tracer("x"), OpenSpans()
    started = [tracer.start_span(str(number)) for number in range(110)]
    for span in started:
        spans.add(span)
    assert len(spans) == 100
    spans.remove(started[0])
    spans.remove(started[-1])
    assert len(spans) == 99
