"""Calls of a paused agent: they wait, in threads and on event loops, until they are let go of, refused, or it has been too long."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from guard.peer import AGENT, guarding, paused, revoked, runs, until

from otel_ir.guard import Refused
from otel_ir.guard.decide import MODEL
from otel_ir.guard.spans import Caller


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    run.__dict__.pop("__wrapped__")
    return run


HIJACKED = Caller(agent_name="hijacked")


def test_threads_wait_and_go_on() -> None:
    with guarding() as guard, ThreadPoolExecutor(8) as pool:
        guard.restrict(paused())
        waiting = [pool.submit(runs, guard, "send_email") for _ in range(8)]
        assert runs(guard, "send_email", agent="benign")
        assert not any(one.done() for one in waiting)
        guard.lift("a-2")
        assert [one.result(20) for one in waiting] == [True] * 8


def test_a_call_that_waits_can_still_be_refused() -> None:
    with guarding() as guard, ThreadPoolExecutor(1) as pool:
        guard.restrict(paused())
        waiting = pool.submit(runs, guard, "send_email")
        guard.restrict(revoked("send_email"))
        assert waiting.result(20) is False


def test_it_waits_no_longer_than_it_was_told() -> None:
    with guarding(pause_seconds=0.05) as guard:
        guard.restrict(paused())
        with pytest.raises(Refused, match=r"paused: it waited 0\.05 s and was not let go of \(INC-1\)") as raised:
            guard.check("send_email", agent="hijacked")
        assert raised.value.action_id == "a-2"


def test_it_goes_on_when_the_time_of_the_pause_is_over() -> None:
    with guarding() as guard:
        guard.restrict(paused(expires=time.time_ns() + 100_000_000))
        assert runs(guard, "send_email")


@on_a_loop
async def test_tasks_wait_and_the_loop_goes_on() -> None:
    with guarding() as guard:
        guard.restrict(paused())
        turns = 0

        async def busy() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(busy())
        waiting = [asyncio.create_task(guard.acheck("send_email", agent="hijacked")) for _ in range(5)]
        await guard.acheck("send_email", agent="benign")
        while turns < 100:
            await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        threading.Thread(target=guard.lift, args=("a-2",)).start()
        await asyncio.wait_for(asyncio.gather(*waiting), 20)
        other.cancel()
        assert not guard._bell._sleepers


@on_a_loop
async def test_a_task_is_refused_after_its_time_and_can_be_cancelled() -> None:
    with guarding(pause_seconds=0.05) as guard:
        guard.restrict(paused())
        with pytest.raises(Refused, match="was not let go of"):
            await guard.acheck("send_email", agent="hijacked")
    with guarding() as guard:
        guard.restrict(paused())
        task = asyncio.create_task(guard.acheck("send_email", agent="hijacked"))
        while not guard._bell._sleepers:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not guard._bell._sleepers


@on_a_loop
async def test_a_call_that_cannot_await_is_refused_rather_than_block_the_loop() -> None:
    with guarding() as guard:
        guard.restrict(paused())
        with pytest.raises(Refused, match="without blocking its event loop"):
            guard.check("send_email", agent="hijacked")


def test_a_call_outside_asyncio_that_cannot_await_is_refused() -> None:
    with guarding() as guard:
        guard.restrict(paused())
        waiting = guard.acheck("send_email", agent="hijacked")
        with pytest.raises(Refused, match="outside asyncio"):
            waiting.send(None)  # as an event loop of another kind would


def test_a_loop_that_was_closed_while_a_call_waited_hurts_nobody() -> None:
    with guarding() as guard:
        loop = asyncio.new_event_loop()
        loop.close()
        guard._bell._sleepers.add(lambda: loop.call_soon_threadsafe(print))
        guard.restrict(revoked())
        assert not runs(guard, "send_email")


def test_the_model_of_a_paused_agent_waits_too_and_only_that_of_a_paused_one() -> None:
    with guarding(pause_seconds=0.02) as guard:
        guard.restrict(revoked())
        assert guard.stop(MODEL, HIJACKED) is None
        guard.restrict(paused())
        refusal = guard.stop(MODEL, HIJACKED)
        assert refusal is not None
        assert refusal.message.startswith("The model was not asked: this agent is paused")


def test_a_pause_of_a_conversation_meets_whoever_is_in_it() -> None:
    with guarding() as guard, ThreadPoolExecutor(1) as pool:
        guard.restrict(paused(selector={"gen_ai.conversation.id": "c-1"}))
        assert runs(guard, "x", conversation="c-2")
        waiting = pool.submit(runs, guard, "x", agent="another", conversation="c-1")
        guard.restrict(paused(selector=AGENT))  # the same action, now for the agent only
        assert waiting.result(20)
        until(lambda: not guard._bell._sleepers)
