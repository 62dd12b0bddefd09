"""What a crash, a kill or a bad medium may do to the journal, and what it may not."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ir.errors import StorageError
from otel_ir.journal import FileJournal, JournalConfig
from otel_ir.journal.disk import Disk
from otel_ir.journal.frames import Entry, Header, encode, masked_crc
from otel_ir.model import Record

SECTOR = 512


@contextmanager
def opened(directory: Path, config: JournalConfig | None = None, disk: Disk | None = None) -> Iterator[FileJournal]:
    journal = FileJournal.open(directory, config, disk=disk)
    try:
        yield journal
    finally:
        asyncio.run(journal.close())


def everything(journal: FileJournal) -> list[Record]:
    return journal.read(journal.first - 1, max_records=10**6, max_bytes=10**9) if journal.first else []


class Photographer(Disk):
    """Just before a sync takes effect, keeps a copy of the directory: what a power cut at that moment may leave, at most.

    ``durable`` is the size of each file at its last sync.
    """

    def __init__(self, directory: Path, photo: Path) -> None:
        self.directory, self.photo, self.armed = directory, photo, False
        self.durable: dict[str, int] = {}

    def sync(self, fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        if self.armed:
            self.armed = False
            shutil.copytree(self.directory, self.photo)
        super().sync(fd)
        self.durable[name] = os.fstat(fd).st_size
        self.durable[name.replace(".draft", ".tfrecord")] = os.fstat(fd).st_size


sizes = st.integers(0, 1_500)
groups = st.lists(st.lists(sizes, min_size=1, max_size=5), min_size=0, max_size=5)
damages = st.one_of(
    st.just(("none", 0, 0)),
    st.tuples(st.just("cut"), st.integers(0, 10_000), st.just(0)),
    st.tuples(st.just("zero"), st.integers(0, 20), st.integers(1, 8)),
    st.tuples(st.just("noise"), st.integers(0, 20), st.integers(1, 4)),
)


@settings(max_examples=150, deadline=None)
@given(
    rounds=st.lists(st.tuples(groups, st.lists(sizes, min_size=1, max_size=8), damages), min_size=1, max_size=3),
    limit=st.sampled_from([2_000, 10**6]),
)
def test_acknowledged_records_survive_a_power_cut_at_any_byte(
    rounds: list[tuple[list[list[int]], list[int], tuple[str, int, int]]], limit: int
) -> None:
    config = JournalConfig(segment_bytes=limit)
    with TemporaryDirectory() as scratch:
        directory = Path(scratch) / "0"
        kept: list[bytes] = []  # what must be there, in this order
        count = 0

        def bodies(sizes: list[int]) -> list[bytes]:
            nonlocal count
            count += len(sizes)
            return [f"{count - len(sizes) + place}:".encode() + b"x" * size for place, size in enumerate(sizes)]

        async def append(journal: FileJournal, group: list[bytes]) -> None:
            await asyncio.gather(*(journal.append("traces", body) for body in group))

        for number, (groups, last_group, damage) in enumerate(rounds):
            photo = Path(scratch) / f"{number + 1}"
            disk = Photographer(directory, photo)
            with opened(directory, config, disk) as journal:
                assert [record.body for record in everything(journal)] == kept
                for group in map(bodies, groups):
                    asyncio.run(append(journal, group))
                    kept += group
                durable = dict(disk.durable)
                in_flight = bodies(last_group)
                disk.armed = True
                asyncio.run(append(journal, in_flight))
            hurt(photo, durable, *damage)
            with opened(photo, config) as journal:
                found = everything(journal)
                assert [record.ordinal for record in found] == list(range(1, len(found) + 1))
                assert [record.body for record in found[: len(kept)]] == kept
                rest = [record.body for record in found[len(kept) :]]
                assert rest == in_flight[: len(rest)]
                kept += rest
            directory = photo


def hurt(photo: Path, durable: dict[str, int], kind: str, where: int, width: int) -> None:
    """Damage the newest segment, but only bytes that were never synced."""
    newest = max(photo.glob("*.tfrecord"))
    content = bytearray(newest.read_bytes())
    safe = durable.get(newest.name, len(content))
    if kind == "cut":
        del content[min(safe + where, len(content)) :]
    elif kind != "none":
        start, end = max(safe, safe // SECTOR * SECTOR + where * SECTOR), safe // SECTOR * SECTOR + (where + width) * SECTOR
        end = min(end, len(content))
        if start < end:
            content[start:end] = bytes(end - start) if kind == "zero" else os.urandom(end - start)
    newest.write_bytes(content)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with opened(tmp_path) as journal:
        for group in range(4):
            asyncio.run(_group(journal, [b"%d" % (group * 5 + n) * 50 for n in range(5)]))
    return next(tmp_path.glob("*.tfrecord"))


async def _group(journal: FileJournal, bodies: list[bytes]) -> None:
    await asyncio.gather(*(journal.append("logs", body) for body in bodies))


def frame_offsets(path: Path) -> list[int]:
    content, offset, offsets = path.read_bytes(), 0, []
    while offset < len(content):
        offsets.append(offset)
        offset += int.from_bytes(content[offset : offset + 8], "little") + 16
    return offsets


@pytest.mark.parametrize("part", ["length", "data", "last crc"])
def test_damage_in_the_middle_is_reported_with_file_and_offset(filled: Path, part: str) -> None:
    offsets = frame_offsets(filled)
    content = bytearray(filled.read_bytes())
    at = {"length": offsets[3] + 1, "data": offsets[3] + 40, "last crc": offsets[4] - 1}[part]
    content[at] ^= 0x10
    filled.write_bytes(content)
    with pytest.raises(StorageError, match=rf"{filled.name}: offset {offsets[3]}: damaged record 3.*durable once"):
        FileJournal.open(filled.parent)
    assert filled.read_bytes() == content  # nothing was cut


def test_damage_in_an_older_segment_is_reported_when_it_is_read(tmp_path: Path) -> None:
    with opened(tmp_path, JournalConfig(segment_bytes=500)) as journal:
        for number in range(10):
            asyncio.run(_group(journal, [b"%d" % number * 300]))
    oldest = min(tmp_path.glob("*.tfrecord"))
    offset = frame_offsets(oldest)[2]
    content = bytearray(oldest.read_bytes())
    content[offset + 20] ^= 1
    oldest.write_bytes(content)
    with opened(tmp_path) as journal:
        assert [record.ordinal for record in journal.read(0, max_records=1, max_bytes=1)] == [1]
        with pytest.raises(StorageError, match=rf"{oldest.name}: offset {offset}: damaged record 2"):
            journal.read(0, max_records=9, max_bytes=9_999)
        assert [record.ordinal for record in journal.read(2, max_records=9, max_bytes=9_999)] == list(range(3, 11))
    oldest.write_bytes(content[:offset])
    with opened(tmp_path) as journal, pytest.raises(StorageError, match=rf"{oldest.name}: offset {offset}: damaged record 2"):
        journal.read(0, max_records=9, max_bytes=9_999)


def test_a_missing_segment_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path, JournalConfig(segment_bytes=500)) as journal:
        for number in range(10):
            asyncio.run(_group(journal, [b"%d" % number * 300]))
    sorted(tmp_path.glob("*.tfrecord"))[1].unlink()
    with opened(tmp_path) as journal, pytest.raises(StorageError, match="offset"):
        everything(journal)


def test_garbage_behind_the_last_record_is_cut_and_logged(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = filled.read_bytes()
    filled.write_bytes(whole + os.urandom(3_000))
    with opened(filled.parent) as journal:
        assert journal.last == 20
    assert filled.read_bytes() == whole
    assert f"cut at offset {len(whole)}, 3000 bytes" in caplog.text


def test_another_version_or_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{1:020d}.tfrecord"
    for name, version in (("otel_ir.journal", 2), ("something", 1)):
        path.write_bytes(b"".join(encode(Header(format=name, version=version, first=1, created=0, received=0))))
        with pytest.raises(StorageError, match=rf"is {name} version {version}"):
            FileJournal.open(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="header"):
        FileJournal.open(tmp_path)
    path.write_bytes(b"".join(encode(Header(format="otel_ir.journal", version=1, first=7, created=0, received=0))))
    with pytest.raises(StorageError, match="named after"):
        FileJournal.open(tmp_path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_is_either_reported_or_harmless(data: st.DataObject) -> None:
    """Flipping any bytes never yields a wrong record, a hole, or an error that is not ours."""
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        bodies = [b"%d" % n * 30 for n in range(9)]
        with opened(directory) as journal:
            for start in range(0, 9, 3):
                asyncio.run(_group(journal, bodies[start : start + 3]))
        path = next(directory.glob("*.tfrecord"))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):  # 4 could break a record and all three frames that prove it was durable
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            with opened(directory) as journal:
                found = [record.body for record in everything(journal)]
        except StorageError as error:
            said = str(error)
        else:
            said = path.name
            assert found == bodies[: len(found)]
            assert len(found) >= 6  # only the last group may pass for an unfinished write
        assert path.name in said


APPENDER = """
import asyncio, sys
from pathlib import Path
from otel_ir.journal import FileJournal, JournalConfig
async def main():
    journal = FileJournal.open(Path(sys.argv[1]), JournalConfig(segment_bytes=100_000))
    async def one(worker):
        number = 0
        while True:
            number += 1
            ordinal = await journal.append("traces", f"{worker}/{number}:".encode() + b"." * (number % 3000))
            sys.stdout.write(f"{ordinal} {worker}/{number}\\n")
            sys.stdout.flush()
    await asyncio.gather(*(one(worker) for worker in range(8)))
asyncio.run(main())
"""


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[int, str] = {}
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) == 150 + 97 * attempt:
                process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait(30) == -signal.SIGKILL
        whole = [line.split() for line in lines if line.endswith("\n")]
        acknowledged |= {int(ordinal): name for ordinal, name in whole}
        with opened(tmp_path) as journal:
            found = {record.ordinal: record.body.split(b":")[0].decode() for record in everything(journal)}
        assert list(found) == list(range(1, len(found) + 1))
        assert {ordinal: found[ordinal] for ordinal in acknowledged} == acknowledged
    assert len(acknowledged) > 600


# The format is a promise to others.


def test_the_framing_is_that_of_tfrecord() -> None:
    # How every TensorBoard event file begins: a first record of 24 bytes.
    assert (24).to_bytes(8, "little") + masked_crc((24).to_bytes(8, "little")).to_bytes(4, "little") == b'\x18\0\0\0\0\0\0\0\xa3\x7fK"'
    # The check value of CRC-32C in every catalog of CRCs is that of these nine digits.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    head, data, tail = encode(Entry(o=1, k="logs", r=2, c=0, t="", s="", b=b"foo"))
    assert head == len(data).to_bytes(8, "little") + masked_crc(head[:8]).to_bytes(4, "little")
    assert tail == masked_crc(data).to_bytes(4, "little")


def test_a_stranger_can_read_a_segment_with_the_lines_in_the_docs(filled: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "journal.md"
    [program] = re.findall(r"```python\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program, str(filled)], capture_output=True, text=True, timeout=60, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [(int(ordinal), kind) for ordinal, kind, _, _ in lines] == [(n, "logs") for n in range(1, 21)]
    assert [int(size) for *_, size in lines] == [len(b"%d" % n * 50) for n in range(20)]
