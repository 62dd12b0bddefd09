"""A real Prometheus scrapes ``otel-ir serve``."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.real.agents import agent, exfiltrate
from tests.real.processes import free_port, otel_ir_serving, started, until


@contextmanager
def scraping(program: Path, target: str, folder: Path) -> Iterator[str]:
    """A Prometheus that reads http://TARGET/metrics every second; gives its base URL."""
    folder.mkdir()
    job = {"job_name": "otel_ir", "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [{"targets": [target]}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}",
    ]  # fmt: skip
    with started(command, log=folder / "prometheus.log") as running:
        running.ready(lambda: "Server is ready to receive web requests" in running.text(), what="Prometheus")
        yield f"http://{address}"


def query(prometheus: str, expression: str) -> list[tuple[dict[str, str], float]]:
    """(labels, value) of every series that the expression has now."""
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}).raise_for_status().json()
    return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]


def test_prometheus_sees_the_alert(prometheus_program: Path, tmp_path: Path) -> None:
    with otel_ir_serving(tmp_path / "data") as server, scraping(prometheus_program, server.http, tmp_path / "prometheus") as prometheus:
        until(lambda: query(prometheus, 'up{job="otel_ir"} == 1'), what="the scrape")
        with agent("shop", server.grpc) as tracer:
            exfiltrate(tracer)
        ((labels, value),) = until(lambda: query(prometheus, "otel_ir_alerts_total"), what="the alert counter in Prometheus")
        assert value == 1
        assert labels["severity"] == "critical"
        assert labels["signal"] == "data_exfiltration"
        # What the wire itself says about its health, in one look: nothing refused, nothing lost, nothing unknown.
        for counter in ("otel_ir_receive_rejected_total", "otel_ir_decode_rejected_total", "otel_ir_telemetry_unknown_total"):
            assert sum(value for _, value in query(prometheus, counter)) == 0
        assert query(prometheus, "otel_ir_rules_loaded")[0][1] >= 4


def test_promtool_finds_no_fault_in_the_metrics(prometheus_program: Path, tmp_path: Path) -> None:
    with otel_ir_serving(tmp_path / "data") as server:
        with agent("shop", server.grpc) as tracer:
            exfiltrate(tracer)
        text = until(
            lambda: text if "otel_ir_alerts_total{" in (text := httpx.get(f"http://{server.http}/metrics").text) else "",
            what="the alert in /metrics",
        )
    promtool: list[str | Path] = [prometheus_program.with_name("promtool"), "check", "metrics"]
    done = subprocess.run(promtool, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


RULES = re.findall(r"```yaml\n(# otel-ir-rules.yaml.*?)```", (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(), re.DOTALL)[0]
VIOLATED = 'otel_ir_actions_total{adapter="inside",mode="enforce",state="violated",verb="pause_agent"}'


@pytest.mark.parametrize(
    ("rule", "series", "fires"),
    [
        ("AgentContainmentViolated", {VIOLATED: "_ _ _ _ _ 1 1"}, True),  # the very first one
        ("AgentContainmentViolated", {VIOLATED: "1 1 1 1 1 2 2"}, True),
        ("AgentContainmentViolated", {VIOLATED: "3+0x20"}, False),  # long ago
        ("AgentContainmentViolated", {VIOLATED: "5 5 5 _ 0 1 1"}, True),  # after a restart
        ("ContainmentDrillOverdue", {"otel_ir_drill_age_seconds": "-1+0x90"}, True),
        ("ContainmentDrillOverdue", {"otel_ir_drill_age_seconds": "700000+0x90"}, True),
        ("ContainmentDrillOverdue", {"otel_ir_drill_age_seconds": "3600+0x90"}, False),
    ],
)
def test_the_alerting_rules_of_the_docs_fire_when_they_should(
    prometheus_program: Path, tmp_path: Path, rule: str, series: dict[str, str], fires: bool
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    end = {"otel_ir_drill_age_seconds": "80m"}.get(next(iter(series)), "20m" if "3+0x20" in series.values() else "6m")
    firing = [{"labels": "{}", "value": 1}] if fires else []
    expected = {"expr": f'count(ALERTS{{alertname="{rule}",alertstate="firing"}})', "eval_time": end, "exp_samples": firing}
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [expected],
    }
    (tmp_path / "test.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}))
    command: list[str | Path] = [prometheus_program.with_name("promtool"), "test", "rules", tmp_path / "test.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
