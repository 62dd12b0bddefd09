"""Carries actions out: attempts, checks, releases, all adapters at once on one event loop; a slow target holds up nobody but itself.

A *job* is one thing done about one action; there is at most one job per action at a time. Whatever a job learns is in the ledger before
anything is built on it. A job that is cut off leaves a state from which the keeper takes it up again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from otel_ir.errors import IllegalStep, StorageError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState
from otel_ir.respond.book import StoredAction
from otel_ir.respond.contract import Adapter, Finding, Outcome, Readiness
from otel_ir.respond.desk import CANNOT_KNOW, SECOND, Desk

_log = logging.getLogger(__name__)

MAX_JOBS = 1_000
"""Jobs under way per adapter; what is more waits in the ledger."""
_FIRST_LOOK, _LONGEST_LOOK = 0.05, 1.0
"""Seconds between two looks for proof; doubled each time."""

_S = ActionState

Job = Callable[[], Coroutine[Any, Any, None]]


class Carrier:
    """The event loop of the response, in a thread of its own. ``submit`` and what calls it are thread-safe."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.under_way: dict[str, tuple[str, str]] = {}
        """Action ids to (adapter, incident) of the jobs under way; left by the loop, entered by whoever submits."""
        self.idle = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="otel_ir-contain", daemon=True)
        self._changed: asyncio.Condition

    def start(self) -> None:
        """Begin to run jobs."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def close(self) -> None:
        """Cut off what is under way, let go of connections (not of targets), stop."""
        if self._thread.ident and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    # Jobs, from any thread

    def apply(self, request: ActionRequest, alert: Alert | None, attempts: int) -> bool:
        """Attempt it until the target acknowledges or the attempts end, then look for proof. ``False``: no room now."""
        return self._submit(request, lambda: self._apply(request, alert, attempts))

    def verify(self, request: ActionRequest) -> bool:
        """Look for proof of an action that was acknowledged."""
        return self._submit(request, lambda: self._verify(request))

    def recheck(self, row: StoredAction) -> bool:
        """Look whether it still holds."""
        return self._submit(row.request, lambda: self._recheck(row))

    def release(self, row: StoredAction, alert: Alert | None) -> bool:
        """Let go of it."""
        return self._submit(row.request, lambda: self._release(row, alert))

    def widen(self, row: StoredAction, target: dict[str, str], alert: Alert | None) -> bool:
        """The agent is better known now: apply the same action to the wider target."""
        return self._submit(row.request, lambda: self._widen(row, target, alert))

    def hold_on(self, row: StoredAction, expires_at: int, why: str, alert: Alert | None) -> bool:
        """It is to hold until ``expires_at``: the target must hear of it, or it lets go by itself."""
        return self._submit(row.request, lambda: self._hold_on(row, expires_at, why, alert))

    def preflight(self) -> list[dict[str, object]]:
        """Ask every adapter whether it could act now. Blocks for as long as the slowest one may take; not from the loop's thread."""
        return asyncio.run_coroutine_threadsafe(self._preflight(), self._loop).result()

    async def _preflight(self) -> list[dict[str, object]]:
        async def one(name: str, adapter: Adapter) -> dict[str, object]:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(adapter.time_limit):
                    readiness = await adapter.preflight()
            except TimeoutError:
                readiness = Readiness(ready=False, detail=f"no answer within {adapter.time_limit:g} s")
            except Exception as error:
                _log.exception("adapter %s raised", name)
                readiness = Readiness(ready=False, detail=f"fault in the adapter: {type(error).__name__}")
            about, seconds = adapter.about, round(time.perf_counter() - began, 3)
            return {
                "adapter": name, "type": about.name, "verbs": list(adapter.verbs), "ready": readiness.ready, "detail": readiness.detail,
                "seconds": seconds, "reversible": about.reversible, "verifiable": bool(about.check),
            }  # fmt: skip

        return await asyncio.gather(*(one(name, adapter) for name, adapter in self._desk.adapters.items()))

    def _submit(self, request: ActionRequest, job: Job) -> bool:
        with self.idle:
            full = sum(adapter == request.adapter for adapter, _ in self.under_way.values()) >= MAX_JOBS
            if full or request.action_id in self.under_way:
                return False
            self.under_way[request.action_id] = request.adapter, request.incident_id
        self._loop.call_soon_threadsafe(self._begin, request, job)
        return True

    # The loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._changed = asyncio.Condition()
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._wind_up())
            self._loop.close()

    async def _wind_up(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(adapter.close() for adapter in self._desk.adapters.values()), return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def _begin(self, request: ActionRequest, job: Job) -> None:
        task = self._loop.create_task(self._guarded(request, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, request: ActionRequest, job: Job) -> None:
        try:
            await job()
        except IllegalStep as error:
            # Somebody decided otherwise in the meantime (a release during apply): the keeper goes on from what the ledger says.
            _log.info("%s", error)
        except StorageError as error:
            _log.error("action %s waits for the ledger: %s", request.action_id, error)
        except Exception:  # a fault in one job must not end the others
            _log.exception("action %s could not be carried out", request.action_id)
        finally:
            with self.idle:
                del self.under_way[request.action_id]
                self.idle.notify_all()
            async with self._changed:
                self._changed.notify_all()

    async def _apply(self, request: ActionRequest, alert: Alert | None, attempts: int) -> None:
        adapter = self._desk.adapters[request.adapter]
        if adapter.about.last:
            await self._others(request)
        while True:
            attempts += 1
            async with self._slot(adapter, request):
                outcome = await self._attempt(adapter, request, alert, attempts)
            if outcome.result == "applied":
                break
            if outcome.result == "failed":
                return await self._step(request, ActionState.FAILED, outcome.detail)
            if attempts >= adapter.retry.attempts:
                detail = f"no acknowledgment in {attempts} attempts, {CANNOT_KNOW}: {outcome.detail}"
                return await self._step(request, ActionState.FAILED, detail)
            await asyncio.sleep(adapter.retry.wait(attempts, outcome.retry_after))
        facts = {**request.facts, **outcome.facts}
        try:
            await self._step(request, ActionState.APPLIED, outcome.detail, facts)
        except IllegalStep:
            # Let go of while it was being applied: the release needs what was learnt.
            if outcome.facts:
                await asyncio.to_thread(self._desk.book.amend, request.action_id, self._desk.clock(), outcome.detail, facts=facts)
            raise
        return await self._verify(replace(request, facts=facts))

    async def _others(self, request: ActionRequest) -> None:
        """Wait until no other job of the incident is under way (none that waits for the same), at most as long as proof is looked for."""

        def busy() -> bool:
            others = [
                adapter
                for action, (adapter, incident) in list(self.under_way.items())
                if incident == request.incident_id and action != request.action_id
            ]
            return any(not self._desk.adapters[adapter].about.last for adapter in others)

        try:
            async with asyncio.timeout(self._desk.policy.verify.within), self._changed:
                await self._changed.wait_for(lambda: not busy())
        except TimeoutError:
            _log.warning("action %s does not wait any longer for the other actions of %s", request.action_id, request.incident_id)

    async def _attempt(self, adapter: Adapter, request: ActionRequest, alert: Alert | None, number: int) -> Outcome:
        # Durable before anything leaves: after a kill the ledger may say "dispatched" for what never left, never the reverse.
        await self._step(request, ActionState.DISPATCHED, f"attempt {number}")
        started = self._desk.clock()
        if number == 1 and alert is not None:
            self._desk.measure("otel_ir.action.dispatch.latency", started - alert.received, adapter=request.adapter)
        outcome = await self._ask(adapter, adapter.apply(request, alert))
        self._desk.count("otel_ir.action.attempts", adapter=request.adapter, outcome=outcome.result)
        self._desk.measure(
            "otel_ir.action.duration", self._desk.clock() - started, adapter=request.adapter, verb=request.verb, outcome=outcome.result
        )
        return outcome

    async def _ask(self, adapter: Adapter, asked: Awaitable[Outcome]) -> Outcome:
        try:
            async with asyncio.timeout(adapter.time_limit):
                return await asked
        except TimeoutError:
            return Outcome("retry", f"no answer within {adapter.time_limit:g} s")
        except Exception as error:
            # The contract forbids it. The message is kept out: it may quote what an adapter must not show.
            _log.exception("adapter %s raised", adapter.about.name)
            return Outcome("failed", f"fault in the adapter: {type(error).__name__}; {CANNOT_KNOW}")

    async def _look(self, adapter: Adapter, request: ActionRequest) -> Finding:
        try:
            async with asyncio.timeout(adapter.time_limit):
                return await adapter.check(request)
        except TimeoutError:
            return Finding("unknown", f"no answer within {adapter.time_limit:g} s")
        except Exception as error:
            _log.exception("adapter %s raised", adapter.about.name)
            return Finding("unknown", f"fault in the adapter: {type(error).__name__}")

    async def _verify(self, request: ActionRequest) -> None:
        adapter = self._desk.adapters[request.adapter]
        if not adapter.about.check:
            return await self._step(request, ActionState.UNVERIFIED, "acknowledged; there is no way to check it", expect=_S.APPLIED)
        end, wait = time.monotonic() + self._desk.policy.verify.within, _FIRST_LOOK
        while True:
            finding = await self._look(adapter, request)
            if finding.result == "in_force":
                return await self._step(request, ActionState.VERIFIED, finding.detail, expect=_S.APPLIED)
            if time.monotonic() + wait >= end:
                break
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_LOOK)
        await self._step(request, ActionState.UNVERIFIED, f"acknowledged, no proof: {finding.detail}", expect=_S.APPLIED)
        if finding.result == "not_in_force":
            await self._step(request, ActionState.VIOLATED, f"acknowledged, but it does not hold: {finding.detail}", expect=_S.UNVERIFIED)
        return None

    async def _holds_still(self, row: StoredAction) -> bool:
        """Whether it was not let go of since ``row`` was read. What comes later in this job cannot be overtaken by a release."""
        found = await asyncio.to_thread(self._desk.book.actions, action_id=row.action_id, limit=1)
        return bool(found) and found[0].state in (_S.APPLIED, _S.VERIFIED, _S.UNVERIFIED, _S.VIOLATED, _S.ESCALATED)

    async def _hold_on(self, row: StoredAction, expires_at: int, why: str, alert: Alert | None) -> None:
        if not await self._holds_still(row):
            return
        await asyncio.to_thread(self._desk.book.amend, row.action_id, self._desk.clock(), why, expires_at=expires_at)
        request, adapter = replace(row.request, expires_at=expires_at), self._desk.adapters.get(row.adapter)
        if adapter is None:
            return
        outcome = await self._ask(adapter, adapter.apply(request, alert))
        if outcome.result != "applied":
            _log.warning("action %s: whether it is held on is not known: %s", row.action_id, outcome.detail)
        await self._recheck(row, request)

    async def _recheck(self, row: StoredAction, request: ActionRequest | None = None) -> None:
        request, state, now = request or row.request, row.state, self._desk.clock()
        finding = await self._look(self._desk.adapters[request.adapter], request)
        if finding.result == "in_force":
            if state is ActionState.UNVERIFIED:
                return await self._step(request, ActionState.VERIFIED, finding.detail, expect=state)
            return await asyncio.to_thread(self._desk.book.mark_checked, request.action_id, self._desk.clock())
        if state is not ActionState.VERIFIED:
            return None
        if finding.result == "not_in_force":
            return await self._step(request, ActionState.VIOLATED, f"it does not hold any more: {finding.detail}", expect=state)
        # A clock that was set back makes no proof last longer.
        age = abs(now - (row.checked_at or row.verified_at or now)) / SECOND
        if age >= self._desk.policy.verify.stale:
            await self._step(request, ActionState.UNVERIFIED, f"no proof for {age:.0f} s: {finding.detail}", expect=state)
        return None

    async def _release(self, row: StoredAction, alert: Alert | None) -> None:
        request, adapter = row.request, self._desk.adapters[row.adapter]
        to = ActionState.EXPIRED if row.let_go and row.let_go.to == ActionState.EXPIRED else ActionState.RELEASED
        for number in range(1, adapter.retry.attempts + 1):
            await self._step(request, ActionState.RELEASING, f"attempt {number}")
            async with self._slot(adapter, request):
                outcome = await self._ask(adapter, adapter.release(request, alert))
            if outcome.result == "applied":
                return await self._step(request, to, outcome.detail)
            if outcome.result == "failed":
                break
            if number < adapter.retry.attempts:
                await asyncio.sleep(adapter.retry.wait(number, outcome.retry_after))
        return await self._step(request, ActionState.UNVERIFIED, f"not let go of, it may still hold: {outcome.detail}")

    async def _widen(self, row: StoredAction, target: dict[str, str], alert: Alert | None) -> None:
        request, adapter = replace(row.request, target=target), self._desk.adapters.get(row.adapter)
        if adapter is None or not await self._holds_still(row):
            return
        outcome = await self._ask(adapter, adapter.apply(request, alert))
        if outcome.result != "applied":
            _log.warning("action %s was not widened: %s", row.action_id, outcome.detail)
            return
        # What the ledger calls verified is verified for the target that stands there: the proof comes first.
        if row.state is ActionState.VERIFIED and (await self._look(adapter, request)).result != "in_force":
            return
        who, now = target.get("otel_ir.agent.id", ""), self._desk.clock()
        await asyncio.to_thread(self._desk.book.amend, row.action_id, now, f"target widened: {who}", target=target)
        if row.state in (ActionState.VERIFIED, ActionState.UNVERIFIED):
            self._desk.holds(request, row.state, row.verified_at or row.applied_at or now)

    def _slot(self, adapter: Adapter, request: ActionRequest) -> asyncio.Semaphore:
        return self._slots.setdefault(request.adapter, asyncio.Semaphore(adapter.concurrency))

    async def _step(
        self, request: ActionRequest, state: ActionState, detail: str,
        facts: dict[str, str] | None = None, *, expect: ActionState | None = None,
    ) -> None:  # fmt: skip
        await asyncio.to_thread(self._desk.step, request, state, detail, facts, expect=expect)
