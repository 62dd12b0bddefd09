"""``IncidentResponseProcessor``: detection and response inside the agent's process, as a span processor of the OpenTelemetry SDK."""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_ir.errors import RuleError
from otel_ir.export import alert_attributes, alert_span
from otel_ir.guard.restriction import one_line
from otel_ir.model import SCOPE_NAME, Alert, AlertUpdate
from otel_ir.respond import ResponseConfig, load_policy
from otel_ir.rules_path import shipped_rules
from otel_ir.sdk.answer import Answers, Guard
from otel_ir.sdk.encode import encode
from otel_ir.sdk.fold import Folding, Folds
from otel_ir.sdk.helper import HelperFold, pool_is_running
from otel_ir.sdk.loop import Item, Loop
from otel_ir.sdk.sieve import may_be_event
from otel_ir.sdk.spans import OpenSpans, put_event
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")

BUDGET = 0.1
"""Seconds for which ``on_end`` waits at most."""
SHUTDOWN_SECONDS = 10.0


def _never_raises(method: Callable[_P, None]) -> Callable[_P, None]:
    """Counts what goes wrong, and tells it once: an agent never fails because of what watches it."""

    @functools.wraps(method)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            processor: Any = args[0]
            processor.failed(method.__name__)

    return called


class IncidentResponseProcessor(SpanProcessor):
    """Runs the rules on every span that ends, before ``on_end`` returns, and answers alerts.

        provider.add_span_processor(otel_ir.IncidentResponseProcessor())

    An alert becomes a span event ``agent.threat.detection`` on the nearest open ancestor of the offending span; where none is open, a
    span of its own (scope ``otel_ir``) that goes the way of all spans of the provider.

    ``rules``: folder or file of Sigma rules, several of them, or a loaded ``RuleSet``; the shipped ones by default.
    ``response``: a ``response.yaml`` (docs/response.md); the shipped one by default, of which ``mode`` does not count.
    ``guard``: an ``otel_ir.guard.Guard``, which blocks what is revoked before it runs. It is told only with ``enforce=True`` (and, if
    ``response`` is given, ``mode: enforce`` there); else the alert says what would have been done.
    ``budget``: seconds for which ``on_end`` waits at most. A span that takes longer is folded all the same, by the processor's own
    thread: its alert comes then, on an ancestor that is still open or as a span of its own, and the guard is told then.
    ``ttl``: seconds until a restriction ends by itself; by default as ``response`` says.

    Raises ``RuleError`` or ``ConfigError`` for rules or a policy that cannot be used, and nothing afterwards.
    """

    def __init__(
        self,
        rules: RuleSet | Path | str | Iterable[Path | str] | None = None,
        response: ResponseConfig | Path | str | None = None,
        guard: Guard | None = None,
        *,
        enforce: bool = False,
        budget: float = BUDGET,
        ttl: float | None = None,
    ) -> None:
        if budget < 0 or (ttl is not None and ttl <= 0):
            raise ValueError("budget must not be negative, ttl must be above 0")
        self._ruleset = _load(rules)
        self._config = _policy(response)
        self._guard, self._enforce, self._budget, self._ttl = guard, enforce, budget, ttl
        self._polars_ran = False
        self._begin(Folding)
        _LIVE.add(self)
        if enforce and (why := self._answers.dry_run):
            _log.warning("otel_ir will only say what it would do: %s", why)

    def _begin(self, folds: Callable[[RuleSet], Folds]) -> None:
        """Everything that a fork does not survive."""
        self._folds: Folds | None = None
        self._new_folds = folds
        self._spans = OpenSpans()
        self._answers = Answers(self._config, self._guard, enforce=self._enforce, ttl=self._ttl)
        self._loop = Loop(self._warm, self._work, self._tick, lambda: self._answers.holding)
        self._pipeline: Any = None
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._lock = threading.Lock()

    # Called by the SDK, in any thread

    @_never_raises
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Remembers the span as open."""
        if not _is_ours(span):
            self._pipeline = self._pipeline or getattr(span, "_span_processor", None)
            self._spans.start(span)
            self._loop.start()

    @_never_raises
    def on_end(self, span: ReadableSpan) -> None:
        """Folds the span, and waits for that no longer than the budget."""
        if _is_ours(span):
            return
        self._spans.end(span)
        self._count("spans")
        urgent = may_be_event(span)
        item = self._loop.put(span, urgent=urgent)
        if item is None:
            self._count("dropped")
            self._tell_once("dropped", "spans come faster than they can be folded, or after shutdown: some are not looked at")
        elif item.done is not None and not self._loop.is_own_thread and not item.done.wait(self._budget):
            self._count("late")
            self._tell_once("late", f"a span was not folded within the budget of {self._budget:g} s; its alert may come late")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Waits until every span that has ended is folded, and its alerts are where they belong."""
        return self._loop.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Folds what is left and stops. Restrictions stay until they end by themselves: the guard goes on without us."""
        if not self._loop.stop(SHUTDOWN_SECONDS):
            _log.error("spans were still being folded %g s after shutdown began", SHUTDOWN_SECONDS)

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened so far: spans, alerts, events (put on open spans), own_spans, late (over the budget), dropped, failed, lost."""
        with self._lock:
            return Counter(self._counts)

    def failed(self, where: str) -> None:
        """Counts an error that is being handled; the first one of a kind is logged."""
        self._count("failed")
        self._tell_once(f"failed {where}", f"otel_ir failed in {where}; the agent goes on", exc_info=True)

    # Called by the loop, in its thread

    def _warm(self) -> None:
        """Folds something before it matters: the first use of Polars costs as much as thirty spans."""
        self._polars_ran = True
        try:
            self._folds = self._new_folds(self._ruleset)
            self._folds.warm()
        except Exception:
            self.failed("start")

    def _work(self, items: Sequence[Item]) -> None:
        try:
            self._fold(items)
        except Exception:
            self.failed("fold")
        finally:
            for item in items:
                if item.done is not None:
                    item.done.set()

    def _fold(self, items: Sequence[Item]) -> None:
        if self._folds is None:
            self._folds = self._new_folds(self._ruleset)
        found = self._folds.fold([(item.received, body) for item in items if (body := self._encoded(item.span))])
        if found.failed:
            self._count("failed", found.failed)
        for alert in found.alerts:
            self._raise(alert, items[-1].span.resource)
        for update in found.updates:
            self._update(update)

    def _encoded(self, span: ReadableSpan) -> bytes:
        try:
            return encode(span)
        except Exception:
            self.failed("encode")
            return b""

    @_never_raises
    def _update(self, update: AlertUpdate) -> None:
        self._answers.update(update)

    @_never_raises
    def _raise(self, alert: Alert, resource: Resource) -> None:
        """The guard first, since the agent may be about to call again."""
        self._count("alerts")
        told = self._answers.alert(alert)
        _log.warning(
            "%s (%s, %s): %s", alert.signal, alert.severity, one_line(alert.agent_id or alert.trace_id), one_line(alert.description)
        )
        if put_event(self._spans, alert, {**alert_attributes(alert), **told}):
            self._count("events")
        else:
            self._emit(alert_span(alert, resource, more=told))

    def _emit(self, span: ReadableSpan) -> None:
        """Gives a span to the provider's other processors, one by one: those that call them in a pool may have no thread left, since all
        of them may be waiting for us.
        """
        others = [one for one in getattr(self._pipeline, "_span_processors", ()) if one is not self]
        for one in others:
            one.on_end(span)
        self._count("own_spans" if others else "lost")

    def _tick(self) -> None:
        try:
            self._answers.expire()
        except Exception:
            self.failed("tick")

    # Any thread

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    def _tell_once(self, key: str, what: str, *, exc_info: bool = False) -> None:
        if key not in self._told:
            self._told.add(key)
            _log.warning("%s (said once)", what, exc_info=exc_info)


def _is_ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == SCOPE_NAME


def _load(rules: RuleSet | Path | str | Iterable[Path | str] | None) -> RuleSet:
    if isinstance(rules, RuleSet):
        return rules
    places = [shipped_rules()] if rules is None else [rules] if isinstance(rules, Path | str) else list(rules)
    ruleset, errors = load_rules([Path(place) for place in places])
    if errors:
        raise RuleError("\n".join(str(error) for error in errors))
    return ruleset


def _policy(response: ResponseConfig | Path | str | None) -> ResponseConfig:
    if isinstance(response, ResponseConfig):
        return response
    config, _ = load_policy(None if response is None else Path(response))
    # The shipped policy is dry-run for the server's sake; here enforce=True and a guard are the two switches.
    return config if response else msgspec.structs.replace(config, mode="enforce")


# A fork takes along the caller's thread alone: locks may be held for ever by threads that are not there, and Polars waits for
# threads of its pool that are not there either. So a child gets everything anew, and folds in a process of its own if it must.
_LIVE: weakref.WeakSet[IncidentResponseProcessor] = weakref.WeakSet()
_pool_ran = False


def _before_fork() -> None:
    global _pool_ran  # noqa: PLW0603
    _pool_ran = _pool_ran or any(processor._polars_ran for processor in _LIVE) or pool_is_running()


def _after_fork() -> None:
    for processor in list(_LIVE):
        processor._begin(HelperFold if _pool_ran else Folding)


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
