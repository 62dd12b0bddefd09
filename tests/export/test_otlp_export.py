"""Alerts and metrics at a real OTLP endpoint, over gRPC and HTTP."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ir.errors import StorageError
from otel_ir.export import ATTRIBUTES, ExportConfig, ExportLoop, OtlpExporter, alert_item, alert_span, metric_exporter
from otel_ir.export.sources import Alerts
from otel_ir.model import Alert, SpanRef
from otel_ir.telemetry import Telemetry, own_resource

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": "a" * 32,
        "rule_id": "8c1f8d52-0000-4000-8000-000000000003",
        "signal": "data_exfiltration",
        "ruleset": "f" * 64,
        "severity": "critical",
        "stage": "compromise",
        "title": "Large outbound body",
        "description": "send_email with 20,000 characters",
        "tags": ("owasp.asi02", "atlas.aml.t0086"),
        "service": "helpdesk",
        "agent_id": "helpdesk/triage",
        "agent_id_source": "ancestor",
        "agent_name": "triage",
        "conversation_id": "conv-7",
        "user_id": "u-1",
        "tool_name": "send_email",
        "trace_id": TRACE,
        "span_id": SPAN,
        "event_time": 1_767_225_600_000_000_001,
        "received": 1_767_225_601_000_000_000,
        "contributing": (SpanRef(TRACE, "00f067aa0ba902b7"), SpanRef(TRACE, SPAN)),
    }
    return Alert(**(values | changes))


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def attributes(items: Any) -> dict[str, Any]:
    def pair(item: KeyValue) -> tuple[str, Any]:
        return item.key, plain(item.value)

    return dict(map(pair, items))


EXPECTED = {
    "agent.threat.detection.rule_id": "8c1f8d52-0000-4000-8000-000000000003",
    "agent.threat.detection.ruleset": "f" * 64,
    "agent.threat.detection.severity": "critical",
    "agent.threat.detection.action": "warn",
    "agent.threat.detection.correlation_id": "a" * 32,
    "otel_ir.alert.id": "a" * 32,
    "otel_ir.alert.signal": "data_exfiltration",
    "otel_ir.alert.stage": "compromise",
    "otel_ir.alert.title": "Large outbound body",
    "otel_ir.alert.description": "send_email with 20,000 characters",
    "otel_ir.alert.tags": ["owasp.asi02", "atlas.aml.t0086"],
    "otel_ir.alert.count": 3,
    "otel_ir.agent.id": "helpdesk/triage",
    "otel_ir.agent.id_source": "ancestor",
    "otel_ir.service": "helpdesk",
    "gen_ai.agent.name": "triage",
    "gen_ai.conversation.id": "conv-7",
    "gen_ai.tool.name": "send_email",
    "user.id": "u-1",
}


def config(sink: Any, **changes: Any) -> ExportConfig:
    return ExportConfig(**({"endpoint": sink.endpoint, "protocol": sink.protocol, "timeout": 5.0} | changes))


def test_span_log_and_metric_arrive_whole(sink: Any) -> None:
    telemetry = Telemetry(metric_exporter(config(sink)), interval=3600)
    exporter = OtlpExporter(config(sink, headers={"Authorization": "Bearer t"}), telemetry)
    assert exporter.export([alert_item(alert(), 3)]) == ["a" * 32]

    (request,) = sink.requests["traces"]
    (resource_spans,) = request.resource_spans
    assert attributes(resource_spans.resource.attributes)["service.name"] == "otel_ir"
    assert resource_spans.scope_spans[0].scope.name == "otel_ir"
    (span,) = resource_spans.scope_spans[0].spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.span_id.hex() not in (SPAN, "0" * 16)
    assert span.name == "agent.threat.detection data_exfiltration"
    assert span.start_time_unix_nano == span.end_time_unix_nano == 1_767_225_600_000_000_001
    assert span.flags & 0x300 == 0x300, "the parent is known to be remote"
    assert span.status.code == 0
    assert attributes(span.attributes) == EXPECTED
    (event,) = span.events
    assert (event.name, event.time_unix_nano) == ("agent.threat.detection", 1_767_225_600_000_000_001)
    assert attributes(event.attributes) == EXPECTED
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(TRACE, "00f067aa0ba902b7"), (TRACE, SPAN)]

    (log,) = sink.logs()
    assert sink.requests["logs"][0].resource_logs[0].scope_logs[0].scope.name == "otel_ir"
    assert log.event_name == "agent.threat.detection"
    assert (log.trace_id.hex(), log.span_id.hex()) == (TRACE, SPAN)
    assert (log.severity_number, log.severity_text) == (21, "critical")
    assert log.time_unix_nano == 1_767_225_600_000_000_001
    assert log.observed_time_unix_nano == 1_767_225_601_000_000_000
    assert log.body.string_value == "Large outbound body: send_email with 20,000 characters"
    assert attributes(log.attributes) == EXPECTED

    telemetry.add("otel_ir.alerts", severity="critical", stage="compromise", rule_id="r", signal="data_exfiltration")
    telemetry.close()
    metrics = {
        m.name: m
        for r in sink.wait("metrics")
        for rm in r.resource_metrics
        for sm in rm.scope_metrics
        for m in sm.metrics
        if m.ListFields()
    }
    (point,) = metrics["otel_ir.alerts"].sum.data_points
    assert attributes(point.attributes) == {"severity": "critical", "stage": "compromise", "rule_id": "r", "signal": "data_exfiltration"}
    assert point.as_int == 1
    assert {attributes(p.attributes)["signal"] for p in metrics["otel_ir.export.items"].sum.data_points} == {"traces", "logs"}
    assert any(headers.get("authorization") == "Bearer t" for headers in sink.headers)
    exporter.close()


def test_tls_is_checked(tls_sink: Any) -> None:
    sink, certificate_file = tls_sink
    trusting = OtlpExporter(config(sink, certificate_file=str(certificate_file)))
    assert trusting.export([alert_item(alert())]) == ["a" * 32]
    trusting.close()
    suspicious = OtlpExporter(config(sink, timeout=0.5))
    assert suspicious.export([alert_item(alert())]) == []
    suspicious.close()
    assert len(sink.spans()) == len(sink.logs()) == 1


def test_an_export_repeated_is_the_same_span(sink: Any) -> None:
    for _ in range(2):
        exporter = OtlpExporter(config(sink))
        exporter.export([alert_item(alert())])
        exporter.close()
    assert len({span.span_id for span in sink.spans()}) == 1
    assert len(sink.spans()) == 2


def test_one_signal_refused_is_sent_again_alone(sink: Any) -> None:
    exporter = OtlpExporter(config(sink))
    sink.refuse = {"logs"}
    assert exporter.export([alert_item(alert())]) == []
    sink.refuse = set()
    assert exporter.export([alert_item(alert())]) == ["a" * 32]
    assert len(sink.spans()) == len(sink.logs()) == 1
    exporter.close()


def test_signals_can_be_left_out(sink: Any) -> None:
    """Jaeger takes traces only and would refuse logs forever."""
    exporter = OtlpExporter(config(sink, signals=("traces",)))
    assert exporter.export([alert_item(alert())]) == ["a" * 32]
    assert not sink.requests["logs"]
    assert metric_exporter(config(sink, signals=("traces",))) is None
    exporter.close()


def test_a_large_number_goes_out_in_several_requests(sink: Any) -> None:
    exporter = OtlpExporter(config(sink))
    alerts = [alert(alert_id=f"{n:032x}", contributing=tuple(SpanRef(TRACE, f"{i:016x}") for i in range(1, 129))) for n in range(250)]
    assert len(exporter.export([alert_item(one) for one in alerts])) == 250
    assert [len(r.resource_spans[0].scope_spans[0].spans) for r in sink.requests["traces"]] == [100, 100, 50]
    assert max(r.ByteSize() for r in sink.requests["traces"]) < 4 * 1024 * 1024
    exporter.close()


def test_without_ids_the_alert_is_a_trace_of_its_own() -> None:
    first = alert_span(alert(trace_id="", span_id="", contributing=(SpanRef("", "x"),)), own_resource())
    again = alert_span(alert(trace_id="", span_id=""), own_resource())
    assert first.parent is None
    assert first.context is not None
    assert first.context.is_valid
    assert first.context == again.context
    assert not first.links


def test_hostile_text_is_bounded_and_encodable(sink: Any) -> None:
    exporter = OtlpExporter(config(sink))
    hostile = alert(description="x" * 100_000, agent_name="\ud800\x00<script>", conversation_id=None)
    assert exporter.export([alert_item(hostile)]) == ["a" * 32]
    values = attributes(sink.spans()[0].attributes)
    assert len(values["otel_ir.alert.description"]) == 4096
    assert values["gen_ai.agent.name"] == "?\x00<script>"
    assert "gen_ai.conversation.id" not in values
    exporter.close()


def test_attribute_table_has_no_column_of_its_own_invention() -> None:
    assert all(name.startswith(("agent.threat.detection.", "otel_ir.", "gen_ai.", "user.")) for name in ATTRIBUTES)


@pytest.mark.parametrize("changes", [{"endpoint": "localhost:4317"}, {"endpoint": "ftp://x"}, {"timeout": 0}, {"interval": 0}])
def test_config_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"endpoint|timeout"):
        ExportConfig(**({"endpoint": "http://127.0.0.1:1"} | changes))


def test_config_does_not_show_its_headers() -> None:
    assert "secret" not in repr(ExportConfig(endpoint="http://127.0.0.1:1", headers={"authorization": "secret"}))


class Ledger:
    """What the loop needs of one: alerts in order, and which are exported."""

    def __init__(self, alerts: list[Alert]) -> None:
        self.alerts, self.exported, self.broken = alerts, list[str](), 0
        self.changed = threading.Condition()

    def unexported(self, limit: int) -> list[Alert]:
        with self.changed:
            if self.broken:
                self.broken -= 1
                raise StorageError("disk full")
            return [a for a in self.alerts if a.alert_id not in self.exported][:limit]

    def counts(self, alert_ids: list[str]) -> dict[str, int]:
        return {}

    def mark_exported(self, alert_ids: list[str]) -> None:
        with self.changed:
            self.exported.extend(alert_ids)
            self.changed.notify_all()

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.exported) >= count, 20)


def test_loop_exports_what_is_left_and_what_comes(sink: Any) -> None:
    ledger = Ledger([alert(alert_id=f"{n:032x}") for n in range(3)])
    loop = ExportLoop([Alerts(ledger)], OtlpExporter(config(sink)))
    loop.start()
    ledger.wait(3)
    ledger.alerts.append(alert(alert_id="b" * 32))
    loop.notify()
    ledger.wait(4)
    loop.close()
    loop.close()
    assert sorted(ledger.exported) == sorted(a.alert_id for a in ledger.alerts)
    assert len(sink.spans()) == 4


def test_loop_tries_again_until_accepted(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.export.loop.FIRST_DELAY", 0.01)
    ledger = Ledger([alert()])
    ledger.broken = 2
    sink.refuse = {"traces", "logs"}
    loop = ExportLoop([Alerts(ledger)], OtlpExporter(config(sink)))
    loop.start()
    with sink.arrived:
        assert sink.arrived.wait_for(lambda: len(sink.headers) >= 4, 20)
    assert not ledger.exported
    sink.refuse = set()
    ledger.wait(1)
    loop.close()


def test_one_that_is_refused_for_ever_does_not_stop_the_others(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.export.loop.FIRST_DELAY", 0.01)
    monkeypatch.setattr("otel_ir.export.loop.LONGEST_DELAY", 0.02)
    sink.poison = b"poison"
    alerts = [alert(alert_id=f"{n:032x}", description="poison" if n in (0, 7) else "good") for n in range(10)]
    ledger = Ledger(alerts)
    loop = ExportLoop([Alerts(ledger)], OtlpExporter(config(sink)))
    loop.start()
    ledger.wait(8)
    assert sorted(ledger.exported) == [f"{n:032x}" for n in range(10) if n not in (0, 7)]
    sink.poison = None
    ledger.wait(10)
    loop.close()


def test_loop_stops_promptly_when_the_endpoint_is_dead() -> None:
    ledger = Ledger([alert()])
    loop = ExportLoop([Alerts(ledger)], OtlpExporter(ExportConfig(endpoint="http://127.0.0.1:9", timeout=600)))
    loop.start()
    loop.close(timeout=0.2)
    assert not loop._thread.is_alive()
    assert not ledger.exported
