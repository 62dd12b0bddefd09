"""The fold: ``(state, records) -> (state, events, patches, alerts, updates)``.

Deterministic: a crash is a replay from the last checkpoint, and a backtest, a rule test, the demo and production are the same code.
It reads no clock and no file; time is what the journal says. Control records talk to it from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import msgspec
import polars as pl

from otel_ir.decode import decode_logs, decode_traces
from otel_ir.detect import Detector
from otel_ir.detect.contained import Containment
from otel_ir.detect.windows import WindowLimits
from otel_ir.model import EPOCH, FoldOutput, Record
from otel_ir.normalize.extract import Extract, extract
from otel_ir.normalize.identity import TraceLimits
from otel_ir.normalize.weave import Weaver
from otel_ir.sigma.ruleset import RuleSet

State = dict[str, "pl.DataFrame | bytes"]

CODE = f"6/polars-{version('polars')}"
"""Version of the state's structure. Polars is part of it: the numbers of events in the state are made with its hash."""

RULESET_ACTIVATED = "ruleset_activated"
TICK = "tick"


class RulesetActivated(msgspec.Struct, frozen=True, tag=RULESET_ACTIVATED):
    """Control record: from here on this rule set holds."""

    digest: str


class Tick(msgspec.Struct, frozen=True, tag=TICK):
    """Control record: time passes. What it says is its receive time."""


_CONTROL = msgspec.json.Decoder(RulesetActivated | Containment | Tick)


@dataclass(slots=True)
class Rejected:
    """A record that could not be decoded, or a control record that is not understood, and why; it changes nothing. The receivers refuse
    such requests; this is for journals written by others.
    """

    ordinal: int
    reason: str


class Fold:
    """State of the engine. ``rulesets`` finds a rule set by digest (control record ``ruleset_activated``); ``epoch`` in records.

    ``traces`` and ``windows`` bound what is remembered.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        rulesets: Callable[[str], RuleSet] | None = None,
        *,
        epoch: int = EPOCH,
        traces: TraceLimits | None = None,
        windows: WindowLimits | None = None,
    ) -> None:
        self.ruleset, self._rulesets, self._epoch, self._windows = ruleset, rulesets, epoch, windows
        self.weaver = Weaver(replace(traces or TraceLimits(), epoch=epoch))
        self.detector = Detector(ruleset, windows)
        self.rejected: list[Rejected] = []
        self.ordinal = 0
        self.received = 0

    def frames(self, records: Sequence[Record]) -> Iterator[list[Record]]:
        """Cuts records into frames: a control record stands alone, and no frame straddles the end of an epoch."""
        frame: list[Record] = []
        for record in records:
            if frame and record.kind == "control":
                yield frame
                frame = []
            frame.append(record)
            if record.kind == "control" or record.ordinal % self._epoch == self._epoch - 1:
                yield frame
                frame = []
        if frame:
            yield frame

    def fold(self, frame: Sequence[Record]) -> FoldOutput:
        """Folds one frame (see ``frames``). ``at_epoch`` says afterwards whether a checkpoint may be taken."""
        times = {record.ordinal: record.received for record in frame}
        if frame[0].kind == "control":
            self._control(frame[0])
        woven = self.weaver.fold(*self._extract(frame))
        alerts, updates = self.detector.fold(woven.events, woven.patches, times)
        self.ordinal, self.received = frame[-1].ordinal, frame[-1].received
        if self.at_epoch:
            remembered = self.weaver.end_epoch(self.ordinal // self._epoch, self.received)
            self.detector.end_epoch(self.received, remembered)
        return FoldOutput(woven.events, woven.patches, alerts, updates)

    def finish(self) -> FoldOutput:
        """What remains to be said when nothing more will come (files, never the live stream): calls without an answer, and alerts of
        correlations that wait for what does not happen.
        """
        woven = self.weaver.finish()
        alerts, updates = self.detector.finish({self.ordinal: self.received})
        return FoldOutput(woven.events, woven.patches, alerts, updates)

    @property
    def at_epoch(self) -> bool:
        """Whether the newest record ended an epoch."""
        return self.ordinal % self._epoch == self._epoch - 1

    def _control(self, record: Record) -> None:
        try:
            told = _CONTROL.decode(record.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            self.rejected.append(Rejected(record.ordinal, f"control record: {error}"))
            return
        if isinstance(told, Containment):
            self.detector.contained.control(told, record.ordinal)
        elif isinstance(told, RulesetActivated) and told.digest != self.ruleset.digest and self._rulesets:
            self.ruleset = self._rulesets(told.digest)
            self.detector.activate(self.ruleset)

    def _extract(self, frame: Sequence[Record]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        parts: list[Extract] = []
        for kind, decode in (("traces", decode_traces), ("logs", decode_logs)):
            records = [record for record in frame if record.kind == kind]
            if records or (kind == "traces" and not parts):
                batch = decode(records)
                self.rejected += [Rejected(ordinal, reason) for ordinal, reason in batch.rejected]
                parts.append(extract(batch, self.ruleset.fields))
        if len(parts) == 1:
            return parts[0].events, parts[0].nodes, parts[0].calls, parts[0].tells
        order = ["otel_ir.journal.ordinal", "otel_ir.journal.position"]
        events = pl.concat([part.events for part in parts]).sort(order, maintain_order=True)
        nodes = pl.concat([part.nodes for part in parts]).sort("ordinal", "position", maintain_order=True)
        calls = pl.concat([part.calls for part in parts]).sort("ordinal", "position", maintain_order=True)
        return events, nodes, calls, pl.concat([part.tells for part in parts]).sort(order, maintain_order=True)

    def state(self) -> State:
        """Everything a restart needs, as of ``ordinal``. Taken at the end of an epoch only; later folds change nothing of it."""
        head = {"ordinal": self.ordinal, "received": self.received, "ruleset": self.ruleset.digest}
        parts: State = {"fold": msgspec.msgpack.encode(head)}
        for name, stage in (("weaver", self.weaver), ("detector", self.detector)):
            parts |= {f"{name}.{part}": value for part, value in stage.state().items()}
        return parts

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``."""
        head = msgspec.msgpack.decode(state["fold"])
        if head["ruleset"] != self.ruleset.digest and self._rulesets:
            self.ruleset = self._rulesets(head["ruleset"])
        self.detector = Detector(self.ruleset, self._windows)
        self.ordinal, self.received = head["ordinal"], head["received"]
        for name, stage in (("weaver", self.weaver), ("detector", self.detector)):
            stage.restore({part.removeprefix(f"{name}."): value for part, value in state.items() if part.startswith(f"{name}.")})


def as_received(records: Sequence[Record]) -> list[Record]:
    """Records whose receive time is the running maximum: what ``replay`` gives files that were never received."""
    newest, result = 0, []
    for record in records:
        newest = max(newest, record.received)
        result.append(replace(record, received=newest))
    return result
