"""The other side of the wire: ``python -m benchmarks.peers send|pace|sink …``, each a process of its own, so that it does not count."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_LARGEST = 256 * 1024 * 1024
_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Sent(msgspec.Struct):
    """What the sender saw: wall clock and CPU seconds, retries, and quantiles of the time until a request was acknowledged (s)."""

    seconds: float
    cpu: float
    retries: int
    p50: float
    p99: float


async def send(endpoint: str, requests: Sequence[bytes], in_flight: int) -> Sent:
    """Sends all of them, ``in_flight`` at a time, each again until it is taken."""
    waiting, latencies, retries = iter(requests), [], 0
    began, cpu = time.perf_counter(), time.process_time()
    async with grpc.aio.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", _LARGEST)]) as channel:
        export = channel.unary_unary(f"/{_SERVICE}/Export")

        async def worker() -> None:
            nonlocal retries
            for request in waiting:
                at = time.perf_counter()
                while True:
                    try:
                        answer = ExportTraceServiceResponse.FromString(await export(request, timeout=120, wait_for_ready=True))
                        assert not answer.partial_success.rejected_spans, answer.partial_success.error_message
                        break
                    except grpc.aio.AioRpcError as error:
                        if error.code() not in _RETRYABLE:
                            raise
                        retries += 1
                        await asyncio.sleep(0.05)
                latencies.append(time.perf_counter() - at)

        await asyncio.gather(*(worker() for _ in range(in_flight)))
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    return Sent(time.perf_counter() - began, time.process_time() - cpu, retries, p50, p99)


class Paced(msgspec.Struct):
    """What ``pace`` sent and saw acknowledged: requests, and spans per second."""

    requests: int
    spans_per_second: float
    retries: int


async def pace(endpoint: str, requests: Sequence[bytes], rate: float, per_request: int, token: str, stop: Path) -> Paced:
    """Sends requests at ``rate`` spans per second until the file ``stop`` is there; when they end, all again as spans of their own."""
    began, taken, retries = time.perf_counter(), 0, 0
    async with grpc.aio.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", _LARGEST)]) as channel:
        export = channel.unary_unary(f"/{_SERVICE}/Export")

        async def one(request: bytes) -> None:
            nonlocal taken, retries
            while True:
                try:
                    metadata = (("authorization", f"Bearer {token}"),)
                    answer = ExportTraceServiceResponse.FromString(await export(request, timeout=120, metadata=metadata))
                    assert not answer.partial_success.rejected_spans, answer.partial_success.error_message
                except grpc.aio.AioRpcError as error:
                    if error.code() not in _RETRYABLE:
                        raise
                    retries += 1
                    await asyncio.sleep(0.05)
                else:
                    taken += 1
                    return

        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                await asyncio.sleep(max(0.0, began + number * per_request / rate - time.perf_counter()))
                if stop.exists():
                    break
                turn, place = divmod(number, len(requests))
                later = round(turn * len(requests) * per_request / rate * 1e9)
                group.create_task(one(again(requests[place], turn, later) if turn else requests[place]))
    return Paced(taken, taken * per_request / (time.perf_counter() - began), retries)


def again(request: bytes, turn: int, later: int) -> bytes:
    """The same request ``later`` ns later, of other services and agents, with other ids."""
    mark, copy = turn.to_bytes(2), ExportTraceServiceRequest.FromString(request)
    for resource in copy.resource_spans:
        _rename(resource.resource.attributes, "service.name", turn)
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.trace_id, span.span_id = mark + span.trace_id[2:], mark + span.span_id[2:]
                span.parent_span_id = mark + span.parent_span_id[2:] if span.parent_span_id else b""
                span.start_time_unix_nano += later
                span.end_time_unix_nano += later
                _rename(span.attributes, "gen_ai.conversation.id", turn)
    return copy.SerializeToString()


def _rename(attributes: Any, key: str, turn: int) -> None:
    for attribute in attributes:
        if attribute.key == key:
            attribute.value.string_value += f"-{turn}"


async def sink(port: int, expected: int) -> int:
    """Takes and counts spans until there are ``expected``; -> how many came."""
    spans, done = 0, asyncio.Event()

    async def export(body: bytes, _context: Any) -> bytes:
        nonlocal spans
        request = ExportTraceServiceRequest.FromString(body)
        spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        if spans >= expected:
            done.set()
        return b""

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _LARGEST)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"Export": grpc.unary_unary_rpc_method_handler(export)}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await done.wait()
    await server.stop(1.0)
    return spans


def main(arguments: Sequence[str]) -> None:
    """``send ENDPOINT LOAD IN_FLIGHT`` -> ``Sent`` as JSON; ``pace ENDPOINT LOAD RATE PER_REQUEST TOKEN STOP`` -> ``Paced``;
    ``sink PORT SPANS`` -> the number.
    """
    if arguments[0] == "send":
        requests = msgspec.msgpack.decode(Path(arguments[2]).read_bytes(), type=list[bytes])
        result: Any = asyncio.run(send(arguments[1], requests, int(arguments[3])))
    elif arguments[0] == "pace":
        requests = msgspec.msgpack.decode(Path(arguments[2]).read_bytes(), type=list[bytes])
        rate, per_request, token, stop = float(arguments[3]), int(arguments[4]), arguments[5], Path(arguments[6])
        result = asyncio.run(pace(arguments[1], requests, rate, per_request, token, stop))
    else:
        result = asyncio.run(sink(int(arguments[1]), int(arguments[2])))
    sys.stdout.write(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
