"""What is exported, each from the ledger: alerts, steps of actions, changes of incidents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from otel_ir.export.changes import action_log, action_span, incident_log
from otel_ir.export.otlp import Item
from otel_ir.export.records import alert_log, alert_span
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionChange, IncidentChange


class Ledger(Protocol):
    """The part of the ledger used here. What was not marked is given again, oldest first."""

    def unexported(self, limit: int) -> Sequence[Alert]: ...
    def counts(self, alert_ids: Sequence[str]) -> Mapping[str, int]: ...
    def mark_exported(self, alert_ids: Sequence[str]) -> None: ...
    def unsent_actions(self, limit: int) -> Sequence[ActionChange]: ...
    def mark_actions_sent(self, numbers: Sequence[int]) -> None: ...
    def unsent_incidents(self, limit: int) -> Sequence[IncidentChange]: ...
    def mark_incidents_sent(self, numbers: Sequence[int]) -> None: ...


class Source(Protocol):
    """Something to export, until it is marked."""

    def waiting(self, limit: int) -> Sequence[Item]:
        """The oldest that were not marked, at most ``limit``."""

    def mark(self, keys: Sequence[str]) -> None:
        """Never give these again."""


class Alerts:
    """Alerts, as a span and a log record each."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def waiting(self, limit: int) -> list[Item]:
        """See ``Source``."""
        found = self._ledger.unexported(limit)
        counts = self._ledger.counts([alert.alert_id for alert in found]) if found else {}
        return [alert_item(alert, counts.get(alert.alert_id, 1)) for alert in found]

    def mark(self, keys: Sequence[str]) -> None:
        """See ``Source``."""
        self._ledger.mark_exported(keys)


class Actions:
    """Steps of actions, as a span and a log record each."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def waiting(self, limit: int) -> list[Item]:
        """See ``Source``."""
        return [
            Item("action", str(one.number), {"traces": partial(action_span, one), "logs": partial(action_log, one)})
            for one in self._ledger.unsent_actions(limit)
        ]

    def mark(self, keys: Sequence[str]) -> None:
        """See ``Source``."""
        self._ledger.mark_actions_sent([int(key) for key in keys])


class Incidents:
    """Changes of incidents, as a log record each."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def waiting(self, limit: int) -> list[Item]:
        """See ``Source``."""
        return [Item("incident", str(one.number), {"logs": partial(incident_log, one)}) for one in self._ledger.unsent_incidents(limit)]

    def mark(self, keys: Sequence[str]) -> None:
        """See ``Source``."""
        self._ledger.mark_incidents_sent([int(key) for key in keys])


def alert_item(alert: Alert, count: int = 1) -> Item:
    """An alert whose condition was met ``count`` times so far."""
    return Item(
        "alert", alert.alert_id, {"traces": partial(alert_span, alert, count=count), "logs": partial(alert_log, alert, count=count)}
    )


def ledger_sources(ledger: Ledger) -> tuple[Source, ...]:
    """Everything there is to export."""
    return Alerts(ledger), Actions(ledger), Incidents(ledger)
