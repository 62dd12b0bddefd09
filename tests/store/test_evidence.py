"""What is kept can be read back, by us and by others, and says what was last known."""

from __future__ import annotations

import json
import os
import threading
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from store.frames import DAY, ID, NO_EVENTS, NO_PATCHES, NOON, ORDINAL, SECOND, event, events, patch, patches

from otel_ir.errors import StorageError
from otel_ir.model import EVENT_SCHEMA
from otel_ir.store import delta, evidence
from otel_ir.store.evidence import ODD_DATE, EvidenceConfig, EvidenceStore, read_events

ONE, TWO, THREE = (event(n)[ID] for n in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> EvidenceStore:
    return EvidenceStore.open(str(tmp_path / "evidence"), EvidenceConfig(flush_seconds=3600))


def ids(frame: pl.LazyFrame) -> list[str]:
    return frame.select(ID).collect()[ID].to_list()


def test_an_event_comes_back_as_it_was(store: EvidenceStore, tmp_path: Path) -> None:
    frame = events(event(2), event(1), event(1, 7, error=None, gen_ai__usage__input_tokens=9))
    store.append(frame, NO_PATCHES, 5)
    assert store.flush() == 5
    back = store.events().collect()
    assert back.schema == EVENT_SCHEMA
    assert back.equals(frame.sort(ORDINAL, "otel_ir.journal.position"), null_equal=True)
    assert read_events(str(tmp_path / "evidence")).collect().equals(back)


def test_others_can_read_it(store: EvidenceStore, tmp_path: Path) -> None:
    store.append(events(event(1), event(2)), patches(patch(ONE, 2)), 2)
    store.flush()
    table = DeltaTable(str(tmp_path / "evidence/events"))
    assert table.protocol().min_reader_version == 1, "the oldest readers will do"
    rows = pl.read_delta(str(tmp_path / "evidence/events"))
    assert rows.sort(ORDINAL)["gen_ai.tool.call.arguments"].to_list() == ['{"n": 1}', '{"n": 2}']
    assert set(rows["otel_ir.date"]) == {date(2026, 1, 1)}
    assert pl.read_delta(str(tmp_path / "evidence/identity"))["otel_ir.agent.id"].to_list() == ["agent@2"]
    # DataFusion, the engine behind other readers
    assert sum(batch.num_rows for batch in table.scan(predicate="\"otel_ir.date\" = '2026-01-01'")) == 2


def test_it_is_append_only(store: EvidenceStore, tmp_path: Path) -> None:
    store.append(events(event(1)), NO_PATCHES, 1)
    store.flush()
    with pytest.raises(Exception, match="append"):
        DeltaTable(str(tmp_path / "evidence/events")).delete()


def test_nothing_is_at_a_new_place(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_events(str(tmp_path / "nowhere"))
    store = EvidenceStore.open(str(tmp_path))
    assert (store.version, store.due, store.flush()) == (0, False, 0)
    assert store.events().collect().schema == EVENT_SCHEMA
    assert ids(store.events(0, 5, "x")) == []


# Identity


def test_the_newest_patch_wins(store: EvidenceStore) -> None:
    store.append(events(event(1, user__id="u"), event(2)), NO_PATCHES, 2)
    store.flush()
    store.append(events(event(3)), patches(patch(ONE, 3, user__id="v"), patch(THREE, 3)), 3)
    store.append(NO_EVENTS, patches(patch(ONE, 4, gen_ai__agent__name="triage")), 4)
    store.flush()
    store.append(NO_EVENTS, patches(patch(TWO, 6)), 6)
    store.flush()
    rows = {row[ID]: row for row in store.events().collect().to_dicts()}
    assert {key: row["otel_ir.agent.id"] for key, row in rows.items()} == {ONE: "agent@4", TWO: "agent@6", THREE: "agent@3"}
    assert (rows[ONE]["gen_ai.agent.name"], rows[ONE]["user.id"]) == ("triage", None), "a patch says all that is known, also what is not"
    assert [row[ORDINAL] for row in rows.values()] == [1, 2, 3], "where the span stands in the journal does not change"
    assert ids(store.events(agent="agent@4")) == [ONE]
    assert ids(store.events(agent="helpdesk/trace:1")) == []


def test_an_event_received_twice_is_one(store: EvidenceStore) -> None:
    store.append(events(event(1)), NO_PATCHES, 1)
    store.flush()
    again = event(1) | {ORDINAL: 9, "gen_ai.tool.call.arguments": "{}"}
    store.append(events(again, again | {"otel_ir.tenant": "other"}), NO_PATCHES, 9)
    store.flush()
    rows = store.events().collect()
    assert rows["gen_ai.tool.call.arguments"].to_list() == ['{"n": 1}', "{}"]
    assert rows["otel_ir.tenant"].to_list() == ["", "other"]


# Windows


def test_windows_are_half_open_and_reach_old_events(store: EvidenceStore) -> None:
    times = [NOON - 400 * DAY, NOON - 2 * DAY, NOON, NOON + 1, NOON + DAY]
    store.append(events(*(event(n, event_time=at) for n, at in enumerate(times, 1))), patches(patch(ONE, 5)), 5)
    store.flush()

    def found(start: int | None, end: int | None) -> list[int]:
        return store.events(start, end).select(ORDINAL).collect()[ORDINAL].to_list()

    assert found(None, None) == [1, 2, 3, 4, 5]
    assert found(NOON, NOON + 1) == [3]
    assert found(NOON, None) == [3, 4, 5]
    assert found(None, NOON) == [1, 2]
    assert found(NOON - 401 * DAY, NOON - 399 * DAY) == [1]
    assert found(NOON + DAY + 1, None) == []
    assert store.events(None, NOON - DAY * 300).collect()["otel_ir.agent.id"].to_list() == ["agent@5"]


def test_a_window_reads_only_its_files(store: EvidenceStore) -> None:
    for n in range(1, 5):
        store.append(events(event(n, event_time=NOON + n * DAY)), patches(patch(event(n)[ID], n)), n)
        store.flush()
    plan = store.events(NOON + 3 * DAY, NOON + 3 * DAY + 1).explain()
    assert plan.count("otel_ir.date=") == 1
    assert "otel_ir.date=2026-01-04" in plan


def test_broken_clocks_make_no_partitions(store: EvidenceStore, tmp_path: Path) -> None:
    rows = [event(n, event_time=NOON - n * 10 * DAY) for n in range(1, 500)]
    rows += [event(500), event(501, event_time=None), event(502, event_time=-(2**63)), event(503, event_time=0)]
    store.append(events(*rows), NO_PATCHES, 600)
    store.flush()
    folders = {path.name for path in (tmp_path / "evidence/events").glob("otel_ir.date=*")}
    assert len(folders) <= 33
    assert f"otel_ir.date={ODD_DATE}" in folders
    assert len(ids(store.events())) == 503
    assert len(ids(store.events(NOON - 3000 * DAY, NOON - 2999 * DAY))) == 1


# Columns


def test_columns_which_rules_bring_are_kept(store: EvidenceStore) -> None:
    store.append(events(event(1)), NO_PATCHES, 1)
    store.flush()
    extra = {"http.route": "/a", "ai.toolName": "x", "ai.toolname": "y", "a b,c;{}()=\n\t%41": "odd", "n": 3, "ÄÖ": "u"}
    kinds = {name: pl.Int64 if isinstance(value, int) else pl.String for name, value in extra.items()}
    store.append(events(event(2) | extra, **kinds), NO_PATCHES, 2)
    store.append(events(event(3) | {"http.route": "/b"}, http__route=pl.String), NO_PATCHES, 3)
    store.flush()
    rows = store.events().collect()
    assert rows.columns == [*EVENT_SCHEMA.names(), *extra]
    assert rows.select(*extra).rows() == [(None,) * 6, tuple(extra.values()), ("/b", None, None, None, None, None)]


def test_a_reopened_table_knows_its_columns(store: EvidenceStore, tmp_path: Path) -> None:
    store.append(events(event(1) | {"Ab": "1", "aB": "2"}, Ab=pl.String, aB=pl.String), NO_PATCHES, 1)
    store.flush()
    again = EvidenceStore.open(str(tmp_path / "evidence"))
    again.append(events(event(2) | {"aB": "3", "ab": "4"}, aB=pl.String, ab=pl.String), NO_PATCHES, 2)
    again.flush()
    assert again.events().select("Ab", "aB", "ab").collect().rows() == [("1", "2", None), (None, "3", "4")]


def test_a_column_keeps_its_first_type(store: EvidenceStore) -> None:
    store.append(events(event(1) | {"size": 7}, size=pl.UInt32), NO_PATCHES, 1)
    store.flush()
    store.append(events(event(2) | {"size": "8"}, size=pl.String), NO_PATCHES, 2)
    store.append(events(event(3) | {"size": "many"}, size=pl.String), NO_PATCHES, 3)
    store.append(events(event(4) | {"size": 9.0}, size=pl.Float64), NO_PATCHES, 4)
    store.flush()
    assert store.events().select("size").collect()["size"].to_list()[:3] == [7, 8, None]


def test_derived_and_nested_columns_are_left_out(store: EvidenceStore, caplog: pytest.LogCaptureFixture) -> None:
    row = event(1) | {"otel_ir.arguments.to": "x", "otel_ir.arguments.to.length": 1, "nested": [1], "otel_ir.arguments.size": 8}
    frame = events(row, otel_ir__arguments__to=pl.String, otel_ir__arguments__to__length=pl.Int64, nested=pl.List(pl.Int64))
    for ordinal in (1, 2):
        store.append(frame.with_columns(pl.lit(ordinal, pl.Int64).alias(ORDINAL)), NO_PATCHES, ordinal)
        store.flush()
    assert store.events().collect().columns == EVENT_SCHEMA.names()
    assert store.events().collect()["otel_ir.arguments.size"].to_list() == [8]
    assert caplog.text.count("'nested'") == 1


def test_the_number_of_columns_is_bounded(store: EvidenceStore, caplog: pytest.LogCaptureFixture) -> None:
    many = {f"c{n}": "x" for n in range(delta.MAX_EXTRA_COLUMNS + 50)}
    store.append(events(event(1) | many, **dict.fromkeys(many, pl.String)), NO_PATCHES, 1)
    store.flush()
    assert len(store.events().collect().columns) == len(EVENT_SCHEMA) + delta.MAX_EXTRA_COLUMNS
    assert caplog.text.count("is not kept") == 50


def test_a_table_of_an_older_version_gets_the_new_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = evidence.EVENTS
    old = pl.Schema({name: dtype for name, dtype in new.columns.items() if name != "error.message"})
    monkeypatch.setattr(
        evidence, "EVENTS", delta.TableSpec(columns=old, stats=new.stats, dictionary=new.dictionary, partition=new.partition)
    )
    EvidenceStore.open(str(tmp_path)).close()
    monkeypatch.undo()
    store = EvidenceStore.open(str(tmp_path))
    store.append(events(event(1, error__message="boom")), NO_PATCHES, 1)
    store.flush()
    assert store.events().collect()["error.message"].to_list() == ["boom"]


def test_another_format_is_refused(store: EvidenceStore, tmp_path: Path) -> None:
    commit = tmp_path / "evidence/events/_delta_log/00000000000000000000.json"
    commit.write_text(commit.read_text().replace('"otel_ir.format":"1"', '"otel_ir.format":"2"'))
    for attempt in (lambda: EvidenceStore.open(str(tmp_path / "evidence")), lambda: read_events(str(tmp_path / "evidence"))):
        with pytest.raises(StorageError, match="format 2"):
            attempt()


# When it is written


def test_it_is_written_when_the_buffer_is_full_or_old(tmp_path: Path) -> None:
    now = [0.0]
    store = EvidenceStore.open(str(tmp_path), EvidenceConfig(flush_rows=3, flush_bytes=100_000, flush_seconds=10), clock=lambda: now[0])
    store.append(events(event(1), event(2)), NO_PATCHES, 2)
    assert (store.version, store.due) == (0, False)
    store.append(events(event(3)), NO_PATCHES, 3)
    assert (store.version, store.due) == (3, False)
    store.append(events(event(4)), NO_PATCHES, 4)
    now[0] = 10.0
    assert store.due
    store.append(NO_EVENTS, NO_PATCHES, 5)
    assert (store.version, store.due) == (4, False)
    store.append(events(event(6, gen_ai__tool__call__arguments="x" * 100_000)), NO_PATCHES, 6)
    assert store.version == 6


def test_nothing_to_keep_is_kept_as_that(tmp_path: Path) -> None:
    store = EvidenceStore.open(str(tmp_path))
    store.append(NO_EVENTS, NO_PATCHES, 256)
    assert store.version == 0
    assert store.flush() == 256
    assert EvidenceStore.open(str(tmp_path)).version == 256
    commits = len(list((tmp_path / "events/_delta_log").glob("*.json")))
    store.flush()
    store.append(NO_EVENTS, NO_PATCHES, 256)
    store.close()
    assert len(list((tmp_path / "events/_delta_log").glob("*.json"))) == commits


def test_an_old_frame_is_skipped_in_part(store: EvidenceStore) -> None:
    store.append(events(event(1), event(2)), patches(patch(ONE, 2)), 2)
    store.flush()
    store.append(events(event(1), event(2)), patches(patch(ONE, 2)), 2)
    store.append(events(event(2), event(3)), patches(patch(ONE, 2), patch(ONE, 3)), 3)
    store.append(events(event(3)), NO_PATCHES, 3)
    store.flush()
    assert store.events().collect()[ORDINAL].to_list() == [1, 2, 3]
    assert pl.read_delta(store._identity.url)[ORDINAL].sort().to_list() == [2, 3]


def test_readers_and_the_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = EvidenceStore.open(str(tmp_path))
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                rows = read_events(str(tmp_path)).select(ORDINAL).collect()[ORDINAL].to_list()
                assert rows == list(range(1, len(rows) + 1))
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(1, 20):
        store.append(events(event(n)), patches(patch(event(n)[ID], n)), n)
        store.flush()
        if n % 6 == 0:
            store.maintain()
    stop.set()
    reader.join()
    assert not failures


# Upkeep


def test_small_files_are_joined_and_nothing_changes(store: EvidenceStore, tmp_path: Path) -> None:
    for n in range(1, 21):
        more = {"http.route": f"/{n}"} if n > 10 else {}
        late = event(n, event_time=NOON - DAY * (n % 2) + n * SECOND) | more
        store.append(events(late, **dict.fromkeys(more, pl.String)), patches(patch(event(n)[ID], n)), n)
        store.flush()
    before = store.events().collect()
    files = {name: len(DeltaTable(str(tmp_path / f"evidence/{name}")).file_uris()) for name in ("events", "identity")}
    assert files == {"events": 20, "identity": 20}
    store.maintain()
    files = {name: len(DeltaTable(str(tmp_path / f"evidence/{name}")).file_uris()) for name in ("events", "identity")}
    assert files == {"events": 2, "identity": 1}
    assert store.version == 20
    assert store.events().collect().equals(before)
    assert store.events(NOON - DAY, NOON - DAY + 15 * SECOND).select(ORDINAL).collect()[ORDINAL].to_list() == [1, 3, 5, 7, 9, 11, 13]
    store.append(events(event(21)), NO_PATCHES, 21)
    store.flush()
    assert EvidenceStore.open(str(tmp_path / "evidence")).version == 21
    assert len(ids(store.events())) == 21


def test_upkeep_is_bounded(store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "SMALL_FILE", 100_000)
    for n in range(1, 60):
        store.append(events(event(n)), NO_PATCHES, n)
        store.flush()
    sizes = [action["size_bytes"] for action in pl.DataFrame(store._events._table.get_add_actions(flatten=True)).to_dicts()]
    monkeypatch.setattr(delta, "SMALL_FILE", max(sizes) * 4)
    store.maintain()
    left = len(store._events._table.file_uris())
    assert 59 - 4 * 5 <= left < 59 - 4 * 2, "four joins of about four files each"
    assert len(ids(store.events())) == 59


def test_unused_files_are_removed_after_a_day(store: EvidenceStore, tmp_path: Path) -> None:
    store.append(events(event(1)), NO_PATCHES, 1)
    store.flush()
    folder = tmp_path / "evidence/events/otel_ir.date=2026-01-01"
    (kept,) = folder.iterdir()
    (folder / "crashed.parquet").write_bytes(b"half")
    (folder / "fresh.parquet").write_bytes(b"half")
    os.utime(folder / "crashed.parquet", (0, 0))
    store.maintain()
    assert sorted(path.name for path in folder.iterdir()) == sorted([kept.name, "fresh.parquet"])
    log = [json.loads(path.read_text().splitlines()[0]) for path in sorted((tmp_path / "evidence/events/_delta_log").glob("*.json"))]
    store.maintain()
    assert len(list((tmp_path / "evidence/events/_delta_log").glob("*.json"))) == len(log), "not at every call"
