"""The hook of Pydantic AI, which is installed here (the others: tests/real), and what is common to all hooks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from guard.peer import SERVICE, guarding, paused, revoked, until
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

from otel_ir.errors import ConfigError
from otel_ir.guard import Guard, Refused, Restriction


def model(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Two tools in one turn, then what they gave."""
    got = [str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    if got:
        return ModelResponse(parts=[TextPart(" | ".join(got))])
    return ModelResponse(parts=[ToolCallPart("look_up", {}), ToolCallPart("send_email", {})])


def agent(ran: list[str], name: str = "hijacked", **more: Any) -> Agent[None, str]:
    async def look_up() -> str:
        ran.append("look_up")
        return "found"

    def send_email() -> str:
        ran.append("send_email")
        return "sent"

    return Agent(FunctionModel(model), name=name, tools=[look_up, send_email], **more)


def played(one: Agent[None, str], prompt: str, **more: Any) -> Any:
    return asyncio.run(one.run(prompt, **more))


REFUSED = "The tool send_email was not run: this agent's access to it is revoked: it mailed customer data (INC-1). Do not try again."


@pytest.mark.parametrize("given", [True, False], ids=["as a capability", "in place"])
def test_the_run_goes_on_and_the_model_is_told(given: bool) -> None:
    with guarding() as guard:
        ran: list[str] = []
        one = agent(ran, capabilities=[guard.pydantic_ai()]) if given else agent(ran)
        if not given:
            guard.pydantic_ai(one)
        assert guard.self_test == {"outcome": "passed", "detail": "pydantic_ai"}
        guard.restrict(revoked("send_email"))
        assert played(one, "go").output == f"found | {REFUSED}"
        assert ran == ["look_up"]
        other = agent(ran, "benign", capabilities=[guard.pydantic_ai()])
        assert played(other, "go").output == "found | sent"
        assert guard.frameworks == ["pydantic_ai"]
        assert {"hijacked", "benign"} <= set(guard.agents)


def test_a_conversation_is_meant_whoever_is_in_it() -> None:
    with guarding() as guard:
        ran: list[str] = []
        one = agent(ran, "renamed")
        guard.pydantic_ai(one)
        guard.restrict(revoked("send_email", selector={"gen_ai.conversation.id": "c-1"}))
        played(one, "go", conversation_id="c-2")
        assert sorted(ran) == ["look_up", "send_email"]
        played(one, "go", conversation_id="c-1")
        assert sorted(ran) == ["look_up", "look_up", "send_email"]


def test_the_tool_span_says_that_it_did_not_run() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with guarding(provider=provider) as guard:
        one = agent([])
        one.instrument = InstrumentationSettings(tracer_provider=provider)
        guard.pydantic_ai(one)
        guard.restrict(revoked("send_email"))
        played(one, "go")
        spans = {span.name: span for span in exporter.get_finished_spans()}
    call, refused = spans["execute_tool send_email"], spans["otel_ir.guard.refused send_email"]
    assert call.attributes is not None
    assert (call.attributes["otel_ir.executed"], call.attributes["otel_ir.action.id"]) == ("rejected", "a-1")
    assert refused.parent is not None
    assert refused.parent.span_id == call.context.span_id
    assert "otel_ir.executed" not in (spans["execute_tool look_up"].attributes or {})


def test_a_paused_agent_waits_with_its_model_and_its_loop_goes_on() -> None:
    async def play(guard: Guard) -> list[str]:
        ran: list[str] = []
        one, other = agent(ran), agent([], "benign")
        guard.pydantic_ai(one)
        guard.pydantic_ai(other)
        guard.restrict(paused())
        run = asyncio.create_task(one.run("go"))
        assert (await other.run("go")).output == "found | sent"
        while not guard._bell._sleepers:
            await asyncio.sleep(0)
        assert not run.done()
        assert not ran
        guard.lift("a-2")
        assert (await asyncio.wait_for(run, 20)).output == "found | sent"
        return ran

    with guarding() as guard:
        assert asyncio.run(play(guard)) == ["look_up", "send_email"]


def test_a_pause_that_is_not_let_go_of_ends_the_run() -> None:
    with guarding(pause_seconds=0.01) as guard:
        one = agent([])
        guard.pydantic_ai(one)
        guard.restrict(paused())
        with pytest.raises(Refused, match="The model was not asked: this agent is paused"):
            played(one, "go")


def test_failing_closed_is_soft_too() -> None:
    with guarding(fail="closed") as guard:
        ran: list[str] = []
        one = agent(ran)
        guard.pydantic_ai(one)
        assert "it is blocked: the guard fails closed and has no otel_ir server" in played(one, "go").output
        assert not ran


def test_a_hook_that_does_not_work_is_found_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from otel_ir.guard import pydantic_ai

    monkeypatch.setattr(pydantic_ai, "_insert", lambda *_: None)  # as if another version kept its capabilities elsewhere
    with guarding() as guard:
        guard.pydantic_ai(agent([]))
        assert guard.self_test["outcome"] == "failed"
        assert "['allowed', 'revoked']" in guard.self_test["detail"]
    assert "may NOT be stopped" in caplog.text


def test_a_framework_without_hooks_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with guarding() as guard:
        for module in ("pydantic_ai.capabilities", "langchain.agents.middleware", "agents"):
            monkeypatch.setitem(sys.modules, module, None)
        for hook in (guard.pydantic_ai, guard.langchain, guard.openai_agents):
            with pytest.raises(ConfigError, match=r"use guard\.otel\(\) instead"):
                hook()
        assert guard.frameworks == []


# --- self-tests ------------------------------------------------------------------------------------------------------------


def _raises() -> str:
    raise SystemExit("not even this")


@pytest.mark.parametrize(("run", "fault"), [(lambda: "", ""), (lambda: "it sang", "it sang"), (_raises, "SystemExit")])
def test_a_self_test_never_harms_the_application(run: Callable[[], str], fault: str) -> None:
    with guarding() as guard:
        guard.test("x", run)
        guard.test("x", lambda: "is not run twice")
        assert guard.self_test["outcome"] == ("failed" if fault else "passed")
        assert fault in guard.self_test["detail"]


def test_a_self_test_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.guard.guard.SELF_TEST_SECONDS", 0.01)
    done: list[float] = []

    def slow() -> str:
        time.sleep(0.2)
        done.append(1)
        return ""

    with guarding() as guard:
        guard.test("x", slow)
        assert "did not end within" in guard.self_test["detail"]
        until(lambda: done)
    with guarding(self_test=False) as guard:
        guard.test("x", lambda: "never asked")
        assert guard.self_test["outcome"] == "not_run"


def test_a_self_test_may_run_while_a_loop_does() -> None:
    async def attach(guard: Guard) -> None:
        guard.pydantic_ai(agent([]))

    with guarding() as guard:
        asyncio.run(attach(guard))
        assert guard.self_test["outcome"] == "passed"


# --- local restrictions ----------------------------------------------------------------------------------------------------


def test_a_restriction_with_the_same_id_takes_the_others_place() -> None:
    with guarding() as guard:
        guard.restrict(revoked("a"))
        guard.restrict(revoked("b"))
        assert [one.tools for one in guard.restrictions] == [("b",)]
        assert not guard.idle
        guard.lift("a-1")
        assert guard.restrictions == ()
        assert guard.idle


def test_who_calls_by_default() -> None:
    with guarding(agent="hijacked") as guard:
        guard.restrict(Restriction("1", "revoke_tools", ({"otel_ir.agent.id": f"{SERVICE}/hijacked"},)))
        with pytest.raises(Refused) as raised:
            guard.check("send_email")
        assert raised.value.action_id == "1"
        assert isinstance(raised.value, PermissionError)
        guard.check("send_email", agent="benign")
