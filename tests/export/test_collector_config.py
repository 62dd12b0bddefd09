"""The shipped Collector configuration: nothing that otel_ir emits can come back to it. (With a real Collector: tests/real.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "collector-config"
YOURS, TEE = (yaml.safe_load((FOLDER / name).read_text()) for name in ("your-collector.yaml", "tee.yaml"))


def merged(below: Any, above: Any) -> Any:
    """As the Collector does with several --config: mappings are merged, everything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


CONFIG = merged(YOURS, TEE)
PIPELINES: dict[str, dict[str, list[str]]] = CONFIG["service"]["pipelines"]


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_name_what_is_there(name: str) -> None:
    for kind, names in PIPELINES[name].items():
        assert set(names) <= CONFIG[kind].keys()


def test_what_otel_ir_emits_never_reaches_it_again() -> None:
    feeding = [pipeline for pipeline in PIPELINES.values() if "otlp/otel_ir" in pipeline["exporters"]]
    assert len(feeding) == 2
    assert not any("otlp/otel_ir" in pipeline["receivers"] for pipeline in feeding)


def test_your_pipelines_are_left_as_they_are() -> None:
    yours = YOURS["service"]["pipelines"]
    assert {name: PIPELINES[name] for name in yours} == yours


def test_alerts_logs_and_metrics_come_back() -> None:
    back = {name.partition("/")[0] for name, pipeline in PIPELINES.items() if pipeline["receivers"] == ["otlp/otel_ir"]}
    assert back == {"traces", "logs", "metrics"}
