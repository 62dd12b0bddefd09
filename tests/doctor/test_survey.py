"""What requests say before they are read: tables, guesses, sampling, parents that never came."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.doctor import survey as module
from otel_ir.doctor.survey import QUIET, STATE, UNSAMPLED, survey
from otel_ir.model import Record

TRACE = bytes(15) + b"\1"


def _record(ordinal: int, scope: str, *spans: dict[str, Any], service: str = "desk", received: int = 0, **about: Any) -> Record:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scoped = resource.scope_spans.add()
    scoped.scope.name = scope
    scoped.scope.version = about.get("version", "")
    for key in about.get("scope_attributes", ()):
        scoped.scope.attributes.add(key=key).value.string_value = "x"
    for one in spans:
        attributes = one.pop("attributes", ())
        span = scoped.spans.add(**{"trace_id": TRACE} | one)
        for key in attributes:
            span.attributes.add(key=key).value.string_value = "x"
    return Record(ordinal, "traces", received, request.SerializeToString())


def _id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_tables_by_scope_by_guess_and_none() -> None:
    [one] = survey([
        _record(1, "pydantic-ai", {"span_id": _id(1)}),
        _record(2, "acme", {"span_id": _id(2), "attributes": ["gen_ai.tool.name"]}, {"span_id": _id(3)}),
        _record(3, "own", {"span_id": _id(4), "attributes": ["otel_ir.event.type"]}),
    ])  # fmt: skip
    assert (one.service, one.spans, one.traces, one.rootless) == ("desk", 4, 1, 0)
    assert {name: dict(scope.read_by) for name, scope in one.scopes.items()} == {
        "pydantic-ai": {("pydantic_ai", False): 1},
        "acme": {("otel_genai_guess", True): 1, (None, False): 1},
        "own": {("otel_ir", False): 1},
    }
    assert one.is_guess("otel_genai_guess")
    assert not one.is_guess("pydantic_ai")


def test_parents_that_never_came() -> None:
    [one] = survey([
        _record(1, "a", {"span_id": _id(1), "parent_span_id": _id(2)}),  # its parent comes later
        _record(2, "a", {"span_id": _id(2), "parent_span_id": _id(9)}, {"span_id": _id(3), "parent_span_id": _id(8), "flags": 0x301}),
    ])  # fmt: skip
    assert one.orphans == 1, "a remote parent belongs to another process"
    assert one.rootless == 1


def test_sampling_in_the_trace_state() -> None:
    [one] = survey([
        _record(1, "a", {"span_id": _id(1), "trace_state": "ot=rv:1;th:c,vendor=1"}, {"span_id": _id(2), "trace_state": "ot=th:0"}),
        _record(2, "a", {"span_id": _id(3), "trace_state": "vendor=th:c"}, {"span_id": _id(4), "trace_state": "other=1,ot=th:8"}),
    ])  # fmt: skip
    assert (one.kept, one.sampled) == (0.25, 2)
    assert one.signs == {STATE: 2}


def test_sampling_by_the_collector_and_by_attributes() -> None:
    [one] = survey([
        _record(1, "a", {"span_id": _id(1)}, scope_attributes=["tailsampling.policy"]),
        _record(2, "a", {"span_id": _id(2)}),
    ])  # fmt: skip
    assert (one.kept, one.signs) == (1.0, {"tailsampling.policy": 1})


def _logs(*traces: tuple[int, int], service: str = "desk") -> Record:
    """Log records: (trace, flags)."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scoped = resource.scope_logs.add()
    for trace, flags in traces:
        scoped.log_records.add(trace_id=trace.to_bytes(16, "big"), flags=flags)
    return Record(9, "logs", 0, request.SerializeToString())


def test_log_records_say_that_their_traces_were_not_sampled() -> None:
    [one] = survey([_record(1, "a", {"span_id": _id(1)}), _logs((1, 1), (2, 0), (2, 0), (3, 0), (0, 0))])
    assert (one.signs, one.sampled, one.kept) == ({UNSAMPLED: 3}, 3, 1 / 3)
    [one] = survey([_record(1, "a", {"span_id": _id(1)}), _logs((1, 0), (2, 0))])
    assert one.signs == {}, "it never sets the flag"


def test_a_trace_that_is_still_running_is_waited_for() -> None:
    ran = {"span_id": _id(1), "parent_span_id": _id(9), "trace_id": _id(1) * 2}
    runs = {"span_id": _id(2), "parent_span_id": _id(9), "trace_id": _id(2) * 2}
    records = [_record(1, "a", ran, received=1), _record(2, "a", runs, received=QUIET), _record(3, "b", received=QUIET + 1)]
    [one] = survey(records, QUIET)
    assert (one.orphans, one.awaited, one.traces, one.rootless) == (1, 1, 1, 1)
    [one] = survey([_record(1, "a", dict(ran)), _record(2, "a", dict(runs))])
    assert (one.orphans, one.awaited, one.traces, one.rootless) == (2, 0, 2, 2)


def test_of_too_many_spans_nothing_is_said_about_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SPANS", 2)
    [one] = survey([_record(1, "a", *({"span_id": _id(at), "parent_span_id": _id(99), "trace_state": "ot=th:8"} for at in range(1, 5)))])
    assert (one.spans, one.orphans, one.sampled) == (4, 0, 4)


def test_a_table_for_one_version_of_a_scope_or_for_one_signal() -> None:
    def read_by(*records: Record) -> set[str | None]:
        [one] = survey(records)
        return {dialect for scope in one.scopes.values() for dialect, _ in scope.read_by}

    name = "opentelemetry.instrumentation.openai_agents"
    assert read_by(_record(1, name, {"span_id": _id(1)})) == {"openai_agents_v2"}
    assert read_by(_record(1, name, {"span_id": _id(1)}, version="0.62.4")) != {"openai_agents_v2"}


def test_names_and_services_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SERVICES", 2)
    monkeypatch.setattr(module, "MAX_SCOPES", 2)
    found = survey(_record(at, f"scope {at}" + "x" * 5000, {"span_id": _id(at)}, service=f"{at % 3}" + "y" * 5000) for at in range(1, 20))
    assert len(found) == 2
    assert all(len(one.service) == 1024 and len(one.scopes) <= 3 and all(len(name) <= 1024 for name in one.scopes) for one in found)


def test_what_is_no_otlp_and_control_records_are_skipped() -> None:
    assert survey([Record(1, "traces", 0, b"\xff\xff"), Record(2, "logs", 0, b"\xff\xff"), Record(3, "control", 0, b"{}")]) == []
