"""A request at the endpoint of another signal is refused, and says where it belongs; one that may be meant never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from receive.test_receive_bad_input import JSON, PROTOBUF, post

from otel_ir.receive.admission import examine
from otel_ir.receive.signals import SIGNALS

BY_NAME = {signal.name: signal for signal in SIGNALS}
ID, SPAN_ID = bytes(range(200, 216)), bytes(range(200, 208))
ATTRIBUTES = [KeyValue(key="gen_ai.tool.name", value=AnyValue(string_value="look"))]


def _traces(**more: Any) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    span = {"trace_id": ID, "span_id": SPAN_ID, "name": "execute_tool look", "start_time_unix_nano": 1, "end_time_unix_nano": 2} | more
    message.resource_spans.add().scope_spans.add().spans.add(**span)
    return message


def _logs(**more: Any) -> ExportLogsServiceRequest:
    message = ExportLogsServiceRequest()
    record = {"time_unix_nano": 1, "severity_number": 9, "body": AnyValue(string_value="hello")} | more
    message.resource_logs.add().scope_logs.add().log_records.add(**record)
    return message


def _metrics() -> ExportMetricsServiceRequest:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="requests", unit="1")
    metric.sum.data_points.add(time_unix_nano=1, as_int=5)
    return message


CASES = [
    ("traces", _logs(), "logs"),
    ("traces", _logs(attributes=ATTRIBUTES, trace_id=ID, span_id=SPAN_ID, observed_time_unix_nano=7), "logs"),
    ("traces", _metrics(), "metrics"),
    ("logs", _traces(), "traces"),
    ("logs", _traces(attributes=ATTRIBUTES, kind=1), "traces"),
    ("logs", _traces(attributes=ATTRIBUTES, parent_span_id=SPAN_ID, trace_state="ot=th:8", flags=256), "traces"),
    ("logs", _metrics(), "metrics"),
    ("metrics", _traces(attributes=ATTRIBUTES), "traces"),
    ("metrics", _logs(), "logs"),
]


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize(("to", "message", "belongs"), CASES)
def test_a_request_of_another_signal_is_a_400_that_says_where_it_belongs(
    shared: Any, to: str, message: Any, belongs: str, content_type: str
) -> None:
    before = len(shared.records())
    content = message.SerializeToString() if content_type == PROTOBUF else json_format.MessageToJson(message).encode()
    answer = post(shared, content, content_type, f"/v1/{to}")
    assert answer.status_code == 400
    told = Status.FromString(answer.content).message if content_type == PROTOBUF else answer.json()["message"]
    assert told == f"the request holds {belongs}, not {to}: send it to /v1/{belongs} (OTEL_EXPORTER_OTLP_{to.upper()}_ENDPOINT?)"
    assert len(shared.records()) == before
    assert post(shared, content, content_type, f"/v1/{belongs}").status_code == 200


@pytest.mark.parametrize(("to", "document"), [
    ("traces", {}),
    ("traces", {"resourceLogs": []}),
    ("traces", {"resourceSpans": [], "resourceLogs": [{}]}),
    ("logs", {"resource_logs": [], "resourceSpans": [{}]}),
    ("traces", {"resourceProfiles": [{}]}),
])  # fmt: skip
def test_json_that_may_be_meant_is_taken(shared: Any, to: str, document: dict[str, Any]) -> None:
    assert post(shared, json.dumps(document).encode(), JSON, f"/v1/{to}").status_code == 200


@pytest.mark.parametrize("name", ["traces", "logs", "metrics"])
def test_empty_items_and_fields_of_a_later_version_are_taken(name: str) -> None:
    signal = BY_NAME[name]
    message: Any = signal.request()
    items = getattr(getattr(getattr(message, signal.resources).add(), signal.scopes).add(), signal.items)
    later = b"\xfa\x3f\x03abc"  # field 1023
    for content in (b"", later):
        items.add().ParseFromString(content)
    examine(signal, message.SerializeToString(), (), 100)


_NUMBERS = st.integers(0, 2**64 - 1)
_TEXTS = st.text(max_size=20)
_KEYS = st.lists(st.builds(KeyValue, key=_TEXTS, value=st.builds(AnyValue, string_value=_TEXTS)), max_size=2)
_SPANS = st.fixed_dictionaries({}, optional={
    "trace_id": st.binary(max_size=17), "span_id": st.binary(max_size=9), "trace_state": _TEXTS, "parent_span_id": st.binary(max_size=9),
    "name": _TEXTS, "kind": st.integers(0, 9), "start_time_unix_nano": _NUMBERS, "end_time_unix_nano": _NUMBERS, "attributes": _KEYS,
    "dropped_attributes_count": st.integers(0, 9), "flags": st.integers(0, 2**32 - 1),
})  # fmt: skip
_RECORDS = st.fixed_dictionaries({}, optional={
    "time_unix_nano": _NUMBERS, "severity_number": st.integers(0, 30), "severity_text": _TEXTS, "attributes": _KEYS, "event_name": _TEXTS,
    "body": st.builds(AnyValue, string_value=_TEXTS), "trace_id": st.binary(max_size=17), "span_id": st.binary(max_size=9),
    "observed_time_unix_nano": _NUMBERS, "dropped_attributes_count": st.integers(0, 9), "flags": st.integers(0, 2**32 - 1),
})  # fmt: skip


@given(spans=_SPANS, records=_RECORDS)
def test_no_request_of_the_signal_itself_is_ever_refused_whole(spans: dict[str, Any], records: dict[str, Any]) -> None:
    traces, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add(**spans)
    logs.resource_logs.add().scope_logs.add().log_records.add(**records)
    examine(BY_NAME["traces"], traces.SerializeToString(), (), 100)
    examine(BY_NAME["logs"], logs.SerializeToString(), (), 100)
