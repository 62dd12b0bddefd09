"""Keeps what is in force true: takes up what waits in the ledger, looks again, escalates, lets go when time is over, watches, closes.

It works from the ledger alone, again and again; so it is also what a restart does, and what carries out a person's orders.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from otel_ir.errors import IllegalStep, StorageError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState, IncidentState, LetGo, LogEntry
from otel_ir.respond.book import StoredAction, StoredIncident
from otel_ir.respond.carrier import Carrier
from otel_ir.respond.desk import CANNOT_KNOW, SECOND, Desk
from otel_ir.respond.policy import next_rung, steps, whom, why_dry_run
from otel_ir.respond.target import is_known

_log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at the ledger: what a person's order waits for."""
HELD_SECONDS, QUIET_SECONDS = 1.0, 60.0
"""Seconds between two looks at everything that is in force, and at incidents in which nothing happens any more."""
QUIET = 86_400 * SECOND
"""An incident in which nothing is in force is closed when no alert joined it for a day (ns)."""
_RETRY_RELEASE = 10
"""A release that nobody acknowledged is tried again after so many ``verify.recheck``."""

Decide = Callable[[ActionRequest, Alert | None], None]


class Keeper:
    """A thread that looks every ``TICK`` seconds. ``decide`` takes a request that stands in the ledger and was not begun."""

    def __init__(self, desk: Desk, carrier: Carrier, decide: Decide, orders: Callable[[], None], gate: threading.Lock) -> None:
        self._desk, self._carrier, self._decide, self._orders, self._gate = desk, carrier, decide, orders, gate
        self._looked: dict[str, int] = {}
        """Action ids to when they were last given to a check."""
        self._done: dict[str, float] = {}
        self._hurried = True
        self._wake, self._stop = threading.Event(), threading.Event()
        self.first_look = threading.Event()
        """Set when what an earlier run left was taken up."""
        self._thread = threading.Thread(target=self._run, name="otel_ir-keeper", daemon=True)

    def start(self) -> None:
        """Begin; first of all with what an earlier run left."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
                self.first_look.set()
            except StorageError as error:
                _log.error("the response waits for the ledger: %s", error)
            except Exception:  # one fault must not end the keeping of everything else
                _log.exception("a look at the ledger failed")
            self._hurried = self._wake.wait(TICK)
            self._wake.clear()

    def look(self) -> None:
        """Once through everything. Raises ``StorageError``."""
        self._orders()
        # The planner decides on new requests while it holds the gate; what is seen here is either decided or was left by somebody.
        with self._gate:
            work = self._desk.book.work()
            for row in work:
                if row.state is ActionState.REQUESTED and row.action_id not in self._carrier.under_way:
                    self._take_up(row)
        self._releases(row for row in work if row.state is ActionState.RELEASING)
        for row in work:
            if row.state is not ActionState.REQUESTED and row.action_id not in self._carrier.under_way:
                self._take_up(row)
        self._desk.say_again()
        if self._due("held", HELD_SECONDS) or any(row.state is ActionState.APPLIED for row in work):
            held = self._desk.book.in_force()
            for row in held:
                self._keep(row)
            self._looked = {row.action_id: self._looked[row.action_id] for row in held if row.action_id in self._looked}
            self._watch()
        if self._due("quiet", QUIET_SECONDS):
            self._close_quiet()

    def _due(self, what: str, seconds: float) -> bool:
        """Whether it is time for it again; a wake makes it so."""
        now = time.monotonic()
        if not self._hurried and now - self._done.get(what, -seconds) < seconds:
            return False
        self._done[what] = now
        return True

    # What waits

    def _take_up(self, row: StoredAction) -> None:
        if row.state is ActionState.RELEASING:
            return
        request, alert = row.request, self._alert(row)
        begun = row.state is not ActionState.REQUESTED
        if reason := self._why_not_again(row, alert):
            text = f"interrupted: {reason}; {CANNOT_KNOW}" if begun else f"refused: {reason}"
            following = ActionState.UNVERIFIED if row.state is ActionState.APPLIED else ActionState.FAILED
            self._step(request, following, text)
        elif row.state is ActionState.APPLIED:
            self._carrier.verify(request)
        elif begun:
            self._carrier.apply(request, alert, row.attempts)
        else:
            self._decide(request, alert)

    def _why_not_again(self, row: StoredAction, alert: Alert | None) -> str:
        desk, adapter = self._desk, self._desk.adapters.get(row.adapter)
        if adapter is None or row.verb not in adapter.verbs:
            return f"no adapter {row.adapter!r} that can do {row.verb} is configured now"
        if row.state is ActionState.APPLIED:
            return ""
        if row.alert_id and alert is None:
            return "its alert is not in the ledger"
        if desk.clock() - row.requested_at > desk.policy.safety.retry_for * SECOND:
            return f"older than {desk.policy.safety.retry_for:g} s (safety.retry_for)"
        if row.mode != "enforce":
            return ""
        if alert is not None:
            return why_dry_run(alert, desk.policy, enforce=desk.enforce)
        return "" if desk.enforcing else "enforcing was switched off"

    def _releases(self, rows: Iterable[StoredAction]) -> None:
        """In reverse order, one at a time per incident: what was done last is undone first."""
        newest: dict[str, StoredAction] = {}
        for row in rows:
            newest[row.incident_id or ""] = row
        for row in newest.values():
            if row.adapter in self._desk.adapters:
                self._carrier.release(row, self._alert(row))
            else:
                self._step(row.request, ActionState.UNVERIFIED, f"no adapter {row.adapter!r} is configured now: it may still hold")

    # What is in force

    def _keep(self, row: StoredAction) -> None:
        if row.action_id in self._carrier.under_way:
            return None
        now, state = self._desk.clock(), row.state
        if state is ActionState.VIOLATED:
            return self._escalate(row)
        if state not in (ActionState.VERIFIED, ActionState.UNVERIFIED, ActionState.ESCALATED):
            return None
        if row.expires_at is not None and now >= row.expires_at and self._end(row, now):
            return None
        if row.adapter not in self._desk.adapters:
            return self._unprovable(row, now)
        if state is ActionState.ESCALATED:
            return None
        # After a restart the ledger knows when it was looked at: what is claimed from before is to be proven again when it is due.
        looked = self._looked.setdefault(row.action_id, row.checked_at or row.verified_at or now)
        # A clock that was set back makes it due, too.
        if abs(now - looked) >= self._desk.policy.verify.recheck * SECOND:
            self._looked[row.action_id] = now
            if not self._widen(row):
                self._carrier.recheck(row)
        return None

    def _unprovable(self, row: StoredAction, now: int) -> None:
        """Nobody is there to look whether it holds: old proof is none, as ever."""
        age = abs(now - (row.checked_at or row.verified_at or now)) / SECOND
        if row.state is ActionState.VERIFIED and age >= self._desk.policy.verify.stale:
            self._step(row.request, ActionState.UNVERIFIED, f"no proof for {age:.0f} s: no adapter {row.adapter!r} is configured now")

    def _widen(self, row: StoredAction) -> bool:
        """Whether the agent became known while nobody looked (a crash between the alert and the action)."""
        if is_known(row.target) or not self._desk.enforcing:
            return False
        alert = self._alert(row)
        if alert is None or not is_known(wider := whom(alert, self._desk.policy)):
            return False
        return self._carrier.widen(row, wider, alert)

    def _end(self, row: StoredAction, now: int) -> bool:
        """Let go of what is over if the agent stayed clean, else hold on as long again. -> whether one of these was begun."""
        if row.let_go and now - row.let_go.at < _RETRY_RELEASE * self._desk.policy.verify.recheck * SECOND:
            return False
        life = max(SECOND, (row.expires_at or now) - (row.applied_at or row.requested_at))
        life = min(life, int(self._desk.policy.ttl * SECOND))
        incident = self._incident(row)
        clean = row.state is not ActionState.ESCALATED and (incident is None or incident.last_alert_at <= now - life // 2)
        if row.let_go or not self._desk.enforcing:
            why = row.let_go.reason if row.let_go else "its time is over and enforcing is switched off"
            return self._desk.book.let_go(row.action_id, LetGo(ActionState.EXPIRED, "", why, now))
        if clean:
            return self._desk.book.let_go(row.action_id, LetGo(ActionState.EXPIRED, "", "its time is over and the agent stayed clean", now))
        why = "the action was violated" if row.state is ActionState.ESCALATED else "alerts came in the meantime"
        self._carrier.hold_on(row, now + life, f"held on: {why}", self._alert(row))
        return True

    def _escalate(self, row: StoredAction) -> None:
        """The next rung for whom an action does not hold. Twice is harmless: the request is latched."""
        desk, request, now = self._desk, row.request, self._desk.clock()
        able = {verb for adapter in desk.adapters.values() for verb in adapter.verbs}
        same = desk.book.actions(incident_id=row.incident_id, states=[ActionState.VERIFIED], limit=1000)
        held = {other.verb for other in same if other.request.subject == request.subject}
        while (rung := next_rung(row.verb, desk.policy, able, held)) and self._is_taken(row, rung):
            held.add(rung)
        if rung is None:
            _log.critical("%s: %s is violated and the ladder ends: a person is needed", row.incident_id, row.verb)
            return self._step(request, ActionState.ESCALATED, "nobody can do more (escalation): a person is needed")
        base = replace(
            request, cause="escalation", reason=f"{row.verb} through {row.adapter} was violated", requested_at=now,
            mode="enforce" if desk.enforcing else "dry-run", expires_at=None, facts={}, turn=0, tools=None,
        )  # fmt: skip
        drafts = steps(base, [rung], desk.policy, desk.adapters)
        with self._gate:
            new = desk.book.request_actions(drafts, now)
            self._step(request, ActionState.ESCALATED, f"asked for {rung} through {', '.join(draft.adapter for draft in drafts)}")
            for one in new:
                desk.tell(one, ActionState.REQUESTED, now, "")
                self._decide(one, self._alert(row))
        desk.count("otel_ir.escalations", verb=row.verb, rung=rung)
        return None

    def _is_taken(self, row: StoredAction, rung: str) -> bool:
        """Whether every adapter that could take that rung did, and there is no proof of it: to ask again would ask for nothing."""
        rows = self._desk.book.actions(incident_id=row.incident_id, states=[ActionState.UNVERIFIED], limit=1000)
        taken = {one.adapter for one in rows if one.verb == rung and one.request.subject == row.request.subject and not one.let_go}
        return {name for name, adapter in self._desk.adapters.items() if rung in adapter.verbs} <= taken

    # Incidents

    def _watch(self) -> None:
        desk, now = self._desk, self._desk.clock()
        for incident in desk.book.incidents(states=[IncidentState.RECOVERING], limit=1000):
            if incident.watch_until is None:
                until = now + int(desk.policy.watch * SECOND)
                desk.book.watch(incident.incident_id, until, LogEntry(now, "watch", "", f"watched for {desk.policy.watch:g} s"))
            elif incident.last_alert_at + int(desk.policy.watch * SECOND) > max(now, incident.watch_until):
                # An alert about which nothing could be done: it is no quiet end.
                until = incident.last_alert_at + int(desk.policy.watch * SECOND)
                desk.book.watch(incident.incident_id, until, LogEntry(now, "watch", "", "an alert came: watched for longer"))
            elif now >= incident.watch_until:
                text = f"quiet: no alert about {incident.agent_id} in the {desk.policy.watch:g} s of the watch"
                if desk.book.close_incident(incident.incident_id, LogEntry(now, "closed", "", text)):
                    _log.info("%s is closed: %s", incident.incident_id, text)

    def _close_quiet(self) -> None:
        desk, now = self._desk, self._desk.clock()
        for incident in desk.book.incidents(states=[IncidentState.OPEN], quiet_since=now - QUIET, limit=1000):
            desk.book.close_incident(incident.incident_id, LogEntry(now, "closed", "", "nothing in force and no alert for a day"))

    def _incident(self, row: StoredAction) -> StoredIncident | None:
        found = self._desk.book.incidents(incident_id=row.incident_id, limit=1) if row.incident_id else ()
        return found[0] if found else None

    def _alert(self, row: StoredAction) -> Alert | None:
        found = self._desk.book.alerts(alert_id=row.alert_id, limit=1) if row.alert_id else ()
        return found[0].alert if found else None

    def _step(self, request: ActionRequest, state: ActionState, text: str) -> None:
        with contextlib.suppress(IllegalStep):  # somebody was faster; the next look sees what is so
            self._desk.step(request, state, text)


def wait_until(condition: Callable[[], bool], timeout: float | None, changed: threading.Condition) -> bool:
    """Wait for a condition that ``changed`` tells of. ``False`` when ``timeout`` (seconds) passed first."""
    end = None if timeout is None else time.monotonic() + timeout
    with changed:
        while not condition():
            rest = TICK if end is None else min(TICK, end - time.monotonic())
            if rest <= 0:
                return False
            changed.wait(rest)
    return True
