"""What a ledger must do, on any database. ``test_ledger_sqlite`` and ``tests/real/test_ledger_postgres`` run it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from otel_ir.errors import StorageError
from otel_ir.model import Alert, AlertUpdate, SpanRef
from otel_ir.model_lifecycle import TRANSITIONS, ActionRequest, ActionState, action_id
from otel_ir.store import database, schema
from otel_ir.store.ledger import Ledger
from otel_ir.store.rows import MAX_NAME, MAX_TEXT, bounded

NOW = 1_767_225_600_000_000_001


def make_alert(number: int = 1, **changes: Any) -> Alert:
    """An alert with every field set."""
    values: dict[str, Any] = {
        "alert_id": f"alert-{number}",
        "rule_id": "rule-1",
        "signal": "data_exfiltration",
        "ruleset": "f" * 64,
        "severity": "critical",
        "stage": "compromise",
        "title": "Large outbound body",
        "description": "send_email mit 20.000 Zeichen über «SMTP»",
        "tags": ("atlas.aml.t0086", "owasp.asi01"),
        "tenant": "acme",
        "sender": "collector",
        "service": "helpdesk",
        "agent_id": "helpdesk/triage",
        "agent_id_source": "sibling",
        "agent_name": "triage",
        "conversation_id": "c-1",
        "user_id": "u-1",
        "tool_name": "send_email",
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "event_time": NOW + number,
        "received": NOW + number + 5,
        "ordinal": 100 + number,
        "contributing": (SpanRef("0" * 32, "1" * 16), SpanRef("2" * 32, "3" * 16)),
        "group": (("otel_ir.agent.id", "helpdesk/triage"), ("user.id", "u-1")),
        "response": "contain",
    }
    return Alert(**(values | changes))


def make_action(alert: Alert, verb: str = "pause_agent", **changes: Any) -> ActionRequest:
    values: dict[str, Any] = {
        "incident_id": f"INC-{alert.alert_id}",
        "alert_id": alert.alert_id,
        "verb": verb,
        "adapter": "webhook",
        "mode": "enforce",
        "requested_at": NOW,
        "target": {"otel_ir.agent.id": "helpdesk/triage", "service.instance.id": "pod-7"},
    }
    return ActionRequest(**(values | changes))


def contents(ledger: Ledger) -> tuple[Any, ...]:
    """Everything in the ledger, comparable."""
    alerts, actions = ledger.alerts(limit=1000), ledger.actions(limit=1000)
    return (
        alerts,
        [ledger.addressees(row.alert.alert_id) for row in alerts],
        actions,
        [ledger.history(row.action_id) for row in actions],
    )


class Crash(Exception):
    """The process died here."""


class CrashAt:
    """Raises at the ``number``-th statement which the ledger sends, begins and commits included."""

    def __init__(self, ledger: Ledger, number: int) -> None:
        self._engine, self._left = ledger._database._engine, number
        self.happened = False

    def __enter__(self) -> CrashAt:
        for name in ("before_cursor_execute", "commit"):
            sqlalchemy.event.listen(self._engine, name, self._count)
        return self

    def __exit__(self, *error: object) -> None:
        for name in ("before_cursor_execute", "commit"):
            sqlalchemy.event.remove(self._engine, name, self._count)

    def _count(self, *_: object) -> None:
        if self._left == 0:
            self.happened = True
            raise Crash
        self._left -= 1


class LedgerCases:
    """Subclasses give the fixture ``url``."""

    @pytest.fixture
    def ledger(self, url: str) -> Iterator[Ledger]:
        ledger = Ledger.open(url)
        yield ledger
        ledger.close()

    # Alerts

    def test_every_field_of_an_alert_comes_back(self, ledger: Ledger) -> None:
        bare = {field.name for field in fields(Alert)} - {"alert_id"}
        alert = make_alert()
        assert all(getattr(alert, name) for name in bare), "make_alert sets every field, so that none can be forgotten here"
        least = Alert(alert_id="least", rule_id="r", signal="s", ruleset="", severity="low", stage="anomaly", title="", description="")
        ledger.record_alerts([alert, least], at=NOW)
        rows = {row.alert.alert_id: row for row in ledger.alerts()}
        assert rows["alert-1"].alert == alert
        assert rows["least"].alert == least
        assert (rows["least"].count, rows["least"].created_at, rows["least"].exported_at, rows["least"].planned_at) == (1, NOW, None, None)

    def test_only_new_alerts_are_given_back_in_order(self, ledger: Ledger) -> None:
        assert ledger.record_alerts([], at=NOW) == []
        first = [make_alert(n) for n in (3, 1, 2)]
        assert ledger.record_alerts([*first, first[0]], at=NOW) == first
        changed = replace(first[0], title="another")
        assert ledger.record_alerts([changed, make_alert(5), first[1], make_alert(4)], at=NOW + 1) == [make_alert(5), make_alert(4)]
        assert [alert.alert_id for alert in ledger.unexported(10)] == ["alert-3", "alert-1", "alert-2", "alert-5", "alert-4"]
        assert ledger.alerts(alert_id="alert-3")[0].alert == first[0]

    def test_many_alerts_at_once(self, ledger: Ledger) -> None:
        alerts = [make_alert(n) for n in range(2500)]
        assert ledger.record_alerts(alerts, at=NOW) == alerts
        assert ledger.record_alerts(alerts, at=NOW) == []
        ids = [alert.alert_id for alert in alerts]
        ledger.apply_updates([AlertUpdate(alert_id=alert_id, ordinal=9999, count=2) for alert_id in ids])
        assert set(ledger.counts(ids).values()) == {2}
        ledger.mark_exported(ids)
        assert ledger.unexported(1) == []

    @pytest.mark.parametrize(
        "hostile",
        ["\0", "a\0b", "\ud800", "'; DROP TABLE alerts; --", "%s {} :name", "é" * 100, "\u202e", "x" * 1_000_000, "😀" * 300_000],
        ids=lambda text: f"{text[:6]!a}-{len(text)}",
    )
    def test_hostile_text_is_kept_bounded(self, ledger: Ledger, hostile: str) -> None:
        names = ("title", "description", "agent_id", "agent_name", "conversation_id", "user_id", "tool_name", "tenant", "service")
        alert = make_alert(**dict.fromkeys(names, hostile), tags=(hostile,) * 1000, group=((hostile, hostile),))
        assert ledger.record_alerts([alert], at=NOW) == [alert]
        assert ledger.record_alerts([alert], at=NOW) == []
        ledger.apply_updates([AlertUpdate(alert_id=alert.alert_id, ordinal=200, agent_id=hostile, agent_name=hostile)])
        action = make_action(alert, target={hostile: hostile})
        assert ledger.request_action(action)
        ledger.transition(action.action_id, "failed", NOW, hostile)
        (row,) = ledger.alerts(agent_id=hostile, tenant=hostile)
        assert row.alert.agent_id == bounded(hostile)
        assert len(row.alert.agent_id) <= MAX_NAME
        assert len(row.alert.description) <= MAX_TEXT
        assert len(row.alert.tags) <= 128
        assert len(ledger.actions()[0].detail) <= MAX_TEXT
        if len(hostile) < 200 and hostile.isprintable():
            assert row.alert.description == hostile

    def test_long_names_stay_different(self, ledger: Ledger) -> None:
        ledger.record_alerts([make_alert(n, agent_id="a" * 10_000 + str(n)) for n in range(3)], at=NOW)
        assert len({row.alert.agent_id for row in ledger.alerts()}) == 3
        assert [row.alert.alert_id for row in ledger.alerts(agent_id="a" * 10_000 + "1")] == ["alert-1"]

    def test_filters(self, ledger: Ledger) -> None:
        ledger.record_alerts(
            [
                make_alert(1, severity="low", event_time=10),
                make_alert(2, agent_id="other", event_time=20),
                make_alert(3, rule_id="rule-2", tenant="globex", event_time=30),
            ],
            at=NOW,
        )

        def found(**filters: Any) -> list[str]:
            return [row.alert.alert_id[-1] for row in ledger.alerts(**filters)]

        assert found() == ["3", "2", "1"]
        assert found(limit=1) == ["3"]
        assert found(limit=-5) == []
        assert found(severities=["critical", "low"], until=30) == ["2", "1"]
        assert found(since=20, until=30) == ["2"]
        assert found(agent_id="other") == ["2"]
        assert found(rule_id="rule-2", tenant="globex") == ["3"]
        assert found(rule_id="rule-2", tenant="acme") == []
        assert found(incident_id="none") == []

    # Updates

    def test_counts_only_grow(self, ledger: Ledger) -> None:
        ledger.record_alerts([make_alert()], at=NOW)
        for count, expected in ((5, 5), (3, 5), (None, 5), (9, 9), (9, 9)):
            ledger.apply_updates([AlertUpdate(alert_id="alert-1", ordinal=200, count=count)])
            assert ledger.counts(["alert-1", "unknown"]) == {"alert-1": expected}

    def test_a_better_identity_readdresses_and_keeps_the_record(self, ledger: Ledger) -> None:
        ledger.record_alerts([make_alert()], at=NOW)
        changes = [
            AlertUpdate(alert_id="alert-1", ordinal=150, agent_id="helpdesk/a1", agent_id_source="ancestor"),
            AlertUpdate(alert_id="alert-1", ordinal=150, user_id="u-2"),
            AlertUpdate(alert_id="alert-1", ordinal=160, conversation_id="c-2", count=4),
        ]
        for batch in (changes, changes[:1], changes[1:], changes):
            ledger.apply_updates(batch)
            (row,) = ledger.alerts(agent_id="helpdesk/a1")
            assert (row.alert.agent_id_source, row.alert.conversation_id, row.alert.user_id) == ("ancestor", "c-2", "u-2")
            assert row.alert.agent_name == "triage"
            assert row.count == 4
            assert [(a["ordinal"], a["agent_id"], a["user_id"], a["conversation_id"]) for a in ledger.addressees("alert-1")] == [
                (101, "helpdesk/triage", "u-1", "c-1"),
                (150, "helpdesk/a1", "u-2", "c-1"),
                (160, "helpdesk/a1", "u-2", "c-2"),
            ]
        assert ledger.alerts(agent_id="helpdesk/triage") == []

    def test_an_update_of_an_unknown_alert_is_dropped(self, ledger: Ledger) -> None:
        ledger.apply_updates([AlertUpdate(alert_id="nobody", ordinal=1, count=3, agent_id="x")])
        ledger.apply_updates([])
        assert ledger.alerts() == []

    # Export

    def test_what_was_exported_is_not_given_again(self, ledger: Ledger) -> None:
        ledger.record_alerts([make_alert(n) for n in range(5)], at=NOW)
        assert [alert.alert_id for alert in ledger.unexported(2)] == ["alert-0", "alert-1"]
        ledger.mark_exported(["alert-0", "alert-3", "unknown"], at=7)
        ledger.mark_exported(["alert-0"], at=8)
        ledger.mark_exported([])
        assert [alert.alert_id for alert in ledger.unexported(10)] == ["alert-1", "alert-2", "alert-4"]
        assert ledger.alerts(alert_id="alert-0")[0].exported_at == 7
        ledger.mark_exported(["alert-1"])
        assert (ledger.alerts(alert_id="alert-1")[0].exported_at or 0) > NOW

    # Actions

    def test_an_action_is_requested_once(self, url: str, ledger: Ledger) -> None:
        alert = make_alert()
        ledger.record_alerts([alert], at=NOW)
        action = make_action(alert)
        assert action.action_id == action_id(action.incident_id, "pause_agent", "webhook")
        assert ledger.request_action(action)
        assert not ledger.request_action(action)
        assert not ledger.request_action(replace(action, mode="dry-run", requested_at=NOW + 5))
        assert ledger.request_action(make_action(alert, "isolate_network"))
        other = Ledger.open(url)
        assert not other.request_action(action)
        other.close()
        (row,) = ledger.actions(verb="pause_agent")
        assert row.target == action.target
        assert (row.state, row.attempts, row.mode, row.requested_at, row.dispatched_at, row.finished_at, row.detail) == (
            ActionState.REQUESTED, 0, "enforce", NOW, None, None, "",
        )  # fmt: skip

    def test_an_action_needs_its_alert(self, ledger: Ledger) -> None:
        with pytest.raises(StorageError):
            ledger.request_action(make_action(make_alert()))
        assert ledger.actions() == []

    def test_an_action_tells_its_whole_life(self, ledger: Ledger) -> None:
        alert = make_alert()
        ledger.record_alerts([alert], at=NOW)
        action = make_action(alert)
        ledger.request_action(action)
        steps = [
            ("dispatched", "first"),
            ("dispatched", "503"),
            ("applied", "200"),
            ("verified", "read back"),
            ("violated", ""),
            ("releasing", "by ops"),
            ("released", "undone"),
        ]
        for at, (state, detail) in enumerate(steps, NOW + 1):
            ledger.transition(action.action_id, state, at, detail)
        (row,) = ledger.actions(alert_id="alert-1", adapter="webhook", states=["released"])
        assert (row.attempts, row.dispatched_at, row.finished_at, row.detail) == (2, NOW + 1, NOW + 3, "undone")
        told = [(step.at - NOW, step.from_state, step.to_state, step.detail) for step in ledger.history(action.action_id)]
        assert told == [
            (0, None, "requested", ""),
            (1, "requested", "dispatched", "first"),
            (2, "dispatched", "dispatched", "503"),
            (3, "dispatched", "applied", "200"),
            (4, "applied", "verified", "read back"),
            (5, "verified", "violated", ""),
            (6, "violated", "releasing", "by ops"),
            (7, "releasing", "released", "undone"),
        ]

    def test_only_legal_steps(self, ledger: Ledger) -> None:
        paths = _shortest_paths()
        alert = make_alert()
        ledger.record_alerts([alert], at=NOW)
        for state, following in itertools.product(ActionState, ActionState):
            action = make_action(alert, f"{state} to {following}")
            ledger.request_action(action)
            for step in paths[state]:
                ledger.transition(action.action_id, step, NOW)
            before = ledger.actions(action_id=action.action_id), ledger.history(action.action_id)
            if following in TRANSITIONS[state]:
                ledger.transition(action.action_id, following, NOW)
                assert ledger.actions(action_id=action.action_id)[0].state == following
            else:
                with pytest.raises(StorageError, match="not a legal step"):
                    ledger.transition(action.action_id, following, NOW)
                assert before == (ledger.actions(action_id=action.action_id), ledger.history(action.action_id))

    def test_a_dry_run_is_never_dispatched(self, ledger: Ledger) -> None:
        alert = make_alert()
        ledger.record_alerts([alert], at=NOW)
        action = make_action(alert, mode="dry-run")
        ledger.request_action(action)
        with pytest.raises(StorageError, match="dry-run"):
            ledger.transition(action.action_id, ActionState.DISPATCHED, NOW)
        ledger.transition(action.action_id, ActionState.DRY_RUN, NOW)
        assert ledger.actions()[0].state is ActionState.DRY_RUN

    def test_words_that_are_no_states_and_unknown_actions(self, ledger: Ledger) -> None:
        alert = make_alert()
        ledger.record_alerts([alert], at=NOW)
        ledger.request_action(make_action(alert))
        with pytest.raises(StorageError, match="contained"):
            ledger.transition(make_action(alert).action_id, "contained", NOW)
        with pytest.raises(StorageError, match="not in the ledger"):
            ledger.transition("nobody", "dispatched", NOW)

    def test_unfinished_actions(self, ledger: Ledger) -> None:
        alert = make_alert()
        ledger.record_alerts([alert], at=NOW)
        actions = {state: make_action(alert, state) for state in ActionState}
        for state, path in _shortest_paths().items():
            ledger.request_action(actions[state])
            for step in path:
                ledger.transition(actions[state].action_id, step, NOW)
        assert [row.verb for row in ledger.unfinished_actions()] == ["requested", "dispatched"]

    # Crashes and company

    def test_a_crash_at_any_statement_changes_nothing(self, ledger: Ledger) -> None:
        alert = make_alert(0)
        ledger.record_alerts([alert], at=NOW)
        ledger.request_action(make_action(alert))
        updates = [AlertUpdate(alert_id="alert-0", ordinal=500, count=7, agent_id="better", agent_id_source="own")]
        steps: list[Callable[[], object]] = [
            lambda: ledger.record_alerts([make_alert(1), make_alert(2)], at=NOW),
            lambda: ledger.apply_updates(updates),
            lambda: ledger.mark_exported(["alert-0", "alert-1"], at=NOW),
            lambda: ledger.request_action(make_action(alert, "isolate_network")),
            lambda: ledger.transition(make_action(alert).action_id, "dispatched", NOW),
        ]
        for step in steps:
            before = contents(ledger)
            for number in range(50):
                with CrashAt(ledger, number) as crash, pytest.raises(Crash) if number < 2 else _either():
                    step()
                if not crash.happened:
                    break
                assert contents(ledger) == before
            assert crash.happened is False
            assert contents(ledger) != before

    def test_two_handles_and_many_threads_latch_once(self, url: str, ledger: Ledger) -> None:
        other = Ledger.open(url)
        alert = make_alert()
        start = threading.Barrier(8)

        def work(handle: Ledger) -> tuple[list[str], list[str], int]:
            start.wait()
            recorded = [new.alert_id for n in range(20) for new in handle.record_alerts([make_alert(n % 10)], at=NOW)]
            latched = [verb for n in range(20) if handle.request_action(make_action(alert, verb := str(n % 10)))]
            won = 0
            for n in range(10):
                try:
                    handle.transition(action_id("INC-alert-1", str(n), "webhook"), "failed", NOW)
                    won += 1
                except StorageError:
                    continue
            return recorded, latched, won

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, [ledger, other] * 4))
        other.close()
        assert sorted(name for recorded, _, _ in results for name in recorded) == [f"alert-{n}" for n in range(10)]
        assert sorted(verb for _, latched, _ in results for verb in latched) == [str(n) for n in range(10)]
        assert sum(won for _, _, won in results) == 10
        assert all(len(ledger.history(row.action_id)) == 2 for row in ledger.actions())

    # What is to be told outside

    def test_a_change_is_given_until_it_was_sent(self, ledger: Ledger) -> None:
        ledger.record_alerts([make_alert()], at=NOW)
        incident = str(ledger.alerts()[0].incident_id)
        (request,) = ledger.request_actions([make_action(make_alert(), incident_id=incident)], NOW)
        for number, state in enumerate(("dispatched", "applied", "verified", "violated")):
            ledger.transition(request.action_id, state, NOW + number, f"because {number}")
        ledger.amend(request.action_id, NOW + 9, "target widened", target={"otel_ir.agent.id": "helpdesk/other"})
        verified, violated = ledger.unsent_actions(10)
        assert [step.state.value for step in violated.steps] == ["requested", "dispatched", "applied", "verified", "violated"]
        assert (verified.steps[-1].detail, verified.steps[-1].at, verified.alert) == ("because 2", NOW + 2, make_alert())
        assert verified.request.target == {"otel_ir.agent.id": "helpdesk/other"}, "as it is known now"
        assert ledger.unsent_actions(1) == [verified]
        ledger.mark_actions_sent([verified.number])
        assert ledger.unsent_actions(10) == [violated]
        changes = ledger.unsent_incidents(10)
        assert [(one.state.value, one.at) for one in changes] == [("open", NOW), ("contained", NOW + 2), ("open", NOW + 3)]
        ledger.mark_incidents_sent([one.number for one in changes[:2]])
        assert ledger.unsent_incidents(10) == changes[2:]

    def test_what_waits_is_found_by_an_index(self, ledger: Ledger) -> None:
        explain = "EXPLAIN QUERY PLAN" if ledger._database.url.get_backend_name() == "sqlite" else "EXPLAIN"
        unsent = "unsent = 1" if ledger._database.url.get_backend_name() == "sqlite" else "unsent"
        for table in ("action_history", "incident_log"):
            with ledger._database.write() as connection:
                if explain == "EXPLAIN":
                    connection.execute(sqlalchemy.text("SET LOCAL enable_seqscan = off"))
                query = f"{explain} SELECT * FROM {table} WHERE {table}.{unsent} ORDER BY id LIMIT 9"
                assert f"ix_{table}_unsent" in str(connection.execute(sqlalchemy.text(query)).all())

    # Schema

    def test_the_migrated_schema_is_the_declared_one(self, url: str, ledger: Ledger) -> None:
        with ledger._database.read() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
            assert compare_metadata(context, schema.metadata) == []
            assert context.get_current_revision() == schema.SCHEMA_VERSION == _scripts().get_current_head()

    def test_from_every_older_version(self, url: str) -> None:
        for script in reversed(list(_scripts().walk_revisions())):
            migrate(url, script.revision)
            ledger = Ledger.open(url)
            ledger.record_alerts([make_alert()], at=NOW)
            assert ledger.alerts()[0].alert == make_alert()
            ledger.close()

    def test_a_newer_schema_is_refused(self, url: str, ledger: Ledger) -> None:
        with ledger._database.write() as connection:
            connection.execute(sqlalchemy.text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
        with pytest.raises(StorageError, match=r"schema 9999.*upgrade otel_ir"):
            Ledger.open(url)

    def test_many_may_open_an_empty_database_at_once(self, url: str) -> None:
        start = threading.Barrier(6)

        def work(number: int) -> int:
            start.wait()
            ledger = Ledger.open(url)
            recorded = len(ledger.record_alerts([make_alert(number)], at=NOW))
            ledger.close()
            return recorded

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(work, range(6))) == 6

    def test_a_crash_during_a_migration_leaves_the_old_schema(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = database._engine
        for number in range(200):
            left = [number]

            def count(*_: object, left: list[int] = left) -> None:
                if not left[0]:
                    raise Crash
                left[0] -= 1

            def engine(parsed: Any, count: Callable[..., None] = count) -> Any:
                made = real(parsed)
                sqlalchemy.event.listen(made, "before_cursor_execute", count)
                sqlalchemy.event.listen(made, "commit", count)
                return made

            monkeypatch.setattr(database, "_engine", engine)
            crashed = False
            try:
                Ledger.open(url).close()
            except Crash:
                crashed = True
            monkeypatch.undo()
            if crashed:
                probe = sqlalchemy.create_engine(url)
                assert sqlalchemy.inspect(probe).get_table_names() == []
                probe.dispose()
            else:
                break
        assert 10 < number < 199
        ledger = Ledger.open(url)
        assert ledger.alerts() == []
        ledger.close()


class _either:  # noqa: N801 (reads like contextlib's)
    """Swallows a crash, and nothing else."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is Crash


def _shortest_paths() -> dict[ActionState, tuple[ActionState, ...]]:
    """From ``requested`` to every state."""
    paths: dict[ActionState, tuple[ActionState, ...]] = {ActionState.REQUESTED: ()}
    queue = [ActionState.REQUESTED]
    for state in queue:
        for following in TRANSITIONS[state]:
            if following not in paths:
                paths[following] = (*paths[state], following)
                queue.append(following)
    assert set(paths) == set(ActionState), "every state can be reached"
    return paths


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def migrate(url: str, revision: str) -> None:
    """Bring a database from nothing to an older version."""
    engine = sqlalchemy.create_engine(url)
    config = _config()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
        for table in reversed(sqlalchemy.inspect(connection).get_table_names()):
            cascade = " CASCADE" if connection.dialect.name == "postgresql" else ""
            connection.execute(sqlalchemy.text(f"DROP TABLE {table}{cascade}"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
