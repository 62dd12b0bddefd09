"""The ledger on SQLite: everything a ledger must do, and what is SQLite's own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event
from store.ledger_cases import NOW, LedgerCases, make_action, make_alert

from otel_ir.errors import ConfigError, StorageError
from otel_ir.model_lifecycle import ActionState
from otel_ir.store.ledger import Ledger


class TestSqlite(LedgerCases):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/ledger.db"


def test_writes_are_durable_and_readers_do_not_wait(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    with ledger._database.read() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
        # synchronous=FULL is 2: a commit survives a power cut also in WAL mode (sqlite.org/pragma.html)
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert ledger.record_alerts([make_alert()], at=NOW), "a reader does not keep a writer waiting"
    with ledger._database.write():
        assert len(ledger.alerts()) == 1, "nor a writer a reader"
    ledger.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "postgresql+nodriver://localhost/x"]
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError):
        Ledger.open(url)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(StorageError) as caught:
        Ledger.open("postgresql://me:s3cret@127.0.0.1:1/ledger?connect_timeout=1")
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, it only has its name" * 200)
    with pytest.raises(StorageError, match="not a database"):
        Ledger.open(f"sqlite:///{path}")


def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    with ledger._database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    alerts = [make_alert(n, description="x" * 10_000) for n in range(50)]
    with pytest.raises(StorageError, match="full"):
        ledger.record_alerts(alerts, at=NOW)
    assert ledger.alerts() == []
    with ledger._database.read() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert ledger.record_alerts(alerts, at=NOW) == alerts
    ledger.close()


WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from store.ledger_cases import NOW, make_action, make_alert
from otel_ir.store.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
for number in range(int(sys.argv[3]), 1_000_000):
    alert = make_alert(number)
    ledger.record_alerts([alert], at=NOW)
    print("recorded", number, flush=True)
    action = make_action(alert)
    ledger.request_action(action)
    print("requested", number, flush=True)
    for state in ("dispatched", "applied", "unverified"):
        ledger.transition(action.action_id, state, NOW)
        print(state, number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Killed at an arbitrary statement, several times over one file."""
    url, acknowledged = f"sqlite:///{tmp_path}/ledger.db", []
    for run in range(2):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(Path(__file__).parents[1]), str(run * 1000)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        # The kill falls somewhere after the (17 + 11 * run)-th answer, while the worker goes on.
        acknowledged += [worker.stdout.readline().split() for _ in range(17 + 11 * run)]
        os.kill(worker.pid, signal.SIGKILL)
        acknowledged += [line.split() for line in worker.stdout.read().splitlines()]
        worker.stdout.close()
        worker.wait()
    ledger = Ledger.open(url)
    seen = {row.alert.alert_id for row in ledger.alerts(limit=10_000)}
    for what, number in acknowledged:
        assert f"alert-{number}" in seen
        if what != "recorded":
            steps = [step.to_state for step in ledger.history(make_action(make_alert(int(number))).action_id)]
            assert what in steps
    for row in ledger.actions(limit=10_000):
        steps = ledger.history(row.action_id)
        assert steps[-1].to_state == row.state, "state and history are one transaction"
        assert [step.from_state for step in steps] == [None, *(step.to_state for step in steps[:-1])]
    unfinished = {row.action_id for row in ledger.unfinished_actions()}
    assert unfinished == {row.action_id for row in ledger.actions(states=[ActionState.REQUESTED, ActionState.DISPATCHED])}
    assert len(unfinished) <= 2, "at most one a kill"
    ledger.close()
    plain = sqlite3.connect(tmp_path / "ledger.db")
    assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


def test_the_folder_is_made(tmp_path: Path) -> None:
    Ledger.open(f"sqlite:///{tmp_path}/a/b/ledger.db").close()
    assert (tmp_path / "a/b/ledger.db").exists()


def test_what_an_adapter_learnt_is_kept_whole(tmp_path: Path) -> None:
    """A part of it would be no JSON any more: what was stopped could not be let go of, and no start would take it over."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    alert = make_alert()
    ledger.record_alerts([alert], at=NOW)
    request = make_action(alert)
    assert ledger.request_action(request)
    facts = {"processes": "[" + "1," * 50_000 + "1]"}
    ledger.transition(request.action_id, ActionState.DISPATCHED, NOW)
    ledger.transition(request.action_id, ActionState.APPLIED, NOW, facts=facts)
    assert ledger.actions()[0].facts == facts
    ledger.amend(request.action_id, NOW, "", facts=facts | {"more": "1"})
    assert ledger.actions()[0].request.facts == facts | {"more": "1"}
    ledger.close()


def test_what_is_looked_for_all_the_time_goes_through_no_table(tmp_path: Path) -> None:
    """The keeper looks four times a second, and each frame with alerts looks for their incidents: in ledgers that are years old."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    asked: list[tuple[str, tuple[object, ...]]] = []
    event.listen(
        ledger._database._engine,
        "before_cursor_execute",
        lambda _c, _u, text, values, _x, many: asked.append((text, values[0] if many else values)),
    )
    ledger.record_alerts([make_alert()], at=NOW)
    for look in (ledger.unplanned, ledger.work, ledger.in_force, ledger.waiting_orders, lambda: ledger.unexported(1)):
        look()
    with ledger._database.read() as connection:
        plans = [
            (text, row[3])
            for text, values in asked
            if text.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
        ]
    slow = [(plan, text) for text, plan in plans if (plan.startswith("SCAN") and "INDEX" not in plan) or ("incidents_state" in plan)]
    assert plans
    assert not slow
    ledger.close()
