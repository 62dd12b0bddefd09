"""Rules over kept evidence: what would have fired, how often, on whom. The detector of production; only its events come from the store.

Memory is bounded: evidence is read in parts, alerts are counted and let go of, and what is remembered for the answer has a limit.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import polars as pl

from otel_ir.detect import Detector
from otel_ir.model import EPOCH, EVENT_COLUMNS, Alert, AlertUpdate
from otel_ir.normalize.arguments import argument_columns, is_argument
from otel_ir.sigma.columns import event_dtype
from otel_ir.sigma.ruleset import Correlation, Rule, RuleSet
from otel_ir.store.kept import Part, open_kept

MIN_WARM_UP = 3_600_000_000_000
"""Evidence is read from so long before the span asked for (ns), longer where a rule looks back further: windows are full at its start."""
AFTER = 600_000_000_000
"""And so long after it: late events, and conditions that wait for them (``WindowLimits.lateness``)."""
IMPROVES = 3_600_000_000_000
"""How long (ns) the address of an alert may still become better; then it is counted (``detect.late.KEEP``)."""
MAX_OPEN = 100_000
"""Alerts whose address may still become better; the oldest are counted as they are then."""
MAX_ALERTS = 1_000_000
"""Alerts that are told apart. Beyond it they are only counted."""
MAX_COUNTS = 100_000
"""Different (rule, agent, day). What comes beyond it is counted for ``OTHERS``."""
OTHERS = "(other agents)"

ARGUMENTS = "gen_ai.tool.call.arguments"
_ORDINAL = "otel_ir.journal.ordinal"
_NAMES = ("agent_id", "agent_id_source", "agent_name", "conversation_id", "user_id")
_DAY = 86_400


class Key(NamedTuple):
    """What is counted: alerts of a rule about an agent on a day (UTC, by event time)."""

    rule_id: str
    agent_id: str
    day: str


@dataclass(slots=True)
class Counts:
    """Alerts in the span asked for. ``examples`` are the first of each key; ``alerts`` tells them apart (digests)."""

    fired: Counter[Key] = field(default_factory=Counter)
    examples: dict[Key, list[Alert]] = field(default_factory=dict)
    alerts: set[bytes] = field(default_factory=set)
    evicted: int = 0


@dataclass(slots=True)
class Backtest:
    """``first`` and ``last`` (event times, ns; None: nothing was read) and ``events`` are of the span asked for.

    ``blind``: rule id -> columns that it reads and that no event has; it cannot be judged by this. ``partly``: rule id -> column -> the
    event time from which on there are values.
    """

    counts: Counts = field(default_factory=Counts)
    events: int = 0
    warm_up_events: int = 0
    first: int | None = None
    last: int | None = None
    blind: dict[str, tuple[str, ...]] = field(default_factory=dict)
    partly: dict[str, dict[str, int]] = field(default_factory=dict)


def backtest(
    url: str, ruleset: RuleSet, start: int, end: int, *, examples: int = 3, on_rows: Callable[[int, int], None] | None = None
) -> Backtest:
    """``ruleset`` over the evidence at ``url`` with ``start`` <= event time < ``end`` (Unix nanoseconds).

    ``examples`` are kept of each rule, agent and day. ``on_rows`` hears of (rows done, rows in all). Raises ``StorageError``.
    """
    fields = frozenset(ruleset.fields)
    columns = fields | ({ARGUMENTS} if any(map(is_argument, fields)) else set())
    kept = open_kept(url, max(0, start - _reach(ruleset)), end + AFTER, columns)
    run = _Run(ruleset, start, end, examples)
    result, filled, done = Backtest(counts=run.counts), _Filled(columns), 0
    for part in kept.parts(columns):
        events = _whole(part.events, fields)
        filled.see(events)
        _measure(result, events, start, end)
        run.take(Part(events, part.patches))
        done += events.height
        if on_rows:
            on_rows(done, kept.rows)
    run.finish()
    every: list[Rule | Correlation] = [*ruleset.rules, *ruleset.correlations]
    by_id = {one.id: one for one in every}
    for one in every:
        filled.judge(result, one, _read_by(one, by_id))
    return result


def _reach(ruleset: RuleSet) -> int:
    """How far back (ns) an event matters to the rules: their windows and those below them, what they hold back, what they learn from."""
    by_id = {one.id: one for one in ruleset.correlations}

    def reach(one: Correlation) -> int:
        own = max(one.timespan, one.suppress) + (one.baseline.learn * one.timespan if one.baseline else 0)
        return own + max((reach(by_id[inner]) for inner in one.inner), default=0)

    return max([MIN_WARM_UP, *(rule.suppress or 0 for rule in ruleset.rules), *map(reach, ruleset.correlations)])


def _whole(events: pl.DataFrame, fields: frozenset[str]) -> pl.DataFrame:
    """With every column that rules read: arguments are read out of the call's, as the normalizer did; what evidence lacks is null."""
    wanted = sorted(fields - set(EVENT_COLUMNS))
    arguments = [name for name in wanted if is_argument(name)]
    if arguments:
        events = events.drop(arguments, strict=False).hstack(argument_columns(events[ARGUMENTS], arguments))
    others = [name for name in wanted if not is_argument(name)]
    there = set(events.columns)
    return events.with_columns(
        pl.col(name).cast(event_dtype(name), strict=False) if name in there else pl.lit(None, event_dtype(name)).alias(name)
        for name in others
    )


def _measure(result: Backtest, events: pl.DataFrame, start: int, end: int) -> None:
    inside = events.filter(pl.col("event_time").is_between(start, end, closed="left"))["event_time"]
    result.events += len(inside)
    result.warm_up_events += int((events["event_time"] < start).sum())
    if len(inside):
        first, last = int(inside.min()), int(inside.max())  # type: ignore[arg-type]
        result.first = first if result.first is None else min(result.first, first)
        result.last = last if result.last is None else max(result.last, last)


def _read_by(one: Rule | Correlation, by_id: Mapping[str, Rule | Correlation]) -> frozenset[str]:
    if isinstance(one, Rule):
        return one.fields
    below = (*one.rules, *([one.absence.rule] if one.absence else []))
    own = {*one.fields, *(one.new_terms.fields if one.new_terms else ())}.union(*map(one.read_from, range(len(one.rules))))
    return frozenset(own).union(*(_read_by(by_id[name], by_id) for name in below if name in by_id))


class _Filled:
    """Which of the columns that depend on what was captured have values, and since when: canonical ones are always kept."""

    def __init__(self, columns: frozenset[str]) -> None:
        self._since: dict[str, int | None] = {
            name: None for name in sorted(columns) if name == ARGUMENTS or not (name in EVENT_COLUMNS or is_argument(name))
        }
        self._first = 0

    def see(self, events: pl.DataFrame) -> None:
        if not events.height:
            return
        oldest = int(events["event_time"].min())  # type: ignore[arg-type]
        self._first = min(self._first, oldest) if self._first else oldest
        for name, since in self._since.items():
            found: Any = events.filter(pl.col(name).is_not_null())["event_time"].min()
            if found is not None:
                self._since[name] = found if since is None else min(since, found)

    def judge(self, result: Backtest, one: Rule | Correlation, reads: frozenset[str]) -> None:
        """Notes what the evidence could not give this rule."""
        wanted = {ARGUMENTS if is_argument(name) else name for name in reads} & self._since.keys()
        lacking = tuple(sorted(name for name in wanted if self._since[name] is None))
        if lacking:
            result.blind[one.id] = lacking
        # Attributes are kept from the day on which a rule named them; arguments always were.
        late = {name: at for name in sorted(wanted - {ARGUMENTS}) if (at := self._since[name]) and at - self._first > _DAY * 1_000_000_000}
        if late:
            result.partly[one.id] = late


class _Run:
    """One rule set over the parts, and what came of it."""

    def __init__(self, ruleset: RuleSet, start: int, end: int, examples: int) -> None:
        self.counts = Counts()
        self._detector, self._epoch = Detector(ruleset), -1
        self._start, self._end, self._examples = start, end, examples
        self._open: OrderedDict[str, Alert] = OrderedDict()
        self._now = self._ordinal = 0

    def take(self, part: Part) -> None:
        """Folds a part as the engine does: no frame straddles the end of an epoch, and what is forgotten is forgotten there."""
        for epoch, events, patches in _frames(part):
            if self._epoch not in (-1, epoch):
                self._end_epoch()
            self._epoch = epoch
            received = self._received(events, patches)
            self._ordinal = max(received)
            alerts, updates = self._detector.fold(events, patches, received)
            self._take_alerts(alerts, updates)

    def finish(self) -> None:
        """Judges what still waits, since nothing more will come, and counts what is still open."""
        self._take_alerts(*self._detector.finish({self._ordinal: self._now}))
        while self._open:
            self._count(self._open.popitem(last=False)[1])
        self.counts.evicted = self._detector.evicted

    def _received(self, events: pl.DataFrame, patches: pl.DataFrame) -> dict[int, int]:
        """Receive times are not kept: the running maximum of event times, as for files that are replayed."""
        newest = events.group_by(_ORDINAL).agg(pl.col("event_time").max())
        times: dict[int, int] = dict.fromkeys(patches[_ORDINAL].to_list(), 0) | dict(newest.iter_rows())
        for ordinal in sorted(times):
            self._now = max(self._now, times[ordinal])
            times[ordinal] = self._now
        return times

    def _end_epoch(self) -> None:
        self._detector.end_epoch(self._now)
        while self._open and next(iter(self._open.values())).received < self._now - IMPROVES:
            self._count(self._open.popitem(last=False)[1])

    def _take_alerts(self, alerts: list[Alert], updates: list[AlertUpdate]) -> None:
        for alert in alerts:
            if self._start <= alert.event_time < self._end:
                self._open.setdefault(alert.alert_id, alert)
        for update in updates:
            if update.agent_id is not None and update.alert_id in self._open:
                better = {name: getattr(update, name) for name in _NAMES}
                self._open[update.alert_id] = replace(self._open[update.alert_id], **better)
        while len(self._open) > MAX_OPEN:
            self._count(self._open.popitem(last=False)[1])

    def _count(self, alert: Alert) -> None:
        counts, mark = self.counts, _mark(alert)
        if mark in counts.alerts:  # it fired again after it was forgotten; the ledger, too, keeps it once
            return
        key = Key(alert.rule_id, alert.agent_id, f"{datetime.fromtimestamp(alert.event_time // 1_000_000_000, UTC):%Y-%m-%d}")
        if key not in counts.fired and len(counts.fired) >= MAX_COUNTS:
            key = key._replace(agent_id=OTHERS)
        if len(counts.alerts) < MAX_ALERTS:
            counts.alerts.add(mark)
        counts.fired[key] += 1
        shown = counts.examples.setdefault(key, [])
        if len(shown) < self._examples:
            shown.append(alert)


def _mark(alert: Alert) -> bytes:
    """What tells alerts apart though an agent's name becomes known later: the rule, the span that completed it, the rest of the group."""
    parts = (
        alert.tenant,
        alert.sender,
        alert.rule_id,
        alert.trace_id,
        alert.span_id,
        *(f"{name}={value}" for name, value in _group(alert)),
    )
    return hashlib.sha256("\x1f".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "replace")).digest()[:16]


def _group(alert: Alert) -> tuple[tuple[str, str], ...]:
    """Without the agent, whose name may become known later."""
    return tuple(pair for pair in alert.group if pair[0] != "otel_ir.agent.id")


def _frames(part: Part) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """(epoch, events, patches), in order."""
    events, patches = _by_epoch(part.events), _by_epoch(part.patches)
    for number in sorted(events.keys() | patches.keys()):
        yield number, events.get(number, part.events.clear()), patches.get(number, part.patches.clear())


def _by_epoch(frame: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """Slices of a frame in journal order."""
    runs = (frame[_ORDINAL] // EPOCH).rle().struct.unnest()
    starts = [0, *runs["len"].cum_sum().to_list()]
    return {int(epoch): frame.slice(starts[at], length) for at, (length, epoch) in enumerate(runs.iter_rows())}
