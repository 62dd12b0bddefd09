"""Where an alert goes: onto the nearest ancestor that is still open, else into a span of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from sdk.conftest import EVENT, Agents, alerts_on

import otel_ir
from otel_ir import IncidentResponseProcessor
from otel_ir.errors import ConfigError, RuleError


def test_two_lines_are_enough() -> None:
    code = (
        "import otel_ir, sys\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "assert 'polars' not in sys.modules\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(otel_ir.IncidentResponseProcessor())\n"
        "with provider.get_tracer('x').start_as_current_span('y'): pass\n"
        "assert provider.force_flush()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert "IncidentResponseProcessor" in otel_ir.__all__


def test_the_alert_stands_on_the_open_run_200_times_of_200(agents: Callable[..., Agents]) -> None:
    made = agents()
    for number in range(200):
        with made.run(f"agent-{number}") as run:
            made.exfiltrate(run)
            assert len(alerts_on(run)) == 1  # at once: before on_end came back
    assert made.own == []
    assert [len(alerts_on(span)) for span in made.spans if span.name.startswith("invoke_agent")] == [1] * 200
    assert made.processor.counts["events"] == made.processor.counts["alerts"] == 200


def test_the_event_says_what_and_whom(agents: Callable[..., Agents]) -> None:
    made = agents()
    with made.run() as run:
        call = made.exfiltrate(run)
    (event,) = alerts_on(made.spans[-1])
    found = dict(event.attributes or {})
    assert found["agent.threat.detection.severity"] == "critical"
    assert found["otel_ir.alert.signal"] == "data_exfiltration"
    assert found["gen_ai.tool.name"] == "send_email"
    assert found["otel_ir.service"] == "desk"
    assert event.timestamp == call.end_time


def test_the_nearest_open_ancestor_counts_and_ended_ones_are_passed_over(agents: Callable[..., Agents]) -> None:
    made = agents()
    with made.run() as run:
        step, inner = made.start("step", run), None
        inner = made.start("inner", step)
        made.exfiltrate(inner)
        assert [len(alerts_on(span)) for span in (run, step, inner)] == [0, 0, 1]
        inner.end()
        step.end()
        made.exfiltrate(inner)  # begun under what has ended already
        assert len(alerts_on(run)) == 1
    assert made.own == []


def test_with_nothing_open_the_alert_is_a_span_of_its_own(agents: Callable[..., Agents]) -> None:
    made = agents()
    call = made.exfiltrate()
    (own,) = made.own
    context = call.get_span_context()
    assert own.name == f"{EVENT} data_exfiltration"
    assert own.parent is not None
    assert (own.context.trace_id, own.parent.span_id) == (context.trace_id, context.span_id)
    assert own.resource.attributes["service.name"] == "desk"
    assert own.attributes is not None
    assert own.attributes["otel_ir.response.mode"] == "dry-run"
    assert len(alerts_on(own)) == 1
    assert made.processor.counts["own_spans"] == 1
    assert made.processor.counts["spans"] == 1  # what we emit is no span to look at


def test_an_ancestor_that_is_not_exported_does_not_swallow_the_alert(agents: Callable[..., Agents]) -> None:
    class RecordOnly(Sampler):
        def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
            sampled = not name.startswith("invoke_agent")
            return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY, attributes)

        def get_description(self) -> str:
            return "runs are recorded only"

    made = agents(provider=TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False))
    with made.run() as run:
        made.exfiltrate(run)
    assert len(made.own) == 1


def test_an_ancestor_that_ends_meanwhile_never_swallows_the_alert(agents: Callable[..., Agents]) -> None:
    made = agents()
    for number in range(100):
        run = made.start("invoke_agent", **{"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"agent-{number}"})
        ending = threading.Thread(target=run.end)
        call = threading.Thread(target=made.exfiltrate, args=(run,))
        call.start()
        ending.start()
        call.join()
        ending.join()
    assert made.provider.force_flush()
    shown = sum(len(alerts_on(span)) for span in made.spans)
    assert shown == made.processor.counts["alerts"] == 100


def test_a_provider_that_calls_its_processors_in_a_pool(agents: Callable[..., Agents]) -> None:
    pool = ConcurrentMultiSpanProcessor(num_threads=2)
    made = agents(provider=TracerProvider(active_span_processor=pool, shutdown_on_exit=False))
    threads = [threading.Thread(target=made.exfiltrate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made.provider.force_flush()
    deadline = time.monotonic() + 30
    while len(made.own) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made.own) == 8
    assert made.processor.counts.get("late", 0) == 0


def test_plain_spans_say_who_stands_above(agents: Callable[..., Agents]) -> None:
    made = agents(enforce=True)
    with made.run("a", conversation="c1") as run:
        step = made.start("POST /step", run, **{"http.request.method": "POST"})
        for _ in range(50):
            made.start("SELECT", step, **{"db.system": "postgresql"}).end()
        made.exfiltrate(step)
        step.end()
    (held, *_) = made.guard.held.values()
    assert {"otel_ir.agent.id": "desk/a"} in held.selectors  # found through the plain span between them


def test_wrong_rules_and_policies_are_told_at_once(tmp_path) -> None:
    (tmp_path / "bad.yml").write_text("title: nothing\n")
    with pytest.raises(RuleError, match=r"bad\.yml"):
        IncidentResponseProcessor(rules=tmp_path)
    (tmp_path / "response.yaml").write_text("mood: bad\n")
    with pytest.raises(ConfigError, match="mood"):
        IncidentResponseProcessor(response=tmp_path / "response.yaml")
    with pytest.raises(ValueError, match="budget"):
        IncidentResponseProcessor(budget=-1)
