"""A record that breaks the fold is set aside; everybody else's alerts come as if it had never been there."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from real.processes import until
from serve.spans import tool_request

from otel_ir import engine
from otel_ir.config import Config
from otel_ir.model import FoldOutput, Record
from otel_ir.receive import ReceiveConfig
from otel_ir.service import Service

POISON = "agent-poison"


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours that one record brings out: no input is known to, so the test has to make one."""
    fold = engine.Fold.fold

    def broken(self: engine.Fold, frame: list[Record]) -> FoldOutput:
        if any(POISON.encode() in record.body for record in frame):
            raise RuntimeError("a defect")
        return fold(self, frame)

    monkeypatch.setattr(engine.Fold, "fold", broken)


def test_a_poison_record_is_set_aside(tmp_path: Path, poisoned: None, caplog: pytest.LogCaptureFixture) -> None:
    names = ["one", "two", "poison", "three", "four"]

    async def story() -> list[str]:
        receive = ReceiveConfig(grpc_endpoint="127.0.0.1:0", http_endpoint="127.0.0.1:0")
        service = Service(Config(data=str(tmp_path), receive=receive))
        for name in names:
            await service.journal.append("traces", tool_request(name)[0].SerializeToString())
        await service.start()
        await asyncio.to_thread(until, lambda: service.engine.fold.ordinal >= service.journal.last, what="all folded")
        agents = sorted(str(row.alert.agent_name) for row in service.ledger.alerts())
        assert await service.stop(20)
        return agents

    with caplog.at_level(logging.CRITICAL):
        assert asyncio.run(story()) == ["agent-four", "agent-one", "agent-three", "agent-two"]
    assert (tmp_path / "skipped.json").read_text() == "[3]"
