"""What becomes known after the event: alerts get a better address, rules that read it look again, repeats are held back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect import raise_alert
from otel_ir.detect.kept import AT, Kept
from otel_ir.model import PATCH_COLUMNS, TOLD_COLUMNS, Alert, AlertUpdate, scoped
from otel_ir.normalize.arguments import is_argument
from otel_ir.normalize.opened import CONTENT_BITS
from otel_ir.normalize.same import may_be_told
from otel_ir.sigma.ruleset import Rule

KEEP = 3_600_000_000_000
"""How long (ns of receive time) an event's identity may still improve: an hour, as long as the weaver keeps a trace."""
MAX_ADDRESSED = 200_000

_IDENTITY = {
    "agent_id": "otel_ir.agent.id",
    "agent_id_source": "otel_ir.agent.id_source",
    "agent_name": "gen_ai.agent.name",
    "conversation_id": "gen_ai.conversation.id",
    "user_id": "user.id",
}


class LateIdentity:
    """State about past events and alerts, bounded by ``KEEP`` and by number."""

    def __init__(self) -> None:
        self.addressed: dict[str, dict[str, list[Any]]] = {}
        """trace/span -> alert id -> [ordinal, received, identity values]"""
        self.named, self.told = Kept(), Kept()
        """All events, for rules that read identity; events of which more may be told, for other rules that read content."""
        self.rules: list[Rule] = []
        self.of_content: list[Rule] = []
        self.quiet: dict[tuple[str, str], int] = {}
        """(rule digest, agent) -> event time of the last alert, for plain rules with ``suppress``"""

    def activate(self, rules: Iterable[Rule]) -> None:
        """Tells which alerting rules there are now."""
        rules = list(rules)
        self.rules = [rule for rule in rules if rule.fields & set(PATCH_COLUMNS)]
        self.of_content = [rule for rule in rules if rule not in self.rules and (rule.fields & set(TOLD_COLUMNS) or _reads_arguments(rule))]
        self.named.fields = frozenset().union(*(rule.fields for rule in self.rules))
        self.told.fields = frozenset().union(*(rule.fields for rule in self.of_content))
        self._fills = bool(self.told.fields & set(CONTENT_BITS)) or any(map(_reads_arguments, self.of_content))

    def fold(self, events: pl.DataFrame, patches: pl.DataFrame, ruleset: str, received: dict[int, int]) -> list[Alert]:
        """Alerts of rules that did not match an event before, and do now that a patch told more of it."""
        alerts = []
        if self.rules:
            self.named.add(events)
            if patches.height:
                alerts += _judged(self.rules, self.named.told(events, patches), ruleset, received)
        if self.of_content:
            if events.height:
                self.told.add(_some(events, may_be_told(events, fills=self._fills)))
            telling = [name for name in TOLD_COLUMNS if patches[name].null_count() < patches.height]
            if telling:
                about = patches.filter(pl.any_horizontal(pl.col(telling).is_not_null()))
                alerts += _judged(self.of_content, self.told.told(events, about), ruleset, received)
        return alerts

    def address(self, alert: Alert) -> None:
        """Remembers an alert, so that it can be told of a better identity."""
        if len(self.addressed) < MAX_ADDRESSED:
            at = self.addressed.setdefault(_place(alert), {})
            at[alert.alert_id] = [alert.ordinal, alert.received, [getattr(alert, name) for name in _IDENTITY]]

    def readdress(self, patches: pl.DataFrame) -> list[AlertUpdate]:
        """Updates for the alerts whose completing event got a better identity."""
        if patches.is_empty() or not self.addressed:
            return []
        about = patches.with_columns(__at=pl.col("otel_ir.event.id").str.replace(r"#.*$", ""))
        about = about.filter(pl.col("__at").is_in(list(self.addressed)))
        updates = []
        for patch in about.iter_rows(named=True):
            for alert_id, known in self.addressed[patch["__at"]].items():
                values = [patch[column] for column in _IDENTITY.values()]
                if patch["otel_ir.journal.ordinal"] > known[0] and values != known[2]:
                    known[2] = values
                    fields = dict(zip(_IDENTITY, values, strict=True))
                    updates.append(AlertUpdate(alert_id=alert_id, ordinal=patch["otel_ir.journal.ordinal"], **fields))
        return updates

    def suppressed(self, rules: dict[str, Rule], alerts: list[Alert], late: list[Alert]) -> list[Alert]:
        """The alerts of plain rules, ``late`` those of events that were judged before, in journal order: each alert once, and without those
        that their rule's ``suppress`` holds back.
        """
        kept = []
        # What patches of one record raise has no order of its own that every framing has.
        late = sorted(late, key=lambda alert: (alert.event_time, alert.alert_id))
        every = [*((alert, False) for alert in alerts), *((alert, True) for alert in late)]
        for alert, again in sorted(every, key=lambda one: one[0].ordinal):
            if again and alert.alert_id in self.addressed.get(_place(alert), {}):
                continue
            rule = rules[alert.rule_id]
            if rule.suppress:
                last = self.quiet.get((rule.digest, alert.agent_id))
                if last is not None and alert.event_time - last < rule.suppress:
                    continue
                self.quiet[rule.digest, alert.agent_id] = alert.event_time
            kept.append(alert)
            self.address(alert)
        return kept

    def end_epoch(self, received: int) -> None:
        """Forgets what can no longer change. ``received`` is the newest record's receive time, ns."""
        self.addressed = {
            at: known for at, alerts in self.addressed.items() if (known := {i: v for i, v in alerts.items() if v[1] > received - KEEP})
        }
        longest = max((rule.suppress or 0 for rule in (*self.rules, *self.of_content)), default=0)
        self.quiet = {key: time for key, time in self.quiet.items() if time > received - KEEP - longest}
        for kept, rules in ((self.named, self.rules), (self.told, self.of_content)):
            if rules:
                kept.end_epoch()
            else:
                kept.clear()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        rest = msgspec.msgpack.encode((self.addressed, [[*key, time] for key, time in self.quiet.items()]))
        frames = {"waiting": self.named.events, "told": self.told.events}
        return {"late": rest} | {name: events for name, events in frames.items() if events is not None}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.addressed, quiet = msgspec.msgpack.decode(state["late"])
        self.quiet = {(digest, agent): time for digest, agent, time in quiet}
        self.named.events, self.told.events = state.get("waiting"), state.get("told")


def _place(alert: Alert) -> str:
    return scoped(alert.tenant, alert.sender, f"{alert.trace_id}/{alert.span_id}")


def _judged(rules: list[Rule], told: pl.DataFrame, ruleset: str, received: dict[int, int]) -> list[Alert]:
    """Alerts where a rule begins to match. ``told``: as ``Kept.told`` gives it."""
    alerts = []
    for rule in rules:
        now = told.with_columns(__matched=rule.predicate.fill_null(value=False))
        if not now["__matched"].any():
            continue
        before = pl.col("__matched").shift(1).over("otel_ir.event.id").fill_null(value=True)
        rows = now.filter(pl.col("__matched") & ~before).iter_rows(named=True)
        alerts += [raise_alert.of_rule(rule, ruleset, event, event[AT], received[event[AT]]) for event in rows]
    return alerts


def _reads_arguments(rule: Rule) -> bool:
    return any(map(is_argument, rule.fields))


def _some(events: pl.DataFrame, mask: NDArray[np.bool_]) -> pl.DataFrame:
    return events if mask.all() else events[pl.Series(np.flatnonzero(mask).astype(np.uint32))]
