"""The embedded journal: order, durability, bounds, reading, retention, locking."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_ir.errors import ConfigError, InputError, Overloaded, StorageError
from otel_ir.journal import FileJournal, JournalConfig
from otel_ir.journal.disk import Disk
from otel_ir.model import Record

SMALL = JournalConfig(
    segment_bytes=2_000,
    retain_bytes=4_000,
    max_bytes=12_000,
    max_record_bytes=5_000,
    pending_records=64,
    pending_bytes=8_000,
    group_records=16,
)


@contextmanager
def opened(directory: Path, config: JournalConfig | None = None, **options: object) -> Iterator[FileJournal]:
    journal = FileJournal.open(directory, config, **options)  # type: ignore[arg-type]
    try:
        yield journal
    finally:
        asyncio.run(journal.close())


def append(journal: FileJournal, *bodies: bytes) -> list[int]:
    async def all_of_them() -> list[int]:
        return list(await asyncio.gather(*(journal.append("traces", body) for body in bodies)))

    return asyncio.run(all_of_them())


def fill(journal: FileJournal, size: int) -> None:
    while True:
        append(journal, body(journal.last + 1, size))


def read_all(journal: FileJournal, after: int = 0, *, max_records: int = 7, max_bytes: int = 1_500) -> list[Record]:
    found: list[Record] = []
    while some := journal.read(after, max_records=max_records, max_bytes=max_bytes):
        assert len(some) <= max_records
        assert sum(len(record.body) for record in some) <= max_bytes or len(some) == 1
        found += some
        after = some[-1].ordinal
    return found


def body(number: int, size: int = 100) -> bytes:
    return f"{number}:".encode().ljust(size, b".")


class FailingDisk(Disk):
    """A disk on which the next calls of a method fail with an error number; ``partial`` bytes of a failing write arrive."""

    def __init__(self) -> None:
        self.write_error = self.sync_error = self.truncate_error = 0
        self.partial = 0

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        if self.write_error:
            super().write(fd, [b"".join(buffers)[: self.partial]], offset)
            raise OSError(self.write_error, "injected")
        super().write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        if self.sync_error:
            raise OSError(self.sync_error, "injected")
        super().sync(fd)

    def truncate(self, fd: int, size: int) -> None:
        if self.truncate_error:
            raise OSError(self.truncate_error, "injected")
        super().truncate(fd, size)


def test_records_come_back_as_they_went_in(tmp_path: Path) -> None:
    clock = iter([100, 50, 200, 10**30 // 10**12])
    with opened(tmp_path / "new" / "journal", clock=lambda: next(clock, 300)) as journal:
        assert (journal.first, journal.last, journal.read(0, max_records=9, max_bytes=9)) == (0, 0, [])

        async def fill() -> None:
            assert await journal.append("traces", b"\x00\xff", tenant="ten", sender="ant") == 1
            assert await journal.append("logs", b"") == 2
            assert await journal.append("control", b'{"type":"tick"}') == 3

        asyncio.run(fill())
        assert (journal.first, journal.last) == (1, 3)
        first, second, third = read_all(journal)
    assert (first.ordinal, first.kind, first.body, first.tenant, first.sender) == (1, "traces", b"\x00\xff", "ten", "ant")
    assert (second.kind, second.body, third.kind, third.body) == ("logs", b"", "control", b'{"type":"tick"}')
    assert first.received <= second.received <= third.received  # the clock went back, received did not


def test_reopened_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL, clock=lambda: 5_000) as journal:
        append(journal, *(body(n) for n in range(1, 31)))
        before = read_all(journal)
    with opened(tmp_path, SMALL, clock=lambda: 1) as journal:
        assert journal.last == 30
        assert append(journal, body(31)) == [31]
        after = read_all(journal)
    assert after[:-1] == before
    assert after[-1].body == body(31)
    assert after[-1].received == 5_000  # not the clock, which was set back
    assert len(list(tmp_path.glob("*.tfrecord"))) > 1


@pytest.mark.parametrize("start", [0, 1, 13, 28, 29, 30, 99])
def test_reading_starts_anywhere_with_or_without_an_index(tmp_path: Path, start: int) -> None:
    with opened(tmp_path, SMALL) as journal:
        append(journal, *(body(n) for n in range(1, 31)))
        assert [record.ordinal for record in read_all(journal, start)] == list(range(start + 1, 31))
    with opened(tmp_path, SMALL) as journal:
        assert [record.ordinal for record in read_all(journal, start)] == list(range(start + 1, 31))
        assert [record.body for record in read_all(journal, start, max_records=100, max_bytes=10**6)] == [
            body(n) for n in range(start + 1, 31)
        ]


def test_one_record_comes_back_whatever_the_byte_limit(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        append(journal, b"a" * 3_000_000, b"b" * 10)
        assert [len(record.body) for record in journal.read(0, max_records=5, max_bytes=1)] == [3_000_000]
        assert [len(record.body) for record in journal.read(1, max_records=5, max_bytes=1)] == [10]
        assert len(journal.read(0, max_records=5, max_bytes=3_000_010)) == 2
        assert len(journal.read(0, max_records=5, max_bytes=3_000_009)) == 1


def test_sequential_reading_does_not_read_a_segment_again_from_its_start(tmp_path: Path) -> None:
    config = JournalConfig(segment_bytes=1 << 30, max_bytes=4 << 30)
    with opened(tmp_path, config) as journal:
        for _ in range(8):
            append(journal, *(b"x" * 10_000 for _ in range(250)))  # 20 MB in one segment
    with opened(tmp_path, config) as journal:
        read_all(journal, max_records=100, max_bytes=10**6)  # learns the places
        from otel_ir.journal import segment

        looked_at = 0
        original = segment.decode_entry

        def counting(data: bytes, offset: int) -> object:
            nonlocal looked_at
            looked_at += 1
            return original(data, offset)

        segment.decode_entry = counting  # type: ignore[assignment]
        try:
            assert len(read_all(journal, max_records=100, max_bytes=10**6)) == 2_000
            in_a_row = looked_at
            assert [record.ordinal for record in journal.read(1_777, max_records=1, max_bytes=1)] == [1_778]
        finally:
            segment.decode_entry = original
    assert in_a_row <= 2_000 + 40  # each once, plus at most one look ahead for each read
    assert looked_at - in_a_row <= 120  # the sparse index: no more than a MiB of records passed over


def test_wait_wakes_up_when_a_record_is_readable(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        assert not journal.wait(0, 0.01)
        seen: list[bool] = []
        reader = threading.Thread(target=lambda: seen.append(journal.wait(0, 20) and bool(journal.read(0, max_records=1, max_bytes=1))))
        reader.start()
        append(journal, b"x")
        reader.join(20)
        assert seen == [True]
        waiter = threading.Thread(target=lambda: seen.append(journal.wait(1, 60)))
        waiter.start()
        began = time.monotonic()
        asyncio.run(journal.close())
        waiter.join(20)
        assert seen == [True, False]
        assert time.monotonic() - began < 20


def test_concurrent_writers_and_readers_see_one_sequence(tmp_path: Path) -> None:
    with opened(tmp_path, JournalConfig(segment_bytes=50_000)) as journal:
        acknowledged: dict[int, bytes] = {}

        def write(writer: int) -> None:
            async def run() -> None:
                async def one(number: int) -> None:
                    text = f"{writer}/{number}".encode() * 10
                    acknowledged[await journal.append("traces", text)] = text

                for start in range(0, 300, 20):
                    await asyncio.gather(*(one(start + n) for n in range(20)))

            asyncio.run(run())

        readings: list[list[Record]] = [[] for _ in range(3)]

        def read(into: list[Record]) -> None:
            while len(into) < 900 and journal.wait(len(into), 30):
                into += journal.read(len(into), max_records=50, max_bytes=4_000)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        threads += [threading.Thread(target=read, args=(into,)) for into in readings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(acknowledged) == list(range(1, 901))
        for reading in readings:
            assert [(record.ordinal, record.body) for record in reading] == sorted(acknowledged.items())


def test_appends_are_committed_in_groups(tmp_path: Path) -> None:
    class Counting(Disk):
        syncs = 0

        def sync(self, fd: int) -> None:
            self.syncs += 1
            time.sleep(0.005)
            super().sync(fd)

    disk = Counting()
    with opened(tmp_path, disk=disk) as journal:
        append(journal, *(body(n) for n in range(500)))
    assert disk.syncs < 20


def test_an_append_is_not_readable_and_not_acknowledged_before_its_sync(tmp_path: Path) -> None:
    class Gate(Disk):
        reached, open = threading.Event(), threading.Event()

        def sync(self, fd: int) -> None:
            if self.armed:
                self.reached.set()
                assert self.open.wait(30)
            super().sync(fd)

        armed = False

    disk = Gate()
    with opened(tmp_path, disk=disk) as journal:
        append(journal, b"first")
        disk.armed = True

        async def scenario() -> None:
            waiting = asyncio.create_task(journal.append("traces", b"second"))
            await asyncio.to_thread(disk.reached.wait, 30)
            assert not waiting.done()
            assert journal.last == 1
            assert len(journal.read(0, max_records=9, max_bytes=999)) == 1
            disk.open.set()
            assert await waiting == 2
            assert len(journal.read(0, max_records=9, max_bytes=999)) == 2

        asyncio.run(scenario())


def test_a_cancelled_append_does_not_harm_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:

        async def scenario() -> list[int]:
            tasks = [asyncio.create_task(journal.append("traces", body(n))) for n in range(20)]
            await asyncio.sleep(0)
            tasks[3].cancel()
            return [done for done in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(done, int)]

        ordinals = asyncio.run(scenario())
        assert len(ordinals) == 19
        assert {record.ordinal for record in read_all(journal)} >= set(ordinals)


# Bounds.


def test_a_record_too_large_is_refused_for_good(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as journal:
        with pytest.raises(InputError, match="5001 bytes"):
            append(journal, b"x" * 5_001)
        assert append(journal, b"x" * 5_000) == [1]


def test_too_many_pending_appends_are_refused_for_now(tmp_path: Path) -> None:
    class Slow(Disk):
        def sync(self, fd: int) -> None:
            time.sleep(0.02)
            super().sync(fd)

    with opened(tmp_path, JournalConfig(pending_records=10, group_records=2), disk=Slow()) as journal:

        async def flood() -> list[int | BaseException]:
            return await asyncio.gather(*(journal.append("traces", body(n)) for n in range(100)), return_exceptions=True)

        outcome = asyncio.run(flood())
        taken = [one for one in outcome if isinstance(one, int)]
        assert 10 <= len(taken) < 100
        assert all(isinstance(one, int | Overloaded) for one in outcome)
        assert [record.ordinal for record in read_all(journal)] == sorted(taken)


def test_full_it_refuses_until_consumers_catch_up_and_then_drops_the_oldest(tmp_path: Path) -> None:
    with opened(tmp_path, SMALL) as journal:
        with pytest.raises(Overloaded, match="12000 bytes"):
            fill(journal, 100)
        taken = journal.last
        assert journal.fault is not None
        assert journal.size <= SMALL.max_bytes
        assert sum(path.stat().st_size for path in tmp_path.glob("*.tfrecord")) == journal.size

        async def control() -> int:
            return await journal.append("control", b"{}")

        assert asyncio.run(control()) == taken + 1  # the reserve
        journal.retain(taken // 2)
        assert journal.fault is None
        assert 1 < journal.first <= taken // 2 + 1
        assert append(journal, body(0)) == [taken + 2]
        assert [record.ordinal for record in read_all(journal, journal.first - 1)] == list(range(journal.first, taken + 3))
        with pytest.raises(StorageError, match=r"record 1 is no longer retained"):
            journal.read(0, max_records=1, max_bytes=1)


def test_retention_by_age_never_passes_the_consumers(tmp_path: Path) -> None:
    now = 10**18
    config = JournalConfig(segment_bytes=1_000, retain_seconds=60)
    with opened(tmp_path, config, clock=lambda: now) as journal:
        for number in range(1, 41):
            append(journal, body(number))
        journal.retain(20)
        assert journal.first == 1  # young
        now += 61 * 10**9
        journal.retain(5)  # consumers never go backwards
        assert 6 < journal.first <= 21
        journal.retain(40)
        assert 21 < journal.first <= 40
        assert [record.body for record in read_all(journal, journal.first - 1)] == [body(n) for n in range(journal.first, 41)]
        first = journal.first
    with opened(tmp_path, config, clock=lambda: now) as journal:
        assert (journal.first, journal.last) == (first, 40)


def test_an_old_segment_is_closed_though_it_is_small(tmp_path: Path) -> None:
    now = 10**18
    with opened(tmp_path, JournalConfig(segment_seconds=60), clock=lambda: now) as journal:
        append(journal, b"1")
        now += 61 * 10**9
        append(journal, b"2")
        assert len(list(tmp_path.glob("*.tfrecord"))) == 2
        assert [record.body for record in read_all(journal)] == [b"1", b"2"]


def test_contradictory_limits_are_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        FileJournal.open(tmp_path, JournalConfig(max_bytes=1_000))
    with pytest.raises(ConfigError, match="pending_bytes"):
        FileJournal.open(tmp_path, JournalConfig(max_record_bytes=1 << 40))


# Disks that fail.


@pytest.mark.parametrize("partial", [0, 5, 130, 10_000])
@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, Overloaded), (errno.EFBIG, Overloaded), (errno.EDQUOT, Overloaded), (errno.EIO, StorageError)]
)
def test_a_failed_write_refuses_those_appends_and_no_others(tmp_path: Path, partial: int, number: int, expected: type[Exception]) -> None:
    disk = FailingDisk()
    with opened(tmp_path, disk=disk) as journal:
        append(journal, body(1), body(2))
        disk.write_error, disk.partial = number, partial
        for _ in range(3):
            with pytest.raises(expected):
                append(journal, body(3), body(4))
        assert journal.fault is not None
        assert journal.last == 2
        disk.write_error = 0
        assert append(journal, body(5)) == [3]
        assert journal.fault is None
        assert [record.body for record in read_all(journal)] == [body(1), body(2), body(5)]
    with opened(tmp_path) as journal:
        assert [record.body for record in read_all(journal)] == [body(1), body(2), body(5)]


@pytest.mark.parametrize("cut_fails", [False, True])
def test_after_a_failed_sync_the_file_is_not_trusted_again(tmp_path: Path, cut_fails: bool) -> None:
    disk = FailingDisk()
    with opened(tmp_path, disk=disk) as journal:
        append(journal, body(1))
        disk.sync_error = errno.EIO
        disk.truncate_error = errno.EIO if cut_fails else 0
        with pytest.raises(StorageError, match="injected"):
            append(journal, body(2), body(3))
        assert journal.read(1, max_records=9, max_bytes=999) == []
        disk.sync_error = disk.truncate_error = 0
        assert append(journal, body(4)) == [2]
        files = sorted(path.name for path in tmp_path.glob("*.tfrecord"))
        assert files == ["00000000000000000001.tfrecord", "00000000000000000002.tfrecord"]
        assert [record.body for record in read_all(journal)] == [body(1), body(4)]
        assert append(journal, body(5)) == [3]
    with opened(tmp_path) as journal:
        assert [record.body for record in read_all(journal)] == [body(1), body(4), body(5)]


def test_a_failure_of_the_first_write_leaves_a_usable_journal(tmp_path: Path) -> None:
    disk = FailingDisk()
    with opened(tmp_path, disk=disk) as journal:
        disk.sync_error = errno.EIO
        for _ in range(2):
            with pytest.raises(StorageError):
                append(journal, body(1))
        disk.sync_error = 0
        assert append(journal, body(2)) == [1]
        assert len(list(tmp_path.iterdir())) == 2  # one segment, the lock


def test_an_unexpected_failure_does_not_stop_the_writer(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        with pytest.raises(StorageError):
            asyncio.run(journal.append("traces", [object()]))  # type: ignore[arg-type]
        assert append(journal, body(1)) == [1]


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from otel_ir.errors import Overloaded
from otel_ir.journal import FileJournal
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
async def main():
    journal = FileJournal.open(Path(sys.argv[1]))
    refused = 0
    for number in range(200):
        try:
            await journal.append("traces", b"%d:" % number + b"." * 1000)
            print("ack", number, flush=True)
        except Overloaded:
            refused += 1
    print("refused", refused)
    await journal.close()
asyncio.run(main())
"""


def test_a_real_file_size_limit_is_survived(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    acknowledged = [int(number) for word, number in lines if word == "ack"]
    assert 1 <= int(lines[-1][1]) < 20
    with opened(tmp_path) as journal:
        assert [int(record.body.split(b":")[0]) for record in read_all(journal)] == acknowledged


# One owner, one version.


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    with opened(tmp_path):
        with pytest.raises(StorageError, match="in use by process"):
            FileJournal.open(tmp_path)
        code = f"from pathlib import Path; from otel_ir.journal import FileJournal; FileJournal.open(Path({str(tmp_path)!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "StorageError" in done.stderr
        assert "in use by process" in done.stderr
    with opened(tmp_path):
        pass


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        append(journal, b"1")
    asyncio.run(journal.close())
    assert "closed" in (journal.fault or "")
    with pytest.raises(StorageError, match="closed"):
        append(journal, b"2")
    with pytest.raises(StorageError, match="closed"):
        journal.read(0, max_records=1, max_bytes=1)


def test_closing_finishes_what_was_taken(tmp_path: Path) -> None:
    journal = FileJournal.open(tmp_path)

    async def scenario() -> list[int]:
        tasks = [asyncio.create_task(journal.append("traces", body(n))) for n in range(50)]
        await asyncio.sleep(0)
        await journal.close()
        return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == list(range(1, 51))


def test_a_directory_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        FileJournal.open(tmp_path / "file" / "journal")


def test_the_meter_counts(tmp_path: Path) -> None:
    class Meter:
        def __init__(self) -> None:
            self.counts: dict[str, int] = {}

        def add(self, name: str, value: int = 1, **attributes: str) -> None:
            self.counts[name] = self.counts.get(name, 0) + value

        def record(self, name: str, value: float, **attributes: str) -> None:
            assert value > 0
            self.add(name)

    meter = Meter()
    with opened(tmp_path, SMALL, meter=meter) as journal:
        append(journal, body(1), body(2))
        with pytest.raises(Overloaded):
            fill(journal, 3_000)
    assert meter.counts["otel_ir.journal.records"] >= 2
    assert meter.counts["otel_ir.journal.refused"] == 1
    assert meter.counts["otel_ir.journal.sync.duration"] >= 1
