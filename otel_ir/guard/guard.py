"""The guard of one process: what is forbidden, to whom, right now; and everything that hangs on that one decision."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from opentelemetry import trace

from otel_ir.errors import Refused
from otel_ir.guard import evidence
from otel_ir.guard.decide import MODEL, NAME, Call, Decision, Hold, Pair, Refusal, State
from otel_ir.guard.link import Link
from otel_ir.guard.restriction import CANARY, Restriction
from otel_ir.guard.settings import Settings
from otel_ir.guard.spans import Caller, OpenSpans, identity
from otel_ir.guard.waiting import Bell, refuse

MAX_AGENTS = 1000
SELF_TEST_SECONDS = 20.0

_log = logging.getLogger("otel_ir.guard")
_judged: ContextVar[bool] = ContextVar("otel_ir_guard_judged", default=False)
_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


class Guard:
    """Stops contained tool calls before they run. Make one with ``otel_ir.guard.install``; all methods are thread-safe.

    The framework hooks (``pydantic_ai``, ``langchain``, ``openai_agents``, ``otel``) are all that most agents need. An agent of one's own
    calls ``check`` or ``acheck`` before each tool. Without a server, ``restrict`` and ``lift`` say what is forbidden.
    """

    def __init__(self, settings: Settings, *, provider: Any = None) -> None:
        self.settings = settings
        self.provider = provider
        self.spans = OpenSpans()
        self.agents: dict[str, None] = {settings.agent: None} if settings.agent else {}
        self._local: dict[str, Restriction] = {}
        self._state = State()
        self._hooked: dict[str, set[str]] = {}
        self._tests: dict[str, str] = {}
        self._log_level = logging.WARNING
        self._lock, self._bell = threading.RLock(), Bell()
        self._link = Link(self)
        _guards.add(self)

    def start(self) -> None:
        """Puts the cached state into force and begins to talk to the server, where there is one."""
        self._link.start()
        if self.settings.endpoint:
            atexit.register(self.close)

    def close(self) -> None:
        """Ends the line to the server. What is forbidden stays so."""
        atexit.unregister(self.close)
        self._link.close()

    # --- what is forbidden ---------------------------------------------------------------------------------------------------

    @property
    def restrictions(self) -> tuple[Restriction, ...]:
        """All in force (those whose time is over may still be among them), from the server and from here."""
        return self._state.restrictions

    @property
    def named(self) -> frozenset[str]:
        """Tools that some restriction names."""
        return self._state.named

    @property
    def idle(self) -> bool:
        """Nothing is forbidden to anybody."""
        return not self._state and self.settings.fail == "open"

    def restrict(self, restriction: Restriction) -> None:
        """Puts one into force, or in the place of the one with the same id; no server is needed."""
        with self._lock:
            self._local[restriction.id] = restriction
        self.rebuild()

    def lift(self, action_id: str) -> None:
        """Ends one that ``restrict`` put into force; calls that wait for it go on."""
        with self._lock:
            self._local.pop(action_id, None)
        self.rebuild()

    def rebuild(self) -> None:
        """Makes what the server and ``restrict`` gave ready for deciding; calls that wait look again."""
        settings = self.settings
        static: set[Pair] = {("service.name", settings.service), ("service.instance.id", settings.instance), ("otel_ir.tenant", "")}
        with self._lock:
            both = {one.id: one for one in (*self._link.restrictions, *self._local.values())}
            self._state = State(both.values(), frozenset(static))
        self._bell.ring()

    # --- the decision --------------------------------------------------------------------------------------------------------

    def decide(self, call: Call) -> Decision:
        """Refusal, Hold, or None: let it run. Nothing is waited for, written or counted."""
        if self.settings.fail == "closed" and call.tool not in (CANARY, MODEL) and (why := self._link.blind()):
            return Refusal("", "fail_closed", call.tool, "", why)
        return self._state.decide(call, time.time_ns())

    def stopped_by(self, call: Call, action_id: str) -> bool:
        """Whether that restriction alone would stop the call."""
        return any(one.id == action_id for one in self._state.matching(call, time.time_ns()))

    def call(self, tool: str, known: Caller | None = None, *, span: Any = None, at: Any = None) -> Call:
        """The call's context: what is ``known``, completed from the open spans and the guard's own agent."""
        settings = self.settings
        return Call(tool, identity(settings.service, settings.agent, self.spans, span=span, at=at, known=known))

    def stop(self, tool: str, known: Caller | None = None, *, span: Any = None, at: Any = None) -> Refusal | None:
        """The whole of it for a hook that cannot await: decides, waits while the agent is paused, and writes the refusal down."""
        if self.idle:
            return None
        try:
            call = self.call(tool, known, span=span, at=at)
            decision = self.decide(call)
            if isinstance(decision, Hold):
                if _on_event_loop():
                    decision = refuse(decision, call, "the call cannot wait without blocking its event loop")
                else:
                    decision = self._bell.wait(call, self.decide, self.settings.pause_seconds)
            if decision is not None:
                self._refused(call, decision, span)
        except Exception:
            return self._broken(tool)
        return decision

    async def astop(self, tool: str, known: Caller | None = None, *, span: Any = None) -> Refusal | None:
        """As ``stop``, awaiting where that one blocks."""
        if self.idle:
            return None
        try:
            call = self.call(tool, known, span=span)
            decision = self.decide(call)
            if isinstance(decision, Hold):
                if _on_event_loop():
                    decision = await self._bell.asleep(call, self.decide, self.settings.pause_seconds)
                else:
                    decision = refuse(decision, call, "the call cannot wait outside asyncio")
            if decision is not None:
                self._refused(call, decision, span)
        except Exception:
            return self._broken(tool)
        return decision

    def _broken(self, tool: str) -> Refusal | None:
        """A fault of the guard itself must neither end the agent nor, failing closed, let a call through."""
        _log.exception("otel_ir guard: a call could not be judged")
        return Refusal("", "fail_closed", tool, "", "the guard failed") if self.settings.fail == "closed" else None

    def check(self, tool: str, *, agent: str = "", conversation: str = "") -> None:
        """For a tool loop of one's own: raises ``Refused`` when ``tool`` must not run now; waits while the agent is paused."""
        self.hooked("manual", agent)
        if refusal := self.stop(tool, Caller(agent_name=agent, conversations=(conversation,))):
            raise self.exception(refusal)

    async def acheck(self, tool: str, *, agent: str = "", conversation: str = "") -> None:
        """``check`` for asyncio."""
        self.hooked("manual", agent)
        if refusal := await self.astop(tool, Caller(agent_name=agent, conversations=(conversation,))):
            raise self.exception(refusal)

    @staticmethod
    def exception(refusal: Refusal) -> Refused:
        """What is raised where a framework has no softer way."""
        return Refused(refusal.message, action_id=refusal.id)

    def _refused(self, call: Call, refusal: Refusal, span: Any) -> None:
        if call.tool == CANARY:
            return
        try:
            span_id = evidence.record(self.provider, call, refusal, span=span)
        except Exception:  # an exporter or a processor of the application; the call stays refused
            _log.exception("otel_ir guard: a refusal could not be written as a span")
            span_id = ""
        _log.log(self._log_level, "otel_ir guard: %s", refusal.message)
        self._seen(call.first(NAME))
        self._link.blocked(call, refusal, span_id)

    # --- hooks ---------------------------------------------------------------------------------------------------------------

    def pydantic_ai(self, agent: Any = None) -> Any:
        """Guards ``agent`` in place; without one, gives the capability for ``Agent(…, capabilities=[…])``."""
        from otel_ir.guard import pydantic_ai

        return pydantic_ai.attach(self, agent)

    def langchain(self) -> Any:
        """The middleware for ``create_agent(…, middleware=[…])`` of LangChain and LangGraph."""
        from otel_ir.guard import langchain

        return langchain.attach(self)

    def openai_agents(self, *agents: Any) -> None:
        """Guards agents of the OpenAI Agents SDK in place, with those that they can hand off to."""
        from otel_ir.guard import openai_agents

        openai_agents.attach(self, *agents)

    def otel(self, provider: Any = None) -> None:
        """Guards whatever starts tool spans on ``provider`` (default: the global one): for all frameworks without a hook here."""
        from otel_ir.guard import otel

        otel.attach(self, provider)

    @property
    def frameworks(self) -> list[str]:
        """Those with a hook in place."""
        return sorted(self._hooked)

    def hooked(self, framework: str, agent: str = "") -> None:
        """A hook is in place, for the agent of that name."""
        names = self._hooked.get(framework)
        if names is not None and (not agent or agent in names):
            return
        with self._lock:
            names = self._hooked.setdefault(framework, set())
            if len(names) < MAX_AGENTS:
                names.update({agent} if agent else ())
        self._seen(agent)
        self._link.changed()

    def _seen(self, agent: str) -> None:
        if agent and agent not in self.agents and len(self.agents) < MAX_AGENTS:
            with self._lock:
                self.agents = {**self.agents, agent: None}

    def hooks(self, framework: str, agent: str) -> bool:
        """Whether calls of ``agent`` go through a hook of ``framework`` itself; one whose name is not known is taken to."""
        names = self._hooked.get(framework)
        return names is not None and (not agent or not names or agent in names)

    @contextlib.contextmanager
    def judged(self) -> Iterator[None]:
        """Around a call that a hook let through: the generic guard does not judge it again."""
        token = _judged.set(True)
        try:
            yield
        finally:
            _judged.reset(token)

    @property
    def passed(self) -> bool:
        """Whether a hook let the current call through."""
        return _judged.get()

    # --- self-tests ----------------------------------------------------------------------------------------------------------

    def agent_id(self, agent: str) -> str:
        """``otel_ir.agent.id`` of an agent of this service."""
        return f"{self.settings.service}/{agent}"

    def double(self) -> Guard:
        """A guard without a server, of the same service, for a hook's self-test; it writes no telemetry."""
        settings = replace(self.settings, endpoint="", fail="open", self_test=False, cache=None)
        double = Guard(settings, provider=trace.NoOpTracerProvider())
        double._log_level = logging.DEBUG
        return double

    def test(self, framework: str, run: Callable[[], str]) -> None:
        """Runs a hook's self-test once: ``run`` gives what is wrong, or nothing. In a thread of its own, away from any event loop."""
        if not self.settings.self_test or framework in self._tests:
            return
        faults: list[str] = []

        def attempt() -> None:
            try:
                faults.append(run())
            except BaseException as error:
                faults.append(f"{type(error).__name__}: {error}"[:300])

        thread = threading.Thread(target=attempt, name="otel_ir.guard.self_test", daemon=True)
        thread.start()
        thread.join(SELF_TEST_SECONDS)
        self._tests[framework] = fault = faults[0] if faults else f"did not end within {SELF_TEST_SECONDS:g} s"
        if fault:
            _log.warning("otel_ir guard: the self-test of %s failed, its calls may NOT be stopped: %s", framework, fault)
        self._link.changed()

    @property
    def self_test(self) -> dict[str, str]:
        """The outcome of all self-tests together: passed, failed, or not_run."""
        failed = [f"{name}: {fault}" for name, fault in self._tests.items() if fault]
        outcome = "failed" if failed else "passed" if self._tests else "not_run"
        return {"outcome": outcome, "detail": "; ".join(failed or sorted(self._tests))[:1000]}

    # --- fork ----------------------------------------------------------------------------------------------------------------

    def _forked(self) -> None:
        """In a child: what was forbidden stays so; locks, threads and connections of the parent do not exist here."""
        self.settings = self.settings.forked()
        self.spans = OpenSpans()
        self._lock, self._bell = threading.RLock(), Bell()
        parent, self._link = self._link, Link(self)
        self._link.forked(parent)
        self.rebuild()


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _after_fork() -> None:
    for guard in list(_guards):
        guard._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
