"""The roster keeper: what it writes into a ledger, and when, by its own clock."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from otel_ir.model import EVENT_SCHEMA, PATCH_SCHEMA, FoldOutput
from otel_ir.roster_keeper import NAME_SECONDS, WRITE_SECONDS, RosterKeeper
from otel_ir.store import Ledger


def _output(*rows: dict[str, Any]) -> FoldOutput:
    return FoldOutput(pl.DataFrame(list(rows), schema=EVENT_SCHEMA), PATCH_SCHEMA.to_frame())


def _call(name: str | None) -> dict[str, Any]:
    return {
        "otel_ir.event.id": f"t/{name}", "event.type": "tool_call", "service.name": "desk", "gen_ai.tool.name": "look",
        "otel_ir.agent.id": f"desk/{name or '~t'}", "otel_ir.agent.id_source": "own" if name else "none", "event_time": 7,
    }  # fmt: skip


def test_an_agent_that_nobody_names_is_in_the_inventory_after_a_while(tmp_path: Path) -> None:
    now = 0.0
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        keeper = RosterKeeper(ledger, lambda: now)
        keeper.take(_output(_call("triage"), _call(None)))
        assert ledger.agents() == []
        assert (keeper.unnamed_events, keeper.unnamed_services) == (1, 1)
        now = WRITE_SECONDS
        keeper.idle()
        assert [one.agent_id for one in ledger.agents()] == ["desk/triage"]
        now = NAME_SECONDS
        keeper.idle()
        assert len(ledger.agents()) == 1
        now = NAME_SECONDS + 2 * WRITE_SECONDS
        keeper.idle()
        assert {one.agent_id: (one.name, one.tools) for one in ledger.agents()} == {
            "desk/triage": (None, ("look",)), "desk/-": (None, ("look",)),
        }  # fmt: skip
        assert (keeper.unnamed_events, keeper.unnamed_services) == (0, 0)
