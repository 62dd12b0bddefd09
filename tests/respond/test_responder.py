"""The responder with the real ledger and a real target: every outcome, every bound, every kind of interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contain.hook import reply

from otel_ir.errors import StorageError
from otel_ir.model import Alert
from otel_ir.model_lifecycle import ActionRequest, ActionState
from otel_ir.respond import About, TokenBucket, target

MakeAlert = Callable[..., Alert]
SECOND = 1_000_000_000


def test_an_alert_becomes_acknowledged_actions(world: Any, alert: MakeAlert) -> None:
    responder = world.responder(world.policy(verbs="[revoke_tools, isolate_network, pause_agent, rotate_credentials]"))
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    rows = world.ledger.actions()
    assert {row.verb: row.state.value for row in rows} == dict.fromkeys(
        ("revoke_tools", "isolate_network", "pause_agent", "rotate_credentials"), "unverified"
    )
    assert world.life() == ["requested", "dispatched", "applied", "unverified"]
    payloads = {call.headers["webhook-id"]: call.verified() for call in world.hook.calls}
    assert payloads.keys() == {row.action_id for row in rows}
    assert {p["data"]["target"]["otel_ir.agent.id"] for p in payloads.values()} == {"helpdesk/agent-1"}
    assert all("contained" not in row.detail for row in rows)
    assert sorted({state for _, state in world.steps}) == ["applied", "dispatched", "requested", "unverified"]


def test_the_same_alert_again_does_nothing(world: Any, alert: MakeAlert) -> None:
    for _ in range(2):  # a restart replays
        responder = world.responder(world.policy())
        responder.start()
        for _ in range(3):
            responder.handle(world.record(alert()))
        assert responder.drain(20)
        responder.close()
    assert len(world.hook.calls) == 1
    assert world.states() == ["unverified"]


@pytest.mark.parametrize(("mode", "enforce", "why"), [("dry-run", True, "response.yaml"), ("enforce", False, "--enforce")])
def test_dry_run_says_what_would_be_sent(world: Any, alert: MakeAlert, mode: str, *, enforce: bool, why: str) -> None:
    responder = world.responder(world.policy(mode=mode), enforce=enforce)
    assert not responder.enforcing
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert (row.state.value, row.mode, row.attempts) == ("dry_run", "dry-run", 0)
    detail = json.loads(row.detail)
    assert why in detail["why"]
    assert detail["would_send"]["webhook-id"] == row.action_id
    assert detail["would_send"]["body"]["data"]["action"]["verb"] == "pause_agent"
    assert "secret" not in row.detail
    assert not world.hook.calls


def test_an_unknown_sender_stays_dry_run(world: Any, alert: MakeAlert) -> None:
    responder = world.responder(world.policy())
    assert responder.enforcing
    responder.start()
    responder.handle(world.record(alert(sender="")))
    assert responder.drain(20)
    assert world.states() == ["dry_run"]


def test_medium_asks_for_what_nobody_can_do(world: Any, alert: MakeAlert) -> None:
    counted: list[tuple[str, dict[str, str]]] = []

    class Counter:
        def add(self, name: str, value: int = 1, **attributes: str) -> None:
            counted.append((name, attributes))

        record = add

    responder = world.responder(world.policy(), counter=Counter())
    responder.start()
    responder.handle(world.record(alert(severity="medium"), alert(2, severity="low")))
    assert responder.drain(20)
    assert world.states() == []
    assert counted == [("otel_ir.actions.unserved", {"verb": "read_only_tools"})]


def test_retries_keep_the_key_and_are_counted(world: Any, alert: MakeAlert) -> None:
    world.hook.script = [reply(503), reply(429, retry_after="0"), reply(500)]
    responder = world.responder(world.policy())
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert (row.state.value, row.attempts) == ("unverified", 4)
    assert {call.headers["webhook-id"] for call in world.hook.calls} == {row.action_id}
    assert all(call.verified() for call in world.hook.calls)
    assert world.life() == ["requested", *["dispatched"] * 4, "applied", "unverified"]


def test_retry_after_is_kept_up_to_the_longest_wait(world: Any, alert: MakeAlert) -> None:
    world.hook.script = [reply(503, retry_after="86400")]
    responder = world.responder(world.policy())
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    assert world.states() == ["unverified"]


def test_attempts_end(world: Any, alert: MakeAlert) -> None:
    world.hook.then = reply(503, b"down")
    responder = world.responder(world.policy(retry={"attempts": 3, "first": 0.01, "longest": 0.02}))
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert (row.state.value, row.attempts, len(world.hook.calls)) == ("failed", 3, 3)
    assert "no acknowledgment in 3 attempts" in row.detail
    assert "503: down" in row.detail


def test_a_refusal_of_the_target_is_final(world: Any, alert: MakeAlert) -> None:
    world.hook.then = reply(422, b"no such agent")
    responder = world.responder(world.policy())
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert (row.state.value, row.attempts) == ("failed", 1)
    assert "422: no such agent" in row.detail


def test_a_target_that_never_answers_costs_its_time_limit(world: Any, alert: MakeAlert) -> None:
    world.hook.then = world.hook.held(reply(204))
    responder = world.responder(world.policy(timeout=0.1, retry={"attempts": 2, "first": 0.01, "longest": 0.02}))
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert row.state.value == "failed"
    assert "no answer within 0.1 s" in row.detail


def test_a_slow_target_holds_up_neither_detection_nor_another_target(world: Any, alert: MakeAlert) -> None:
    slow, path = world.hook, world.policy(concurrency=1)
    slow.then = slow.held(reply(204))
    fast = type(slow)()
    path.write_text(path.read_text() + f"  fast: {json.dumps({'type': 'webhook', 'url': fast.url, 'secret_env': 'HOOK_SECRET'})}\n")
    responder = world.responder(path)
    responder.start()
    alerts = world.record(*(alert(n) for n in range(1, 11)))
    started = time.monotonic()
    responder.handle(alerts)
    assert time.monotonic() - started < 0.5
    assert responder.flush(20)
    fast.wait(10)
    assert len(slow.calls) == 1, "its own concurrency is one"
    slow.release.set()
    assert responder.drain(20)
    assert set(world.states()) == {"unverified"}
    fast.close()


def test_a_protected_agent_is_refused_and_recorded(world: Any, alert: MakeAlert) -> None:
    responder = world.responder(world.policy(safety="protected: ['helpdesk/*']"))
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert row.state.value == "failed"
    assert row.detail == "refused: helpdesk/agent-1 is protected by 'helpdesk/*'"
    assert not world.hook.calls


def test_a_flood_is_capped(world: Any, alert: MakeAlert) -> None:
    now = time.time_ns()
    responder = world.responder(world.policy(safety="actions_per_minute: 3, fleet_floor: 100"), clock=lambda: now)
    responder.start()
    responder.handle(world.record(*(alert(n) for n in range(1, 11))))
    assert responder.drain(20)
    assert world.states() == ["unverified"] * 3 + ["failed"] * 7
    assert "refused: more than 3 actions per minute" in world.ledger.actions()[0].detail
    assert len(world.hook.calls) == 3


def test_the_bucket_refills() -> None:
    now = [0]
    bucket = TokenBucket(2, lambda: now[0])
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 29 * SECOND
    assert not bucket.take()
    now[0] = 30 * SECOND
    assert bucket.take()
    now[0] = 20 * SECOND  # a clock set back gives nothing and breaks nothing
    assert not bucket.take()
    now[0] = 3600 * SECOND
    assert [bucket.take() for _ in range(3)] == [True, True, False]


class Adapter:
    """Does in ``apply`` whatever the test says."""

    about = About(
        name="bad", summary="", verbs=("pause_agent",), needs=(), permissions="", reversible=False, check="", example=""
    )  # fmt: skip
    verbs = ("pause_agent",)
    concurrency = 2
    time_limit = 0.2

    def __init__(self, retry: Any, act: Any) -> None:
        self.retry, self._act, self.closed = retry, act, 0

    def preview(self, request: ActionRequest, alert: Alert) -> dict[str, Any]:
        raise RuntimeError("a fault of the adapter")

    async def apply(self, request: ActionRequest, alert: Alert) -> Any:
        return self._act()

    def restore(self, held: Any) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1


def test_a_broken_adapter_is_a_failed_action_and_hurts_no_other(world: Any, alert: MakeAlert) -> None:
    path = world.policy()
    good = world.responder(path)._desk.adapters["soc"]

    def broken() -> Any:
        raise RuntimeError("token=hunter2")

    adapter = Adapter(good.retry, broken)
    responder = world.responder(path, adapters={"bad": adapter, "soc": good})
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    assert {row.adapter: row.state.value for row in world.ledger.actions()} == {"bad": "failed", "soc": "unverified"}
    assert all("hunter2" not in row.detail for row in world.ledger.actions())
    responder.close()
    assert adapter.closed == 1


def test_a_preview_that_fails_does_not_end_the_response(world: Any, alert: MakeAlert) -> None:
    path = world.policy(mode="dry-run")
    good = world.responder(path)._desk.adapters["soc"]
    responder = world.responder(path, adapters={"bad": Adapter(good.retry, None), "soc": good})
    responder.start()
    responder.handle(world.record(alert(), alert(2)))
    assert responder.drain(20)
    assert {(row.adapter, row.state.value) for row in world.ledger.actions()} == {("bad", "dry_run"), ("soc", "dry_run")}


def test_alerts_that_were_not_recorded_first_are_left_out(world: Any, alert: MakeAlert, caplog: pytest.LogCaptureFixture) -> None:
    responder = world.responder(world.policy())
    responder.start()
    responder.handle([alert(1), *world.record(alert(2))])
    assert responder.drain(20)
    assert world.states() == ["unverified"]
    assert "was not recorded in the ledger first" in caplog.text


class Flaky:
    """The real ledger behind a disk that is full now and then."""

    def __init__(self, ledger: Any, faults: dict[str, int]) -> None:
        self._ledger, self._faults, self._lock = ledger, faults, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ledger, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            key = f"{name}:{args[1].value}" if name == "transition" else name
            with self._lock:
                if self._faults.get(key, 0) > 0:
                    self._faults[key] -= 1
                    raise StorageError("disk full")
            return method(*args, **kwargs)

        return call


@pytest.mark.parametrize(
    "where", ["plan_alert", "alerts", "work", "in_force", "transition:dispatched", "transition:applied", "transition:unverified"]
)
def test_a_ledger_that_cannot_write_delays_and_loses_nothing(world: Any, alert: MakeAlert, where: str) -> None:
    faults: dict[str, int] = {}
    responder = world.responder(world.policy(), ledger=Flaky(world.ledger, faults))
    responder.start()
    faults[where] = 3
    responder.handle(world.record(alert(1), alert(2)))
    assert responder.drain(30)
    assert world.states() == ["unverified", "unverified"]
    assert len({call.headers["webhook-id"] for call in world.hook.calls}) == 2
    if where != "transition:applied":  # there the answer was lost, and asking again with the same key is all one can do
        assert len(world.hook.calls) == 2


def test_nothing_is_sent_before_the_ledger_knows(world: Any, alert: MakeAlert) -> None:
    responder = world.responder(world.policy(), ledger=Flaky(world.ledger, {"transition:dispatched": 10**9}))
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.flush(20)
    responder.close(timeout=0.3)
    assert world.states() == ["requested"]
    assert not world.hook.calls


# Interrupted


def interrupted(world: Any, alert: Alert, state: ActionState, *, age: float = 0.0, adapter: str = "soc", verb: str = "pause_agent") -> None:
    """An action as a kill leaves it."""
    world.record(alert)
    at = time.time_ns() - int(age * SECOND)
    incident = world.ledger.alerts(alert_id=alert.alert_id)[0].incident_id
    request = ActionRequest(
        incident_id=incident, alert_id=alert.alert_id, verb=verb, adapter=adapter, mode="enforce", requested_at=at, target=target(alert)
    )
    assert world.ledger.plan_alert(alert.alert_id, [request], at) == [request]
    if state is ActionState.DISPATCHED:
        world.ledger.transition(request.action_id, state, at, "attempt 1")


@pytest.mark.parametrize("state", [ActionState.REQUESTED, ActionState.DISPATCHED])
def test_what_was_interrupted_is_taken_up_with_the_same_key(world: Any, alert: MakeAlert, state: ActionState) -> None:
    interrupted(world, alert(), state)
    responder = world.responder(world.policy())
    responder.start()
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert row.state.value == "unverified"
    assert row.attempts == (2 if state is ActionState.DISPATCHED else 1)
    assert world.hook.calls[0].headers["webhook-id"] == row.action_id


@pytest.mark.parametrize("state", [ActionState.REQUESTED, ActionState.DISPATCHED])
@pytest.mark.parametrize(
    ("changes", "safety", "enforce", "why"),
    [
        ({"age": 7200}, "", True, "older than 3600 s"),
        ({"adapter": "gone"}, "", True, "no adapter 'gone'"),
        ({"verb": "read_only_tools"}, "", True, "no adapter 'soc' that can do read_only_tools"),
        ({}, "", False, "--enforce"),
    ],
)
def test_what_must_not_be_taken_up_is_closed_truthfully(
    world: Any, alert: MakeAlert, state: ActionState, *, changes: dict[str, Any], safety: str, enforce: bool, why: str
) -> None:
    interrupted(world, alert(), state, **changes)
    responder = world.responder(world.policy(safety=safety), enforce=enforce)
    responder.start()
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert row.state.value == "failed"
    assert why in row.detail
    assert ("what became of it is not known" in row.detail) == (state is ActionState.DISPATCHED)
    assert not world.hook.calls


def test_an_agent_protected_since_is_left_alone(world: Any, alert: MakeAlert) -> None:
    interrupted(world, alert(), ActionState.REQUESTED)
    responder = world.responder(world.policy(safety="protected: [helpdesk]"))
    responder.start()
    assert responder.drain(20)
    assert world.states() == ["failed"]
    assert not world.hook.calls


def test_close_cuts_off_and_the_next_life_goes_on(world: Any, alert: MakeAlert) -> None:
    world.hook.then = world.hook.held(reply(204))
    first = world.responder(world.policy())
    first.start()
    first.handle(world.record(alert()))
    world.hook.wait(1)
    first.close(timeout=0.05)
    first.close()
    assert world.states() == ["dispatched"]
    with pytest.raises(StorageError, match="closed"):
        first.handle([alert()])
    world.hook.then = reply(204)
    second = world.responder(world.policy())
    second.start()
    assert second.drain(20)
    assert world.states() == ["unverified"]
    assert len({call.headers["webhook-id"] for call in world.hook.calls}) == 1


CHILD = """
import sys, time
from pathlib import Path
from otel_ir.contain import build_adapters
from otel_ir.respond import Responder, load_policy
from otel_ir.store.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
config, document = load_policy(Path(sys.argv[2]))
responder = Responder(ledger, build_adapters(config, document), config, enforce=True)
responder.start()
responder.handle([row.alert for row in ledger.alerts()])
responder.drain(60)
"""


def test_kill_between_dispatch_and_answer(world: Any, alert: MakeAlert) -> None:
    world.record(alert())
    path = world.policy()
    world.hook.then = world.hook.held(reply(204))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, f"sqlite:///{world.folder}/ledger.db", str(path)], env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    world.hook.wait(1, timeout=60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert world.states() == ["dispatched"], "durable before it was sent"
    world.hook.then = reply(204)
    responder = world.responder(path)
    responder.start()
    responder.handle(world.record(alert()))
    assert responder.drain(20)
    (row,) = world.ledger.actions()
    assert (row.state.value, row.attempts) == ("unverified", 2)
    assert [call.headers["webhook-id"] for call in world.hook.calls] == [row.action_id] * 2


def test_more_than_memory_has_room_for_waits_in_the_ledger(world: Any, alert: MakeAlert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ir.respond.carrier.MAX_JOBS", 3)
    world.hook.then = world.hook.held(reply(204))
    responder = world.responder(world.policy(safety="actions_per_minute: 100, fleet_floor: 100", concurrency=2, timeout=60))
    responder.start()
    responder.handle(world.record(*(alert(n) for n in range(1, 13))))
    assert responder.flush(20)
    assert len(responder._carrier.under_way) <= 3
    world.hook.release.set()
    world.hook.wait(12)
    assert responder.drain(20)
    assert world.states() == ["unverified"] * 12
    assert len(world.hook.calls) == 12


def test_a_start_without_work_ends_at_once(world: Any, tmp_path: Path) -> None:
    responder = world.responder(world.policy())
    responder.close()  # never started
    responder.start()
    assert responder.drain(20)
    responder.close()
    responder.close()
