"""What requests say before they are read: tables, guesses, sampling, parents that never came."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.doctor.survey import survey
from otel_ir.model import Record

TRACE = bytes(15) + b"\1"


def _record(ordinal: int, scope: str, *spans: dict[str, Any], service: str = "desk") -> Record:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scoped = resource.scope_spans.add()
    scoped.scope.name = scope
    for one in spans:
        attributes = one.pop("attributes", ())
        span = scoped.spans.add(trace_id=TRACE, **one)
        for key in attributes:
            span.attributes.add(key=key).value.string_value = "x"
    return Record(ordinal, "traces", 0, request.SerializeToString())


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


def test_what_is_no_otlp_and_control_records_are_skipped() -> None:
    assert survey([Record(1, "traces", 0, b"\xff\xff"), Record(2, "logs", 0, b"\xff\xff"), Record(3, "control", 0, b"{}")]) == []
