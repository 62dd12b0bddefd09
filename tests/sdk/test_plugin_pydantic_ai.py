"""A real framework, the shipped rules, the plug-in and the guard, no server: the hijacked agent is stopped at its next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from sdk.conftest import Agents, alerts_on

from otel_ir.demo.desk import BENIGN, HIJACKED, PROMPT, SERVICE, TICKETS, Desk, next_step
from otel_ir.errors import Refused
from otel_ir.guard import install

REVOKE = "mode: enforce\nplaybooks: {contain: [revoke_tools], restrict: [read_only_tools]}\n"
CALLS = ["read_ticket", "database_query", "send_email"]


async def _model(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """The demo's gullible model. It goes on with what the ticket says for as long as nobody stops it."""
    parts = [part for message in messages for part in message.parts]
    said = " ".join(str(part.content) for part in parts if isinstance(part, UserPromptPart))
    step = next_step(said, [(part.tool_name, str(part.content)) for part in parts if isinstance(part, ToolReturnPart)])
    return ModelResponse(parts=[TextPart(step) if isinstance(step, str) else ToolCallPart(*step)])


class Working:
    """Two agents of the support desk in one process, instrumented by the framework itself."""

    def __init__(self, agents: Callable[..., Agents], *, enforce: bool, response: Path | None = None) -> None:
        provider = TracerProvider(resource=Resource({"service.name": SERVICE}), shutdown_on_exit=False)
        # The self-test is the guard's own, and has tests of its own.
        self.guard = install(service=SERVICE, cache=False, provider=provider, pause_seconds=0.2, self_test=False)
        self.made = agents(provider=provider, guard=self.guard, enforce=enforce, response=response)
        self.desks: dict[str, Desk] = {}
        self.called: dict[str, list[str]] = {HIJACKED: [], BENIGN: []}

    def agent(self, name: str) -> Agent[Any, str]:
        desk = self.desks[name] = Desk(lambda tool, *_: self.called[name].append(tool))
        tools = [Tool(function) for function in (desk.read_ticket, desk.look_up_order, desk.database_query, desk.send_email)]
        agent = Agent(FunctionModel(_model, model_name="scripted"), name=name, tools=tools)
        agent.instrument = InstrumentationSettings(tracer_provider=self.made.provider)
        self.guard.pydantic_ai(agent)
        return agent

    async def both(self) -> dict[str, Any]:
        """Both at work at once; -> what each said at the end, or what ended it."""
        runs = {name: self.agent(name).run(PROMPT.format(ticket=TICKETS[name])) for name in (HIJACKED, BENIGN)}
        answers = await asyncio.gather(*runs.values(), return_exceptions=True)
        for desk in self.desks.values():
            desk.close()
        return {name: getattr(answer, "output", answer) for name, answer in zip(runs, answers, strict=True)}

    def run_of(self, name: str) -> ReadableSpan:
        """The run span that the framework made."""
        spans = (span for span in self.made.spans if span.name.startswith("invoke_agent"))
        return next(span for span in spans if (span.attributes or {})["gen_ai.agent.name"] == name)

    def check(self, mode: str) -> None:
        """The alert stands on the hijacked agent's run, nothing on the other's, which did its work."""
        assert self.made.provider.force_flush()
        found = [dict(event.attributes or {}) for event in alerts_on(self.run_of(HIJACKED))]
        assert {"data_exfiltration", "suspicious_tool_sequence"} <= {event["otel_ir.alert.signal"] for event in found}
        assert {event["otel_ir.response.mode"] for event in found} == {mode}
        assert alerts_on(self.run_of(BENIGN)) == []
        assert self.called[BENIGN] == ["read_ticket", "look_up_order", "send_email"]

    @property
    def refused(self) -> set[Any]:
        """Which agent's calls the guard refused, as it wrote down."""
        spans = (span for span in self.made.spans if span.name.startswith("otel_ir.guard.refused"))
        return {(span.attributes or {}).get("gen_ai.agent.name") for span in spans}


def test_the_next_call_is_blocked_and_the_model_is_told(agents: Callable[..., Agents], tmp_path: Path) -> None:
    (tmp_path / "response.yaml").write_text(REVOKE)
    working = Working(agents, enforce=True, response=tmp_path / "response.yaml")
    answers = asyncio.run(working.both())
    working.check("enforce")
    assert working.called[HIJACKED] == CALLS  # the first mail had gone when its span came; nothing ran after it
    assert "was not run" in answers[HIJACKED]
    assert answers[BENIGN] == "The ticket is done."
    assert working.refused == {HIJACKED}


def test_the_shipped_policy_pauses_the_agent_and_ends_its_run(agents: Callable[..., Agents]) -> None:
    working = Working(agents, enforce=True)
    answers = asyncio.run(working.both())
    working.check("enforce")
    assert working.called[HIJACKED] == CALLS
    assert isinstance(answers[HIJACKED], Refused)
    assert answers[BENIGN] == "The ticket is done."


def test_a_dry_run_stops_nobody(agents: Callable[..., Agents]) -> None:
    working = Working(agents, enforce=False)
    asyncio.run(working.both())
    working.check("dry-run")
    assert working.called[HIJACKED].count("send_email") > 1
    assert working.refused == set()
