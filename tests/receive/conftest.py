"""A real receiver in a thread of its own, so that tests can use synchronous clients against it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ir.journal import FileJournal
from otel_ir.model import Record
from otel_ir.receive import ReceiveConfig, Receiver


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Counts:
    """A counter that can be asked."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        self.values[(name.removeprefix("otel_ir.receive."), *attributes.values())] += value


@dataclass
class Served:
    """A running receiver, the journal behind it, and what it counted."""

    receiver: Receiver
    loop: Loop
    counts: Counts = field(default_factory=Counts)
    journal: FileJournal | None = None

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.receiver.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.receiver.grpc_port}"

    def records(self) -> list[Record]:
        assert self.journal is not None
        return self.journal.read(0, max_records=10**6, max_bytes=10**9)

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(record.body) for record in self.records() if record.kind == "traces"]
        return [
            span for request in requests for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]

    def logs(self) -> list[Any]:
        requests = [ExportLogsServiceRequest.FromString(record.body) for record in self.records() if record.kind == "logs"]
        return [
            log for request in requests for resource in request.resource_logs for scope in resource.scope_logs for log in scope.log_records
        ]


ANY_PORT = {"grpc_endpoint": "127.0.0.1:0", "http_endpoint": "127.0.0.1:0"}
Serve = Callable[..., Served]


@contextmanager
def serving(directory: Path | None, append: Any = None, **settings: Any) -> Iterator[Served]:
    loop = Loop()
    counts = Counts()
    journal = FileJournal.open(directory) if directory is not None else None
    fault = settings.pop("fault", (lambda: journal.fault) if journal else (lambda: None))
    append = append or (journal.append if journal else None)
    metrics = settings.pop("metrics", None)
    receiver = Receiver(ReceiveConfig(**{**ANY_PORT, **settings}), append, counts, fault=fault, metrics=metrics)
    try:
        loop.run(receiver.start())
        yield Served(receiver, loop, counts, journal)
    finally:
        loop.run(receiver.stop(5))
        if journal is not None:
            loop.run(journal.close())
        loop.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(**settings)``: with a real journal; ``serve(append=f)``: with ``f`` in its place."""
    with ExitStack() as stack:
        yield lambda append=None, **settings: stack.enter_context(serving(None if append else tmp_path / "journal", append, **settings))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for tables of cases, which also shows that no case hurts the next."""
    with serving(tmp_path_factory.mktemp("shared") / "journal") as served:
        yield served
