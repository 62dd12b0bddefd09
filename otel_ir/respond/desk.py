"""What planner, carrier and keeper share: the ledger, the adapters, the policy, and the one way in which a step is taken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState
from otel_ir.respond.book import Book, StoredAction
from otel_ir.respond.contract import Adapter
from otel_ir.respond.policy import ResponseConfig
from otel_ir.respond.target import selectors

_log = logging.getLogger(__name__)

SECOND = 1_000_000_000
_HOLDS = (ActionState.VERIFIED, ActionState.UNVERIFIED, ActionState.VIOLATED, ActionState.ESCALATED)
_OVER = (ActionState.RELEASING, ActionState.RELEASED, ActionState.EXPIRED)
CANNOT_KNOW = "what became of it is not known"

Observer = Callable[[ActionRequest, ActionState, int, str], None]
"""Called after each durable step: action, state, time (ns), detail. From several threads; must be quick and must not raise."""

Announce = Callable[[dict[str, Any]], "Future[Any] | None"]
"""Takes a control record for the fold: what is in force on whom since when. From several threads; must be quick. A record that it raises
for, or whose future does, is given to it again."""

Snapshot = Callable[[Alert, str], str]
"""Keeps the evidence of an alert for its incident before anything is done about it; -> one line for the incident's log."""


class Counter(Protocol):
    """The part of ``otel_ir.telemetry.Telemetry`` used here."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Raise a counter."""

    def record(self, name: str, value: float, **attributes: str) -> None:
        """Add a measurement to a histogram."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """One per responder. Thread-safe as far as the ledger is."""

    book: Book
    adapters: Mapping[str, Adapter]
    policy: ResponseConfig
    enforce: bool
    clock: Callable[[], int]
    counter: Counter | None = None
    observer: Observer | None = None
    announce: Announce | None = None
    snapshot: Snapshot | None = None
    _since: dict[str, int] = field(default_factory=dict)
    """Action ids to when they first held, as the fold was told."""
    _unsaid: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Action ids to the newest record that the fold is to be told, until the journal has it."""
    _failed: set[str] = field(default_factory=set)
    """Those of them that are to be told again."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def enforcing(self) -> bool:
        """Whether both switches are set."""
        return self.enforce and self.policy.mode == "enforce"

    def step(
        self, request: ActionRequest, state: ActionState, detail: str,
        facts: Mapping[str, str] | None = None, *, expect: ActionState | None = None,
    ) -> None:  # fmt: skip
        """Take one step, durably, and tell it. Raises ``StorageError``; ``IllegalStep``, also when it is not in ``expect``."""
        now = self.clock()
        self.book.transition(request.action_id, state, now, detail, facts=facts, expect=expect)
        self.tell(request, state, now, detail)

    def tell(self, request: ActionRequest, state: ActionState, at: int, detail: str) -> None:
        """A step stands in the ledger: count it, show it, let the fold know what it means."""
        self.count("otel_ir.actions", adapter=request.adapter, verb=request.verb, state=state.value, mode=request.mode)
        if self.observer:
            try:
                self.observer(request, state, at, detail)
            except Exception:
                _log.exception("an observer of actions raised")
        if state in (ActionState.VERIFIED, ActionState.UNVERIFIED):
            self.holds(request, state, at)
        elif state in _OVER and request.action_id in self._since:
            self._announce(request, state, self._since.pop(request.action_id))

    def holds(self, request: ActionRequest, state: ActionState, since: int) -> None:
        """Tell the fold that an action is in force (again: with a wider target, or after a restart)."""
        self._announce(request, state, self._since.setdefault(request.action_id, since))

    def resume(self, row: StoredAction) -> None:
        """After a restart: the fold may not have heard of what was in force; to be told twice does no harm."""
        since = row.verified_at or row.applied_at or row.requested_at
        if row.state in _HOLDS:
            self.holds(row.request, row.state, since)
        elif row.state in _OVER and (row.verified_at or row.applied_at):
            self._announce(row.request, row.state, since)

    def _announce(self, request: ActionRequest, state: ActionState, since: int) -> None:
        if not self.announce:
            return
        record = {
            "type": "containment",
            "action_id": request.action_id,
            "incident_id": request.incident_id,
            "state": state.value if state in _HOLDS else "released",
            "verb": request.verb,
            "since": since,
            "tenant": request.target.get("otel_ir.tenant", ""),
            "service": request.target.get("service.name", ""),
            "selectors": selectors(request.target),
            "tools": None if request.tools is None else list(request.tools),
            "read_only": list(request.read_only) or None,
        }
        self._say(record)

    def _say(self, record: dict[str, Any]) -> None:
        action_id = str(record["action_id"])
        with self._lock:
            self._unsaid[action_id] = record

        def over(written: Future[Any] | None, error: BaseException | None = None) -> None:
            if written is not None:
                error = CancelledError() if written.cancelled() else written.exception()
            with self._lock:
                if self._unsaid.get(action_id) is not record:
                    return  # something newer was said since
                if error is None:
                    del self._unsaid[action_id]
                else:
                    self._failed.add(action_id)
            if error is not None:
                _log.error("a control record was not written, and is tried again: %s", error)

        try:
            written = self.announce(record) if self.announce else None
        except Exception as error:
            over(None, error)
            return
        over(None) if written is None else written.add_done_callback(over)

    def say_again(self) -> None:
        """What the fold was to be told and was not. To be told twice does no harm."""
        with self._lock:
            again = [self._unsaid[action_id] for action_id in self._failed if action_id in self._unsaid]
            self._failed.clear()
        for record in again:
            self._say(record)

    def count(self, name: str, **attributes: str) -> None:
        """Raise a counter by one."""
        if self.counter:
            self.counter.add(name, 1, **attributes)

    def measure(self, name: str, nanos: int, **attributes: str) -> None:
        """Add a duration to a histogram."""
        if self.counter:
            self.counter.record(name, nanos / SECOND, **attributes)
