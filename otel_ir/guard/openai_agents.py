"""OpenAI Agents SDK: an input guardrail on every function tool (the run goes on), and agent hooks for all other tools (it ends)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from otel_ir.errors import ConfigError
from otel_ir.guard.decide import AGENT, MODEL
from otel_ir.guard.restriction import Restriction
from otel_ir.guard.spans import Caller

if TYPE_CHECKING:
    from otel_ir.guard.guard import Guard

NAME = "openai_agents"
GUARDRAIL = "otel_ir.guard"


def attach(guard: Guard, *agents: Any) -> None:
    """Guards the agents in place, with those they hand off to. Raises ``ConfigError`` for an SDK without tool guardrails."""
    _attach(guard, agents)
    for agent in _family(agents):
        guard.hooked(NAME, agent.name)
    guard.test(NAME, lambda: _self_test(guard))


def _attach(guard: Guard, agents: tuple[Any, ...]) -> None:
    try:
        from agents import AgentHooks, ToolGuardrailFunctionOutput, ToolInputGuardrail
    except ImportError:
        raise ConfigError("this OpenAI Agents SDK has no tool guardrails: use guard.otel() instead") from None

    async def judge(data: Any) -> Any:
        if not guard.idle and (refusal := await guard.astop(data.context.tool_name, _caller(data.agent))):
            return ToolGuardrailFunctionOutput.reject_content(refusal.message, output_info={"otel_ir.action.id": refusal.id})
        return ToolGuardrailFunctionOutput.allow()

    guardrail = ToolInputGuardrail(guardrail_function=judge, name=GUARDRAIL)
    watched = _watched(guard, guardrail)
    for agent in _family(agents):
        _protect(agent, guardrail)
        if getattr(agent.hooks, "guard", None) is not guard:
            agent.hooks = watched(agent.hooks or AgentHooks())


def _protect(agent: Any, guardrail: Any) -> None:
    """Puts the guardrail on what the agent has now: function tools, and MCP servers, which hand it to their tools."""
    holders = (*agent.tools, *getattr(agent, "mcp_servers", ()))
    for holder in holders:
        if hasattr(holder, "tool_input_guardrails") and not _judged(holder):
            holder.tool_input_guardrails = [guardrail, *(holder.tool_input_guardrails or [])]


def _judged(tool: Any) -> bool:
    return any(getattr(one, "name", None) == GUARDRAIL for one in getattr(tool, "tool_input_guardrails", None) or ())


def _watched(guard: Guard, guardrail: Any) -> Any:
    from agents import AgentHooks

    class Watched(AgentHooks):  # type: ignore[misc]
        """The agent's own hooks, behind the guard's."""

        def __init__(self, inner: Any) -> None:
            self.guard, self.inner = guard, inner

        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            if not _judged(tool) and not guard.idle and (refusal := await guard.astop(tool.name, _caller(agent))):
                raise guard.exception(refusal)
            await self.inner.on_tool_start(context, agent, tool)

        async def on_llm_start(self, context: Any, agent: Any, *rest: Any) -> None:
            _protect(agent, guardrail)  # tools may have come since
            if not guard.idle and (refusal := await guard.astop(MODEL, _caller(agent))):
                raise guard.exception(refusal)
            await self.inner.on_llm_start(context, agent, *rest)

        async def on_start(self, *given: Any) -> None:
            await self.inner.on_start(*given)

        async def on_end(self, *given: Any) -> None:
            await self.inner.on_end(*given)

        async def on_handoff(self, *given: Any) -> None:
            await self.inner.on_handoff(*given)

        async def on_tool_end(self, *given: Any) -> None:
            await self.inner.on_tool_end(*given)

        async def on_llm_end(self, *given: Any) -> None:
            await self.inner.on_llm_end(*given)

    return Watched


def _family(agents: tuple[Any, ...]) -> Iterator[Any]:
    """The agents and those they can hand off to, each once."""
    todo, seen = list(agents), set()
    while todo:
        agent = todo.pop()
        if id(agent) in seen or not hasattr(agent, "tools"):
            continue
        seen.add(id(agent))
        yield agent
        for other in getattr(agent, "handoffs", ()):
            # A Handoff keeps a weak reference to its agent.
            reference = getattr(other, "_agent_ref", None)
            todo.append(reference() if callable(reference) else other)


def _caller(agent: Any) -> Caller:
    from agents.tracing import get_current_trace

    group = getattr(get_current_trace(), "group_id", None)
    return Caller(agent_name=agent.name, conversations=(group if isinstance(group, str) else "",))


def _self_test(guard: Guard) -> str:
    """A scripted agent calls a revoked tool and one that is not, through the same guardrails."""
    from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    ran: list[str] = []

    @function_tool  # type: ignore[untyped-decorator,unused-ignore]
    def canary_allowed() -> str:
        ran.append("allowed")
        return ""

    @function_tool  # type: ignore[untyped-decorator,unused-ignore]
    def canary_revoked() -> str:
        ran.append("revoked")
        return ""

    class Scripted(Model):  # type: ignore[misc]
        turns = 0

        async def get_response(self, *_given: Any, **_named: Any) -> Any:
            self.turns += 1
            output: list[Any] = [
                ResponseFunctionToolCall(type="function_call", call_id=name, name=name, arguments="{}")
                for name in ("canary_allowed", "canary_revoked")
            ]
            if self.turns > 1:
                text = ResponseOutputText(type="output_text", text="done", annotations=[])
                output = [ResponseOutputMessage(type="message", id="1", role="assistant", status="completed", content=[text])]
            return ModelResponse(output=output, usage=Usage(), response_id=None)

        def stream_response(self, *_given: Any, **_named: Any) -> Any:
            raise RuntimeError("the self-test runs without streaming")

    private = guard.double()
    private.restrict(Restriction("self-test", "revoke_tools", ({AGENT: private.agent_id("otel_ir canary")},), ("canary_revoked",)))
    agent = Agent(name="otel_ir canary", model=Scripted(), tools=[canary_allowed, canary_revoked])
    _attach(private, (agent,))
    asyncio.run(Runner.run(agent, "canary", run_config=RunConfig(tracing_disabled=True)))
    return "" if ran == ["allowed"] else f"of an allowed and a revoked canary tool these ran: {ran}"
