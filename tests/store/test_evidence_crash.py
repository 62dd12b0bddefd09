"""Whatever dies whenever: evidence is neither doubled nor lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st
from store.frames import ID, NO_EVENTS, NO_PATCHES, ORDINAL, event, events, patch, patches

from otel_ir.errors import StorageError
from otel_ir.store.delta import AppendTable
from otel_ir.store.evidence import EvidenceConfig, EvidenceStore

STEPS = ("_widen", "_write", "_commit", "_refresh", "_sync_log")
"""Everything an append does to the disk."""


class Crash(BaseException):
    """The process died here."""


@contextmanager
def fault(number: int, error: BaseException, *, after: bool) -> Iterator[None]:
    """The ``number``-th step of any table raises, before or after it was done."""
    left = [number]
    real = {name: getattr(AppendTable, name) for name in STEPS}

    def faulty(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == -1 and not after:
                raise error
            result = step(*args, **kwargs)
            if left[0] == -1:
                raise error
            return result

        return run

    for name, step in real.items():
        setattr(AppendTable, name, faulty(step))
    try:
        yield
    finally:
        for name, step in real.items():
            setattr(AppendTable, name, step)


class Stream:
    """The fold's output of a journal, by record: events, and patches of events so far."""

    def __init__(self, records: list[tuple[int, list[int]]]) -> None:
        self.events: dict[int, list[dict[str, Any]]] = {}
        self.patches: dict[int, list[dict[str, Any]]] = {}
        known: list[str] = []
        for ordinal, (count, patched) in enumerate(records, 1):
            self.events[ordinal] = [event(ordinal, position) for position in range(count)]
            known += [row[ID] for row in self.events[ordinal]]
            chosen = sorted({known[number % len(known)] for number in patched}) if known else []
            self.patches[ordinal] = [patch(event_id, ordinal) for event_id in chosen]
        self.last = len(records)

    def feed(self, store: EvidenceStore, after: int, size: int, *, eager: bool = False) -> None:
        """As the engine does: frames of whole records; an append that fails is tried again once. ``eager``: flush after each."""
        for start in range(after, self.last, size):
            through = min(start + size, self.last)
            ordinals = range(start + 1, through + 1)
            frame = events(*(row for ordinal in ordinals for row in self.events[ordinal]))
            later = patches(*(row for ordinal in ordinals for row in self.patches[ordinal]))
            try:
                store.append(frame, later, through)
            except StorageError:
                store.append(frame, later, through)
            if eager:
                with suppress(StorageError):
                    store.flush()

    def check(self, store: EvidenceStore) -> None:
        """Everything is there, once."""
        raw = pl.read_delta(store._events.url).select(ID).to_series().to_list()
        assert sorted(raw) == sorted(row[ID] for rows in self.events.values() for row in rows)
        later = pl.read_delta(store._identity.url).select(ID, ORDINAL)
        assert not later.is_duplicated().any()
        agents = {row[ID]: row["otel_ir.agent.id"] for rows in self.events.values() for row in rows}
        agents |= {row[ID]: row["otel_ir.agent.id"] for rows in self.patches.values() for row in rows}
        assert dict(store.events().select(ID, "otel_ir.agent.id").collect().iter_rows()) == agents


records = st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 50), max_size=2)), min_size=1, max_size=10)
Life = tuple[int, bool, bool, int, int, bool, int]
lives = st.lists(
    st.tuples(
        st.integers(0, 25),  # the step that fails
        st.booleans(),  # after it was done, or before
        st.booleans(),  # the process dies, or it goes on and tries again
        st.integers(1, 4),  # records a frame
        st.integers(1, 6),  # rows until a flush
        st.booleans(),  # whether to flush after each frame as well
        st.integers(0, 3),  # how far before the version the checkpoint was
    ),
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(records, lives)
def test_replays_after_faults_neither_double_nor_lose(
    stream: list[tuple[int, list[int]]], crashes: list[tuple[int, bool, bool, int, int, int]]
) -> None:
    journal, claimed = Stream(stream), 0
    with tempfile.TemporaryDirectory() as folder:
        for number, after, dies, size, rows, eager, back in crashes:
            store = EvidenceStore.open(folder, EvidenceConfig(flush_rows=rows))
            assert store.version >= claimed, "what was called durable is"
            try:
                with fault(number, Crash() if dies else OSError("no space left"), after=after):
                    journal.feed(store, max(0, store.version - back), size, eager=eager)
                    try:
                        store.flush()
                    except StorageError:
                        store.flush()
            except Crash:
                pass
            claimed = store.version
        store = EvidenceStore.open(folder)
        assert store.version >= claimed
        journal.feed(store, max(0, store.version - 2), 3)
        assert store.flush() == journal.last
        journal.check(store)


def test_a_fault_at_every_step(tmp_path: Path) -> None:
    """Each step of a flush with both tables and a new column, before and after it, with and without a restart."""
    journal, longer = Stream([(1, []), (1, [0, 1])]), Stream([(1, []), (1, [0, 1]), (1, [1])])
    for after in (False, True):
        for number in range(60):
            place = str(tmp_path / f"{after}-{number}")
            store = EvidenceStore.open(place, EvidenceConfig())
            journal.feed(store, 0, 1)
            failed = False
            try:
                with fault(number, OSError("broken"), after=after):
                    store.flush()
            except StorageError:
                failed = True
                assert EvidenceStore.open(place).version in (0, 2)
            longer.feed(store, 2, 1)
            assert store.flush() == 3
            longer.check(store)
            if not failed:
                break
        assert 8 <= number < 59


@pytest.mark.parametrize("through", [1, 2], ids=["same record", "later record"])
def test_a_second_writer_is_found_out(tmp_path: Path, through: int) -> None:
    one, two = EvidenceStore.open(str(tmp_path)), EvidenceStore.open(str(tmp_path))
    one.append(events(event(1)), NO_PATCHES, 1)
    one.flush()
    two.append(events(event(through)), NO_PATCHES, through)
    files = len(list(tmp_path.rglob("*.parquet")))
    for _ in range(3):
        with pytest.raises(StorageError, match="only one engine"):
            two.flush()
        with pytest.raises(StorageError, match="only one engine"):
            two.maintain()
    assert len(list(tmp_path.rglob("*.parquet"))) == files + 1, "it does not go on trying"
    one.append(events(event(2)), NO_PATCHES, 2)
    assert one.flush() == 2
    assert one.events().collect()[ORDINAL].to_list() == [1, 2]


def test_a_writer_without_work_finds_out_at_upkeep(tmp_path: Path) -> None:
    one, two = EvidenceStore.open(str(tmp_path)), EvidenceStore.open(str(tmp_path))
    one.append(events(event(1)), NO_PATCHES, 1)
    one.flush()
    with pytest.raises(StorageError, match="only one engine"):
        two.maintain()
    two.append(events(event(2)), NO_PATCHES, 2)
    with pytest.raises(StorageError, match="only one engine"):
        two.flush()


def test_a_store_that_cannot_write_takes_no_more(tmp_path: Path) -> None:
    store = EvidenceStore.open(str(tmp_path), EvidenceConfig(flush_rows=2))
    with fault(0, OSError("no space left"), after=False), pytest.raises(StorageError, match="no space left"):
        store.append(events(event(1), event(2)), NO_PATCHES, 2)
    for _ in range(5):
        with fault(0, OSError("no space left"), after=False), pytest.raises(StorageError):
            store.append(events(event(3), event(4)), NO_PATCHES, 4)
    assert (store.version, store._buffer.rows) == (0, 2)
    store.append(events(event(3), event(4)), NO_PATCHES, 4)
    assert store.version == 4
    assert store.events().collect()[ORDINAL].to_list() == [1, 2, 3, 4]


def test_upkeep_that_fails_changes_nothing(tmp_path: Path) -> None:
    """At every step of joining files, before and after it."""
    for after in (False, True):
        for number in range(20):
            store = EvidenceStore.open(str(tmp_path / f"{after}-{number}"))
            for n in range(1, 9):
                store.append(events(event(n)), NO_PATCHES, n)
                store.flush()
            failed = False
            try:
                with fault(number, OSError("broken"), after=after):
                    store.maintain()
            except StorageError:
                failed = True
            store.append(events(event(9)), NO_PATCHES, 9)
            assert store.flush() == 9
            store.maintain()
            assert pl.read_delta(store._events.url)[ORDINAL].sort().to_list() == list(range(1, 10))
            if not failed:
                break
        assert 3 <= number < 19


def test_files_are_joined_once(tmp_path: Path) -> None:
    """Two handles that both saw the small files: the second join would double every row, and is refused."""
    one = EvidenceStore.open(str(tmp_path))
    for n in range(1, 9):
        one.append(events(event(n)), NO_PATCHES, n)
        one.flush()
    two = EvidenceStore.open(str(tmp_path))
    day, small = two._events._fragments()[0]
    one.maintain()
    with pytest.raises(CommitFailedError):
        two._events._join(day, small)
    assert pl.read_delta(one._events.url)[ORDINAL].sort().to_list() == list(range(1, 9))


@pytest.mark.parametrize("kept", [0, 1, 60, -1], ids=["empty", "one byte", "torn", "all but one"])
def test_a_torn_commit_is_written_again(tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture) -> None:
    """As after a power cut: the newest commit of each table is there in part."""
    store = EvidenceStore.open(str(tmp_path))
    for n in (1, 2):
        store.append(events(event(n)), patches(patch(event(n)[ID], n)), n)
        store.flush()
    for name in ("events", "identity"):
        newest = max((tmp_path / name / "_delta_log").glob("*.json"))
        newest.write_bytes(newest.read_bytes()[:kept])
    again = EvidenceStore.open(str(tmp_path))
    assert caplog.text.count("torn by a crash") == 2
    assert again.version == 1
    again.append(events(event(2)), patches(patch(event(2)[ID], 2)), 2)
    again.flush()
    assert again.events().collect()["otel_ir.agent.id"].to_list() == ["agent@1", "agent@2"]


def test_a_damaged_log_is_an_error_and_no_new_table(tmp_path: Path) -> None:
    store = EvidenceStore.open(str(tmp_path))
    for n in (1, 2):
        store.append(events(event(n)), NO_PATCHES, n)
        store.flush()
    (tmp_path / "events/_delta_log/00000000000000000001.json").write_text("{")
    with pytest.raises(StorageError, match=r"^[^\n]*$"):
        EvidenceStore.open(str(tmp_path))


WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from store.frames import ID, event, events, patch, patches
from otel_ir.store.evidence import EvidenceStore
store = EvidenceStore.open(sys.argv[1])
for n in range(max(0, store.version - 3) + 1, 1_000_000):
    rows = [event(n), event(n, 1)]
    store.append(events(*rows), patches(patch(rows[0][ID], n)), n)
    if n % 3 == 0:
        print(store.flush(), flush=True)
    if n % 30 == 0:
        store.maintain()
"""


def test_kill_9_neither_doubles_nor_loses(tmp_path: Path) -> None:
    place = str(tmp_path / "evidence")
    for run in range(2):
        worker = subprocess.Popen([sys.executable, "-c", WORKER, place, str(Path(__file__).parents[1])], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        # The kill falls somewhere in the work after these answers.
        answers = [int(worker.stdout.readline()) for _ in range(9 + 4 * run)]
        os.kill(worker.pid, signal.SIGKILL)
        answers += [int(line) for line in worker.stdout.read().split()]
        worker.stdout.close()
        worker.wait()
        store = EvidenceStore.open(place)
        assert store.version >= answers[-1]
        raw = pl.read_delta(store._events.url)
        assert sorted(zip(raw[ORDINAL], raw["otel_ir.journal.position"], strict=True)) == [
            (n, p) for n in range(1, store.version + 1) for p in (0, 1)
        ]
        agents = store.events().filter(pl.col("otel_ir.journal.position") == 0).collect()["otel_ir.agent.id"].to_list()
        assert agents == [f"agent@{n}" for n in range(1, store.version + 1)]
    store.append(NO_EVENTS, NO_PATCHES, store.version + 1)
    store.flush()
