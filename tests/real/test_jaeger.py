"""Alerts in a real Jaeger: what a responder sees who opens the agent's trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.agents import agent, exfiltrate
from tests.real.collector import attributes, collecting
from tests.real.processes import free_port, otel_ir_serving, until

pytestmark = pytest.mark.real_full

# Jaeger 2 is a Collector distribution: same command line, same receivers.
CONFIG = """\
extensions:
  jaeger_storage: {backends: {mem: {memory: {max_traces: 1000}}}}
  jaeger_query:
    storage: {traces: mem}
    http: {endpoint: "${env:QUERY}"}
    grpc: {endpoint: "127.0.0.1:0"}
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}, http: {endpoint: "127.0.0.1:0"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: mem}}
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
"""


def spans_of(jaeger: str, trace_id: str) -> list[dict[str, Any]]:
    """The spans of one trace, in OTLP/JSON, as Jaeger's query API tells it; empty while it is not there."""
    # Not /api/traces: there, a link to the parent takes the place of the parent.
    found = httpx.get(f"{jaeger}/api/v3/traces/{trace_id}").json().get("result", {}).get("resourceSpans", [])
    return [span for resource in found for scope in resource["scopeSpans"] for span in scope["spans"]]


def test_the_alert_stands_under_the_call_in_the_agents_trace(jaeger_program: Path, tmp_path: Path) -> None:
    (tmp_path / "jaeger.yaml").write_text(CONFIG)
    query = f"127.0.0.1:{free_port()}"
    with (
        collecting(jaeger_program, tmp_path / "jaeger.yaml", log=tmp_path / "jaeger.log", env={"QUERY": query}) as jaeger,
        otel_ir_serving(tmp_path / "data", "--export", f"http://{jaeger.grpc['otlp']}") as server,
    ):
        with agent("shop", server.grpc, jaeger.grpc["otlp"]) as tracer, tracer.start_as_current_span("invoke_agent triage_agent") as root:
            trace_id = f"{root.get_span_context().trace_id:032x}"
            call = exfiltrate(tracer)

        def alert_spans() -> list[dict[str, Any]]:
            return [span for span in spans_of(f"http://{query}", trace_id) if span["name"].startswith("agent.threat.detection")]

        (alert,) = until(alert_spans, what="the alert in Jaeger")
        assert alert["parentSpanId"] == call
        assert [link["spanId"] for link in alert["links"]] == [call]
        (event,) = alert["events"]
        assert event["name"] == "agent.threat.detection"
        assert attributes(event)["agent.threat.detection.severity"] == "critical"
        assert len(spans_of(f"http://{query}", trace_id)) == 3
