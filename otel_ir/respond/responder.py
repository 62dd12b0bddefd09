"""From alerts to actions, outside the fold: decides what is to be done and writes every step into the ledger before it is taken.

Three threads. The *planner* takes alerts from a bounded queue, decides, and makes the requests durable. The *carrier* runs attempts,
checks and releases. The *keeper* looks at the ledger again and again. The ledger, not memory, holds what is to be done: what memory has
no room for, or what a kill interrupted, is found there again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from otel_ir.errors import IllegalStep, StorageError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState, IncidentState, LogEntry, Order
from otel_ir.respond.book import Book, StoredAction, StoredAlert
from otel_ir.respond.caps import Caps
from otel_ir.respond.carrier import Carrier
from otel_ir.respond.contract import Adapter
from otel_ir.respond.desk import Announce, Counter, Desk, Observer, Snapshot
from otel_ir.respond.keeper import Keeper, wait_until
from otel_ir.respond.orders import take_orders
from otel_ir.respond.policy import ResponseConfig, plan, refusal, steps, unserved, whom, why_dry_run
from otel_ir.respond.similar import look_alikes
from otel_ir.respond.target import is_known

_log = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Alerts waiting to be planned. Above it ``handle`` waits."""
ENDED_LATELY = 3_600_000_000_000
"""For so long (ns) a start tells the fold again what was let go of."""
VIOLATED_SIGNAL, VIOLATED_GROUP = "containment_violated", "otel_ir.action.id"
"""Of the alert by which the fold tells that an agent does what an action should have made impossible."""


class Responder:
    """From alerts to verified actions, and back. ``handle``, ``readdress`` and ``flush`` are thread-safe.

    The caller's part, so that neither a crash nor a replay loses or repeats anything: record alerts in the ledger first; give
    *all* alerts of a fold to ``handle``, also those which a replay brought again; call ``flush`` before a checkpoint. Actions
    are enforced only when the policy says ``mode: enforce`` *and* ``enforce`` is set.
    """

    def __init__(
        self,
        ledger: Book,
        adapters: Mapping[str, Adapter],
        policy: ResponseConfig,
        *,
        enforce: bool = False,
        clock: Callable[[], int] = time.time_ns,
        counter: Counter | None = None,
        observer: Observer | None = None,
        announce: Announce | None = None,
        snapshot: Snapshot | None = None,
        ledger_retry: float = 1.0,
    ) -> None:
        self._desk = Desk(
            book=ledger, adapters=adapters, policy=policy, enforce=enforce, clock=clock,
            counter=counter, observer=observer, announce=announce, snapshot=snapshot,
        )  # fmt: skip
        self._ledger_retry = ledger_retry
        self._caps = Caps(ledger, policy.safety, clock)
        self._inbox: queue.Queue[str | None] = queue.Queue(MAX_WAITING)  # None wakes it for the end
        self._gate = threading.Lock()
        self._stop = threading.Event()
        self._looking: set[int] = set()
        self._carrier = Carrier(self._desk)
        self._keeper = Keeper(self._desk, self._carrier, self._decide, self._sweep, self._gate)
        self._planner = threading.Thread(target=self._run, name="otel_ir-respond", daemon=True)

    @property
    def enforcing(self) -> bool:
        """Whether both switches are set."""
        return self._desk.enforcing

    @property
    def waiting(self) -> int:
        """Alerts not yet planned and jobs under way: for the gauge ``otel_ir.actions.waiting``."""
        return self._inbox.qsize() + len(self._carrier.under_way)

    def start(self) -> None:
        """Begin; first of all with what an earlier run left. Raises ``StorageError``."""
        self._caps.resume()
        held = self._desk.book.in_force()
        for name, adapter in self._desk.adapters.items():
            try:
                adapter.restore([row.request for row in held if row.adapter == name])
            except Exception:  # what it cannot take over is looked at like everything else; detection must start
                _log.exception("adapter %s does not take over what is held", name)
        for row in (*held, *self._ended_lately()):
            self._desk.resume(row)
        self._carrier.start()
        self._planner.start()
        self._keeper.start()

    def _ended_lately(self) -> list[StoredAction]:
        """Actions that were let go of a short while ago: the fold may not have heard of it."""
        ended = self._desk.book.actions(states=[ActionState.RELEASED, ActionState.EXPIRED], limit=1000)
        since = self._desk.clock() - ENDED_LATELY
        return [row for row in ended if row.let_go and row.let_go.at >= since]

    def handle(self, alerts: Sequence[Alert]) -> None:
        """Respond to alerts that stand in the ledger. Returns at once, except that it waits while ``MAX_WAITING`` are waiting.

        Raises ``StorageError`` once the responder is closed: what was not taken will not be responded to.
        """
        self._put([alert.alert_id for alert in alerts])

    def readdress(self, alert_ids: Sequence[str]) -> None:
        """The agent of these alerts is known better now (``AlertBook.apply_updates``): their actions follow. As ``handle``."""
        self._put(alert_ids)

    def _put(self, alert_ids: Sequence[str]) -> None:
        for alert_id in alert_ids:
            while True:
                if self._stop.is_set():
                    raise StorageError("the responder is closed")
                try:
                    self._inbox.put(alert_id, timeout=self._ledger_retry)
                    break
                except queue.Full:
                    continue

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the requests of everything handled are durable. ``False`` when ``timeout`` (seconds) passed first."""
        with self._inbox.all_tasks_done:
            return self._inbox.all_tasks_done.wait_for(lambda: not self._inbox.unfinished_tasks, timeout)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is under way. ``False`` when ``timeout`` (seconds) passed first."""
        end = None if timeout is None else time.monotonic() + timeout
        if not self.flush(timeout):
            return False
        rest = None if end is None else max(0.0, end - time.monotonic())
        if not self._keeper.first_look.wait(rest):
            return False
        rest = None if end is None else max(0.0, end - time.monotonic())
        return wait_until(lambda: not self._carrier.under_way and not self._unsettled(), rest, self._carrier.idle)

    def _unsettled(self) -> bool:
        """Whether the ledger holds something that the keeper will take up."""
        try:
            violated = self._desk.book.actions(states=[ActionState.VIOLATED], limit=1)
            return bool(self._desk.book.work() or violated)
        except StorageError:
            return True

    def close(self, timeout: float = 5.0) -> None:
        """Finish what can be finished in ``timeout`` seconds and stop. What is cut off is taken up at the next start."""
        if not self._planner.ident or self._stop.is_set():
            return
        self.drain(timeout)
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._inbox.put_nowait(None)
        self._planner.join()
        self._keeper.close()
        self._carrier.close()

    # The planner thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                alert_id = self._inbox.get(timeout=self._ledger_retry)
            except queue.Empty:
                continue
            if alert_id is not None and self._until_durable(partial(self._respond, alert_id)):
                self._inbox.task_done()

    def _until_durable(self, step: Callable[[], None]) -> bool:
        """Run an idempotent step until the ledger has taken it: a full disk delays a response, it must not lose one."""
        while not self._stop.is_set():
            try:
                step()
            except StorageError as error:
                _log.error("the response waits for the ledger: %s", error)
                self._stop.wait(self._ledger_retry)
                continue
            except Exception:  # a fault of one adapter or alert must not end the response to all others
                _log.exception("an alert could not be responded to")
            return True
        return False

    def _respond(self, alert_id: str) -> None:
        found = self._desk.book.alerts(alert_id=alert_id, limit=1)
        if not found:
            raise ValueError(f"alert {alert_id} was not recorded in the ledger first")
        stored = found[0]
        if stored.planned_at is not None:
            return self._widen(stored)
        self._violated(stored.alert)
        return self._answer(stored)

    def _answer(self, stored: StoredAlert) -> None:
        desk, alert, now = self._desk, stored.alert, self._desk.clock()
        for verb in unserved(alert, desk.policy, desk.adapters):
            desk.count("otel_ir.actions.unserved", verb=verb)
        incident_id = stored.incident_id or ""
        drafts = plan(alert, desk.policy, desk.adapters, incident_id=incident_id, enforce=desk.enforce, now=now)
        watched = self._watched(stored)
        if watched:
            drafts += self._again(stored, drafts)
        drafts += look_alikes(desk, alert, incident_id, now)
        if any(draft.mode == "enforce" for draft in drafts):
            self._keep_evidence(alert, incident_id)
        with self._gate:
            new = desk.book.plan_alert(alert.alert_id, drafts, now)
            for request in new:
                desk.tell(request, ActionState.REQUESTED, now, "")
                self._decide(request, alert)
        if watched and new:
            desk.book.note(incident_id, LogEntry(now, "re-armed", "", f"{alert.title or alert.signal}, while it was watched"))

    def _watched(self, stored: StoredAlert) -> bool:
        """Whether the alert is about an agent that was let go of and is watched, and something would be done about it."""
        desk = self._desk
        incidents = desk.book.incidents(incident_id=stored.incident_id, limit=1) if stored.incident_id else ()
        recovering = any(one.state is IncidentState.RECOVERING for one in incidents)
        return recovering and not why_dry_run(stored.alert, desk.policy, enforce=desk.enforce)

    def _again(self, stored: StoredAlert, drafts: Sequence[ActionRequest]) -> list[ActionRequest]:
        """An alert during the watch: whatever was done to the agent is done again, at once."""
        desk, alert = self._desk, stored.alert
        asked = {(draft.verb, draft.adapter) for draft in drafts}
        ended = (ActionState.RELEASING, ActionState.RELEASED, ActionState.EXPIRED, ActionState.UNVERIFIED)
        rows = desk.book.actions(incident_id=stored.incident_id, states=ended, limit=1000)
        done = {row.verb: None for row in reversed(rows) if row.let_go and not row.request.subject}
        base = ActionRequest(
            incident_id=str(stored.incident_id), alert_id=alert.alert_id, verb="", adapter="", mode="enforce",
            requested_at=desk.clock(), target=whom(alert, desk.policy), reason=f"again: {alert.title or alert.signal}",
        )  # fmt: skip
        return [one for one in steps(base, done, desk.policy, desk.adapters) if (one.verb, one.adapter) not in asked]

    def _keep_evidence(self, alert: Alert, incident_id: str) -> None:
        """Before anything is done to the agent: what it did. That this fails must not hold up what stops it."""
        if self._desk.snapshot:
            try:
                text = self._desk.snapshot(alert, incident_id)
            except Exception as error:
                _log.exception("the evidence of alert %s was not set aside", alert.alert_id)
                text = f"the evidence of alert {alert.alert_id} was not set aside: {type(error).__name__}"
            self._desk.book.note(incident_id, LogEntry(self._desk.clock(), "evidence", "", text))

    def _violated(self, alert: Alert) -> None:
        action_id = dict(alert.group).get(VIOLATED_GROUP) if alert.signal == VIOLATED_SIGNAL else None
        for row in self._desk.book.actions(action_id=action_id, limit=1) if action_id else ():
            text = f"span {alert.span_id}: {alert.description}"
            if row.state is ActionState.APPLIED:
                # Its check is under way; what a span shows counts more than what is not known yet.
                with contextlib.suppress(IllegalStep):
                    self._desk.step(row.request, ActionState.UNVERIFIED, "a span contradicts the acknowledgment")
            with contextlib.suppress(IllegalStep):  # violated already, or let go of in the meantime
                self._desk.step(row.request, ActionState.VIOLATED, text)
        self._keeper.wake()

    def _widen(self, stored: StoredAlert) -> None:
        """An answered alert whose agent became known: what was done to its conversation or trace is done to the agent."""
        wider = whom(stored.alert, self._desk.policy)
        if not is_known(wider) or not self._desk.enforcing:
            return
        for row in self._desk.book.actions(alert_id=stored.alert.alert_id, limit=1000):
            narrow = not is_known(row.target) and not row.request.subject
            if narrow and row.state in (ActionState.APPLIED, ActionState.VERIFIED, ActionState.UNVERIFIED):
                self._carrier.widen(row, wider, stored.alert)

    # The planner, or the keeper while it holds the gate

    def _decide(self, request: ActionRequest, alert: Alert | None) -> None:
        """Refuse, record as a dry run, or send a request that stands in the ledger as ``requested``."""
        desk = self._desk
        if reason := refusal(request.target, desk.policy):
            self._end(request, ActionState.FAILED, f"refused: {reason}")
        elif request.mode != "enforce":
            why = why_dry_run(alert, desk.policy, enforce=desk.enforce) if alert else ""
            would = {"why": why or "it was requested as a dry run", "would_send": self._preview(request, alert)}
            self._end(request, ActionState.DRY_RUN, json.dumps(would, ensure_ascii=False))
        elif reason := "" if request.cause == "person" else self._caps.refusal(request.target):
            self._end(request, ActionState.FAILED, f"refused: {reason}")
        else:
            self._carrier.apply(request, alert, 0)

    def _end(self, request: ActionRequest, state: ActionState, detail: str) -> None:
        with contextlib.suppress(IllegalStep):
            self._desk.step(request, state, detail)

    def _preview(self, request: ActionRequest, alert: Alert | None) -> Mapping[str, Any]:
        try:
            return self._desk.adapters[request.adapter].preview(request, alert)
        except Exception as error:
            _log.exception("adapter %s raised", request.adapter)
            return {"fault": type(error).__name__}

    def _look_over(self, order: Order) -> None:
        """Ask the adapters whether they could act, in a thread of its own: a slow one must not hold up the keeper."""
        if order.order_id in self._looking:
            return

        def look() -> None:
            try:
                found = {"adapters": self._carrier.preflight(), "enforcing": self.enforcing, "unserved": self._unserved()}
                self._desk.book.answer(order.order_id, self._desk.clock(), json.dumps(found), ok=True)
            except (StorageError, RuntimeError, CancelledError) as error:
                _log.warning("a preflight was not answered: %s", error)
            finally:
                self._looking.discard(order.order_id)

        self._looking.add(order.order_id)
        threading.Thread(target=look, name="otel_ir-preflight", daemon=True).start()

    def _unserved(self) -> list[str]:
        """Verbs of the policy's playbooks that no adapter can do."""
        able = {verb for adapter in self._desk.adapters.values() for verb in adapter.verbs}
        return sorted({verb for verbs in self._desk.policy.playbooks.values() for verb in verbs} - able)

    def _sweep(self) -> None:
        """The keeper's: orders of people, and alerts that were moved to another incident or missed."""
        take_orders(self._desk, self._gate, self._decide, self._look_over)
        old = self._desk.clock() - 5_000_000_000
        for alert in self._desk.book.unplanned(100):
            if alert.received < old and not self._inbox.full():
                with contextlib.suppress(queue.Full):
                    self._inbox.put_nowait(alert.alert_id)
