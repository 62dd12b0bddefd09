"""What otel_ir measures about itself: one table of metrics, sent by OTLP and read as Prometheus text.

A stage never imports this module. It takes an object with ``add(name, value, **attributes)`` (the ``Counter`` Protocol,
also ``record`` and ``set`` where it measures durations or levels), and ``Telemetry`` is that object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import Histogram, MeterProvider, ObservableGauge
from opentelemetry.sdk.metrics import _Gauge as SdkGauge
from opentelemetry.sdk.metrics.export import CardinalityLimits, MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from otel_ir import __version__
from otel_ir.model import SCOPE_NAME

Kind = Literal["counter", "histogram", "gauge"]


class Counter(Protocol):
    """What a stage is given to count with."""

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        """Raise the counter ``name`` of ``METRICS`` by ``value``."""


class Metric(NamedTuple):
    """One metric: its kind, UCUM unit, meaning, and the attributes it may carry (any other is dropped)."""

    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    "otel_ir.receive.requests": Metric("counter", "{request}", "OTLP requests answered", ("transport", "signal", "outcome")),
    "otel_ir.receive.bytes": Metric("counter", "By", "uncompressed bytes of accepted requests", ("transport", "signal")),
    "otel_ir.receive.rejected": Metric("counter", "{request}", "OTLP requests refused, by reason", ("transport", "signal", "reason")),
    "otel_ir.receive.items_rejected": Metric("counter", "{item}", "spans and logs refused by partial success", ("signal", "reason")),
    "otel_ir.receive.own_dropped": Metric("counter", "{item}", "spans and logs of our own scope, dropped on the way in", ("signal",)),
    "otel_ir.journal.records": Metric("counter", "{record}", "records written and synced", ("kind",)),
    "otel_ir.journal.refused": Metric("counter", "{record}", "records not taken because the journal was full"),
    "otel_ir.journal.sync.duration": Metric("histogram", "s", "time of one group commit"),
    "otel_ir.journal.size": Metric("gauge", "By", "bytes on disk"),
    "otel_ir.journal.lag": Metric("gauge", "{record}", "records synced and not yet folded"),
    "otel_ir.decode.rejected": Metric("counter", "{record}", "journal records that could not be decoded or are not understood, skipped"),
    "otel_ir.events": Metric("counter", "{event}", "canonical events, each counted when first seen", ("type",)),
    "otel_ir.events.unnamed": Metric("gauge", "{event}", "events that wait for the name of their agent, ten minutes at most"),
    "otel_ir.services.unnamed": Metric("gauge", "{service}", "services that these are of"),
    "otel_ir.fold.duration": Metric("histogram", "s", "time to fold one frame of records", ("stage",)),
    "otel_ir.fold.records": Metric("counter", "{record}", "records folded"),
    "otel_ir.state.evicted": Metric("counter", "{entry}", "entries of bounded state dropped, by table", ("table",)),
    "otel_ir.rules.loaded": Metric("gauge", "{rule}", "rules of the active rule set"),
    "otel_ir.rules.errors": Metric("gauge", "{error}", "errors of the newest rule files; above 0 the last good set is active"),
    "otel_ir.alerts": Metric("counter", "{alert}", "alerts, each counted once", ("severity", "stage", "rule_id", "signal")),
    "otel_ir.alert.latency": Metric("histogram", "s", "received until the alert stood in the ledger", ("severity",)),
    "otel_ir.actions": Metric("counter", "{action}", "state changes of actions", ("adapter", "verb", "state", "mode")),
    "otel_ir.actions.unserved": Metric("counter", "{action}", "steps asked for by a playbook that no adapter can do", ("verb",)),
    "otel_ir.action.dispatch.latency": Metric("histogram", "s", "span received until the action was dispatched", ("adapter",)),
    "otel_ir.action.duration": Metric("histogram", "s", "time of one attempt", ("adapter", "verb", "outcome")),
    "otel_ir.action.attempts": Metric("counter", "{attempt}", "attempts of adapters, by outcome", ("adapter", "outcome")),
    "otel_ir.actions.waiting": Metric("gauge", "{action}", "alerts not yet planned, and actions without an outcome"),
    "otel_ir.escalations": Metric("counter", "{action}", "violated actions for which the next rung was asked for", ("verb", "rung")),
    "otel_ir.incidents": Metric("gauge", "{incident}", "incidents that are not closed"),
    "otel_ir.agents.held": Metric("gauge", "{agent}", "agents that an action may hold now"),
    "otel_ir.guards.live": Metric("gauge", "{guard}", "guards that were heard of within a minute"),
    "otel_ir.guard.blocked": Metric("counter", "{call}", "calls that guards blocked, as far as they told which"),
    "otel_ir.drill.age": Metric("gauge", "s", "age of the newest drill; -1 while there was none"),
    "otel_ir.drill.passed": Metric("gauge", "1", "1 if the newest drill passed, else 0"),
    "otel_ir.export.items": Metric(
        "counter", "{item}", "alerts, steps of actions, changes of incidents handed to the OTLP endpoint", ("kind", "signal", "outcome")
    ),
    "otel_ir.export.duration": Metric("histogram", "s", "time of one export", ("signal", "outcome")),
    "otel_ir.export.failing": Metric("gauge", "{signal}", "1 while the newest export failed", ("signal",)),
    "otel_ir.store.events": Metric("counter", "{event}", "canonical events kept as evidence"),
    "otel_ir.store.duration": Metric("histogram", "s", "time of one write", ("store",)),
    "otel_ir.checkpoint.age": Metric("gauge", "s", "age of the newest checkpoint"),
    "otel_ir.telemetry.unknown": Metric("counter", "{measurement}", "measurements under a name that is not in this table"),
}
"""Every metric otel_ir emits. docs/alerts.md carries this table, and a test compares them."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket bounds of durations. 1, 5 and 30 s are the budgets of the design (dispatched, verified, outer limit)."""

MAX_SERIES = 500
"""Distinct attribute sets per metric; more of them share one series marked ``otel.metric.overflow`` (metrics SDK, cardinality limits)."""
MAX_VALUE = 128
"""Characters of an attribute value: rule ids and adapter names are the operator's, everything else is one of a few words."""

_LIMITS: CardinalityLimits = {SdkCounter: MAX_SERIES, Histogram: MAX_SERIES, SdkGauge: MAX_SERIES, ObservableGauge: MAX_SERIES}


class Telemetry:
    """The metrics of one process. All methods are thread-safe and never raise into the caller's work.

    ``exporter``: where to push every ``interval`` seconds (``otel_ir.export.metric_exporter``); without one there is only ``render``.
    """

    def __init__(self, exporter: MetricExporter | None = None, *, interval: float = 60.0, resource: Resource | None = None) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        readers: list[MetricReader] = [
            PrometheusMetricReader(scope_info_enabled=False, registry=self._registry, cardinality_limits=_LIMITS),
        ]
        if exporter is not None:
            readers.append(PeriodicExportingMetricReader(exporter, export_interval_millis=interval * 1000, cardinality_limits=_LIMITS))
        # Closing is the caller's (serve drains in order); an exit handler would export from a half torn down process.
        self._provider = MeterProvider(metric_readers=readers, resource=resource or own_resource(), shutdown_on_exit=False)
        self._meter = self._provider.get_meter(SCOPE_NAME, __version__)
        self._counters = {name: self._meter.create_counter(name, m.unit, m.meaning) for name, m in METRICS.items() if m.kind == "counter"}
        self._histograms = {
            name: self._meter.create_histogram(name, m.unit, m.meaning, explicit_bucket_boundaries_advisory=SECONDS)
            for name, m in METRICS.items()
            if m.kind == "histogram"
        }
        self._gauges = {name: self._meter.create_gauge(name, m.unit, m.meaning) for name, m in METRICS.items() if m.kind == "gauge"}
        for name, counter in self._counters.items():
            if not METRICS[name].attributes:
                counter.add(0)  # a counter that was never seen at 0 shows no increase when it starts

    def add(self, name: str, value: float = 1, **attributes: str) -> None:
        """Raise a counter; ``value`` >= 0."""
        if instrument := self._counters.get(name):
            instrument.add(max(value, 0), _bounded(name, attributes))
        else:
            self._unknown()

    def record(self, name: str, value: float, **attributes: str) -> None:
        """Add one measurement to a histogram; durations in seconds."""
        if instrument := self._histograms.get(name):
            instrument.record(max(value, 0), _bounded(name, attributes))
        else:
            self._unknown()

    def set(self, name: str, value: float, **attributes: str) -> None:
        """Set a gauge."""
        if instrument := self._gauges.get(name):
            instrument.set(value, _bounded(name, attributes))
        else:
            self._unknown()

    def observe(self, name: str, level: Callable[[], float]) -> None:
        """Let a gauge be read by calling ``level`` at collection time (``name`` must be a gauge of ``METRICS``: ``KeyError``)."""
        if name not in self._gauges:
            raise KeyError(name)

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            yield Observation(level())

        metric = METRICS[name]
        self._gauges.pop(name)
        self._meter.create_observable_gauge(name, [callback], metric.unit, metric.meaning)

    def render(self) -> str:
        """All metrics in the Prometheus text format, for ``GET /metrics`` (content type ``PROMETHEUS_TYPE``)."""
        return generate_latest(self._registry).decode()

    def close(self) -> None:
        """Export what is left and stop; twice is harmless."""
        if self._counters:
            self._provider.shutdown()
        self._counters, self._histograms, self._gauges = {}, {}, {}

    def _unknown(self) -> None:
        if instrument := self._counters.get("otel_ir.telemetry.unknown"):
            instrument.add(1)


PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of ``Telemetry.render`` (Prometheus text exposition format)."""


def own_resource() -> Resource:
    """The resource of everything that otel_ir itself emits; ``OTEL_RESOURCE_ATTRIBUTES`` may add to it, not rename it."""
    return Resource.create({"service.name": "otel_ir", "service.version": __version__})


def _bounded(name: str, attributes: dict[str, str]) -> dict[str, str]:
    allowed = METRICS[name].attributes
    return {key: str(value)[:MAX_VALUE] for key, value in attributes.items() if key in allowed}
