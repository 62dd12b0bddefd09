"""Real agent frameworks with their real instrumentation, run against the real server. Only the model is scripted.

What they play is tools/real_parts/frameworks/common/scenario.py: a lookup, then an e-mail over the outbound limit.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from otel_ir.store.evidence import read_events
from tests.real.processes import Server, alerts, otel_ir_serving, until
from tools.real_parts.install import HERE

FRAMEWORKS = HERE / "frameworks"


class Expected(NamedTuple):
    """What the framework's telemetry can tell (the dialect tables say why it is no more)."""

    framework: str
    protocol: str
    dialect: str
    conversation: str | None
    lookup: str = '{"email": "alice@example.com"}'
    call_ids: tuple[str | None, str | None] = ("call_lookup", "call_send")
    model_calls: int = 3
    more_calls: tuple[str, ...] = ()
    """Tools of the framework's own, which it called beside ours."""


CORE = [
    Expected("pydantic_ai", "http/protobuf", "pydantic_ai", "conv-77"),
    Expected("openai_agents", "grpc", "openinference.openai_agents", None),
    # This instrumentation writes the argument of a tool that takes a single string as that bare string.
    Expected("langgraph", "http/protobuf", "openinference.langchain", "conv-77"),
]
FULL = [
    Expected("pydantic_ai_1", "grpc", "pydantic_ai", None),
    # Spans for tools and agents, without call ids; those of the model would come from an instrumentation of the client library.
    Expected("openai_agents_otelgenai", "grpc", "otel_genai", None, call_ids=(None, None), model_calls=0),
    Expected("langgraph_otelgenai", "http/protobuf", "otel_genai.langchain", "conv-77"),
    Expected("strands", "http/protobuf", "strands", "conv-77"),
    # No call ids, and the answer is a tool call as well; its model is no client library that an instrumentation knows.
    Expected(
        "smolagents", "grpc", "openinference.smolagents", "conv-77",
        call_ids=(None, None), model_calls=0, more_calls=("final_answer",),
    ),
    Expected("agent_framework", "http/protobuf", "agent_framework", None),
    Expected("google_adk", "grpc", "google_adk", "conv-77"),
]  # fmt: skip
CASES = [pytest.param(case, id=case.framework) for case in CORE]
CASES += [pytest.param(case, id=case.framework, marks=pytest.mark.real_full) for case in FULL]

# A developer's own accounts must not come into play.
FOREIGN = ("OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LOGFIRE_", "OTEL_")


def run_agent(python: Path, case: Expected, server: Server) -> None:
    """Runs the framework's script to its end; it must have called its tools, or there is nothing to see."""
    endpoint = server.grpc if case.protocol == "grpc" else server.http
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{endpoint}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": case.protocol,
        "OTEL_SERVICE_NAME": f"{case.framework}-service",
        # The official instrumentations leave content out unless asked.
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
        "PYTHONPATH": str(FRAMEWORKS / "common"),
    }
    script = FRAMEWORKS / case.framework / "agent.py"
    done = subprocess.run([python, script], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"answer": "Sent.", "calls": ["lookup_customer", "send_email"]}
    assert "Failed to export" not in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_a_framework_is_understood_and_its_alert_raised(case: Expected, framework_python: Callable[[str], Path], tmp_path: Path) -> None:
    with otel_ir_serving(tmp_path / "data") as server:
        run_agent(framework_python(case.framework), case, server)
        (alert,) = until(lambda: alerts(server.data), what="the alert in the ledger")
        assert server.running.stop() == 0
    events = read_events(str(tmp_path / "data" / "evidence")).collect()

    calls = events.filter(pl.col("event.type") == "tool_call")
    assert calls["gen_ai.tool.name"].to_list() == ["lookup_customer", "send_email", *case.more_calls]
    assert calls["gen_ai.agent.name"].unique().to_list() == ["triage_agent"]
    assert calls["service.name"].unique().to_list() == [f"{case.framework}-service"]
    assert calls["gen_ai.conversation.id"].unique().to_list() == [case.conversation]
    assert calls["otel_ir.dialect"].unique().to_list() == [case.dialect]
    assert calls["gen_ai.tool.call.id"].to_list() == [*case.call_ids, *(None for _ in case.more_calls)]
    assert not calls["error"].any()
    lookup, send = calls.head(2).to_dicts()
    assert lookup["gen_ai.tool.call.arguments"].replace('":"', '": "') == case.lookup
    assert '"plan": "gold"' in lookup["gen_ai.tool.call.result"].replace('\\"', '"')
    assert len(json.loads(send["gen_ai.tool.call.arguments"])["body"]) == 10_001
    assert events.filter(pl.col("event.type") == "model_output").height == case.model_calls

    assert alert["agent.threat.detection.severity"] == "critical"
    assert alert["otel_ir.alert.signal"] == "data_exfiltration"
    assert alert["span_id"] == send["span_id"]
    assert alert["otel_ir.agent.id"] == f"{case.framework}-service/triage_agent"
    assert alert["gen_ai.conversation.id"] == case.conversation


@pytest.mark.real_full
def test_a_framework_without_content_is_seen_and_called_blind(framework_python: Callable[[str], Path], tmp_path: Path) -> None:
    """AutoGen never writes arguments or results on tool spans: calls and agent arrive, no rule on content can fire."""
    case = Expected("autogen", "grpc", "otel_genai", None)
    with otel_ir_serving(tmp_path / "data") as server:
        run_agent(framework_python(case.framework), case, server)
        assert server.running.stop() == 0
    calls = read_events(str(tmp_path / "data" / "evidence")).collect().filter(pl.col("event.type") == "tool_call")
    assert calls["gen_ai.tool.name"].to_list() == ["lookup_customer", "send_email"]
    assert calls["otel_ir.agent.id"].unique().to_list() == ["autogen-service/triage_agent"]
    assert calls["gen_ai.tool.call.id"].to_list() == ["call_lookup", "call_send"]
    assert calls["gen_ai.tool.call.arguments"].null_count() == 2
    assert alerts(server.data) == []
