"""On a server to which nobody sends anything any more, what waits for time to pass fires nevertheless; nothing else is written."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest
from real.processes import until
from serve.spans import tool_request

from otel_ir import loop, service
from otel_ir.config import Config
from otel_ir.detect.windows import WindowLimits
from otel_ir.engine import Fold
from otel_ir.receive import ReceiveConfig
from otel_ir.service import Service

RULES = """title: Called
id: 0b3c6d2e-2b4a-4a55-9a0e-9c9c1fb0b001
name: called
logsource: {product: opentelemetry, category: ai_agent, service: tool_call}
detection: {selection: {gen_ai.tool.name: alpha}, condition: selection}
---
title: Called once only
id: 0b3c6d2e-2b4a-4a55-9a0e-9c9c1fb0b002
name: called_once
level: high
correlation: {type: event_count, rules: [called], group-by: [otel_ir.agent.id], timespan: 1s, condition: {lt: 2}}
"""


def test_time_passes_without_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "Fold", partial(Fold, windows=WindowLimits(lateness=100_000_000, step=10_000_000)))
    monkeypatch.setattr(loop, "TICK_SECONDS", 0.1)
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)

    async def story() -> tuple[list[str], list[tuple[str, str]]]:
        receive = ReceiveConfig(grpc_endpoint="127.0.0.1:0", http_endpoint="127.0.0.1:0")
        one = Service(Config(data=str(tmp_path / "data"), rules=str(rules), receive=receive))
        await one.start()
        await one.journal.append("traces", tool_request("quiet", tool="alpha", body="")[0].SerializeToString())
        await asyncio.to_thread(until, one.ledger.alerts, what="the alert")
        told = [row.alert.signal for row in one.ledger.alerts()]
        records = one.journal.read(0, max_records=100, max_bytes=2**20)
        assert await one.stop(20)
        return told, [(record.kind, msgspec.json.decode(record.body)["type"] if record.kind == "control" else "") for record in records]

    told, records = asyncio.run(story())
    assert told == ["called_once"]
    assert records == [("control", "ruleset_activated"), ("traces", ""), ("control", "tick")]
