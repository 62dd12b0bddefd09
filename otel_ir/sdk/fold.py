"""The engine's fold, fed with one span a record: in this process, or in one of its own where Polars cannot run (``helper.py``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_ir.detect.windows import WindowLimits
from otel_ir.engine import Fold
from otel_ir.model import Alert, AlertUpdate, Record
from otel_ir.normalize.identity import TraceLimits
from otel_ir.sdk.encode import encode
from otel_ir.sigma.ruleset import RuleSet

_log = logging.getLogger(__name__)

TRACES = TraceLimits(max_nodes=50_000)
WINDOWS = WindowLimits(max_rows=200_000, max_live=20_000, max_groups=20_000)
"""What one process may remember: a hundredth of what the server may. Times are the same as there."""
PATIENCE = 3
"""Folds in a row that may fail before the state itself is taken for broken."""
_SAMPLE = encode(
    ReadableSpan(
        "execute_tool",
        attributes={"otel_ir.event.type": "tool_call", "gen_ai.tool.name": "warm_up", "gen_ai.tool.call.arguments": "{}"},
        instrumentation_scope=InstrumentationScope("otel_ir"),
    )
)


class Found(NamedTuple):
    """What a frame brought."""

    alerts: list[Alert]
    updates: list[AlertUpdate]
    failed: int = 0
    """Spans that could not be folded."""


class Folds(Protocol):
    """Something that folds spans, each given as receive time (Unix ns, never decreasing) and OTLP request."""

    def fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
        """Folds them in order. What one of them does wrong is told by ``failed``; it raises only when nothing can be folded any more."""

    def warm(self) -> None:
        """Makes the first ``fold`` as quick as the others."""

    def close(self) -> None:
        """Lets go of everything; twice is harmless."""


class Folding:
    """The fold in this process. After it raised, spans are tried one by one; after ``PATIENCE`` failures in a row it starts afresh."""

    def __init__(self, ruleset: RuleSet) -> None:
        self._ruleset = ruleset
        self._failures = 0
        self._begin()

    def fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
        """See ``Folds``."""
        try:
            found = self._fold(spans)
        except BaseException as error:  # a panic of Polars is no Exception
            if len(spans) > 1:
                return _sum([self.fold([span]) for span in spans])
            self._failures += 1
            _log.error("a span could not be folded: %r", error, exc_info=self._failures == 1)
            if self._failures >= PATIENCE:
                self._begin()
            return Found([], [], 1)
        self._failures = 0
        return found

    def warm(self) -> None:
        """See ``Folds``. What it folds is no part of the state."""
        Folding(self._ruleset).fold([(1, _SAMPLE), (2, _SAMPLE)])

    def close(self) -> None:
        """See ``Folds``."""

    def _begin(self) -> None:
        self._fold_state = Fold(self._ruleset, traces=TRACES, windows=WINDOWS)
        self._ordinal = 0

    def _fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
        first = self._ordinal + 1
        self._ordinal += len(spans)
        records = [Record(ordinal, "traces", received, body) for ordinal, (received, body) in enumerate(spans, first)]
        outputs = [self._fold_state.fold(frame) for frame in self._fold_state.frames(records)]
        rejected = len(self._fold_state.rejected)
        self._fold_state.rejected.clear()
        return Found([one for output in outputs for one in output.alerts], [one for output in outputs for one in output.updates], rejected)


def _sum(parts: Sequence[Found]) -> Found:
    return Found(
        [alert for part in parts for alert in part.alerts],
        [update for part in parts for update in part.updates],
        sum(part.failed for part in parts),
    )
