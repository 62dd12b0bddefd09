"""What requests look like before they are read: scopes, which table reads them and how it was chosen, and signs of sampling."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.doctor.sampling import SAMPLED, TAIL, of_attributes, of_state
from otel_ir.model import Record
from otel_ir.normalize.assign import of_scope
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import EVENT_TYPE

MAX_SPANS = 2_000_000
"""Spans whose ids are remembered, to find parents that never came; of more, nothing is said about parents."""
MAX_SCOPES, MAX_SERVICES = 256, 10_000
MAX_NAME = 1024
"""Characters of a name that are looked at."""
QUIET = 60_000_000_000
"""Nanoseconds without a span after which nothing more is expected of a trace."""
STATE, UNSAMPLED = "the trace state", "log records of traces that were not sampled"
"""What says that a sampler was at work, beside the attributes of ``sampling.py``."""
_HAS_REMOTE, _REMOTE = 0x100, 0x200
"""Span flags: whether the SDK says that the parent is remote, and that it is (opentelemetry-proto, ``SpanFlags``)."""


@dataclass(slots=True)
class Scope:
    """An instrumentation scope: how many spans and log records it sent, and which tables read them (None: no table)."""

    version: str = ""
    rows: int = 0
    read_by: Counter[tuple[str | None, bool]] = field(default_factory=Counter)
    """(dialect, whether it was guessed by attributes) -> rows."""


@dataclass(slots=True)
class ServiceSurvey:
    """One service. ``orphans``: spans whose local parent never came; ``awaited``: those whose trace is too young to say so.

    ``traces`` are those that are not, ``rootless`` those of them without a root. ``kept``: the smallest share that sampling kept, as far as
    a sampler says, or as it is among the traces with log records. ``signs``: what says that one was at work -> how often.
    """

    tenant: str
    service: str
    spans: int = 0
    logs: int = 0
    scopes: dict[str, Scope] = field(default_factory=dict)
    traces: int = 0
    rootless: int = 0
    orphans: int = 0
    awaited: int = 0
    kept: float = 1.0
    sampled: int = 0
    """Spans and log records that say that a sampler was at work."""
    signs: Counter[str] = field(default_factory=Counter)

    def is_guess(self, dialect: str) -> bool:
        """Whether no scope of the service chose this table, only attributes did."""
        by = {guess for scope in self.scopes.values() for (name, guess) in scope.read_by if name == dialect}
        return by == {True}

    @property
    def dialects(self) -> frozenset[str]:
        """The tables that read anything of it."""
        return frozenset(name for scope in self.scopes.values() for name, _ in scope.read_by if name is not None)

    def saw(self, sign: str, kept: float | None) -> None:
        """A span or log record says that a sampler was at work, and maybe what share it kept."""
        self.signs[sign] += 1
        self.sampled += 1
        self.kept = min(self.kept, 1.0 if kept is None else kept)


@dataclass(slots=True)
class _Traces:
    """Ids as hashes. Of each local parent: who names it, its trace, its span; of a trace: whose it is, its root, when it was seen."""

    spans: set[int] = field(default_factory=set)
    parents: tuple[array[int], array[int], array[int]] = field(default_factory=lambda: (array("q"), array("q"), array("q")))
    owner: dict[int, int] = field(default_factory=dict)
    rooted: set[int] = field(default_factory=set)
    last: dict[int, int] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return len(self.spans) >= MAX_SPANS


class Survey:
    """Takes journal records; ``services()`` says what was seen. Memory is bounded; what is no OTLP is skipped."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], ServiceSurvey] = {}
        self._order: dict[tuple[str, str], int] = {}
        self._traces = _Traces()
        self._unsampled: Counter[tuple[int, int]] = Counter()
        """(service, trace) -> log records that say that it was not sampled."""
        self._logged: set[tuple[int, int]] = set()
        """(service, trace) of log records that say that it was."""
        self._received = 0

    def take(self, record: Record) -> None:
        """One request."""
        self._received = max(self._received, record.received)
        try:
            if record.kind == "traces":
                for resource in ExportTraceServiceRequest.FromString(record.body).resource_spans:
                    self._resource(record, resource, resource.scope_spans, "spans")
            elif record.kind == "logs":
                for resource in ExportLogsServiceRequest.FromString(record.body).resource_logs:
                    self._resource(record, resource, resource.scope_logs, "log_records")
        except DecodeError:
            return

    def tap(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records; each is taken on its way."""
        for record in records:
            self.take(record)
            yield record

    def services(self, quiet: int = 0) -> list[ServiceSurvey]:
        """Most spans and log records first. Once: signs that need all of the stream are added here.

        ``quiet``: a trace of which a span was received in the last so many nanoseconds of the stream is still running.
        """
        services = list(self._services.values())
        if not self._traces.full:
            self._count_parents(services, self._received - quiet)
            self._count_unsampled(services)
        return sorted(services, key=lambda one: (-one.spans - one.logs, one.tenant, one.service))

    def _count_parents(self, services: list[ServiceSurvey], settled: int) -> None:
        traces = self._traces
        for owner, trace, parent in zip(*traces.parents, strict=True):
            if parent in traces.spans:
                continue
            if traces.last[trace] > settled:
                services[owner].awaited += 1
            else:
                services[owner].orphans += 1
        for trace, owner in traces.owner.items():
            if traces.last[trace] <= settled:
                services[owner].traces += 1
                services[owner].rootless += trace not in traces.rooted

    def _count_unsampled(self, services: list[ServiceSurvey]) -> None:
        # Who does not set the flag of traces that did come, sets it never.
        silent = {owner for owner, trace in self._unsampled if trace in self._traces.owner}
        dropped, sampled = Counter[int](), Counter(owner for owner, _ in self._logged)
        for (owner, trace), count in self._unsampled.items():
            if owner not in silent and trace not in self._traces.owner:
                services[owner].signs[UNSAMPLED] += count
                services[owner].sampled += count
                dropped[owner] += 1
        for owner, count in dropped.items():
            services[owner].kept = min(services[owner].kept, sampled[owner] / (sampled[owner] + count))

    def _resource(self, record: Record, resource: Any, scopes: Any, rows: str) -> None:
        name = next((one.value.string_value for one in resource.resource.attributes if one.key == "service.name"), "")
        key = record.tenant, name[:MAX_NAME]
        if key not in self._services and len(self._services) >= MAX_SERVICES:
            return
        service = self._services.setdefault(key, ServiceSurvey(*key))
        owner = self._order.setdefault(key, len(self._order))
        for each in scopes:
            known = each.scope.name[:MAX_NAME]
            scope = service.scopes.setdefault(known if known in service.scopes or len(service.scopes) < MAX_SCOPES else "...", Scope())
            scope.version = each.scope.version[:MAX_NAME]
            tail = next((one.key for one in each.scope.attributes if one.key in TAIL), None)
            for row in getattr(each, rows):
                scope.rows += 1
                scope.read_by[_read_by(each.scope, record.kind, row.attributes)] += 1
                if tail is not None:
                    service.saw(tail, None)
                elif sign := of_attributes(row.attributes):
                    service.saw(*sign)
                if rows == "spans":
                    self._span(service, owner, record, row)
                else:
                    self._log(service, owner, record, row)

    def _log(self, service: ServiceSurvey, owner: int, record: Record, log: Any) -> None:
        service.logs += 1
        if not log.trace_id.strip(b"\0") or len(self._unsampled) + len(self._logged) >= MAX_SPANS:
            return
        trace = owner, hash((record.tenant, log.trace_id))
        if log.flags & SAMPLED:
            self._logged.add(trace)
        else:
            self._unsampled[trace] += 1

    def _span(self, service: ServiceSurvey, owner: int, record: Record, span: Any) -> None:
        service.spans += 1
        if span.trace_state and (kept := of_state(span.trace_state)) is not None and kept < 1:
            service.saw(STATE, kept)
        traces = self._traces
        if traces.full:
            return
        trace = hash((record.tenant, span.trace_id))
        traces.spans.add(hash((trace, span.span_id)))
        traces.owner.setdefault(trace, owner)
        traces.last[trace] = record.received
        if not span.parent_span_id.strip(b"\0"):
            traces.rooted.add(trace)
        elif not (span.flags & _HAS_REMOTE and span.flags & _REMOTE):
            for column, value in zip(traces.parents, (owner, trace, hash((trace, span.parent_span_id))), strict=True):
                column.append(value)


def _read_by(scope: Any, signal: str, attributes: Any) -> tuple[str | None, bool]:
    """The dialect of a row (as ``assign`` chooses it), and whether that is a guess. None: no table reads it."""
    if len(scope.name) + len(scope.version) < 256 and (index := of_scope(scope.name, scope.version, signal)) >= 0:
        return DIALECTS[index].name, False
    return _by_markers(frozenset(one.key for one in attributes if one.key in _markers()))


@lru_cache(maxsize=1)
def _markers() -> frozenset[str]:
    return frozenset(marker for dialect in DIALECTS for marker in dialect.markers)


@lru_cache(maxsize=4096)
def _by_markers(keys: frozenset[str]) -> tuple[str | None, bool]:
    for dialect in DIALECTS:
        if not keys.isdisjoint(dialect.markers):
            return dialect.name, EVENT_TYPE not in dialect.markers and dialect.name != "http"
    return None, False


def survey(records: Iterable[Record], quiet: int = 0) -> list[ServiceSurvey]:
    """All of them at once."""
    taken = Survey()
    for record in records:
        taken.take(record)
    return taken.services(quiet)
