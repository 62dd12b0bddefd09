"""Every captured dialect, read with the tables: own values against snapshots, final events against the expected facts.

``OTEL_IR_SNAPSHOTS=write pytest tests/normalize/test_dialect_captures.py`` writes the snapshots anew; read the difference.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from normalize.otlp_maker import CAPTURES, capture_records, stems

from otel_ir.decode import decode_logs, decode_traces
from otel_ir.normalize import extract as extract_module
from otel_ir.normalize.extract import extract
from otel_ir.offline import final_events

SNAPSHOTS = Path(__file__).parent / "snapshots"
SHOWN = (
    "event.type",
    "otel_ir.dialect",
    "otel_ir.agent.id",
    "gen_ai.conversation.id",
    "user.id",
    "gen_ai.tool.name",
    "gen_ai.tool.call.id",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "otel_ir.executed",
    "error",
    "error.type",
    "error.message",
    "otel_ir.content",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "otel_ir.handoff.to",
    "otel_ir.guardrail.name",
    "otel_ir.duplicate_of",
)


def own_values(stem: str) -> str:
    lines = []
    for record in capture_records(stem):
        found = extract(decode_traces([record]) if record.kind == "traces" else decode_logs([record]))
        lines += [_line("event", row, SHOWN) for row in found.events.iter_rows(named=True)]
        lines += [
            _line("call", row, ("side", "call_id", "tool", "arguments", "result", "executed")) for row in found.calls.iter_rows(named=True)
        ]
        tripped = found.nodes.filter("tripped")["span_id"].to_list()
        lines += [f"tripped {span}" for span in tripped]
    return "\n".join(lines) + "\n"


def _line(what: str, row: dict[str, Any], names: tuple[str, ...]) -> str:
    cells = {name.removeprefix("gen_ai.").removeprefix("otel_ir."): row[name] for name in names if row[name] is not None}
    texts = {name: value[:80] if isinstance(value, str) else value for name, value in cells.items()}
    return f"{what} {row['span_id']} {json.dumps(texts, ensure_ascii=False)}"


@pytest.mark.parametrize("stem", stems())
def test_own_values_of_a_capture_are_those_of_its_snapshot(stem: str) -> None:
    path, found = SNAPSHOTS / f"{stem}.txt", own_values(stem)
    if os.environ.get("OTEL_IR_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_captures", CAPTURES / "score_captures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_final_events_score_at_least_99_percent_of_the_expected_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = list(stems())
    for stem in wanted:
        paths = [path for path in (CAPTURES / f"{stem}.json", CAPTURES / f"{stem}.logs.json") if path.exists()]
        final_events(paths).write_ndjson(tmp_path / f"{stem}.ndjson")
    status = scorer().main(["--min", "99", "-v", str(CAPTURES / "expected"), str(tmp_path), *wanted])
    assert status == 0, capsys.readouterr().out


def test_no_capture_shows_in_the_tables() -> None:
    """The rules must be general: no name, id or text of a capture may stand in the code."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in Path(extract_module.__file__).parent.rglob("*.py"))
    for word in ("triage_agent", "lookup_customer", "send_email", "conv-77", "u-1", "call_1", "demo-agent-svc", "delete_file"):
        assert word not in code


def test_every_span_of_a_capture_is_a_node() -> None:
    for stem in stems():
        for record in capture_records(stem):
            if record.kind == "traces":
                batch = decode_traces([record])
                nodes = extract(batch).nodes
                assert nodes["span_id"].to_list() == batch.rows["span_id"].to_list()
                assert nodes.select(pl.col("service.name").null_count()).item() == 0
