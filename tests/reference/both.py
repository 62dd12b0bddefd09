"""Records through the reference fold, and through weaver and detector: both tell what came of it in the same words.

A *place* is ``trace/span`` of the event that completed an alert, after ``~sender~`` where a sender is known, and before ``@`` and the
values of the group where that is not the agent.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import polars as pl
from reference.fold import FIELDS, Limits, Record, ReferenceWatch, ReferenceWeave, Window
from reference.fold_deferred import ReferenceDeferred, Waiting
from reference.fold_terms import ReferenceTerms, Terms
from reference.fold_values import Kind, ReferenceKinds
from reference.streams import frames

from otel_ir.detect import Detector
from otel_ir.detect.contained import CONTAINMENT_VIOLATED, Containment, WatchLimits
from otel_ir.detect.windows import WindowLimits
from otel_ir.model import Alert, AlertUpdate, scoped
from otel_ir.normalize.identity import TraceLimits
from otel_ir.normalize.messages import CALL_SCHEMA
from otel_ir.normalize.weave import Weaver
from otel_ir.sigma.ruleset import Absence, Clause, Correlation, NewTerms, Rule, RuleSet

Case = tuple[Correlation, Window]
"""One correlation, as the engine and as the reference know it."""
Switches = Mapping[int, Iterable[Case]]
"""Ordinal -> the correlations that hold from that record on."""


@dataclass
class Told:
    """What a fold said. ``alerts``: (ordinal, rule, agent, place, conversation, contributing (trace, span)), sorted. The rule of a broken
    containment is its action.

    ``counts``: (rule, place) -> how often the condition was met in the end.
    ``moved``: (ordinal, rule, place, agent, source, conversation, user) each time an alert got a better address, sorted.
    """

    alerts: list[tuple[Any, ...]] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    moved: list[tuple[Any, ...]] = field(default_factory=list)


def rule(name: str, predicate: pl.Expr, **more: Any) -> Rule:
    fields: dict[str, Any] = {
        "id": name, "signal": name, "title": name, "description": "", "severity": "low", "stage": "anomaly", "tags": (), "path": "",
        "digest": name, "response": None, "service": "tool_call", "predicate": (pl.col("event.type") == "tool_call") & predicate,
        "fields": frozenset({"gen_ai.tool.name"}), "alerts": False, "suppress": None,
    }  # fmt: skip
    return Rule(**(fields | more))


RULES = (
    rule("any", pl.lit(value=True)),
    *(rule(name, pl.col("gen_ai.tool.name") == name) for name in ("a", "b", "c")),
)


def correlation(name: str, rules: tuple[str, ...], **more: Any) -> Correlation:
    fields: dict[str, Any] = {
        "id": name, "signal": name, "title": name, "description": "", "severity": "high", "stage": "anomaly", "tags": (), "path": "",
        "digest": name, "response": None, "service": "tool_call", "kind": "event_count", "rules": rules, "group_by": ("otel_ir.agent.id",),
        "timespan": 9, "within_events": None, "threshold": 2, "baseline": None, "suppress": 9,
    }  # fmt: skip
    fields |= more
    if fields["kind"] in ("temporal", "temporal_ordered"):
        fields.setdefault("clauses", (Clause(tuple(range(len(rules)))),))
    return Correlation(**fields)


def is_tool(*names: str) -> Any:
    """A step of the reference: a tool call, of one of these tools where any are named."""
    return lambda event: event["type"] == "tool_call" and (not names or event["tool"] in names)


def case(name: str, rules: tuple[str, ...], **more: Any) -> Case:
    """The same correlation twice. ``rules``: ``any`` or tools; what differs from ``correlation`` in ``more``."""
    one = correlation(name, rules, **more)
    steps = [is_tool() if step == "any" else is_tool(step) for step in rules]
    return one, Window(
        name,
        steps,
        one.timespan,
        one.suppress,
        threshold=one.threshold,
        ordered=one.kind == "temporal_ordered",
        within_events=one.within_events,
        service=is_tool(),
        multiple=one.baseline.multiple if one.baseline else None,
        learn=one.baseline.learn if one.baseline else 60,
    )


def kind(name: str, rules: tuple[str, ...], inner: tuple[str, ...] = (), **more: Any) -> Case:
    """As ``case``, for every kind. ``inner``: those of ``rules`` that are correlations; ``clauses`` as plain tuples, or as ``Clause``.

    ``absent``: the tool of which there must be no call, ``where``: between, after. ``terms``: the fields of
    ``new_terms``, and ``learn``.
    """
    clauses = more.pop("clauses", None)
    if clauses:
        more["clauses"] = tuple(clause if isinstance(clause, Clause) else Clause(clause) for clause in clauses)
    absent = more.pop("absent", None)
    if absent:
        more["absence"] = Absence(absent, more.pop("where", "between"))
    terms = more.pop("terms", None)
    if terms:
        more |= {"new_terms": NewTerms(terms, more.pop("learn", 1)), "kind": "new_terms", "threshold": 0}
        more.setdefault("suppress", 0)
    one = correlation(name, rules, inner=frozenset(inner), **more)
    steps = [is_tool() if step == "any" else is_tool(step) for step in rules]
    known: dict[str, Any] = {
        "name": name, "steps": steps, "timespan": one.timespan, "suppress": one.suppress, "threshold": one.threshold,
        "within_events": one.within_events, "service": is_tool(), "kind": one.kind, "op": one.op, "fields": one.fields,
        "clauses": [clause.required for clause in one.clauses], "group_by": one.group_by,
        "columns": [one.read_from(step) for step in range(len(rules))],
        "inner": {step: rule for step, rule in enumerate(rules) if rule in inner},
    }  # fmt: skip
    if one.new_terms:
        return one, Terms(**known | {"fields": one.new_terms.fields, "kind": "value_count"}, terms=one.new_terms.learn)
    if not one.deferred:
        return one, Kind(**known)
    known |= {"percentile": one.percentile, "ways": [tuple(clause) for clause in one.clauses]}
    return one, Waiting(**known, absence=is_tool(absent) if absent else None, where=one.absence.where if one.absence else "")


def reference(
    records: Iterable[Record], cases: Iterable[Case], limits: Limits, switches: Switches | None = None, *, finish: bool = False
) -> Told:
    """``finish``: what still waits after the last record is judged in it."""
    weave, watch, told = ReferenceWeave(limits), ReferenceWatch(limits), Told()
    windows = _waiting_for_inner({window.name: window.start(limits) for _, window in cases})
    addresses: dict[tuple[str, str], list[Any]] = {}
    made = list(map(_scoped, records))
    for record in made:
        if switches and record.ordinal in switches:
            windows = _waiting_for_inner({one.name: windows.get(one.name) or one.start(limits) for _, one in switches[record.ordinal]})
        if record.control:
            watch.control(record.control, record.ordinal)
        events, patches = weave.fold(record)
        for patch in patches:
            now = [patch[name] for name in ("agent", "source", "conversation", "user")]
            for (name, place), known in addresses.items():
                if place.partition("@")[0] == _place(patch) and known != now:
                    told.moved.append((record.ordinal, name, place, *now))
                    known[:] = now
        _tell(told, windows, addresses, record, lambda window, fired: _folded(window, record, events, patches, fired))  # noqa: B023
        for action, event in watch.fold(record, events, patches):
            inside = (_bare((event["trace"], event["span"])),)
            told.alerts.append((record.ordinal, action, event["agent"], _place(event), event["conversation"], inside))
            addresses[action, _place(event)] = [event[one] for one in ("agent", "source", "conversation", "user")]
        told.counts |= {(action, place): watch.counts[action] for action, place in watch.alerts.items()}
        if record.ordinal % limits.epoch == limits.epoch - 1:
            weave.end_epoch(record.ordinal // limits.epoch, record.received)
            watch.end_epoch(record.received)
            for window in windows.values():
                window.end_epoch(record.received)
    if finish and made:
        _tell(told, windows, addresses, made[-1], lambda window, fired: _finished(window, made[-1], fired))
    told.alerts.sort()
    told.moved.sort(key=repr)
    return told


def _waiting_for_inner(windows: dict[str, Any]) -> dict[str, Any]:
    behind: dict[str, int] = {}
    for name, window in windows.items():
        behind[name] = max((behind[inner] for inner in getattr(window.window, "inner", {}).values()), default=0)
        if isinstance(window, ReferenceDeferred):
            window.behind = behind[name]
            behind[name] = window._reach()
    return windows


def _tell(told: Told, windows: dict[str, Any], addresses: dict[tuple[str, str], list[Any]], record: Record, fold: Any) -> None:
    """Asks one window after the other what fires in this record, inner ones first."""
    fired: dict[str, list[dict[str, Any]]] = {}
    for name, window in windows.items():
        found = fold(window, fired)
        for group, event, inside in found:
            place = _place(event) if isinstance(group, str) else _spot(_place(event), window.window.group_by, group)
            told.alerts.append((record.ordinal, name, event["agent"], place, event["conversation"], tuple(map(_bare, inside))))
            addresses[name, place] = [event[one] for one in ("agent", "source", "conversation", "user")]
        fired[name] = [event for _, event, _ in found]
        told.counts |= {(name, alert.split("/", 1)[1]): count for alert, count in window.counts.items()}


def _finished(window: Any, record: Record, fired: dict[str, list[dict[str, Any]]]) -> list[Any]:
    found = _folded(window, record, [], [], fired)
    return found + window.finish() if isinstance(window, ReferenceDeferred) else found


def _folded(window: Any, record: Record, events: Any, patches: Any, fired: dict[str, list[dict[str, Any]]]) -> list[Any]:
    if isinstance(window, ReferenceDeferred):
        return window.fold(events, patches, fired, record.received)
    found: list[Any] = (
        window.fold(events, patches, fired) if isinstance(window, ReferenceKinds | ReferenceTerms) else window.fold(events, patches)
    )
    return found


def engine(
    cut: Sequence[list[Record]],
    cases: Sequence[Case],
    limits: Limits,
    switches: Switches | None = None,
    kills: Iterable[int] = (),
    *,
    finish: bool = False,
) -> Told:
    """``cut``: frames of records (``framing``). After those numbered in ``kills`` the process dies, and starts from its last checkpoint."""
    fold, at, left = Engine(cases, limits), 0, {*kills}
    kept: tuple[int, dict[str, Any]] | None = None
    while at < len(cut):
        frame = cut[at]
        if switches and frame[0].ordinal in switches:
            fold.detector.activate(rule_set(switches[frame[0].ordinal]))
        fold.take(frame)
        at += 1
        if frame[-1].ordinal % limits.epoch == limits.epoch - 1:
            kept = (at, fold.state())
        if at in left:
            left.discard(at)
            again = Engine(cases, limits)
            again.alerts, again.updates, at = fold.alerts, fold.updates, kept[0] if kept else 0
            if kept:
                again.restore(kept[1])
            fold = again
    if finish and cut:
        alerts, updates = fold.detector.finish({cut[-1][-1].ordinal: cut[-1][-1].received})
        fold.alerts, fold.updates = fold.alerts + alerts, fold.updates + updates
    return fold.told()


def rule_set(cases: Iterable[Case]) -> RuleSet:
    correlations = tuple(one for one, _ in cases)
    return RuleSet(rules=RULES, correlations=correlations, digest="+".join(one.id for one in correlations), fields=frozenset())


class Engine:
    """Weaver and detector, joined as ``engine.Fold`` joins them."""

    def __init__(self, cases: Iterable[Case], limits: Limits) -> None:
        self.limits = limits
        self.weaver = Weaver(TraceLimits(epoch=limits.epoch, ttl=limits.trace_ttl, max_nodes=limits.max_nodes, max_hops=limits.max_hops))
        watch = WatchLimits(allowance=limits.allowance, keep=limits.keep, max_waiting=limits.max_waiting)
        windows = WindowLimits(lateness=limits.lateness, max_rows_per_group=limits.max_rows, step=limits.step)
        self.detector = Detector(rule_set(cases), windows, watch)
        self.alerts: list[Alert] = []
        self.updates: list[AlertUpdate] = []

    def take(self, frame: list[Record]) -> None:
        if frame[0].control:
            self.detector.contained.control(msgspec.convert(frame[0].control | {"type": "containment"}, Containment), frame[0].ordinal)
        woven = self.weaver.fold(*frames(frame), CALL_SCHEMA.to_frame())
        alerts, updates = self.detector.fold(woven.events, woven.patches, {record.ordinal: record.received for record in frame})
        self.alerts += alerts
        self.updates += updates
        if (ordinal := frame[-1].ordinal) % self.limits.epoch == self.limits.epoch - 1:
            remembered = self.weaver.end_epoch(ordinal // self.limits.epoch, frame[-1].received)
            self.detector.end_epoch(frame[-1].received, remembered)

    def state(self) -> dict[str, Any]:
        return {"weaver": self.weaver.state(), "detector": self.detector.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.weaver.restore(state["weaver"])
        self.detector.restore(state["detector"])

    def told(self) -> Told:
        told, about = Told(), {}
        alerts = {(one.alert_id, one.ordinal): one for one in self.alerts}  # a kill makes it say things twice
        updates = {(one.alert_id, one.ordinal, one.count is None): one for one in self.updates}
        for one in sorted([*alerts.values(), *updates.values()], key=lambda one: one.ordinal):
            if isinstance(one, Alert):
                place = scoped(one.tenant, one.sender, f"{one.trace_id}/{one.span_id}")
                name = dict(one.group)["otel_ir.action.id"] if one.rule_id == CONTAINMENT_VIOLATED else one.rule_id
                if one.rule_id != CONTAINMENT_VIOLATED:
                    place = _spot(place, tuple(name for name, _ in one.group), [value for _, value in one.group])
                about[one.alert_id] = (name, place)
                told.counts[name, place] = 1
                inside = tuple(map(tuple, one.contributing))
                told.alerts.append((one.ordinal, name, one.agent_id, place, one.conversation_id, inside))
                continue
            if one.count is not None:
                told.counts[about[one.alert_id]] = one.count
            if one.agent_id is not None:
                now = (one.agent_id, one.agent_id_source, one.conversation_id, one.user_id)
                told.moved.append((one.ordinal, *about[one.alert_id], *now))
        told.alerts.sort()
        told.moved.sort(key=repr)
        return told


def framing(
    records: Iterable[Record], epoch: int, breaks: Iterable[int] = (), *, seed: int | None = None, alone: float = 0.4
) -> list[list[Record]]:
    """Cuts records into frames: each alone (no ``seed``), or at random, ``alone`` of them; none straddles an epoch or one of ``breaks``."""
    chance, cut = random.Random(seed), []
    for record in records:
        fresh = not cut or seed is None or chance.random() < alone or record.control or cut[-1][-1].control
        if fresh or cut[-1][-1].ordinal % epoch == epoch - 1 or record.ordinal in breaks:
            cut.append([])
        cut[-1].append(record)
    return cut


def _scoped(record: Record) -> Record:
    """To the reference the same trace of another sender is simply another trace."""
    return replace(record, nodes=[_of_sender(one) for one in record.nodes], events=[_of_sender(one) for one in record.events])


def _of_sender(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"trace": scoped("", one.get("sender"), one["trace"])}


def _spot(place: str, group_by: tuple[str, ...], group: Iterable[Any]) -> str:
    return place if group_by == ("otel_ir.agent.id",) else f"{place}@{','.join(map(str, group))}"


def _place(event: dict[str, Any]) -> str:
    return f"{event['trace']}/{event['span']}"


def _bare(span: tuple[str, str]) -> tuple[str, str]:
    return span[0].rpartition("~")[2], span[1]


__all__ = ["FIELDS", "Case", "Engine", "Told", "case", "engine", "framing", "kind", "reference", "rule", "rule_set"]
