"""Events in, alerts out: every rule of the set over every event, and what their state is."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.detect import raise_alert
from otel_ir.detect.contained import Contained, WatchLimits
from otel_ir.detect.deferred import Deferred
from otel_ir.detect.edges import Firing
from otel_ir.detect.engines import Engine, Raised, engine_of
from otel_ir.detect.intake import NO_ARRIVALS, POSITIONS, Intake, Rows, Wanted, Words
from otel_ir.detect.late import LateIdentity
from otel_ir.detect.rows import FEW, Interner
from otel_ir.detect.windows import Fire, WindowLimits
from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, Alert, AlertUpdate
from otel_ir.sigma import matches
from otel_ir.sigma.ruleset import Correlation, Rule, RuleSet

MANY_WORDS = 1 << 16
"""Groups, identities and tools that are remembered before those that no row needs any more are looked for."""


class Detector:
    """The fold of the detect stage. Deterministic: state and alerts depend on the journal records alone, not on how they were framed."""

    def __init__(self, ruleset: RuleSet, limits: WindowLimits | None = None, watch: WatchLimits | None = None) -> None:
        self.limits = limits
        self.words = Words(secrets.randbits(63))  # event ids come from outside: nobody shall be able to make two of them collide
        self.windows: dict[str, Engine] = {}
        """by digest; inner correlations before those that refer to them"""
        self.late = LateIdentity()
        self.contained = Contained(watch)
        self._many = MANY_WORDS
        self.activate(ruleset)

    def activate(self, ruleset: RuleSet) -> None:
        """Switches to another rule set; a correlation that did not change keeps its state."""
        self.ruleset = ruleset
        self.rules = {rule.id: rule for rule in ruleset.rules}
        settled = max((window.settled for window in self.windows.values()), default=0)
        before, self.windows, self.intakes = self.windows, {}, dict[str, Intake]()
        self.outer: dict[str, list[str]] = {}
        """id of a correlation -> digests of those that refer to it"""
        by_id, behind = dict[str, Intake](), dict[str, int]()
        for one in _inner_first(ruleset.correlations):
            if one.digest not in before:
                before[one.digest] = engine_of(one, self.limits)
                before[one.digest].settled = settled
            self.windows[one.digest] = window = before[one.digest]
            window.correlation = one  # whether it alerts depends on the others of the set
            behind[one.id] = max((behind.get(inner, 0) for inner in one.inner), default=0)
            if isinstance(window, Deferred):
                window.come_after(behind[one.id])
                behind[one.id] = window.reach
            self.intakes[one.digest] = by_id[one.id] = Intake(one, by_id, self.words)
            for inner in one.inner:
                self.outer.setdefault(inner, []).append(one.digest)
        self.late.activate([rule for rule in ruleset.rules if rule.alerts])

    def fold(self, events: pl.DataFrame, patches: pl.DataFrame, received: dict[int, int]) -> tuple[list[Alert], list[AlertUpdate]]:
        """Events and patches of one frame (``EVENT_SCHEMA`` and what rules name; ``PATCH_SCHEMA``) -> alerts and updates.

        ``received`` gives the receive time (ns) of each record in the frame. Alerts come sorted by (ordinal, rule id, alert id).
        """
        if events["otel_ir.duplicate_of"].null_count() < events.height:
            events = events.filter(pl.col("otel_ir.duplicate_of").is_null())
        matched = self._match(events)
        late = self.late.fold(events, patches, self.ruleset.digest, received)
        alerts = self.late.suppressed(self.rules, self._plain(events, matched, received), late)
        violations, raised = self.contained.fold(events, patches, self.ruleset.digest, received)
        for alert in violations:
            self.late.address(alert)
        alerts += violations
        if self.windows:
            turn = self._turn(events, matched, patches, received)
            for digest in self.windows:
                raised += self._window(digest, turn)
            alerts += turn.alerts
        alerts.sort(key=lambda alert: (alert.ordinal, alert.rule_id, alert.alert_id))
        return alerts, self._updates(patches, raised)

    def finish(self, received: dict[int, int]) -> tuple[list[Alert], list[AlertUpdate]]:
        """Nothing more will come (files, never the live stream): what still waits is judged. ``received``: of the newest record."""
        turn = _Turn(received=received, last=max(received, default=0))
        raised = [one for digest in self.windows for one in self._window(digest, turn)]
        return sorted(turn.alerts, key=lambda alert: (alert.rule_id, alert.alert_id)), self._updates(PATCH_SCHEMA.to_frame(), raised)

    def waits(self, now: int) -> bool:
        """Whether a record received ``now`` (ns) would decide something that waits for time to pass, whatever it brings."""
        return any(isinstance(window, Deferred) and window.waits(now) for window in self.windows.values())

    def _match(self, events: pl.DataFrame) -> pl.DataFrame:
        return matches(self.ruleset.rules, events) if self.ruleset.rules and events.height else pl.DataFrame()

    def _plain(self, events: pl.DataFrame, matched: pl.DataFrame, received: dict[int, int]) -> list[Alert]:
        alerts = []
        for rule in self.rules.values():
            if rule.alerts and matched.height and matched[rule.id].any():
                for event in events.filter(matched[rule.id]).iter_rows(named=True):
                    ordinal = event["otel_ir.journal.ordinal"]
                    alerts.append(raise_alert.of_rule(rule, self.ruleset.digest, event, ordinal, received[ordinal]))
        return alerts

    def _turn(self, events: pl.DataFrame, matched: pl.DataFrame, patches: pl.DataFrame, received: dict[int, int]) -> _Turn:
        masks = {rule: matched[rule].to_numpy() for rule in self.rules} if events.height else {}
        wanted = {digest: intake.wanted(events, masks) for digest, intake in self.intakes.items()}
        masks_of_rows = [part.rows for parts in wanted.values() for part in parts]
        take = np.flatnonzero(np.logical_or.reduce(masks_of_rows)) if masks_of_rows else np.zeros(0, dtype=np.int64)
        few = events.height <= FEW and patches.height <= FEW
        rows = self.words.rows(events, self.intakes.values(), take, few=few)
        return _Turn(received=received, rows=rows, wanted=wanted, moves=self.words.moves(patches))

    def _window(self, digest: str, turn: _Turn) -> Raised:
        """Folds one correlation's part of a frame, or at the end of all what still waits in it."""
        window, intake = self.windows[digest], self.intakes[digest]
        wanted, inner, moves = turn.wanted.get(digest, []), turn.inner.pop(digest, []), turn.moves
        number = sum(int(np.count_nonzero(part.rows)) for part in wanted) + len(inner)
        raised: Raised = []
        must = window.advance(turn.received) if turn.last is None else False
        if number or must or not moves.is_empty():
            fire = self._fire(window, turn)
            if number <= FEW and moves.height <= FEW:
                came = intake.few(turn.rows, wanted) + inner if number else []
                raised = window.fold_few(came, intake.moved_few(window.held, came, moves), fire)
            else:
                arrivals = intake.many(turn.rows, wanted)
                if inner:
                    arrivals = arrivals.vstack(pl.DataFrame(inner, schema=NO_ARRIVALS.schema))
                raised = window.fold(arrivals, intake.moved(window.by_uid, arrivals, moves), fire)
        if turn.last is not None:
            raised = raised + window.finish(turn.last, self._fire(window, turn))
        return raised if window.correlation.alerts else []

    def _fire(self, window: Engine, turn: _Turn) -> Fire:
        outer = self.outer.get(window.correlation.id, ())

        def fire(one: Correlation, ordinal: int, firing: Firing) -> str:
            row, words = firing.row.data, self.words
            group = words.keys[one.group_by].values[row["key"]]
            names = raise_alert.Names(words.who.values, words.tools.values)
            threshold = window.threshold(row["key"])
            alert = raise_alert.of_window(one, self.ruleset.digest, firing, names, group, threshold, ordinal, turn.received[ordinal])
            if alert.alert_id not in window.counts:
                if one.alerts:
                    turn.alerts.append(alert)
                    self.late.address(alert)
                for digest in outer:
                    came = self.intakes[digest].alerted(one, row, group, ordinal)
                    turn.inner.setdefault(digest, []).extend([came] if came else [])
            return alert.alert_id

        return fire

    def _updates(self, patches: pl.DataFrame, raised: Raised) -> list[AlertUpdate]:
        counts = {alert_id: AlertUpdate(alert_id=alert_id, ordinal=ordinal, count=count) for ordinal, alert_id, count in sorted(raised)}
        updates = [*counts.values(), *self.late.readdress(patches)]
        return sorted(updates, key=lambda update: (update.ordinal, update.alert_id, update.count is None))

    def end_epoch(self, received: int, remembered: int | None = None) -> None:
        """Called at fixed journal ordinals only, with the newest record's receive time (ns), and what ``Weaver.end_epoch`` gave."""
        for window in self.windows.values():
            window.end_epoch(received, (remembered or 0) * POSITIONS)
        self.late.end_epoch(received)
        self.contained.end_epoch(received)
        if len(self.words) > self._many:
            self._forget()

    def _forget(self) -> None:
        """Drops the words that no row needs any more. Seldom, because every row gets new numbers."""
        words, used = self.words, {digest: window.used() for digest, window in self.windows.items()}
        who = words.who.keep(_sorted(one for _, one, _ in used.values()))
        tools = words.tools.keep(_sorted(one for _, _, one in used.values()))
        for group_by, interner in words.keys.items():
            mine = [digest for digest, window in self.windows.items() if window.correlation.group_by == group_by]
            keys = interner.keep(_sorted(used[digest][0] for digest in mine))
            for digest in mine:
                self.windows[digest].renumber(keys, who, tools)
        self._many = max(MANY_WORDS, 2 * len(words))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; windows stand under the digest of their correlation."""
        parts: dict[str, Any] = self.late.state() | self.contained.state()
        rest = {}
        for digest, window in self.windows.items():
            parts[f"rows.{digest}"], rest[digest] = window.state()
        words = self.words
        keys = [[list(group_by), interner.values] for group_by, interner in words.keys.items()]
        parts["head"] = msgspec.msgpack.encode((words.seed, words.who.values, words.tools.values, keys, rest))
        return parts

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``, for the same rule set."""
        self.words.seed, who, tools, keys, rest = msgspec.msgpack.decode(state["head"])
        for interner, values in ((self.words.who, who), (self.words.tools, tools)):
            interner.restore(map(tuple, values))
        for group_by, values in keys:
            self.words.keys.setdefault(tuple(group_by), Interner()).restore(map(tuple, values))
        for digest, window in self.windows.items():
            if digest in rest:
                window.restore(state[f"rows.{digest}"], rest[digest])
        self.late.restore(state)
        self.contained.restore(state)

    @property
    def evicted(self) -> int:
        """Rows and containments forgotten because a bound was reached, since the start."""
        return self.contained.evicted + sum(window.evicted for window in self.windows.values())


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One frame on its way through the correlations. ``last``: the record at which nothing more will come, None before.

    ``inner``: by the digest of a correlation, the alerts that correlations below it raised in this frame, as its rows.
    """

    received: dict[int, int]
    rows: Rows = field(default_factory=lambda: Rows(pl.DataFrame(), pl.DataFrame(), np.zeros(0, dtype=np.int64)))
    wanted: dict[str, list[Wanted]] = field(default_factory=dict)
    moves: pl.DataFrame = field(default_factory=pl.DataFrame)
    last: int | None = None
    inner: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)


def _inner_first(correlations: Sequence[Correlation]) -> list[Correlation]:
    """Each correlation after those that it refers to, else in the order given; the compiler refuses circles."""
    by_id = {one.id: one for one in correlations}
    ordered: dict[str, Correlation] = {}

    def put(one: Correlation) -> None:
        for rule in one.rules:
            if rule in one.inner and rule not in ordered:
                put(by_id[rule])
        ordered.setdefault(one.id, one)

    for one in correlations:
        put(one)
    return list(ordered.values())


def _sorted(used: Iterable[set[int]]) -> NDArray[np.int64]:
    return np.array(sorted(set().union(*used)), dtype=np.int64)


def run_events(ruleset: RuleSet, events: pl.DataFrame) -> list[Alert]:
    """The rules over events that are complete (``EVENT_SCHEMA``): what rule tests and ``rules eval`` use."""
    ordinals: Sequence[Any] = events["otel_ir.journal.ordinal"].to_list()
    times = dict(zip(ordinals, events["event_time"].to_list(), strict=True))
    empty = PATCH_SCHEMA.to_frame()
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in EVENT_SCHEMA.items() if name not in events.columns]
    detector = Detector(ruleset)
    alerts, _ = detector.fold(events.with_columns(missing), empty, times)
    last = max(times, default=0)
    return alerts + detector.finish({last: times.get(last, 0)})[0]


__all__ = ["Detector", "Rule", "run_events"]
