"""docs/stores.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from store.frames import ID, event, events, patch, patches

from otel_ir.model_lifecycle import TERMINAL, TRANSITIONS, ActionState
from otel_ir.store.evidence import EvidenceConfig, EvidenceStore

DOC = (Path(__file__).parents[2] / "docs/stores.md").read_text(encoding="utf-8")


def test_the_table_of_states() -> None:
    table = DOC.split("<!-- lifecycle -->")[1].split("<!-- /lifecycle -->")[0]
    rows = dict(re.findall(r"^\| (\w+) \| ([\w, ]+) \|$", table, re.MULTILINE))
    assert rows.pop("state") == "may become"
    assert rows == {state.value: ", ".join(following) for state, following in TRANSITIONS.items() if following}
    assert "released, expired and dry_run are final" in DOC
    assert set(TERMINAL) == {ActionState.RELEASED, ActionState.EXPIRED, ActionState.DRY_RUN}


def test_the_settings_are_the_defaults() -> None:
    said = {name: float(value) for name, value in re.findall(r"^  (flush_\w+): (\d+)", DOC, re.MULTILINE)}
    defaults = EvidenceConfig()
    assert said == {name: getattr(defaults, name) for name in ("flush_seconds", "flush_rows", "flush_bytes")}


def test_the_sql_view_is_read_events(tmp_path: Path) -> None:
    store = EvidenceStore.open(str(tmp_path))
    late = patches(patch(event(1)[ID], 2), patch(event(1)[ID], 3), patch(event(2)[ID], 3, otel_ir__agent__id=None))
    for n, later in enumerate((late.head(0), late[:1], late[1:]), 1):
        store.append(events(event(n)), later, n)
        store.flush()
    sql = DOC.split("```sql")[1].split("```")[0]
    sql = re.sub(r"delta_scan\('otel-ir-data/evidence/(\w+)'\)", r"\1", sql)
    builder = QueryBuilder()
    for name in ("events", "identity"):
        builder = builder.register(name, DeltaTable(str(tmp_path / name)))
    rows = pa.table(builder.execute(sql).read_all())
    assert rows["agent"].to_pylist() == store.events().collect()["otel_ir.agent.id"].to_list() == ["agent@3", None, "helpdesk/trace:3"]
