"""Pydantic AI (from 1.107): a capability whose hook answers for a refused tool, so that the run goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from otel_ir.errors import ConfigError
from otel_ir.guard.decide import AGENT, MODEL
from otel_ir.guard.restriction import Restriction
from otel_ir.guard.spans import Caller

if TYPE_CHECKING:
    from otel_ir.guard.guard import Guard

NAME = "pydantic_ai"


def attach(guard: Guard, agent: Any = None) -> Any:
    """The capability; with an ``agent``, put into it. Raises ``ConfigError`` for a Pydantic AI without capabilities."""
    capability = _capability(guard)
    if agent is not None:
        _insert(agent, capability)
    guard.hooked(NAME, getattr(agent, "name", None) or "")
    guard.test(NAME, lambda: _self_test(guard, given=agent is None))
    return capability


def _capability(guard: Guard) -> Any:
    try:
        from pydantic_ai.capabilities import Hooks
        from pydantic_ai.exceptions import SkipToolExecution
    except ImportError:
        raise ConfigError("this Pydantic AI has no hooks for tools (1.107 or newer has): use guard.otel() instead") from None
    hooks: Any = Hooks()

    @hooks.on.before_tool_execute  # type: ignore[untyped-decorator,unused-ignore]
    async def before_tool(ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:  # noqa: ARG001
        if guard.idle:
            return args
        if refusal := await guard.astop(call.tool_name, _caller(guard, ctx)):
            raise SkipToolExecution(refusal.message)
        return args

    @hooks.on.before_model_request  # type: ignore[untyped-decorator,unused-ignore]
    async def before_model(ctx: Any, request_context: Any) -> Any:
        if not guard.idle and (refusal := await guard.astop(MODEL, _caller(guard, ctx))):
            raise guard.exception(refusal)
        return request_context

    return hooks


def _caller(guard: Guard, ctx: Any) -> Caller:
    name = getattr(getattr(ctx, "agent", None), "name", None) or ""
    guard.hooked(NAME, name)
    return Caller(agent_name=name, conversations=(getattr(ctx, "conversation_id", None) or "",))


def _insert(agent: Any, capability: Any) -> None:
    """Where ``Agent(capabilities=…)`` would have put it. The self-test notices when another version keeps them elsewhere."""
    from pydantic_ai.capabilities import CombinedCapability

    if not hasattr(agent, "_root_capability"):
        raise ConfigError("this Pydantic AI takes capabilities only at Agent(capabilities=[guard.pydantic_ai()])")
    agent._root_capability = CombinedCapability([capability, agent._root_capability])


def _self_test(guard: Guard, *, given: bool) -> str:
    """A scripted agent calls a revoked tool and one that is not, through the same hook."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import FunctionModel

    ran: list[str] = []

    def model(messages: list[Any], _info: Any) -> Any:
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart("canary_allowed", {}), ToolCallPart("canary_revoked", {})])

    def canary_allowed() -> str:
        ran.append("allowed")
        return ""

    def canary_revoked() -> str:
        ran.append("revoked")
        return ""

    private = guard.double()
    private.restrict(Restriction("self-test", "revoke_tools", ({AGENT: private.agent_id("otel_ir canary")},), ("canary_revoked",)))
    capability = _capability(private)
    make: Any = Agent
    agent = make(
        FunctionModel(model), name="otel_ir canary", tools=[canary_allowed, canary_revoked], capabilities=[capability] if given else []
    )
    agent.instrument = False
    if not given:
        _insert(agent, capability)
    asyncio.run(agent.run("canary"))
    return "" if ran == ["allowed"] else f"of an allowed and a revoked canary tool these ran: {ran}"
