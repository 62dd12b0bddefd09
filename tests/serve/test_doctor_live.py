"""``otel-ir doctor`` and ``otel-ir agents`` beside a server that runs: what two services leave out, and what helps."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from real.processes import OTEL_IR, Server, otel_ir_serving, until

from otel_ir.offline import read_records

CAPTURES = Path(__file__).parent.parent / "captures"
TOKENS = {"helpdesk": "t-helpdesk", "shop": "t-shop"}
SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY"


def _request(capture: str, service: str, state: str = "") -> ExportTraceServiceRequest:
    """The spans of a capture as if another service had sent them, sampled as the trace state says."""
    whole = ExportTraceServiceRequest()
    for record in read_records([CAPTURES / f"{capture}.json"]):
        whole.MergeFromString(record.body)
    for resource in whole.resource_spans:
        for one in resource.resource.attributes:
            if one.key == "service.name":
                one.value.string_value = service
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            span.trace_state = state
    return whole


def _send(server: Server, request: ExportTraceServiceRequest, *, over: str, token: str = "") -> None:
    if over == "grpc":
        with grpc.insecure_channel(server.grpc) as channel:
            TraceServiceStub(channel).Export(request, timeout=30, metadata=[("authorization", f"Bearer {token}")] if token else None)
        return
    headers = {"content-type": "application/x-protobuf"} | ({"authorization": f"Bearer {token}"} if token else {})
    sent = urllib.request.Request(f"http://{server.http}/v1/traces", request.SerializeToString(), headers)
    with urllib.request.urlopen(sent, timeout=30) as answer:
        assert answer.status == 200


def _unusable() -> ExportTraceServiceRequest:
    """A span without an id, which is refused alone."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="x")
    return request


def _told(command: str, data: Path, *more: str, status: int) -> Any:
    done = subprocess.run(
        [OTEL_IR, command, "--data", data, *more, "--format", "json"], capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("tokens", [False, True], ids=["open", "tokens"])
def test_doctor_beside_a_running_server(tmp_path: Path, tokens: bool) -> None:
    data, config, more = tmp_path / "data", tmp_path / "otel-ir.yaml", []
    if tokens:
        known = [{"token": token, "sender": name, "services": [name]} for name, token in TOKENS.items()]
        config.write_text(json.dumps({"receive": {"tokens": known}}))
        more = ["-c", str(config)]
    token = TOKENS if tokens else dict.fromkeys(TOKENS, "")
    with otel_ir_serving(data, *more) as server:
        _send(server, _request("langgraph_otelgenai", "helpdesk"), over="grpc", token=token["helpdesk"])
        _send(server, _request("pydantic_ai", "shop", "ot=th:c"), over="http", token=token["shop"])
        if tokens:
            with pytest.raises(urllib.error.HTTPError, match="401"):
                _send(server, _request("pydantic_ai", "shop"), over="http")
        else:
            _send(server, _unusable(), over="grpc")
        told = _told("doctor", data, *more, status=1)
        checks = [(one["check"], one["result"]) for one in told["checks"]]
        assert ("ports", "ok") in checks
        assert ("ports", "fault") not in checks
        [refused] = [one for one in told["checks"] if one["check"] == "senders" and one["result"] == "warning"]
        assert refused["detail"].startswith("1 requests were" if tokens else "1 spans or log records were")
        assert ("senders", "ok") in checks
        _helpdesk(told)
        _shop(told)
        text = subprocess.run([OTEL_IR, "doctor", "--data", data], capture_output=True, text=True, timeout=120, check=False)
        assert "  dialect   otel_genai.langchain: 15 of opentelemetry.instrumentation.genai.langchain" in text.stdout
        assert f"  switch on {SWITCH} [otel_genai.langchain 1.3b0] -> arguments, messages, result, system prompt; data_exfil" in text.stdout
        assert "    blind     data_exfiltration (critical) can never fire: it needs otel_ir.arguments.body.length" in text.stdout
        assert "    sampled   tool_call_burst (high) undercounts: more than 30 are seen from about 124 on" in text.stdout
        seen = until(lambda: [one for one in _told("agents", data, status=0) if one["service.name"] == "helpdesk"], what="the inventory")
    _inventory(seen + [one for one in _told("agents", data, status=0) if one["service.name"] == "shop"])
    assert _told("doctor", data, *more, status=1)["agents"] == told["agents"], "and after it stopped"


def test_agents_says_what_waits_for_a_name(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add()
    spans.resource.attributes.add(key="service.name").value.string_value = "desk"
    span = spans.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=b"p" * 8, name="execute_tool look")
    for key, value in {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look"}.items():
        span.attributes.add(key=key).value.string_value = value

    def said() -> str:
        done = subprocess.run([OTEL_IR, "agents", "--data", tmp_path], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "")
        return done.stderr

    with otel_ir_serving(tmp_path) as server:
        _send(server, request, over="http")
        until(lambda: "1 event of 1 service still wait for the name of their agent" in said(), what="the line about what waits")
    assert "no agent was seen yet" in said()


def _helpdesk(told: dict[str, Any]) -> None:
    [service] = [one for one in told["services"] if one["service.name"] == "helpdesk"]
    assert (service["dialects"], service["agents"], service["signs_of_sampling"]) == (
        [{"dialect": "otel_genai.langchain", "guess": False, "rows": 15}], 2, {},
    )  # fmt: skip
    missing = {one["what"]: (one["events"], one["of"]) for one in service["missing"]}
    assert missing["arguments"] == (4, 4)
    assert missing["messages"] == (7, 7)
    first = service["remedies"][0]
    assert (first["setting"], first["agents"], first["unblinds"]) == (SWITCH, 2, ["data_exfiltration"])
    agents = {one["otel_ir.agent.id"]: one for one in told["agents"]}
    for name in ("helpdesk/triage_agent", "helpdesk/research_agent"):
        assert [(one["signal"], one["wholly"]) for one in agents[name]["blind"]] == [("data_exfiltration", True)]
        assert agents[name]["sampling"] is None


def _shop(told: dict[str, Any]) -> None:
    [service] = [one for one in told["services"] if one["service.name"] == "shop"]
    assert [one["dialect"] for one in service["dialects"]] == ["pydantic_ai"]
    assert (service["kept_share"], list(service["signs_of_sampling"])) == (0.25, ["the trace state"])
    [agent] = [one for one in told["agents"] if one["otel_ir.agent.id"] == "shop/triage_agent"]
    assert agent["blind"] == []
    effects = {one["signal"]: one["effect"] for one in agent["sampling"]["rules"]}
    assert (effects["tool_call_burst"], effects["error_spike"], effects["suspicious_tool_sequence"]) == (
        "undercounts", "undercounts", "misses steps",
    )  # fmt: skip
    assert "OTEL_TRACES_SAMPLER=parentbased_always_on" in {one["setting"] for one in service["remedies"]}


def _inventory(rows: list[dict[str, Any]]) -> None:
    found = {one["otel_ir.agent.id"]: one for one in rows}
    triage, shop = found["helpdesk/triage_agent"], found["shop/triage_agent"]
    assert (triage["dialects"], triage["models"]) == (["otel_genai.langchain"], ["gpt-4o-mini"])
    assert "send_email" in triage["tools"]
    assert triage["system_prompt"] is None, "it does not send any"
    assert shop["dialects"] == ["pydantic_ai"]
    assert len(shop["system_prompt"]) == 64
    assert all(one["first_seen"] <= one["last_seen"] for one in rows)
