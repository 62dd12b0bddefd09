"""Bad input over the wire: a clear status for that request, a count, and no effect on the next one."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from otel_ir.errors import InputError, Overloaded, StorageError
from otel_ir.model import SCOPE_NAME
from otel_ir.receive import TokenConfig

Serve = Any
PROTOBUF, JSON = "application/x-protobuf", "application/json"
TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
GOOD_ID, GOOD_SPAN = bytes(range(1, 17)), bytes(range(1, 9))


def request(*spans: dict[str, Any], scope: str = "app", service: str = "shop") -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    target = resource.scope_spans.add()
    target.scope.name = scope
    for span in spans:
        target.spans.add(**{"trace_id": GOOD_ID, "span_id": GOOD_SPAN, "name": "good", **span})
    return message


def post(served: Any, content: bytes, content_type: str | None = PROTOBUF, path: str = "/v1/traces", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        named["content-type"] = content_type
    return httpx.post(f"{served.http}{path}", content=content, headers=named, timeout=30)


def call(served: Any, content: bytes, service: str = TRACE_SERVICE, **options: Any) -> tuple[Any, bytes | None, Status | None]:
    """(status code, response or None, google.rpc.Status or None) of one ``Export``."""
    with grpc.insecure_channel(served.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        try:
            return grpc.StatusCode.OK, channel.unary_unary(f"/{service}/Export")(content, timeout=30, **options), None
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
            return error.code(), None, Status.FromString(details) if details else None


def names(served: Any) -> list[str]:
    return [span.name for span in served.spans()]


def assert_still_works(served: Any) -> None:
    before = len(served.spans())
    assert post(served, request({}).SerializeToString()).status_code == 200
    assert call(served, request({}).SerializeToString())[0] is grpc.StatusCode.OK
    assert len(served.spans()) == before + 2


# Success.


def test_the_answer_has_the_encoding_of_the_request(serve: Serve) -> None:
    served = serve()
    content = request({}).SerializeToString()
    answer = post(served, content, f"{PROTOBUF}; charset=binary")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, PROTOBUF, b"")
    answer = post(served, b'{"resourceSpans": []}', "Application/JSON; charset=utf-8")
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, JSON, {})


def test_the_original_bytes_are_stored_with_fields_that_we_do_not_know(serve: Serve) -> None:
    served = serve()
    unknown = b"\xfa\x3f\x03abc"  # field 1023
    content = unknown + request({}).SerializeToString() + unknown
    post(served, gzip.compress(content), content_encoding="gzip")
    call(served, content)
    assert [record.body for record in served.records()] == [content, content]


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_an_empty_request_is_a_success_without_a_record(serve: Serve, signal: str) -> None:
    served = serve()
    for content, content_type in ((b"", PROTOBUF), (b"{}", JSON), (request().SerializeToString(), PROTOBUF)):
        assert post(served, content, content_type, f"/v1/{signal}").status_code == 200
    service = TRACE_SERVICE.replace("trace", signal.removesuffix("s") if signal == "traces" else signal)
    service = service.replace("TraceService", f"{'Trace' if signal == 'traces' else signal.title()}Service")
    assert call(served, b"", service)[:2] == (grpc.StatusCode.OK, b"")
    assert served.records() == []


def test_times_of_zero_or_in_the_year_2100_are_taken(serve: Serve) -> None:
    served = serve()
    post(served, request({}, {"end_time_unix_nano": 4_102_444_800_000_000_000}, {"start_time_unix_nano": 2**64 - 1}).SerializeToString())
    assert len(served.spans()) == 3


# Partial success.


def test_spans_with_wrong_ids_are_refused_and_their_neighbors_kept(serve: Serve) -> None:
    served = serve()
    content = request(
        {"name": "1"},
        {"name": "short trace", "trace_id": GOOD_ID[:15]},
        {"name": "2", "parent_span_id": b"odd"},
        {"name": "no span", "span_id": b""},
        {"name": "zero trace", "trace_id": bytes(16)},
        {"name": "zero span", "span_id": bytes(8)},
        {"name": "long", "span_id": GOOD_SPAN * 2},
        {"name": "3"},
    ).SerializeToString()
    for _, answer in enumerate([post(served, content).content, call(served, content)[1]]):
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
        assert partial.rejected_spans == 5
        assert partial.error_message == "5 refused: trace_id or span_id is not of 16 and 8 bytes, or all zero"
    assert names(served) == ["1", "2", "3"] * 2
    assert served.counts.values[("items_rejected", "traces", "trace_id or span_id is not of 16 and 8 bytes, or all zero")] == 10
    assert served.counts.values[("requests", "http", "traces", "partial")] == 1


def test_nothing_left_is_no_record(serve: Serve) -> None:
    served = serve()
    answer = post(served, request({"trace_id": b""}).SerializeToString())
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    assert served.records() == []


def test_logs_may_lack_ids_but_not_have_wrong_ones(serve: Serve) -> None:
    served = serve()
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    for ids in ({}, {"trace_id": GOOD_ID, "span_id": GOOD_SPAN}, {"trace_id": bytes(16)}, {"trace_id": b"x"}, {"span_id": b"x"}):
        records.add(event_name="e", **ids)
    answer = post(served, message.SerializeToString(), path="/v1/logs")
    assert ExportLogsServiceResponse.FromString(answer.content).partial_success.rejected_log_records == 2
    assert len(served.logs()) == 3


def test_ten_thousand_attributes_are_taken_and_one_more_is_not(serve: Serve) -> None:
    served = serve()
    message = request({"name": "most"}, {"name": "too many"}, {"name": "good"})
    for span, count in zip(message.resource_spans[0].scope_spans[0].spans, (10_000, 10_001, 1), strict=True):
        for number in range(count):
            span.attributes.add(key=f"k{number}").value.int_value = number
    answer = post(served, message.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_spans, partial.error_message) == (1, "1 refused: more attributes than max_attributes")
    assert names(served) == ["most", "good"]


def test_stripping_keeps_the_rest_as_it_was(serve: Serve) -> None:
    served = serve()
    message = request({"name": "a"}, {"name": "b", "span_id": b""})
    message.MergeFrom(request({"name": "own"}, scope=SCOPE_NAME))
    message.MergeFrom(request({"name": "c"}, service="other"))
    expected = request({"name": "a"})
    expected.MergeFrom(request({"name": "c"}, service="other"))
    post(served, message.SerializeToString())
    assert [ExportTraceServiceRequest.FromString(record.body) for record in served.records()] == [expected]


# Refusals.


def over_nested(levels: int) -> bytes:
    message = request({})
    value = message.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="deep").value
    for _ in range(levels):
        value = value.array_value.values.add()
    value.string_value = "bottom"
    return message.SerializeToString()


BAD_UTF8 = request({}).SerializeToString().replace(b"good", b"g\xff\xfed")
BAD_PROTOBUF = {
    "garbage": b"\xff" * 50,
    "text": b"hello",
    "cut short": request({}).SerializeToString()[:-3],
    "not UTF-8": BAD_UTF8,
    "over-nested": over_nested(60),
    "unfinished group": b"\x0b" * 200,
    "wrong wire type": b"\x08\x01" * 3 + b"\x0a\x7f",
}


@pytest.mark.parametrize("case", BAD_PROTOBUF)
def test_bad_protobuf_is_a_400_and_an_invalid_argument(shared: Any, case: str) -> None:
    before = len(shared.records())
    http, over_grpc = (shared.counts.values[("requests", transport, "traces", "invalid")] for transport in ("http", "grpc"))
    answer = post(shared, BAD_PROTOBUF[case])
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROTOBUF)
    code, _, status = call(shared, BAD_PROTOBUF[case])
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    for said in (Status.FromString(answer.content), status):
        assert said is not None
        assert said.code == 3
        assert said.message.startswith("not protobuf")
        assert said.details[0].Is(BadRequest.DESCRIPTOR)
    assert len(shared.records()) == before
    assert shared.counts.values[("requests", "http", "traces", "invalid")] == http + 1
    assert shared.counts.values[("requests", "grpc", "traces", "invalid")] == over_grpc + 1
    assert_still_works(shared)


def test_moderate_nesting_is_fine(serve: Serve) -> None:
    served = serve()
    assert post(served, over_nested(40)).status_code == 200
    assert len(served.spans()) == 1


def json_span(**fields: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": GOOD_ID.hex(), "spanId": GOOD_SPAN.hex(), **fields}]}]}]}


def deep_json(levels: int) -> Any:
    value: Any = {"stringValue": "x"}
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    return json_span(attributes=[{"key": "deep", "value": value}])


BAD_JSON: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"resourceSpans": "\xff"}',
    "lone surrogate": json.dumps(json_span(name="PLACE")).replace("PLACE", "\\ud800").encode(),
    "list": b"[]",
    "null": b"null",
    "text": b'"hello"',
    "number": b"1",
    "spans not a list": b'{"resourceSpans": {"scopeSpans": 1}}',
    "span not an object": b'{"resourceSpans": [{"scopeSpans": [{"spans": [1]}]}]}',
    "null in a list": b'{"resourceSpans": [null]}',
    "wrong type": json.dumps(json_span(name=5)).encode(),
    "negative time": json.dumps(json_span(startTimeUnixNano="-1")).encode(),
    "time not a number": json.dumps(json_span(startTimeUnixNano="soon")).encode(),
    "time too large": json.dumps(json_span(startTimeUnixNano=2**64)).encode(),
    "two values": json.dumps(json_span(attributes=[{"key": "a", "value": {"stringValue": "x", "intValue": 1}}])).encode(),
    "attributes as a map": json.dumps(json_span(attributes={"a": 1})).encode(),
    "over-nested": json.dumps(deep_json(60)).encode(),
    "over-nested unknown": b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_a_400_in_json(shared: Any, case: str) -> None:
    answer = post(shared, BAD_JSON[case], JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (400, JSON)
    said = answer.json()
    assert said["code"] == 3
    assert said["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert said["message"]
    assert len(answer.content) < 5_000
    assert_still_works(shared)


def test_json_follows_the_otlp_mapping(serve: Serve) -> None:
    served = serve()
    document = json_span(
        traceId=GOOD_ID.hex().upper(),
        parentSpanId="EEE19B7EC3C1B173",
        name="I'm a span",
        kind=2,
        startTimeUnixNano="1544712660000000000",
        endTimeUnixNano=1544712661000000000,
        flags=257,
        unknownField={"any": ["thing"]},
        links=[{"traceId": GOOD_ID.hex(), "spanId": "eee19b7ec3c1b174"}],
        status={"code": 2},
        events=[{"timeUnixNano": "5", "name": "e", "attributes": []}],
        attributes=[
            {"key": "s", "value": {"stringValue": "größer"}},
            {"key": "i", "value": {"intValue": "-9007199254740993"}},
            {"key": "j", "value": {"intValue": 7}},
            {"key": "d", "value": {"doubleValue": 0.5}},
            {"key": "n", "value": {"doubleValue": "NaN"}},
            {"key": "b", "value": {"bytesValue": base64.b64encode(b"\xff\x00").decode()}},
            {"key": "l", "value": {"arrayValue": {"values": [{"boolValue": True}, {"kvlistValue": {"values": []}}]}}},
            {"key": "e", "value": {}},
        ],
    )
    answer = post(served, gzip.compress(json.dumps(document).encode()), JSON, content_encoding="gzip")
    assert (answer.status_code, answer.json()) == (200, {})
    [span] = served.spans()
    assert (span.trace_id, span.span_id, span.parent_span_id) == (GOOD_ID, GOOD_SPAN, bytes.fromhex("eee19b7ec3c1b173"))
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.kind, span.flags) == (1544712660000000000, 1544712661000000000, 2, 257)
    assert (span.links[0].trace_id, span.links[0].span_id) == (GOOD_ID, bytes.fromhex("eee19b7ec3c1b174"))
    values = {attribute.key: attribute.value for attribute in span.attributes}
    assert (values["s"].string_value, values["i"].int_value, values["j"].int_value) == ("größer", -9007199254740993, 7)
    assert (values["d"].double_value, values["b"].bytes_value) == (0.5, b"\xff\x00")
    assert values["l"].array_value.values[0].bool_value
    assert (span.status.code, span.events[0].time_unix_nano) == (2, 5)


@pytest.mark.parametrize("field", ["traceId", "spanId", "parentSpanId", "links"])
@pytest.mark.parametrize("value", ["not hex!", "abc", 7, ["x"]])
def test_json_ids_that_are_not_hex_refuse_only_their_span(shared: Any, field: str, value: Any) -> None:
    before = names(shared)
    document = json_span(name="good")
    bad = {"traceId": GOOD_ID.hex(), "spanId": GOOD_SPAN.hex(), field: [{"traceId": value}] if field == "links" else value}
    document["resourceSpans"][0]["scopeSpans"][0]["spans"].append(bad)
    answer = post(shared, json.dumps(document).encode(), JSON)
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert names(shared) == [*before, "good"]


def test_json_logs_and_metrics(serve: Serve) -> None:
    served = serve()
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": GOOD_ID.hex(), "body": {"stringValue": "b"}}, {"spanId": "zz"}]}]}]}
    answer = post(served, json.dumps(logs).encode(), JSON, "/v1/logs")
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    assert [(log.trace_id, log.body.string_value) for log in served.logs()] == [(GOOD_ID, "b")]
    point = {"asInt": "3", "exemplars": [{"traceId": GOOD_ID.hex(), "spanId": GOOD_SPAN.hex()}]}
    metrics = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [point]}}]}]}]}
    assert post(served, json.dumps(metrics).encode(), JSON, "/v1/metrics").json() == {}
    assert len(served.records()) == 1


@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        (None, None, 415),
        ("text/plain", None, 415),
        ("application/grpc", None, 415),
        (PROTOBUF, "br", 415),
        (PROTOBUF, "gzip, gzip", 415),
        (PROTOBUF, "identity", 200),
        (PROTOBUF, "gzip", 400),
        (JSON, "GZIP", 400),
    ],
)
def test_media_types_and_encodings(shared: Any, content_type: str | None, encoding: str | None, status: int) -> None:
    before = len(shared.records())
    headers = {"content_encoding": encoding} if encoding else {}
    answer = post(shared, request({}).SerializeToString(), content_type, **headers)
    assert answer.status_code == status
    if status != 200:
        said = Status.FromString(answer.content).message if content_type == PROTOBUF else answer.json()["message"]
        assert said
        assert len(shared.records()) == before


def test_other_paths_and_methods(serve: Serve) -> None:
    served = serve()
    answer = httpx.post(f"{served.http}/v1/profiles", content=b"", headers={"content-type": PROTOBUF})
    assert answer.status_code == 404
    assert "/v1/profiles" in Status.FromString(answer.content).message
    answer = httpx.get(f"{served.http}/v1/traces")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "GET /v1/traces" in answer.json()["message"]
    assert call(served, b"", "opentelemetry.proto.collector.profiles.v1.ProfilesService")[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_too_large_is_a_413_and_never_retryable(serve: Serve, content_type: str) -> None:
    served = serve(max_request_bytes=100_000, max_json_bytes=100_000)
    large = request({"name": "x" * 100_001}).SerializeToString()
    for content, headers in ((large, {}), (gzip.compress(large), {"content_encoding": "gzip"})):
        answer = post(served, content, content_type, **headers)
        assert answer.status_code == 413
        assert "retry-after" not in answer.headers
    answer = httpx.post(f"{served.http}/v1/traces", content=iter([large[:60_000], large[60_000:]]), headers={"content-type": content_type})
    assert answer.status_code == 413
    for options in ({}, {"compression": grpc.Compression.Gzip}):
        code, _, status = call(served, large, **options)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status is None or not any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
    deadline = time.monotonic() + 10  # gRPC itself answers, before our handler hears of it: as too large, or that the call is over
    while sum(served.counts.values[("requests", "grpc", "traces", outcome)] for outcome in ("too_large", "cancelled")) < 2:
        assert time.monotonic() < deadline, served.counts.values
        time.sleep(0.01)
    assert_still_works(served)


def test_a_413_reaches_a_client_that_is_still_sending(serve: Serve) -> None:
    served = serve(max_request_bytes=1_000_000)
    for _ in range(5):
        answer = post(served, b"x" * 8_000_000)
        assert answer.status_code == 413


def test_gzip_bombs_are_cut_off(serve: Serve) -> None:
    served = serve(max_request_bytes=1_000_000)
    bomb = gzip.compress(bytes(200_000_000))
    assert len(bomb) < 1_000_000
    began = time.monotonic()
    assert post(served, bomb, content_encoding="gzip").status_code == 413
    assert call(served, bytes(200_000_000), compression=grpc.Compression.Gzip)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert time.monotonic() - began < 20
    assert_still_works(served)


def test_gzip_members_and_damaged_gzip(serve: Serve) -> None:
    served = serve()
    content = request({}).SerializeToString()
    assert post(served, gzip.compress(content[:9]) + gzip.compress(content[9:]), content_encoding="gzip").status_code == 200
    assert len(served.spans()) == 1
    whole = gzip.compress(content)
    for bad in (whole[:-4], whole[:20] + b"\xff\xff" + whole[22:], whole + b"tail", gzip.compress(b"") * 100, b""):
        assert post(served, bad, content_encoding="gzip").status_code == 400
    assert_still_works(served)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"\x0a\x00" * 100_000, 400),  # empty resources
        (b"\x0a\x06\x12\x04\x12\x00\x12\x00" * 60_000, 400),  # resource, scope, two empty spans
        (b"\x12\x00" * 300_000, 200),  # a field that we do not know
    ],
)
def test_bodies_that_would_blow_up_in_memory(serve: Serve, content: bytes, status: int) -> None:
    served = serve()
    assert post(served, content).status_code == status
    assert served.records() == []
    assert_still_works(served)


def test_too_many_empty_spans(serve: Serve) -> None:
    served = serve()
    message = request()
    spans = b"\x12\x00" * 300_000
    scope = b"\x12" + _varint(len(spans)) + spans
    resource = b"\x0a" + _varint(len(scope)) + scope
    answer = post(served, message.SerializeToString() + resource)
    assert answer.status_code == 400
    assert "more than 262144 spans" in Status.FromString(answer.content).message
    spans = b"\x12\x00" * 200_000
    scope = b"\x12" + _varint(len(spans)) + spans
    answer = post(served, b"\x0a" + _varint(len(scope)) + scope)
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 200_000


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


# Retryable refusals.


@pytest.mark.parametrize(
    ("error", "http_status", "grpc_status", "retryable"),
    [
        (Overloaded("full", retry_after=2.5), 429, grpc.StatusCode.UNAVAILABLE, True),
        (StorageError("broken"), 503, grpc.StatusCode.UNAVAILABLE, True),
        (TimeoutError(), 503, grpc.StatusCode.UNAVAILABLE, True),
        (InputError("a record too large"), 413, grpc.StatusCode.RESOURCE_EXHAUSTED, False),
        (RuntimeError("a defect"), 500, grpc.StatusCode.INTERNAL, False),
    ],
)
def test_what_a_failed_append_means_to_the_sender(
    serve: Serve, error: Exception, http_status: int, grpc_status: grpc.StatusCode, retryable: bool
) -> None:
    async def append(*_: object, **__: object) -> int:
        raise error

    served = serve(append=append)
    content = request({}).SerializeToString()
    answer = post(served, content)
    code, _, status = call(served, content)
    assert (answer.status_code, code) == (http_status, grpc_status)
    assert ("retry-after" in answer.headers) == retryable
    assert status is not None
    delays = [RetryInfo.FromString(detail.value).retry_delay for detail in status.details if detail.Is(RetryInfo.DESCRIPTOR)]
    assert bool(delays) == retryable
    if isinstance(error, Overloaded):
        assert answer.headers["retry-after"] == "3"
        assert (delays[0].seconds, delays[0].nanos) == (2, 500_000_000)
    assert "defect" not in status.message


class Gate:
    """An append that waits until it is let go."""

    def __init__(self) -> None:
        self.open, self.waiting = threading.Event(), threading.Semaphore(0)
        self.bodies: list[bytes] = []

    async def append(self, kind: str, body: bytes, **_: object) -> int:
        import asyncio

        self.waiting.release()
        await asyncio.to_thread(self.open.wait, 30)
        self.bodies.append(body)
        return len(self.bodies)


@pytest.mark.parametrize("limits", [{"max_concurrent_requests": 2}, {"max_in_flight_bytes": 25_000}])
def test_back_pressure_across_both_transports(serve: Serve, limits: dict[str, int]) -> None:
    gate = Gate()
    served = serve(append=gate.append, **limits)
    content = request({"name": "x" * 10_000}).SerializeToString()
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(post(served, content).status_code))]
    threads += [threading.Thread(target=lambda: results.append(call(served, content)[0]))]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert gate.waiting.acquire(timeout=30)
    answer = post(served, content)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    code, _, status = call(served, content)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert status is not None
    assert status.details[0].Is(RetryInfo.DESCRIPTOR)
    gate.open.set()
    for thread in threads:
        thread.join(30)
    assert sorted(map(str, results)) == ["200", "StatusCode.OK"]
    assert post(served, content).status_code == 200
    assert len(gate.bodies) == 3


def test_a_request_that_does_not_arrive_in_time_is_given_up(serve: Serve) -> None:
    served = serve(request_seconds=0.5)
    with socket.create_connection(("127.0.0.1", served.receiver.http_port), timeout=20) as slow:
        slow.sendall(f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: 100\r\n\r\nabc".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    never = threading.Event()
    with grpc.insecure_channel(served.grpc) as channel:
        export = channel.stream_unary(f"/{TRACE_SERVICE}/Export")
        with pytest.raises(grpc.RpcError) as caught:
            export((b"" for _ in iter(lambda: never.wait(20), True)), timeout=20)
        never.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert_still_works(served)


def test_a_client_that_leaves_harms_nobody(serve: Serve) -> None:
    gate = Gate()
    served = serve(append=gate.append, max_concurrent_requests=2)
    content = request({}).SerializeToString()
    for _ in range(2):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.http}/v1/traces", content=content, headers={"content-type": PROTOBUF}, timeout=0.3)
    gate.open.set()
    deadline = time.monotonic() + 20
    while post(served, content).status_code != 200:
        assert time.monotonic() < deadline
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.receiver.http_port), timeout=20) as gone:
            gone.sendall(f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: 100\r\n\r\nabc".encode())
    assert post(served, content).status_code == 200


# Who may send.


TOKENS = (
    TokenConfig(token="s3cret", tenant="acme", sender="shop-collector", services=("shop", "cart")),
    TokenConfig(token="any", tenant="ops"),
)


def test_senders_are_known_by_their_token(serve: Serve) -> None:
    served = serve(tokens=TOKENS)
    content = request({}).SerializeToString()
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}, {"authorization": "Bearer"}):
        answer = post(served, content, **headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        code, _, _ = call(served, content, metadata=tuple(headers.items()))
        assert code is grpc.StatusCode.UNAUTHENTICATED
    assert post(served, content, authorization="Bearer s3cret").status_code == 200
    assert call(served, content, metadata=(("authorization", "bearer any"),))[0] is grpc.StatusCode.OK
    assert [(record.tenant, record.sender) for record in served.records()] == [("acme", "shop-collector"), ("ops", "")]
    assert "s3cret" not in repr(TOKENS)


def test_a_sender_speaks_only_for_its_services(serve: Serve) -> None:
    served = serve(tokens=TOKENS)
    message = request({"name": "mine"})
    message.MergeFrom(request({"name": "not mine"}, {"name": "not mine"}, service="billing"))
    message.resource_spans.add().scope_spans.add().spans.add(name="nobody's", trace_id=GOOD_ID, span_id=GOOD_SPAN)
    twice = request({"name": "twice"})
    twice.resource_spans[0].resource.attributes.add(key="service.name").value.string_value = "billing"
    message.MergeFrom(twice)
    answer = post(served, message.SerializeToString(), authorization="Bearer s3cret")
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 4
    assert "service.name" in partial.error_message
    assert names(served) == ["mine"]
    post(served, message.SerializeToString(), authorization="Bearer any")
    assert len(served.spans()) == 6


# Whatever arrives.


SEEDS = [
    request({}, {"span_id": b"x"}).SerializeToString(),
    over_nested(20),
    gzip.compress(request({}).SerializeToString()),
    json.dumps(json_span(name="x", links=[{"traceId": "00"}], attributes=[{"key": "a", "value": {"intValue": "1"}}])).encode(),
    json.dumps(deep_json(10)).encode(),
]
mutations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 2_000), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.integers(0, 2_000), st.integers(0, 40)),
        st.tuples(st.just("insert"), st.integers(0, 2_000), st.binary(max_size=8)),
        st.tuples(st.just("repeat"), st.integers(0, 2_000), st.integers(1, 60)),
    ),
    max_size=6,
)


def mutated(seed: bytes, changes: list[tuple[str, int, Any]]) -> bytes:
    content = bytearray(seed)
    for kind, where, what in changes:
        at = where % (len(content) + 1)
        if kind == "set" and at < len(content):
            content[at] = what
        elif kind == "cut":
            del content[at : at + what]
        elif kind == "insert":
            content[at:at] = what
        elif kind == "repeat":
            content[at:at] = content[at : at + what]
    return bytes(content)


def test_whatever_arrives_gets_a_clear_status_and_never_hurts_the_next_request(serve: Serve) -> None:
    served = serve()
    good = request({"name": "canary"}).SerializeToString()
    with httpx.Client(base_url=served.http, timeout=30) as client, grpc.insecure_channel(served.grpc) as channel:
        export = channel.unary_unary(f"/{TRACE_SERVICE}/Export")
        canaries = 0

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(
            seed=st.one_of(st.sampled_from(SEEDS), st.binary(max_size=200)),
            changes=mutations,
            content_type=st.sampled_from([PROTOBUF, JSON, JSON, "text/html"]),
            encoding=st.sampled_from(["identity", "identity", "gzip", "br"]),
            path=st.sampled_from(["/v1/traces", "/v1/logs", "/v1/metrics"]),
            over_grpc=st.booleans(),
        )
        def check(*, seed: bytes, changes: list[Any], content_type: str, encoding: str, path: str, over_grpc: bool) -> None:
            nonlocal canaries
            content = mutated(seed, changes)
            if over_grpc:
                assert call(served, content)[0] in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
                assert export(good, timeout=20) == b""
            else:
                answer = client.post(path, content=content, headers={"content-type": content_type, "content-encoding": encoding})
                assert answer.status_code in (200, 400, 415), answer
                if answer.headers["content-type"] == JSON:
                    answer.json()
                else:
                    Status.FromString(answer.content) if answer.status_code != 200 else ExportTraceServiceResponse.FromString(
                        answer.content
                    )
                assert client.post("/v1/traces", content=good, headers={"content-type": PROTOBUF}).status_code == 200
            canaries += 1

        check()
    assert names(served).count("canary") >= canaries
    assert not [key for key in served.counts.values if "failed" in key]
