"""What becomes known after the event: alerts get a better address, rules that read identity look again, repeats are held back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import polars as pl

from otel_ir.detect import raise_alert
from otel_ir.model import PATCH_COLUMNS, Alert, AlertUpdate, scoped
from otel_ir.sigma.ruleset import Rule

KEEP = 3_600_000_000_000
"""How long (ns of receive time) an event's identity may still improve: an hour, as long as the weaver keeps a trace."""
MAX_WAITING = 200_000
"""Events kept for rules that read identity; the oldest go first, at fixed ordinals."""
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
        self.waiting: pl.DataFrame | None = None
        self.rules: list[Rule] = []
        self.quiet: dict[tuple[str, str], int] = {}
        """(rule digest, agent) -> event time of the last alert, for plain rules with ``suppress``"""

    def activate(self, rules: Iterable[Rule]) -> None:
        """Tells which alerting rules there are now."""
        self.rules = [rule for rule in rules if rule.fields & set(PATCH_COLUMNS)]

    def fold(self, events: pl.DataFrame, patches: pl.DataFrame, ruleset: str, received: dict[int, int]) -> list[Alert]:
        """Alerts of rules that match only now that an event's identity is known."""
        if not self.rules:
            return []
        columns = {"event_time", "event.type", "trace_id", "span_id", "gen_ai.tool.name", "otel_ir.event.id", "otel_ir.journal.ordinal"}
        columns |= {*raise_alert.WHO_COLUMNS, *PATCH_COLUMNS}.union(*(rule.fields for rule in self.rules))
        fresh = events.select(sorted(columns & set(events.columns)))
        self.waiting = fresh if self.waiting is None else pl.concat([self.waiting, fresh], how="diagonal")
        if patches.is_empty():
            return []
        again = self.waiting.drop(PATCH_COLUMNS).join(
            patches.rename({"otel_ir.journal.ordinal": "__at"}), on="otel_ir.event.id", how="inner", maintain_order="right"
        )
        alerts = []
        for rule in self.rules:
            for event in again.filter(rule.predicate.fill_null(value=False)).iter_rows(named=True):
                alert = raise_alert.of_rule(rule, ruleset, event, event["__at"], received[event["__at"]])
                if alert.alert_id not in self.addressed.get(_place(alert), {}):
                    alerts.append(alert)
                    self.address(alert)
        last = patches.unique("otel_ir.event.id", keep="last", maintain_order=True).drop("otel_ir.journal.ordinal")
        self.waiting = self.waiting.update(last, on="otel_ir.event.id", how="left")
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

    def suppressed(self, rules: dict[str, Rule], alerts: list[Alert]) -> list[Alert]:
        """The alerts of plain rules, without those that their rule's ``suppress`` holds back; in journal order."""
        kept = []
        for alert in sorted(alerts, key=lambda alert: alert.ordinal):
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
        longest = max((rule.suppress or 0 for rule in self.rules), default=0)
        self.quiet = {key: time for key, time in self.quiet.items() if time > received - KEEP - longest}
        if self.waiting is not None and self.rules:
            self.waiting = self.waiting.tail(MAX_WAITING)
        else:
            self.waiting = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        rest = msgspec.msgpack.encode((self.addressed, [[*key, time] for key, time in self.quiet.items()]))
        return {"late": rest} | ({} if self.waiting is None else {"waiting": self.waiting})

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.addressed, quiet = msgspec.msgpack.decode(state["late"])
        self.quiet = {(digest, agent): time for digest, agent, time in quiet}
        self.waiting = state.get("waiting")


def _place(alert: Alert) -> str:
    return scoped(alert.tenant, alert.sender, f"{alert.trace_id}/{alert.span_id}")
