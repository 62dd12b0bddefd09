"""What requests look like before they are read: scopes, which table reads them and how it was chosen, and signs of sampling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.model import Record
from otel_ir.normalize.assign import of_scope
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import EVENT_TYPE

MAX_SPANS = 2_000_000
"""Spans whose ids are remembered, to find parents that never came; of more, nothing is said about parents."""
MAX_SCOPES, MAX_SERVICES = 256, 10_000
_HAS_REMOTE, _REMOTE = 0x100, 0x200
"""Span flags: whether the SDK says that the parent is remote, and that it is (opentelemetry-proto, ``SpanFlags``)."""
_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:([0-9a-f]{1,14})(?:[;,]|$)")
"""``ot=th:`` of the trace state: spans were kept with the probability 1 - th / 2^56 (OpenTelemetry specification, "TraceState: Probability
Sampling")."""


@dataclass(slots=True)
class Scope:
    """An instrumentation scope: how many spans and log records it sent, and which tables read them (None: no table)."""

    version: str = ""
    rows: int = 0
    read_by: Counter[tuple[str | None, bool]] = field(default_factory=Counter)
    """(dialect, whether it was guessed by attributes) -> rows."""


@dataclass(slots=True)
class ServiceSurvey:
    """One service. ``orphans``: spans whose local parent never came. ``kept``: the smallest share that sampling kept."""

    tenant: str
    service: str
    spans: int = 0
    logs: int = 0
    scopes: dict[str, Scope] = field(default_factory=dict)
    traces: int = 0
    rootless: int = 0
    orphans: int = 0
    kept: float = 1.0
    sampled: int = 0
    """Spans that say that they were kept with a probability below 1."""

    def is_guess(self, dialect: str) -> bool:
        """Whether no scope of the service chose this table, only attributes did."""
        by = {guess for scope in self.scopes.values() for (name, guess) in scope.read_by if name == dialect}
        return by == {True}


class Survey:
    """Takes journal records; ``services()`` says what was seen. Memory is bounded; what is no OTLP is skipped."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], ServiceSurvey] = {}
        self._spans: set[tuple[str, bytes, bytes]] = set()
        self._parents: list[tuple[ServiceSurvey, str, bytes, bytes, bool]] = []
        self._traces: dict[tuple[str, bytes], tuple[ServiceSurvey, bool]] = {}

    def take(self, record: Record) -> None:
        """One request."""
        try:
            if record.kind == "traces":
                for resource in ExportTraceServiceRequest.FromString(record.body).resource_spans:
                    self._resource(record.tenant, resource, resource.scope_spans, "spans")
            elif record.kind == "logs":
                for resource in ExportLogsServiceRequest.FromString(record.body).resource_logs:
                    self._resource(record.tenant, resource, resource.scope_logs, "log_records")
        except DecodeError:
            return

    def services(self) -> list[ServiceSurvey]:
        """Most spans and log records first."""
        if len(self._spans) < MAX_SPANS:
            for service in self._services.values():
                service.orphans = service.traces = service.rootless = 0
            for service, tenant, trace, parent, local in self._parents:
                service.orphans += local and (tenant, trace, parent) not in self._spans
            for service, rooted in self._traces.values():
                service.traces += 1
                service.rootless += not rooted
        return sorted(self._services.values(), key=lambda one: (-one.spans - one.logs, one.tenant, one.service))

    def _resource(self, tenant: str, resource: Any, scopes: Any, rows: str) -> None:
        name = next((one.value.string_value for one in resource.resource.attributes if one.key == "service.name"), "")
        if (tenant, name) not in self._services and len(self._services) >= MAX_SERVICES:
            return
        service = self._services.setdefault((tenant, name), ServiceSurvey(tenant, name))
        for each in scopes:
            known = each.scope.name if each.scope.name in service.scopes or len(service.scopes) < MAX_SCOPES else "..."
            scope = service.scopes.setdefault(known, Scope(each.scope.version))
            for row in getattr(each, rows):
                scope.rows += 1
                scope.read_by[_read_by(each.scope.name, row.attributes)] += 1
                if rows == "spans":
                    self._span(service, tenant, row)
                else:
                    service.logs += 1

    def _span(self, service: ServiceSurvey, tenant: str, span: Any) -> None:
        service.spans += 1
        threshold = _THRESHOLD.search(span.trace_state) if "th:" in span.trace_state[:512] else None
        if threshold and (kept := 1 - int(threshold[1].ljust(14, "0"), 16) / 2**56) < 1:
            service.kept, service.sampled = min(service.kept, kept), service.sampled + 1
        if len(self._spans) >= MAX_SPANS:
            return
        self._spans.add((tenant, span.trace_id, span.span_id))
        root = not span.parent_span_id.strip(b"\0")
        remote = bool(span.flags & _HAS_REMOTE and span.flags & _REMOTE)
        if not root:
            self._parents.append((service, tenant, span.trace_id, span.parent_span_id, not remote))
        first, rooted = self._traces.get((tenant, span.trace_id), (service, False))
        self._traces[tenant, span.trace_id] = first, rooted or root


def _read_by(scope: str, attributes: Any) -> tuple[str | None, bool]:
    """The dialect of a row (as ``assign`` chooses it), and whether that is a guess. None: no table reads it."""
    if len(scope) < 256 and (index := of_scope(scope)) >= 0:
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


def survey(records: Iterable[Record]) -> list[ServiceSurvey]:
    """All of them at once."""
    taken = Survey()
    for record in records:
        taken.take(record)
    return taken.services()
