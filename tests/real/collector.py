"""Starting the real Collector, and reading what its file exporter wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.real.processes import Running, started

_LISTENS = re.compile(r"Starting (GRPC|HTTP) server\s+(\{.*\})")


class Collector(NamedTuple):
    """A running Collector: per receiver, where it listens."""

    running: Running
    grpc: dict[str, str]
    http: dict[str, str]


@contextmanager
def collecting(program: Path, *configs: Path | str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Collector]:
    """A Collector with these configurations merged in order: files, or one setting each as ``a::b: value``."""
    command: list[str | Path] = [program]
    # Its own metrics would listen on a fixed port.
    for config in (*configs, "service::telemetry::metrics::level: none"):
        command += ["--config", config if isinstance(config, Path) else f"yaml:{config}"]
    with started(command, log=log, env=env) as running:
        running.ready(lambda: "Everything is ready" in running.text(), what="the Collector")
        listens: dict[str, dict[str, str]] = {"GRPC": {}, "HTTP": {}}
        for kind, fields in _LISTENS.findall(running.text()):
            about = json.loads(fields)
            if about["otelcol.component.kind"].lower() == "receiver":
                listens[kind][about["otelcol.component.id"]] = about["endpoint"]
        yield Collector(running, listens["GRPC"], listens["HTTP"])


def exported(path: Path, signal: str) -> list[tuple[str, dict[str, Any]]]:
    """(scope name, span | log record | metric) of one signal ("spans", "logRecords", "metrics") in a file of the file exporter."""
    group = {"spans": "resourceSpans", "logRecords": "resourceLogs", "metrics": "resourceMetrics"}[signal]
    scopes = {"spans": "scopeSpans", "logRecords": "scopeLogs", "metrics": "scopeMetrics"}[signal]
    # The newest line may still be on its way to the disk.
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    return [
        (scope["scope"].get("name", ""), item)
        for line in lines
        for resource in json.loads(line).get(group, [])
        for scope in resource[scopes]
        for item in scope[signal]
    ]


def attributes(item: dict[str, Any]) -> dict[str, Any]:
    """Attributes of an OTLP/JSON item, scalars as they are."""
    return {entry["key"]: next(iter(entry["value"].values()), None) for entry in item.get("attributes", [])}
