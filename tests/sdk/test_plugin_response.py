"""What the guard is told, when, and for how long; and what an alert says about it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.trace import StatusCode
from sdk.conftest import Agents, FakeGuard, alerts_on

from otel_ir.errors import Refused
from otel_ir.export import ATTRIBUTES
from otel_ir.export.records import COUNT
from otel_ir.guard import Guard, Restriction, install
from otel_ir.model import Alert, AlertUpdate
from otel_ir.respond import load_policy
from otel_ir.sdk import RESPONSE_ATTRIBUTES, answer
from otel_ir.sdk.answer import Answers

SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND


def _told(made: Agents, run: Any) -> dict[str, Any]:
    (event,) = alerts_on(run)
    assert {*(event.attributes or {})} <= {*ATTRIBUTES, *RESPONSE_ATTRIBUTES, COUNT}
    return {
        key: value
        for key, value in (event.attributes or {}).items()
        if key.startswith(("otel_ir.response", "otel_ir.action", "otel_ir.inc"))
    }


def test_dry_run_says_what_would_have_been_done(agents: Callable[..., Agents]) -> None:
    made = agents()
    with made.run() as run:
        made.exfiltrate(run)
        told = _told(made, run)
    assert made.guard.said == []
    assert told == {
        "otel_ir.response.mode": "dry-run",
        "otel_ir.response.detail": "enforce=True was not given",
        "otel_ir.response.verbs": ("revoke_tools", "pause_agent"),
        "otel_ir.response.unserved": ("isolate_network", "rotate_credentials"),
    }


def test_without_a_guard_nothing_can_be_enforced(agents: Callable[..., Agents], caplog: pytest.LogCaptureFixture) -> None:
    made = agents(guard=None, enforce=True)
    assert "no guard was given" in caplog.text
    with made.run() as run:
        made.exfiltrate(run)
        assert _told(made, run)["otel_ir.response.detail"] == "no guard was given"


def test_enforcing_restricts_before_on_end_is_back_and_widens_later(agents: Callable[..., Agents]) -> None:
    made = agents(enforce=True)
    with made.run("hijacked", conversation="c1") as run:
        call = made.exfiltrate(run)
        trace = {"trace_id": f"{call.get_span_context().trace_id:032x}"}
        assert {one.verb: list(one.selectors) for one in made.guard.held.values()} == {"revoke_tools": [trace], "pause_agent": [trace]}
        told = _told(made, run)
        assert told["otel_ir.response.mode"] == "enforce"
        assert set(told["otel_ir.action.ids"]) == set(made.guard.held)
        (incident,) = {one.incident for one in made.guard.held.values()}
        assert told["otel_ir.incident.id"] == incident
    # The run's span has ended: now it is known whom the alert is about.
    wide = [{"otel_ir.agent.id": "desk/hijacked"}, {"gen_ai.conversation.id": "c1"}, trace]
    assert {one.verb: list(one.selectors) for one in made.guard.held.values()} == {"revoke_tools": wide, "pause_agent": wide}
    assert len(made.guard.held) == 2


def test_a_second_alert_about_the_same_agent_holds_it_longer_and_not_twice(agents: Callable[..., Agents]) -> None:
    made = agents(enforce=True)
    with made.run("a", conversation="c1") as run:
        made.exfiltrate(run)
    first = {one.id: one.expires for one in made.guard.held.values()}
    with made.run("a", conversation="c1") as run:
        made.exfiltrate(run, **{"gen_ai.agent.name": "a"})
    assert first.keys() == made.guard.held.keys()
    assert all(made.guard.held[key].expires > expires for key, expires in first.items())


def test_another_agent_is_not_touched(agents: Callable[..., Agents]) -> None:
    made = agents(enforce=True)
    with made.run("benign") as other:
        made.call("lookup", other)
        with made.run("hijacked") as run:
            made.exfiltrate(run)
    said = {tuple(one.items()) for _, restriction in made.guard.said for one in restriction.selectors}
    assert not any("benign" in value or f"{other.get_span_context().trace_id:032x}" == value for ((_, value),) in said)


def test_a_medium_alert_leaves_the_read_only_tools(agents: Callable[..., Agents]) -> None:
    made = agents(enforce=True)
    with made.run("a") as run:
        for _ in range(21):
            failing = made.start(
                "execute_tool lookup",
                run,
                **{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.agent.name": "a"},
            )
            failing.record_exception(ValueError("no"))
            failing.set_status(StatusCode.ERROR)
            failing.end()
    (held,) = made.guard.held.values()
    assert held.verb == "read_only_tools"
    assert "get_*" in held.read_only


def test_the_policy_given_decides_and_its_mode_counts(agents: Callable[..., Agents], tmp_path: Path) -> None:
    path = tmp_path / "response.yaml"
    path.write_text("playbooks: {contain: [pause_agent], restrict: [read_only_tools]}\n")
    made = agents(enforce=True, response=path)
    with made.run() as run:
        made.exfiltrate(run)
        assert _told(made, run)["otel_ir.response.detail"] == "mode in response.yaml is dry-run"
    path.write_text("mode: enforce\nplaybooks: {contain: [pause_agent], restrict: [read_only_tools]}\nttl: 7\n")
    made = agents(enforce=True, response=path)
    with made.run() as run:
        made.exfiltrate(run)
    assert {one.verb for one in made.guard.held.values()} == {"pause_agent"}
    assert {round((one.expires - one.since) / SECOND) for one in made.guard.held.values()} == {7}


def test_what_is_protected_is_never_restricted(agents: Callable[..., Agents], tmp_path: Path) -> None:
    path = tmp_path / "response.yaml"
    path.write_text("mode: enforce\nsafety: {protected: [desk/precious]}\n")
    made = agents(enforce=True, response=path)
    with made.run("precious") as run:
        made.exfiltrate(run, **{"gen_ai.agent.name": "precious"})
        assert "protected" in _told(made, run)["otel_ir.response.detail"]
    with made.run("other") as run:
        made.exfiltrate(run)  # nobody yet: it could be the precious one
        assert "not known yet" in _told(made, run)["otel_ir.response.detail"]
    assert made.guard.said == []


def test_it_lets_go_when_the_time_has_come(agents: Callable[..., Agents]) -> None:
    made = agents(enforce=True, ttl=0.2)
    with made.run() as run:
        made.exfiltrate(run)
    deadline = time.monotonic() + 30
    while made.guard.held and time.monotonic() < deadline:
        time.sleep(0.02)
    assert made.guard.held == {}
    assert {kind for kind, _ in made.guard.said} == {"restrict", "lift"}


def test_a_guard_that_raises_harms_nobody(agents: Callable[..., Agents]) -> None:
    class Broken(FakeGuard):
        def restrict(self, restriction: Restriction) -> None:
            raise RuntimeError("no")

    made = agents(enforce=True, guard=Broken())
    with made.run() as run:
        made.exfiltrate(run)
        told = _told(made, run)
    assert told["otel_ir.response.detail"] == "the guard did not take pause_agent: RuntimeError"
    assert "otel_ir.response.verbs" not in told or told["otel_ir.response.verbs"] == ()


# --- by itself: time and numbers ---------------------------------------------------------------------------------------------


def _alert(number: int, **more: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": f"{number:032x}", "rule_id": "r", "signal": "s", "ruleset": "d", "severity": "critical", "stage": "compromise",
        "title": "Large body", "description": "", "service": "desk", "agent_id": "desk/~t/p", "trace_id": f"{number:032x}",
        "span_id": "0" * 15 + "1", "event_time": NOW,
    }  # fmt: skip
    return Alert(**values | more)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def _answers(guard: Any, clock: Clock, ttl: float | None = 60) -> Answers:
    config, _ = load_policy()
    config = msgspec.structs.replace(config, mode="enforce")
    return Answers(config, guard, enforce=True, ttl=ttl, clock=clock)


def test_a_flood_of_alerts_does_not_stop_a_fleet() -> None:
    guard, clock = FakeGuard(), Clock()
    answers = _answers(guard, clock)
    told = [answers.alert(_alert(number)) for number in range(1, 200)]
    assert len(guard.held) == 20  # safety.actions_per_minute
    assert told[-1]["otel_ir.response.detail"] == "more than 20 actions a minute"
    assert told[-1]["otel_ir.response.verbs"] == []
    clock.now += 61 * SECOND
    answers.expire()
    assert guard.held == {}
    assert not answers.holding


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MAX_CASES", 5)
    monkeypatch.setattr(answer, "MAX_ALERTS", 4)
    guard, clock = FakeGuard(), Clock()
    answers = _answers(guard, clock)
    told = []
    for number in range(1, 10):
        clock.now += 10 * SECOND
        told.append(answers.alert(_alert(number)))
    assert len(guard.held) == 10
    assert told[-1]["otel_ir.response.detail"] == "5 agents are held already"
    for number in range(10, 60):  # one agent, conversation after conversation
        clock.now += SECOND
        answers.alert(_alert(number, agent_id="desk/a", agent_id_source="own", conversation_id=f"c{number}", trace_id="0" * 31 + "1"))
    assert max(len(one.selectors) for one in guard.held.values()) <= 16


def test_an_identity_that_turns_out_to_be_protected_is_let_go() -> None:
    guard, clock = FakeGuard(), Clock()
    answers = _answers(guard, clock)
    answers.alert(_alert(1))
    assert guard.held
    answers._config = msgspec.structs.replace(
        answers._config, safety=msgspec.structs.replace(answers._config.safety, protected=("desk/precious",))
    )
    answers.update(AlertUpdate(alert_id=_alert(1).alert_id, ordinal=2, agent_id="desk/precious", agent_id_source="ancestor"))
    assert guard.held == {}


def test_an_update_about_an_unknown_alert_or_without_an_agent_changes_nothing() -> None:
    guard, clock = FakeGuard(), Clock()
    answers = _answers(guard, clock)
    answers.update(AlertUpdate(alert_id="nobody", ordinal=1, agent_id="desk/a", agent_id_source="own"))
    answers.alert(_alert(1))
    before = list(guard.said)
    answers.update(AlertUpdate(alert_id=_alert(1).alert_id, ordinal=2, count=3))
    assert guard.said == before


# --- with the guard itself ---------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Guard:
    return install(service="desk", cache=False, self_test=False)


def test_the_guard_itself_blocks_the_next_call(agents: Callable[..., Agents], real: Guard) -> None:
    made = agents(enforce=True, guard=real)
    real.check("send_email", agent="hijacked")
    with made.run("hijacked") as run:
        made.exfiltrate(run)
    with pytest.raises(Refused, match="Large outbound body"):
        real.check("send_email", agent="hijacked")
    real.check("send_email", agent="benign")


def test_no_server_code_is_needed_for_the_words(tmp_path: Path) -> None:
    """The plug-in imports the guard's words, never the other way round."""
    code = "import sys, otel_ir.guard; assert not {'polars', 'otel_ir.sdk', 'otel_ir.respond'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ | {"HOME": str(tmp_path)})


def test_the_page_says_what_an_alert_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "in-process.md").read_text(encoding="utf-8")
    rows = page.partition("<!-- response-attributes -->")[2].partition("<!-- /response-attributes -->")[0].strip().splitlines()[2:]
    told = {name.strip("` "): meaning.strip() for _, name, meaning, _ in (row.split("|") for row in rows)}
    assert told == RESPONSE_ATTRIBUTES
