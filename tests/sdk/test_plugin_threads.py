"""Many threads, one fold; a budget that holds; a flush, a shutdown, and a fork that leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import SpanProcessor
from sdk.conftest import Agents, alerts_on

from otel_ir.sdk import loop
from otel_ir.sdk.fold import Folding, Found


class Gated(Folding):
    """A fold that does not come back before it is let."""

    gate = threading.Event()

    def fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
        if spans[0][0] > 2:  # not the sample that warms up
            assert self.gate.wait(60)
        return super().fold(spans)


@pytest.fixture
def gate() -> threading.Event:
    Gated.gate = threading.Event()
    return Gated.gate


def _gated(made: Agents) -> Agents:
    made.processor._new_folds = Gated
    return made


def test_a_span_over_the_budget_is_folded_all_the_same(agents: Callable[..., Agents], gate: threading.Event) -> None:
    made = _gated(agents(budget=0.05))
    with made.run("a") as run:
        before = time.monotonic()
        made.exfiltrate(run)
        assert time.monotonic() - before < 5
        assert alerts_on(run) == []
        assert made.processor.counts["late"] == 1
        gate.set()
        assert made.processor.force_flush()
        assert len(alerts_on(run)) == 1  # late, but the run is still open
    assert made.own == []


def test_what_comes_after_the_run_has_ended_is_a_span_of_its_own(agents: Callable[..., Agents], gate: threading.Event) -> None:
    made = _gated(agents(budget=0.01, enforce=True))
    with made.run("a") as run:
        made.exfiltrate(run)
    assert made.guard.held == {}
    gate.set()
    assert made.provider.force_flush()
    assert len(made.own) == 1
    assert made.guard.held  # the guard is told then, too
    assert made.processor.counts["late"] == 2


def test_a_full_queue_drops_and_says_so(
    agents: Callable[..., Agents], gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "MAX_QUEUE", 5)
    made = _gated(agents(budget=0.0))
    for _ in range(20):
        made.call("lookup")
    assert made.processor.counts["dropped"] >= 10
    assert [record.message for record in caplog.records if "faster than" in record.message] != []
    gate.set()
    assert made.provider.force_flush()
    assert made.processor.counts["spans"] == 20


def test_threads_share_one_fold(agents: Callable[..., Agents]) -> None:
    made = agents()

    def work(number: int) -> None:
        for turn in range(10):
            with made.run(f"agent-{number}-{turn}") as run:
                made.call("lookup", run)
                made.exfiltrate(run)
                assert len(alerts_on(run)) == 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert made.processor.counts == {"spans": 240, "alerts": 80, "events": 80}


def test_what_another_processor_does_in_our_thread_does_not_wait_for_us(agents: Callable[..., Agents]) -> None:
    made = agents()

    class Chatty(SpanProcessor):
        def on_end(self, span) -> None:
            if span.instrumentation_scope.name == "otel_ir":  # on_end of the alert's own span: in the plug-in's thread
                made.call("lookup")

    made.provider.add_span_processor(Chatty())
    before = time.monotonic()
    made.exfiltrate()
    assert time.monotonic() - before < 30
    assert made.provider.force_flush()
    assert made.processor.counts["spans"] == 2


def test_shutdown_folds_what_is_left_and_later_spans_are_counted(agents: Callable[..., Agents], gate: threading.Event) -> None:
    made = _gated(agents(budget=0.0))
    made.exfiltrate()
    gate.set()
    made.processor.shutdown()
    assert len(made.own) == 1
    made.exfiltrate()
    assert made.processor.counts["dropped"] == 1
    made.processor.shutdown()
    assert made.processor.force_flush()


def test_flush_gives_up_in_time(agents: Callable[..., Agents], gate: threading.Event) -> None:
    made = _gated(agents(budget=0.0))
    made.exfiltrate()
    assert not made.processor.force_flush(100)
    gate.set()
    assert made.processor.force_flush()


def test_nobody_waits_for_plain_spans(agents: Callable[..., Agents], gate: threading.Event) -> None:
    made = _gated(agents(budget=600.0))
    for _ in range(200):
        made.start("SELECT", **{"db.system": "postgresql"}).end()  # would wait for ten minutes
    gate.set()
    assert made.processor.force_flush()
    assert made.processor.counts == {"spans": 200}


def test_plain_spans_are_folded_without_an_event(agents: Callable[..., Agents]) -> None:
    made = agents()
    made.start("GET", **{"http.request.method": "GET"}).end()
    deadline = time.monotonic() + 60
    while made.processor._loop._queue and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not made.processor._loop._queue


def test_errors_stay_inside(agents: Callable[..., Agents], caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Folding):
        def fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
            raise RuntimeError("no")

    made = agents()
    made.processor._new_folds = Broken
    with made.run("a") as run:
        made.exfiltrate(run)
        made.exfiltrate(run)
    assert made.processor.counts["failed"] >= 3
    assert sum("the agent goes on" in record.message for record in caplog.records) <= 2
    assert len(made.spans) == 3


FORKED = """
import os, sys, threading
sys.path.insert(0, {tests!r})
from opentelemetry.sdk.trace import TracerProvider
from sdk.conftest import Agents, FakeGuard, alerts_on
from otel_ir import IncidentResponseProcessor
from otel_ir.sdk.fold import Folding
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

processor = IncidentResponseProcessor(budget=120.0)
provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
provider.add_span_processor(processor)
provider.add_span_processor(SimpleSpanProcessor(memory))
made = Agents(processor, provider, memory)
{before}
child = os.fork()
made.memory.clear()
with made.run("forked") as run:
    made.exfiltrate(run)
    events = len(alerts_on(run))
made.exfiltrate()
assert made.provider.force_flush()
{after}
sys.stdout.write(f"{{'parent' if child else 'child'}} {{events}} {{len(made.own)}} {{type(processor._folds).__name__}}\\n")
sys.stdout.flush()
provider.shutdown()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""

USED = """
with made.run("before") as run:
    made.exfiltrate(run)
"""
LOCKED = (
    USED
    + """
held = threading.Event()
def hold():
    with processor._loop._changed, processor._spans._lock, processor._lock:
        held.set()
        done.wait()
done = threading.Event()
threading.Thread(target=hold, daemon=True).start()
held.wait()
"""
)


def _forked(before: str, after: str = "") -> set[str]:
    script = FORKED.format(tests=str(Path(__file__).parents[1]), before=before, after=after)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n")) - {""}


def test_a_fork_before_the_first_span_folds_in_the_child() -> None:
    assert _forked("") == {"parent 1 1 Folding", "child 1 1 Folding"}


def test_a_fork_after_polars_ran_folds_in_a_process_of_its_own() -> None:
    assert _forked(USED) == {"parent 1 1 Folding", "child 1 1 HelperFold"}


def test_a_fork_while_another_thread_holds_our_locks() -> None:
    # The parent's locks stay held until after its own fork, so that it can only go on when it lets them go itself.
    script = LOCKED.replace("done = threading.Event()\n", "done = threading.Event()\nos.register_at_fork(after_in_parent=done.set)\n")
    assert _forked(script) == {"parent 1 1 Folding", "child 1 1 HelperFold"}
