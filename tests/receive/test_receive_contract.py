"""The contract of a receiver: its life cycle, its ports, and that nothing is lost or invented whatever the journal says."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from otel_ir.errors import ConfigError, InputError, Overloaded, StorageError
from otel_ir.journal import FileJournal
from otel_ir.receive import ReceiveConfig, Receiver, TokenConfig

Serve = Any
PROTOBUF = "application/x-protobuf"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ANY_PORT = ReceiveConfig(grpc_endpoint="127.0.0.1:0", http_endpoint="127.0.0.1:0")


def at(grpc_port: int, http_port: int) -> ReceiveConfig:
    return ReceiveConfig(grpc_endpoint=f"127.0.0.1:{grpc_port}", http_endpoint=f"127.0.0.1:{http_port}")


async def nothing(*_: object, **__: object) -> int:
    return 1


def request(*numbers: int) -> bytes:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    for number in numbers:
        spans.add(trace_id=number.to_bytes(16), span_id=number.to_bytes(8), name=str(number))
    return message.SerializeToString()


# Life cycle.


def test_stop_without_start_and_twice() -> None:
    async def scenario() -> None:
        receiver = Receiver(ANY_PORT, nothing)
        await receiver.stop(1)
        await receiver.start()
        await receiver.stop(1)
        await receiver.stop(1)

    asyncio.run(scenario())


def test_a_second_receiver_takes_over_the_same_ports() -> None:
    async def scenario() -> None:
        first = Receiver(ANY_PORT, nothing)
        await first.start()
        config = at(first.grpc_port, first.http_port)
        await first.stop(1)
        for _ in range(2):
            again = Receiver(config, nothing)
            await again.start()
            assert (again.grpc_port, again.http_port) == (first.grpc_port, first.http_port)
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    f"http://127.0.0.1:{again.http_port}/v1/traces", content=request(1), headers={"content-type": PROTOBUF}
                )
                assert answer.status_code == 200
            await again.stop(1)

    asyncio.run(scenario())


@pytest.mark.parametrize("taken", ["grpc", "http"])
def test_a_port_in_use_is_a_config_error_that_names_it(taken: str) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            receiver = Receiver(at(port, 0) if taken == "grpc" else at(0, port), nothing)
            with pytest.raises(ConfigError, match=rf"receive.{taken}_endpoint: cannot listen on 127.0.0.1:{port}: Address already in use"):
                await receiver.start()
            await receiver.stop(1)
        await receiver.start()  # nothing of the first attempt is left
        await receiver.stop(1)

    asyncio.run(scenario())


def test_a_second_receiver_beside_a_running_one_is_refused() -> None:
    async def scenario() -> None:
        first = Receiver(ANY_PORT, nothing)
        await first.start()
        for config in (at(first.grpc_port, 0), at(0, first.http_port)):
            with pytest.raises(ConfigError, match="Address already in use"):
                await Receiver(config, nothing).start()
        await first.stop(1)

    asyncio.run(scenario())


@pytest.mark.parametrize("endpoint", ["4317", "localhost", "127.0.0.1:", ":4317", "127.0.0.1:70000", "127.0.0.1:x"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"receive.http_endpoint: .* is not host:port"):
        asyncio.run(Receiver(ReceiveConfig(grpc_endpoint="127.0.0.1:0", http_endpoint=endpoint), nothing).start())


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match=r"receive.grpc_endpoint: cannot listen on 192.0.2.1:0"):
        asyncio.run(Receiver(ReceiveConfig(grpc_endpoint="192.0.2.1:0", http_endpoint="127.0.0.1:0"), nothing).start())


def test_an_empty_token_is_refused() -> None:
    config = ReceiveConfig(grpc_endpoint="127.0.0.1:0", http_endpoint="127.0.0.1:0", tokens=(TokenConfig(token=""),))
    with pytest.raises(ConfigError, match="a token is empty"):
        asyncio.run(Receiver(config, nothing).start())


def test_beyond_this_machine_without_tokens_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(host: str) -> None:
        receiver = Receiver(ReceiveConfig(grpc_endpoint=f"{host}:0", http_endpoint=f"{host}:0"), nothing)
        await receiver.start()
        await receiver.stop(1)

    with caplog.at_level(logging.WARNING, "otel_ir.receive"):
        asyncio.run(scenario("localhost"))
        assert "without tokens" not in caplog.text
        asyncio.run(scenario("0.0.0.0"))
        assert "without tokens" in caplog.text


def test_stopping_drains_what_is_at_work(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = FileJournal.open(tmp_path)
        arrived, go = asyncio.Semaphore(0), asyncio.Event()

        async def slow(kind: Any, body: bytes, **who: str) -> int:
            arrived.release()
            await go.wait()
            return await journal.append(kind, body, **who)

        receiver = Receiver(ANY_PORT, slow)
        await receiver.start()
        url, target = f"http://127.0.0.1:{receiver.http_port}/v1/traces", f"127.0.0.1:{receiver.grpc_port}"
        async with httpx.AsyncClient(timeout=20) as client, grpc.aio.insecure_channel(target) as channel:
            over_http = asyncio.create_task(client.post(url, content=request(1), headers={"content-type": PROTOBUF}))
            over_grpc = asyncio.ensure_future(channel.unary_unary(EXPORT)(request(2)))
            await arrived.acquire()
            await arrived.acquire()
            stopping = asyncio.create_task(receiver.stop(20))
            await asyncio.sleep(0.3)
            assert not stopping.done()
            with pytest.raises(httpx.ConnectError):
                await httpx.AsyncClient().post(url, content=request(3), headers={"content-type": PROTOBUF})
            go.set()
            assert (await over_http).status_code == 200
            assert await over_grpc == b""
            await stopping
        assert journal.last == 2
        await journal.close()

    asyncio.run(scenario())


def test_stopping_does_not_wait_longer_than_the_grace() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def never(*_: object, **__: object) -> int:
            arrived.set()
            await asyncio.Event().wait()
            return 1

        receiver = Receiver(ANY_PORT, never)
        await receiver.start()
        async with httpx.AsyncClient(timeout=20) as client:
            url = f"http://127.0.0.1:{receiver.http_port}/v1/traces"
            sending = asyncio.create_task(client.post(url, content=request(1), headers={"content-type": PROTOBUF}))
            await arrived.wait()
            async with asyncio.timeout(10):
                await receiver.stop(0.3)
            outcome = (await asyncio.gather(sending, return_exceptions=True))[0]
            assert isinstance(outcome, Exception) or outcome.status_code >= 500

    asyncio.run(scenario())


# Nothing lost, nothing invented.


class Moody:
    """A journal in one of the moods of the collector's own contract test: succeed, retryable, permanent, or a mix of them."""

    def __init__(self, mood: str) -> None:
        self._mood, self._random, self._lock = mood, random.Random(7), threading.Lock()
        self.taken: Counter[str] = Counter()
        self.permanent: set[str] = set()

    async def append(self, kind: str, body: bytes, *, tenant: str = "", sender: str = "") -> int:
        await asyncio.sleep(self._random.random() / 500)
        message = ExportTraceServiceRequest.FromString(body)
        spans = [span.name for span in message.resource_spans[0].scope_spans[0].spans]
        fate = self._random.random()
        if self._mood != "succeed" and fate < 0.5:
            retryable = self._mood == "retryable" or (self._mood == "mix" and fate < 0.3)
            if retryable:
                raise Overloaded("later") if fate < 0.15 else StorageError("later")
            self.permanent.update(spans)
            raise InputError("never")
        self.taken.update(spans)
        return sum(self.taken.values())


@pytest.mark.parametrize("mood", ["succeed", "retryable", "permanent", "mix"])
def test_every_span_is_taken_once_or_reported_back(serve: Serve, mood: str) -> None:
    moody = Moody(mood)
    served = serve(append=moody.append)
    reported: set[str] = set()

    def send(worker: int) -> set[str]:
        lost: set[str] = set()
        with httpx.Client(base_url=served.http, timeout=30) as client, grpc.insecure_channel(served.grpc) as channel:
            export = channel.unary_unary(EXPORT)
            for batch in range(15):
                numbers = [1 + worker * 1_000 + batch * 10 + n for n in range(10)]
                numbers[3] = 0  # an id that is refused by partial success
                for _ in range(100):
                    state = over_grpc(export, numbers) if (worker + batch) % 2 else over_http(client, numbers)
                    if state != "retry":
                        break
                assert state in ("taken", "lost")
                if state == "lost":
                    lost |= {str(number) for number in numbers if number}
        return lost

    with ThreadPoolExecutor(4) as pool:
        for lost in pool.map(send, range(4)):
            reported |= lost
    everything = {str(1 + w * 1_000 + b * 10 + n) for w in range(4) for b in range(15) for n in range(10) if n != 3}
    assert set(moody.taken) | reported == everything
    assert not set(moody.taken) & reported
    assert reported == moody.permanent
    assert set(moody.taken.values()) <= {1}


def over_http(client: httpx.Client, numbers: list[int]) -> str:
    answer = client.post("/v1/traces", content=request(*numbers), headers={"content-type": PROTOBUF})
    if answer.status_code == 200:
        assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
        return "taken"
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return "retry" if "retry-after" in answer.headers else "lost"


def over_grpc(export: Any, numbers: list[int]) -> str:
    try:
        response = export(request(*numbers), timeout=30)
    except grpc.RpcError as error:
        return "retry" if error.code() is grpc.StatusCode.UNAVAILABLE else "lost"
    assert ExportTraceServiceResponse.FromString(response).partial_success.rejected_spans == 1
    return "taken"
