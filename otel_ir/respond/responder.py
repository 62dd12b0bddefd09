"""Carries out what the policy asks for, outside the fold, and writes every step into the ledger before and after it is taken.

Two threads. The *planner* takes alerts from a bounded queue, decides, and makes the requests durable. The *loop* runs the
attempts of all adapters at once: a slow target holds up nobody but itself. The ledger, not memory, holds what is to be done:
what memory has no room for, or what a kill interrupted, is found there again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from otel_ir.errors import StorageError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState
from otel_ir.respond.contract import ActionLedger, Adapter, Outcome, StoredAction
from otel_ir.respond.policy import ResponseConfig, plan, refusal, unserved, why_dry_run

_log = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Alerts waiting to be planned, and actions under way per adapter. Above it ``handle`` waits, and actions wait in the ledger."""
_SECOND = 1_000_000_000
_CANNOT_KNOW = "what became of it is not known"

Observer = Callable[[ActionRequest, ActionState, int, str], None]
"""Called after each durable step: action, state, time (ns), detail. From several threads; must be quick and must not raise."""


class Counter(Protocol):
    """The part of ``otel_ir.telemetry.Telemetry`` used here."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Raise a counter."""

    def record(self, name: str, value: float, **attributes: str) -> None:
        """Add a measurement to a histogram."""


class TokenBucket:
    """At most ``per_minute`` at once, and so many per minute in the long run. ``clock`` in nanoseconds. Not thread-safe."""

    def __init__(self, per_minute: int, clock: Callable[[], int]) -> None:
        self._rate, self._clock = per_minute / 60, clock
        self._tokens, self._size, self._then = float(per_minute), float(per_minute), clock()

    def take(self) -> bool:
        """Whether there is one left; takes it."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + max(0, now - self._then) / _SECOND * self._rate)
        self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Responder:
    """From alerts to acknowledged actions. ``handle`` and ``flush`` are thread-safe.

    The caller's part, so that neither a crash nor a replay loses or repeats anything: record alerts in the ledger first; give
    *all* alerts of a fold to ``handle``, also those which a replay brought again; call ``flush`` before a checkpoint. Actions
    are enforced only when the policy says ``mode: enforce`` *and* ``enforce`` is set.
    """

    def __init__(
        self,
        ledger: ActionLedger,
        adapters: Mapping[str, Adapter],
        policy: ResponseConfig,
        *,
        enforce: bool = False,
        clock: Callable[[], int] = time.time_ns,
        counter: Counter | None = None,
        observer: Observer | None = None,
        ledger_retry: float = 1.0,
    ) -> None:
        self._ledger, self._adapters, self._policy, self._enforce = ledger, adapters, policy, enforce
        self._clock, self._counter, self._observer = clock, counter, observer
        self._ledger_retry = ledger_retry
        self._bucket = TokenBucket(policy.safety.actions_per_minute, clock)
        self._inbox: queue.Queue[Alert | None] = queue.Queue(MAX_WAITING)  # None wakes it for the end
        self._under_way: dict[str, str] = {}  # action id -> adapter; entered by the planner, left by the loop
        self._idle = threading.Condition()
        self._sweep, self._stop, self._resuming = threading.Event(), threading.Event(), False
        self._loop: asyncio.AbstractEventLoop  # made by start: a responder that never starts holds no sockets
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = [
            threading.Thread(target=self._run_planner, name="otel_ir-respond", daemon=True),
            threading.Thread(target=self._run_loop, name="otel_ir-contain", daemon=True),
        ]

    @property
    def enforcing(self) -> bool:
        """Whether both switches are set."""
        return self._enforce and self._policy.mode == "enforce"

    @property
    def waiting(self) -> int:
        """Alerts not yet planned and actions under way: for the gauge ``otel_ir.actions.waiting``."""
        return self._inbox.qsize() + len(self._under_way)

    def start(self) -> None:
        """Begin; first of all with what an earlier run left unfinished."""
        self._sweep.set()
        self._loop = asyncio.new_event_loop()
        for thread in self._threads:
            thread.start()

    def handle(self, alerts: Sequence[Alert]) -> None:
        """Respond to alerts that stand in the ledger. Returns at once, except that it waits while ``MAX_WAITING`` are waiting.

        Raises ``StorageError`` once the responder is closed: what was not taken will not be responded to.
        """
        for alert in alerts:
            while True:
                if self._stop.is_set():
                    raise StorageError("the responder is closed")
                try:
                    self._inbox.put(alert, timeout=self._ledger_retry)
                    break
                except queue.Full:
                    continue

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the requests of everything handled are durable. ``False`` when ``timeout`` (seconds) passed first."""
        with self._inbox.all_tasks_done:
            return self._inbox.all_tasks_done.wait_for(lambda: not self._inbox.unfinished_tasks, timeout)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every action has an outcome. ``False`` when ``timeout`` (seconds) passed first."""
        end = None if timeout is None else time.monotonic() + timeout
        if not self.flush(timeout):
            return False
        with self._idle:
            rest = None if end is None else max(0.0, end - time.monotonic())
            return self._idle.wait_for(lambda: not (self._under_way or self._resuming or self._sweep.is_set()), rest)

    def close(self, timeout: float = 5.0) -> None:
        """Finish what can be finished in ``timeout`` seconds and stop. What is cut off is tried again at the next start."""
        if not self._threads[0].ident or self._loop.is_closed():
            return
        self.drain(timeout)
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._inbox.put_nowait(None)
        self._threads[0].join()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._threads[1].join()

    # The planner thread

    def _run_planner(self) -> None:
        while not self._stop.is_set():
            if self._sweep.is_set():
                self._resuming = True
                self._until_durable(self._resume)
                with self._idle:
                    self._resuming = False
                    self._idle.notify_all()
            try:
                alert = self._inbox.get(timeout=self._ledger_retry)
            except queue.Empty:
                continue
            if alert is not None and self._until_durable(partial(self._respond, alert)):
                self._inbox.task_done()

    def _until_durable(self, step: Callable[[], None]) -> bool:
        """Run an idempotent step until the ledger has taken it: a full disk delays a response, it must not lose one."""
        while not self._stop.is_set():
            try:
                step()
            except StorageError as error:
                _log.error("the response waits for the ledger: %s", error)
                # The latch may be closed already, with the step after it missing: only a sweep finds such an action.
                self._sweep.set()
                self._stop.wait(self._ledger_retry)
                continue
            except Exception:  # a fault of one adapter or alert must not end the response to all others
                _log.exception("an alert could not be responded to")
            return True
        return False

    def _respond(self, alert: Alert) -> None:
        for verb in unserved(alert, self._policy, self._adapters):
            self._count("otel_ir.actions.unserved", verb=verb)
        requests = plan(alert, self._policy, self._adapters, enforce=self._enforce, now=self._clock())
        if requests and not self._ledger.alerts(alert_id=alert.alert_id):
            raise ValueError(f"alert {alert.alert_id} was not recorded in the ledger first")
        for request in requests:
            if self._ledger.request_action(request):
                self._tell(request, ActionState.REQUESTED, request.requested_at, "")
                self._decide(request, alert)

    def _decide(self, request: ActionRequest, alert: Alert) -> None:
        """Refuse, record as a dry run, or send a request that stands in the ledger as ``requested``."""
        if reason := refusal(alert, self._policy):
            self._step(request, ActionState.FAILED, f"refused: {reason}")
        elif not self._bucket.take():
            cap = self._policy.safety.actions_per_minute
            self._step(request, ActionState.FAILED, f"refused: more than {cap} actions per minute (safety.actions_per_minute)")
        elif request.mode != "enforce":
            why = why_dry_run(alert, self._policy, enforce=self._enforce) or "it was requested as a dry run"
            would = {"why": why, "would_send": self._preview(request, alert)}
            self._step(request, ActionState.DRY_RUN, json.dumps(would, ensure_ascii=False))
        else:
            self._send(request, alert, 0)

    def _preview(self, request: ActionRequest, alert: Alert) -> Mapping[str, Any]:
        try:
            return self._adapters[request.adapter].preview(request, alert)
        except Exception as error:
            _log.exception("adapter %s raised", request.adapter)
            return {"fault": type(error).__name__}

    def _resume(self) -> None:
        """Take up every action without an outcome that is not under way."""
        self._sweep.clear()
        busy = set(self._under_way)  # before the rows are read: what ends in between then has its outcome in them
        for row in self._ledger.unfinished_actions():
            if row.action_id not in busy:
                self._resume_one(row)

    def _resume_one(self, row: StoredAction) -> None:
        request = ActionRequest(
            alert_id=row.alert_id or "",
            verb=row.verb,
            adapter=row.adapter,
            mode="enforce" if row.mode == "enforce" else "dry-run",
            requested_at=row.requested_at,
            target=row.target,
        )
        found = self._ledger.alerts(alert_id=row.alert_id) if row.alert_id else ()
        alert = found[0].alert if found else None
        begun = row.state == ActionState.DISPATCHED
        reason = self._why_not_again(request, alert) if alert else "its alert is not in the ledger"
        if alert is None or reason:
            self._step(request, ActionState.FAILED, f"interrupted: {reason}; {_CANNOT_KNOW}" if begun else f"refused: {reason}")
        elif begun:
            self._send(request, alert, row.attempts)
        else:
            self._decide(request, alert)

    def _why_not_again(self, request: ActionRequest, alert: Alert) -> str:
        adapter = self._adapters.get(request.adapter)
        if adapter is None or request.verb not in adapter.verbs:
            return f"no adapter {request.adapter!r} that can do {request.verb} is configured now"
        if self._clock() - request.requested_at > self._policy.safety.retry_for * _SECOND:
            return f"older than {self._policy.safety.retry_for:g} s (safety.retry_for)"
        return why_dry_run(alert, self._policy, enforce=self._enforce) if request.mode == "enforce" else ""

    def _send(self, request: ActionRequest, alert: Alert, attempts: int) -> None:
        with self._idle:
            if sum(adapter == request.adapter for adapter in self._under_way.values()) >= MAX_WAITING:
                return  # it stays in the ledger; the loop asks for a sweep when it has room
            self._under_way[request.action_id] = request.adapter
        self._loop.call_soon_threadsafe(self._begin, request, alert, attempts)

    # The loop thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
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
        await asyncio.gather(*(adapter.close() for adapter in self._adapters.values()), return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def _begin(self, request: ActionRequest, alert: Alert, attempts: int) -> None:
        task = self._loop.create_task(self._carry_out(request, alert, attempts))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, request: ActionRequest, alert: Alert, attempts: int) -> None:
        adapter = self._adapters[request.adapter]
        slots = self._slots.setdefault(request.adapter, asyncio.Semaphore(adapter.concurrency))
        try:
            while True:
                attempts += 1
                async with slots:
                    outcome = await self._attempt(adapter, request, alert, attempts)
                if outcome.result != "retry":
                    state = ActionState.APPLIED if outcome.result == "applied" else ActionState.FAILED
                    return await asyncio.to_thread(self._step, request, state, outcome.detail)
                if attempts >= adapter.retry.attempts:
                    detail = f"no acknowledgment in {attempts} attempts, {_CANNOT_KNOW}: {outcome.detail}"
                    return await asyncio.to_thread(self._step, request, ActionState.FAILED, detail)
                await asyncio.sleep(adapter.retry.wait(attempts, outcome.retry_after))
        except StorageError as error:
            # Not taken, so not done: it stands as requested or dispatched, and the next sweep takes it up with the same key.
            _log.error("action %s waits for the ledger: %s", request.action_id, error)
            self._sweep.set()
        finally:
            with self._idle:
                if len(self._under_way) >= MAX_WAITING:
                    self._sweep.set()
                del self._under_way[request.action_id]
                self._idle.notify_all()

    async def _attempt(self, adapter: Adapter, request: ActionRequest, alert: Alert, number: int) -> Outcome:
        # Durable before anything leaves: after a kill the ledger may say "dispatched" for what never left, never the reverse.
        await asyncio.to_thread(self._step, request, ActionState.DISPATCHED, f"attempt {number}")
        started = self._clock()
        if number == 1:
            self._measure("otel_ir.action.dispatch.latency", started - alert.received, adapter=request.adapter)
        try:
            async with asyncio.timeout(adapter.time_limit):
                outcome = await adapter.apply(request, alert)
        except TimeoutError:
            outcome = Outcome("retry", f"no answer within {adapter.time_limit:g} s")
        except Exception as error:
            # The contract forbids it. The message is kept out: it may quote what an adapter must not show.
            _log.exception("adapter %s raised", request.adapter)
            outcome = Outcome("failed", f"fault in the adapter: {type(error).__name__}; {_CANNOT_KNOW}")
        self._count("otel_ir.action.attempts", adapter=request.adapter, outcome=outcome.result)
        self._measure(
            "otel_ir.action.duration", self._clock() - started, adapter=request.adapter, verb=request.verb, outcome=outcome.result
        )
        return outcome

    # Both threads

    def _step(self, request: ActionRequest, state: ActionState, detail: str) -> None:
        now = self._clock()
        self._ledger.transition(request.action_id, state, now, detail)
        self._tell(request, state, now, detail)

    def _tell(self, request: ActionRequest, state: ActionState, at: int, detail: str) -> None:
        self._count("otel_ir.actions", adapter=request.adapter, verb=request.verb, state=state.value, mode=request.mode)
        if self._observer:
            try:
                self._observer(request, state, at, detail)
            except Exception:
                _log.exception("an observer of actions raised")

    def _count(self, name: str, **attributes: str) -> None:
        if self._counter:
            self._counter.add(name, 1, **attributes)

    def _measure(self, name: str, nanos: int, **attributes: str) -> None:
        if self._counter:
            self._counter.record(name, nanos / _SECOND, **attributes)
