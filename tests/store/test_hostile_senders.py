"""What senders may fill the disk with, and the ledger's writer keep busy with."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from store.ledger_cases import NOW, make_alert

from otel_ir.contain import GuardInfo
from otel_ir.guard_keeper import GuardKeeper
from otel_ir.model import Record
from otel_ir.store import GuardRow, Ledger, SnapshotStore, fleet_book


def record(ordinal: int, size: int = 1000) -> Record:
    return Record(ordinal=ordinal, received=NOW, tenant="", sender="", kind="traces", body=b"x" * size)


def disk(folder: Path) -> int:
    return sum({(info := path.stat()).st_ino: info.st_size for path in folder.glob("*/*.binpb")}.values())


def test_one_request_about_many_agents_is_kept_once(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for number in range(200):
        told = store.keep(make_alert(number), f"INC-{number}", record(7), NOW)
        assert told.endswith("with the request that completed it")
        assert (tmp_path / f"INC-{number}" / "record-7.binpb").read_bytes() == record(7).body
    assert disk(tmp_path) == 1000


def test_requests_are_set_aside_up_to_a_bound(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, max_bytes=3500)
    told = [store.keep(make_alert(number), f"INC-{number}", record(number), NOW) for number in range(1, 5)]
    assert [one.endswith("with the request that completed it") for one in told] == [True, True, True, False]
    assert "3,500 bytes of requests are set aside already" in told[3]
    assert (tmp_path / "INC-4" / f"alert-{make_alert(4).alert_id}.json").exists(), "the alert itself is"
    again = SnapshotStore(tmp_path, max_bytes=3500)
    assert "already" in again.keep(make_alert(5), "INC-5", record(5), NOW), "also after a restart"
    assert disk(tmp_path) == 3000


def test_the_ledger_remembers_so_many_guards_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_book, "MAX_GUARDS", 10)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    ledger.saw_guard(GuardRow(tenant="acme", service="helpdesk", instance="other", last_seen=1))
    for number in range(25):
        ledger.saw_guard(GuardRow(tenant="", service="helpdesk", instance=f"i-{number}", last_seen=100 + number))
    assert [row.instance for row in ledger.guards()] == [*(f"i-{number}" for number in reversed(range(15, 25))), "other"]
    ledger.close()


def test_a_guard_that_talks_without_end_is_written_down_now_and_then() -> None:
    free, written = threading.Event(), list[int]()

    class Slow:
        def saw_guard(self, row: GuardRow) -> None:
            assert free.wait(20)
            written.append(row.last_seen)

    keeper = GuardKeeper(Slow())  # type: ignore[arg-type]

    async def talk() -> int:
        for number in range(1000):
            keeper.take(GuardInfo(tenant="", service="s", instance="i", pid=1, last_seen=number))
        return await asyncio.to_thread(threading.active_count)

    before = threading.active_count()

    async def all_of_it() -> None:
        assert await talk() <= before + 2
        free.set()
        end = time.monotonic() + 20
        while not written or written[-1] != 999:
            assert time.monotonic() < end
            await asyncio.sleep(0.005)

    asyncio.run(all_of_it())
    assert len(written) <= 2, "the first, and the last"
