"""The reference fold: what otel_ir means, row by row, slow and obvious. The oracle of the property tests.

It works on what the dialect tables give (nodes and events of a record, as plain dicts) and shares no code with the engine.
Times are integers (nanoseconds in the engine; any unit here). One ``Record`` is one journal record.

Identity. A slot is a parent span. Events of a slot which lack a field (agent, conversation, user) take it from the nearest ancestor
that has it, or until that is known from the first sibling that has it. A span's chain is walked as its ancestors arrive.
Until an agent is known, the slot itself is the agent (``service/~trace/parent``): never coarser than what comes out.

Windows. ``event_count`` is true at a row when more than ``threshold`` rows of its group lie in ``(t - timespan, t]``, counted in
event time up to that row; ``temporal_ordered`` when the steps occur in that order in that window; with ``within_events`` the window
is the last N rows of the group in journal order (and the time span holds as well). An alert fires where the condition turns true,
and again when it has stayed true for ``suppress`` since the last alert. A row is judged when it comes, or when a row comes before it
that may make it true: its window reaches that row, and for ``event_count`` it is at most ``threshold`` rows after it. A row that leaves
(its agent became known) makes nobody else judged again; its mark goes with it, and it is not counted a second time where it comes to.

An alert is told once, as long as its mark is remembered: a span that comes again after everything about it was forgotten is a new one.

Containment. An action is in force from its control record on. A call that came after the record which first named the selector it
matches, that began later than ``since`` and an allowance, and that its verb makes impossible, is a violation. It is judged as all that
its own record says of it, and again at every record that tells more of it, while it is kept. Each action alerts at its first violation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FIELDS = ("agent", "conversation", "user")


@dataclass
class Record:
    ordinal: int
    received: int
    nodes: list[dict[str, Any]] = field(default_factory=list)
    """span, trace, parent (or None), position, agent, conversation, user (own or None), service, lends (bool); ids unique per tenant and
    sender; the same span again counts for nothing"""
    events: list[dict[str, Any]] = field(default_factory=list)
    """trace, span, parent, position, time, start and executed (or absent), service, agent, conversation, user (own or None), and whatever
    rules look at"""

    control: dict[str, Any] | None = None
    """what a control record says of an action; nothing else is in that record"""


@dataclass
class Limits:
    epoch: int = 256
    lateness: int = 600
    trace_ttl: int = 3600
    max_nodes: int = 1_000_000
    max_rows: int = 4096
    max_hops: int = 64
    allowance: int = 2
    keep: int = 3600
    max_waiting: int = 200_000
    step: int = 1


class ReferenceWeave:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nodes: dict[tuple[str, str], dict[str, Any]] = {}
        self.slots: dict[tuple[str, str], dict[str, Any]] = {}
        self.lent: dict[tuple[tuple[str, str], str], Any] = {}
        self.open: list[dict[str, Any]] = []
        self.epochs: list[tuple[int, int, int]] = []

    def fold(self, record: Record) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """-> (events with identity, patches: events again whose identity became better)."""
        fresh = set()
        for node in record.nodes:
            if (key := (node["trace"], node["span"])) not in self.nodes:
                self.nodes[key] = node | {"ordinal": record.ordinal}
                fresh.add(node["position"])
                if node["parent"] is not None and node["lends"]:
                    for name in FIELDS:
                        if node[name] is not None:
                            slot = (node["trace"], node["parent"])
                            self.lent.setdefault((slot, name), (node[name], record.ordinal))
                            if slot in self.slots:
                                self.slots[slot]["lent"].setdefault(name, node[name])
        new = [dict(event) for event in record.events if event["position"] in fresh]
        for event in new:
            event["own"] = {name: event[name] for name in FIELDS}
            event["ordinal"] = record.ordinal
            if event["parent"] is not None and None in event["own"].values():
                slot = (event["trace"], event["parent"])
                lent = {name: self.lent[slot, name][0] for name in FIELDS if (slot, name) in self.lent}
                state = {"at": event["parent"], "hops": 0, "found": {}, "lent": lent, "ordinal": record.ordinal}
                event["slot"] = self.slots.setdefault(slot, state)
        for slot, state in self.slots.items():
            self._walk(slot, state)
        for event in new:
            self._resolve(event)
        patches = []
        for event in self.open:
            before = [event[name] for name in (*FIELDS, "source")]
            self._resolve(event)
            if before != [event[name] for name in (*FIELDS, "source")]:
                patches.append(dict(event))
        self.open += [event for event in new if "slot" in event]
        return [dict(event) for event in new], patches

    def _walk(self, slot: tuple[str, str], state: dict[str, Any]) -> None:
        while state["at"] is not None and state["hops"] < self.limits.max_hops and (node := self.nodes.get((slot[0], state["at"]))):
            for name in FIELDS:
                if node[name] is not None:
                    state["found"].setdefault(name, node[name])
            state["at"], state["hops"] = node["parent"], state["hops"] + 1

    def _resolve(self, event: dict[str, Any]) -> None:
        slot = event.get("slot", {"found": {}, "lent": {}})
        for name in FIELDS:
            value, source = event["own"][name], "own"
            if value is None and name in slot["found"]:
                value, source = slot["found"][name], "ancestor"
            if value is None and name in slot["lent"]:
                value, source = slot["lent"][name], "sibling"
            if name == "agent":
                event["source"] = source if value is not None else "none"
                value = value if value is not None else f"{event['service']}/~{_bare(event['trace'])}/{event['parent'] or ''}"
            event[name] = value

    def end_epoch(self, epoch: int, received: int) -> None:
        """Evicts what was first seen in an epoch that is too old, or too many spans ago; events stay as they are when their slot goes."""
        count = sum(1 for node in self.nodes.values() if node["ordinal"] // self.limits.epoch == epoch)
        self.epochs.append((epoch, count, received))
        total, keep = 0, epoch + 1
        for number, spans, last in reversed(self.epochs):
            total += spans
            if total > self.limits.max_nodes or last < received - self.limits.trace_ttl:
                break
            keep = number
        self.nodes = {key: node for key, node in self.nodes.items() if node["ordinal"] // self.limits.epoch >= keep}
        self.slots = {key: slot for key, slot in self.slots.items() if slot["ordinal"] // self.limits.epoch >= keep}
        self.lent = {key: lent for key, lent in self.lent.items() if lent[1] // self.limits.epoch >= keep}
        self.open = [event for event in self.open if event["slot"]["ordinal"] // self.limits.epoch >= keep]


@dataclass
class Window:
    """One correlation. ``steps`` are predicates over an event; ``threshold`` is unused with ``ordered``."""

    name: str
    steps: list[Any]
    timespan: int
    suppress: int
    threshold: int = 0
    ordered: bool = False
    within_events: int | None = None
    service: Any = lambda event: True
    multiple: float | None = None
    learn: int = 60

    def start(self, limits: Limits) -> ReferenceWindows:
        return ReferenceWindows(self, limits)


@dataclass
class Row:
    event: dict[str, Any]
    steps: list[bool]
    hit: bool = False


@dataclass
class Mark:
    """An alert fired at this row; outlives the row by ``suppress``."""

    order: tuple[int, ...]
    time: int
    row: Row
    alert: str


class ReferenceWindows:
    def __init__(self, window: Window, limits: Limits) -> None:
        self.window, self.limits = window, limits
        self.groups: dict[str, list[Row]] = {}
        self.fired: dict[str, list[Mark]] = {}
        self.counts: dict[str, int] = {}
        self.buckets: dict[tuple[str, int], int] = {}
        self.learnt: dict[str, list[int]] = {}
        self.folded = -(2**62)

    def _order(self, row: Row) -> tuple[int, ...]:
        seq = (row.event["ordinal"], row.event["position"])
        return seq if self.window.within_events else (row.event["time"], *seq)

    def _threshold(self, group: str) -> float:
        windows, total = self.learnt.get(group, [0, 0])
        if self.window.multiple is None or windows < self.window.learn:
            return self.window.threshold
        return self.window.multiple * total / windows

    def fold(self, events: list[dict[str, Any]], patches: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], list[tuple[str, str]]]]:
        """-> alerts: (group, completing event, contributing spans) in group-and-row order."""
        touched: dict[str, list[Row]] = {}
        for patch in patches:
            for group, rows in list(self.groups.items()):
                # Of a span that came again after it was forgotten, the patch means the newer event.
                for row in [row for row in rows if _place(row.event) == _place(patch) and row.event["ordinal"] == patch["ordinal"]]:
                    if group != patch["agent"]:
                        rows.remove(row)
                        self._bucket(group, row, -1)
                        self._bucket(patch["agent"], row, +1)
                        moved = Row(patch, row.steps, row.hit)  # what was counted once is not counted again because it got a name
                        for mark in [mark for mark in self.fired.get(group, []) if mark.row is row]:
                            self.fired[group].remove(mark)
                            mark.row = moved
                            self.fired.setdefault(patch["agent"], []).append(mark)
                        touched.setdefault(patch["agent"], []).append(moved)
                    else:
                        row.event = patch
        for event in events:
            steps = [bool(step(event)) for step in self.window.steps]
            if any(steps) or (self.window.within_events and self.window.service(event)):
                row = Row(event, steps)
                touched.setdefault(event["agent"], []).append(row)
                self._bucket(event["agent"], row, +1)
        alerts = []
        for group in sorted(touched):
            rows = self.groups.setdefault(group, [])
            rows.extend(touched[group])
            rows.sort(key=self._order)
            alerts += self._judge(group, rows, touched[group])
        return alerts

    def _reaches(self, group: str, rows: list[Row], i: int, new: Row) -> bool:
        j = rows.index(new)
        if self.window.within_events:
            return j <= i < j + self.window.within_events
        few = self.window.ordered or i <= j + self._threshold(group)
        return j <= i and few and rows[i].event["time"] < new.event["time"] + self.window.timespan

    def _window(self, rows: list[Row], i: int) -> list[Row]:
        first = max(0, i - self.window.within_events + 1) if self.window.within_events else 0
        return [row for row in rows[first : i + 1] if row.event["time"] > rows[i].event["time"] - self.window.timespan]

    def _true(self, group: str, rows: list[Row], i: int) -> bool:
        inside = self._window(rows, i)
        if not self.window.ordered:
            return len(inside) > self._threshold(group)
        step = 0
        for row in inside:
            if row.steps[step]:
                step += 1
                if step == len(self.window.steps):
                    return True
        return False

    def _judge(self, group: str, rows: list[Row], new: list[Row]) -> list[Any]:
        alerts = []
        marks = self.fired.setdefault(group, [])
        judged = [i for i in range(len(rows)) if any(self._reaches(group, rows, i, one) for one in new)]
        was = {i: rows[i].hit for i in judged}
        for i in judged:
            rows[i].hit = self._true(group, rows, i)
        for i in judged:
            row, time = rows[i], rows[i].event["time"]
            if not row.hit or any(mark.row is row for mark in marks):
                continue
            armed = i == 0 or not rows[i - 1].hit
            if i and not self.window.within_events and rows[i - 1].event["time"] <= time - self.window.timespan:
                armed = True
            before = [mark for mark in marks if mark.order <= self._order(row)]
            last = max(before, key=lambda mark: mark.order) if before else None
            if last is None or armed or time - last.time >= self.window.suppress:
                last = self._covered(rows, i, marks)
                if last is None:
                    alert = self._alert(group, row)
                    if alert not in self.counts:
                        inside = [one.event for one in self._window(rows, i) if any(one.steps)]
                        alerts.append((group, row.event, [(one["trace"], one["span"]) for one in inside]))
                        self.counts[alert] = 1
                    marks.append(Mark(self._order(row), time, row, alert))
                    continue
            if not was[i]:
                self.counts[last.alert] += 1
        return alerts

    def _alert(self, group: str, row: Row) -> str:
        return f"{self.window.name}/{row.event['trace']}/{row.event['span']}"

    def _covered(self, rows: list[Row], i: int, marks: list[Mark]) -> Mark | None:
        """The alert that already fired later in the same unbroken run, less than ``suppress`` after this row."""
        for later in rows[i + 1 :]:
            if later.event["time"] - rows[i].event["time"] >= self.window.suppress or not later.hit:
                return None
            for mark in marks:
                if mark.row is later:
                    return mark
        return None

    def _bucket(self, group: str, row: Row, change: int) -> None:
        start = row.event["time"] // self.window.timespan * self.window.timespan
        if self.window.multiple is not None and start >= self.folded:
            self.buckets[group, start] = self.buckets.get((group, start), 0) + change

    def end_epoch(self, received: int) -> None:
        """Learns from the closed windows (those over the threshold teach nothing), then forgets rows that no window can reach any more."""
        span = self.window.timespan
        closed = (received - self.limits.lateness) // span * span
        for (group, start), count in sorted(self.buckets.items()):
            if start < closed:
                if 0 < count <= self._threshold(group):
                    windows, total = self.learnt.get(group, [0, 0])
                    self.learnt[group] = [windows + 1, total + count]
                del self.buckets[group, start]
        self.folded = max(self.folded, closed)
        horizon = received - self.limits.lateness - span
        for group, rows in list(self.groups.items()):
            kept = [row for row in rows if row.event["time"] > horizon]
            self.groups[group] = kept[-(self.window.within_events or self.limits.max_rows) :]
            if not self.groups[group]:
                del self.groups[group]
        reach = received - self.limits.lateness - max(span, self.window.suppress)
        self.fired = {group: [mark for mark in marks if mark.time > reach] for group, marks in self.fired.items()}
        marked = {mark.alert for marks in self.fired.values() for mark in marks}
        self.counts = {alert: count for alert, count in self.counts.items() if alert in marked}


FIELD_OF = {"otel_ir.agent.id": "agent", "gen_ai.conversation.id": "conversation", "trace_id": "trace"}
STOPPED = ("rejected", "pending_approval")


class ReferenceWatch:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.actions: dict[str, dict[str, Any]] = {}
        self.waiting: list[dict[str, Any]] = []
        self.counted: dict[str, set[tuple[str, str]]] = {}
        self.alerts: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def control(self, said: dict[str, Any], ordinal: int) -> None:
        before = self.actions.pop(said["action_id"], None)
        if said["state"] in ("verified", "unverified", "violated", "escalated"):
            known = before["heard"] if before else []
            heard = [next((one for one in known if one[0] == selector), (selector, ordinal)) for selector in said["selectors"]]
            self.actions[said["action_id"]] = said | {"heard": heard}

    def fold(self, record: Record, events: list[dict[str, Any]], patches: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """-> (action, first violation) of the actions that alert."""
        judged = []
        for patch in patches:
            known = {name: patch.get(name) for name in (*FIELDS, "source", "executed")}
            judged += [one | known for one in self.waiting if _place(one) == _place(patch)]
        new = [one | {"received": record.received} for one in events if one["type"] in ("tool_call", "model_output") and self._owned(one)]
        self.waiting += new
        found = []
        for event in sorted(judged + new, key=lambda one: (one["ordinal"], one["position"])):
            for action, said in self.actions.items():
                counted = self.counted.setdefault(action, set())
                if self._violates(said, event) and _place(event) not in counted:
                    counted.add(_place(event))
                    if action not in self.alerts:
                        self.alerts[action] = f"{event['trace']}/{event['span']}"
                        found.append((action, event))
                    self.counts[action] = self.counts.get(action, 0) + 1
        return found

    def _owned(self, event: dict[str, Any]) -> bool:
        return any((said["tenant"], said["service"]) == ("", event["service"]) for said in self.actions.values())

    def _violates(self, said: dict[str, Any], event: dict[str, Any]) -> bool:
        mine = event | {"trace": _bare(event["trace"])}
        meant = any(
            event["ordinal"] > since and all(mine[FIELD_OF[name]] == value for name, value in selector.items())
            for selector, since in said["heard"]
        )
        start = min(event.get("start") or event["time"], event["time"])
        late = start > said["since"] + self.limits.allowance
        return meant and late and (said["tenant"], said["service"]) == ("", event["service"]) and self._impossible(said, event)

    def _impossible(self, said: dict[str, Any], event: dict[str, Any]) -> bool:
        if event["type"] == "model_output":
            return bool(said["verb"] == "pause_agent")
        if event.get("executed") in STOPPED:
            return False
        revoked = said["tools"] is None or event["tool"] in said["tools"]
        allowed = any(event["tool"].startswith(pattern.rstrip("*")) for pattern in said["read_only"])
        return {"pause_agent": True, "revoke_tools": revoked, "read_only_tools": revoked and not allowed}.get(said["verb"], False)

    def end_epoch(self, received: int) -> None:
        """Forgets calls that came too long ago, or of services in which nothing is in force any more, and the oldest of too many."""
        kept = [one for one in self.waiting if one["received"] > received - self.limits.keep and self._owned(one)]
        self.waiting = kept[-self.limits.max_waiting :]
        places = {_place(one) for one in self.waiting}
        self.counted = {action: counted & places for action, counted in self.counted.items()}


def _place(event: dict[str, Any]) -> tuple[str, str]:
    return event["trace"], event["span"]


def _bare(trace: str) -> str:
    """A trace as its spans call it: without the sender (``both.py``)."""
    return trace.rpartition("~")[2]
