"""LangChain and LangGraph (``create_agent``): a middleware that answers for a refused tool, so that the run goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otel_ir.errors import ConfigError
from otel_ir.guard.decide import AGENT, MODEL
from otel_ir.guard.restriction import Restriction
from otel_ir.guard.spans import Caller

if TYPE_CHECKING:
    from otel_ir.guard.guard import Guard

NAME = "langchain"


def attach(guard: Guard) -> Any:
    """The middleware. Raises ``ConfigError`` for a LangChain without middleware."""
    middleware = _middleware(guard)
    guard.hooked(NAME)
    guard.test(NAME, lambda: _self_test(guard))
    return middleware


def _middleware(guard: Guard) -> Any:
    try:
        from langchain.agents.middleware import AgentMiddleware
        from langchain_core.messages import ToolMessage
    except ImportError:
        raise ConfigError("this LangChain has no agent middleware (1.0 or newer has): use guard.otel() instead") from None

    def answer(request: Any, message: str) -> Any:
        call = request.tool_call
        return ToolMessage(content=message, tool_call_id=call["id"], name=call["name"], status="error")

    class OtelIrGuard(AgentMiddleware):  # type: ignore[misc]
        """Stops the tool calls that otel_ir contains, and holds the model of a paused agent."""

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            if not guard.idle and (refusal := guard.stop(request.tool_call["name"], _caller(guard, request), span=_span())):
                return answer(request, refusal.message)
            with guard.judged():
                return handler(request)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            if not guard.idle and (refusal := await guard.astop(request.tool_call["name"], _caller(guard, request), span=_span())):
                return answer(request, refusal.message)
            with guard.judged():
                return await handler(request)

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            if not guard.idle and (refusal := guard.stop(MODEL, _caller(guard, request), span=_span())):
                raise guard.exception(refusal)
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            if not guard.idle and (refusal := await guard.astop(MODEL, _caller(guard, request), span=_span())):
                raise guard.exception(refusal)
            return await handler(request)

    return OtelIrGuard()


def _caller(guard: Guard, request: Any) -> Caller:
    """Agent and conversation as LangChain's configuration has them, which is what instrumentations report."""
    config = getattr(getattr(request, "runtime", None), "config", None) or _current_config()
    metadata, configurable = config.get("metadata") or {}, config.get("configurable") or {}
    name = _text(metadata.get("lc_agent_name"))
    guard.hooked(NAME, name)
    keys = ((metadata, "session_id"), (metadata, "conversation_id"), (metadata, "thread_id"), (configurable, "thread_id"))
    return Caller(agent_name=name, conversations=tuple(_text(place.get(key)) for place, key in keys))


def _span() -> Any:
    """The span around the call. OpenInference's are not in OpenTelemetry's context, but it tells them."""
    instrumentation: Any = sys.modules.get("openinference.instrumentation.langchain")
    if instrumentation is None or trace.get_current_span().get_span_context().is_valid:
        return None
    try:
        return instrumentation.get_current_span()
    except Exception:  # of another version, or not instrumented
        return None


def _current_config() -> dict[str, Any]:
    try:
        from langgraph.config import get_config

        return dict(get_config())
    except Exception:  # outside of a graph there is none
        return {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _self_test(guard: Guard) -> str:
    """A scripted agent calls a revoked tool and one that is not, through the same middleware."""
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    ran: list[str] = []

    def canary_allowed() -> str:
        """A canary."""
        ran.append("allowed")
        return ""

    def canary_revoked() -> str:
        """A canary."""
        ran.append("revoked")
        return ""

    class Model(GenericFakeChatModel):  # type: ignore[misc]
        def bind_tools(self, *_given: Any, **_named: Any) -> Any:
            return self

    calls: list[Any] = [{"name": name, "args": {}, "id": name} for name in ("canary_allowed", "canary_revoked")]
    model = Model(messages=iter([AIMessage(content="", tool_calls=calls), AIMessage(content="done")]))
    private = guard.double()
    private.restrict(Restriction("self-test", "revoke_tools", ({AGENT: private.agent_id("otel_ir_canary")},), ("canary_revoked",)))
    agent = create_agent(model, [canary_allowed, canary_revoked], middleware=[_middleware(private)], name="otel_ir_canary")
    with _untraced():
        agent.invoke({"messages": [("user", "canary")]}, config={"callbacks": []})
    return "" if ran == ["allowed"] else f"of an allowed and a revoked canary tool these ran: {ran}"


def _untraced() -> Any:
    """Neither LangSmith nor an OpenTelemetry instrumentation is to see a self-test."""
    from contextlib import ExitStack

    from opentelemetry import context

    stack = ExitStack()
    # The key of opentelemetry.instrumentation.utils.suppress_instrumentation, which need not be installed.
    token = context.attach(context.set_value(getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"), True))
    stack.callback(context.detach, token)
    try:
        from langsmith import tracing_context

        stack.enter_context(tracing_context(enabled=False))
    except ImportError:
        pass
    return stack
