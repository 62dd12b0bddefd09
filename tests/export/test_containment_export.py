"""What was done about an alert, at a real OTLP endpoint: every step, once, in order, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from export.conftest import serving
from export.test_otlp_export import SPAN, TRACE, alert, attributes, config
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from real.processes import free_port
from respond.lever import Lever
from respond.life import Life

from otel_ir.errors import StorageError
from otel_ir.export import ExportConfig, ExportLoop, OtlpExporter, action_log, action_span, ledger_sources
from otel_ir.export.changes import ACTION_SEVERITY, INCIDENT_SEVERITY, OUR_FAULT
from otel_ir.model import Alert
from otel_ir.model_lifecycle import TOLD, ActionChange, ActionRequest, ActionState, IncidentState, LetGo, LogEntry, StepTaken
from otel_ir.store import Ledger
from otel_ir.telemetry import own_resource

NOW = 1_767_225_602_000_000_000
SECOND = 1_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FIRST_DELAY", 0.01), ("LONGEST_DELAY", 0.05), ("LOOK", 0.05)):
        monkeypatch.setattr(f"otel_ir.export.loop.{name}", seconds)


def ask(ledger: Ledger, about: Alert, verb: str = "revoke_tools", at: int = NOW, **changes: Any) -> ActionRequest:
    """An action about a recorded alert, requested."""
    (row,) = ledger.alerts(alert_id=about.alert_id)
    target = {
        "service.name": about.service, "otel_ir.agent.id": about.agent_id, "otel_ir.agent.id_source": "ancestor",
        "gen_ai.agent.name": "triage", "gen_ai.conversation.id": "conv-7", "trace_id": about.trace_id, "span_id": about.span_id,
    }  # fmt: skip
    draft = ActionRequest(
        **{"incident_id": row.incident_id, "alert_id": about.alert_id, "verb": verb, "adapter": "guard", "mode": "enforce",
           "requested_at": at, "target": target, "reason": "Large outbound body"} | changes
    )  # fmt: skip
    ledger.plan_alert(about.alert_id, [], at)
    (request,) = ledger.request_actions([draft], at)
    return request


def take(ledger: Ledger, request: ActionRequest, *states: str, at: int = NOW) -> int:
    """Steps, a second apart. -> when the last one was."""
    for state in states:
        at += SECOND
        ledger.transition(request.action_id, state, at, f"it is {state}")
    return at


def export(ledger: Any, sink: Any, **changes: Any) -> None:
    """Everything that waits goes out."""
    loop = ExportLoop(ledger_sources(ledger), OtlpExporter(config(sink, **changes)))
    loop.start()
    loop.close(20)


def wait(ledger: Ledger, seconds: float = 20.0) -> None:
    """Until nothing waits any more."""
    end = time.monotonic() + seconds
    while ledger.unexported(1) or ledger.unsent_actions(1) or ledger.unsent_incidents(1):
        assert time.monotonic() < end, "not everything was exported"
        time.sleep(0.01)


def told(ledger: Ledger) -> list[tuple[str, str]]:
    """(action, state) of every step that is told, as the ledger has them, in the order of each action."""
    return [
        (row.action_id, step.to_state.value)
        for row in ledger.actions(limit=10_000, oldest=True)
        for step in ledger.history(row.action_id)
        if step.to_state in TOLD and step.from_state != step.to_state
    ]


def containment(items: Any) -> list[Any]:
    return [item for item in items if "otel_ir.action.id" in attributes(item.attributes)]


def test_the_whole_life_of_an_action(sink: Any, ledger: Ledger) -> None:
    ledger.record_alerts([alert()], NOW)
    request = ask(ledger, alert())
    take(ledger, request, "dispatched", "dispatched", "applied", "verified")
    ledger.amend(request.action_id, NOW + 5 * SECOND, "target widened", target={**request.target, "otel_ir.tenant": "acme"})
    ledger.let_go(request.action_id, LetGo("released", "ann", "checked", NOW + 60 * SECOND))
    take(ledger, request, "releasing", "releasing", "released", at=NOW + 60 * SECOND)
    export(ledger, sink)

    verified, released = containment(sink.spans())
    expected = {
        "otel_ir.action.id": request.action_id,
        "otel_ir.action.verb": "revoke_tools",
        "otel_ir.action.adapter": "guard",
        "otel_ir.action.state": "verified",
        "otel_ir.action.mode": "enforce",
        "otel_ir.action.cause": "alert",
        "otel_ir.action.reason": "Large outbound body",
        "otel_ir.action.detail": "it is verified",
        "otel_ir.incident.id": request.incident_id,
        "agent.threat.detection.correlation_id": "a" * 32,
        "otel_ir.alert.id": "a" * 32,
        "otel_ir.agent.id": "helpdesk/triage",
        "otel_ir.agent.id_source": "ancestor",
        "otel_ir.service": "helpdesk",
        "otel_ir.tenant": "acme",
        "gen_ai.agent.name": "triage",
        "gen_ai.conversation.id": "conv-7",
    }
    assert attributes(verified.attributes) == expected
    assert attributes(released.attributes) == expected | {"otel_ir.action.state": "released", "otel_ir.action.detail": "it is released"}
    for span in (verified, released):
        assert span.name == "agent.containment revoke_tools"
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
        assert span.status.code == Status.STATUS_CODE_UNSET
        ((link,),) = (span.links,)
        assert (link.trace_id.hex(), link.span_id.hex(), attributes(link.attributes)) == (TRACE, SPAN, {"otel_ir.link": "offending"})
    # From the request until the proof; from the decision to let go until it was done.
    assert (verified.start_time_unix_nano, verified.end_time_unix_nano) == (NOW, NOW + 4 * SECOND)
    assert (released.start_time_unix_nano, released.end_time_unix_nano) == (NOW + 60 * SECOND, NOW + 63 * SECOND)
    steps = [attributes(event.attributes)["otel_ir.action.state"] for event in verified.events]
    assert steps == ["requested", "dispatched", "dispatched", "applied", "verified"]
    assert {event.name for event in verified.events} == {"otel_ir.containment.step"}
    assert [attributes(event.attributes)["otel_ir.action.state"] for event in released.events][-4:] == ["releasing"] * 3 + ["released"]
    scopes = {scope.scope.name for r in sink.requests["traces"] for rs in r.resource_spans for scope in rs.scope_spans}
    assert scopes == {"otel_ir"}

    log, last = containment(sink.logs())
    assert log.event_name == last.event_name == "otel_ir.containment.changed"
    assert (log.trace_id.hex(), log.span_id.hex()) == (TRACE, SPAN)
    assert (log.severity_number, log.severity_text, log.time_unix_nano) == (9, "INFO", NOW + 4 * SECOND)
    assert log.body.string_value == "revoke_tools through guard is verified: it is verified"
    uid = attributes(log.attributes)["log.record.uid"]
    assert attributes(log.attributes) == expected | {"log.record.uid": uid}
    assert uid != attributes(last.attributes)["log.record.uid"]


def test_the_life_of_an_incident(sink: Any, ledger: Ledger) -> None:
    ledger.record_alerts([alert()], NOW)
    request = ask(ledger, alert())
    take(ledger, request, "dispatched", "applied", "verified")
    ledger.let_go(request.action_id, LetGo("released", "ann", "checked", NOW + 60 * SECOND))
    take(ledger, request, "released", at=NOW + 60 * SECOND)
    ledger.watch(request.incident_id, NOW + 90 * SECOND, LogEntry(NOW + 61 * SECOND, "watch", "", "watched for 30 s"))
    assert ledger.close_incident(request.incident_id, LogEntry(NOW + 90 * SECOND, "closed", "ann", "quiet"))
    export(ledger, sink)
    logs = [log for log in sink.logs() if log.event_name == "otel_ir.incident.changed"]
    assert [attributes(log.attributes)["otel_ir.incident.state"] for log in logs] == ["open", "contained", "recovering", "closed"]
    assert [log.severity_text for log in logs] == ["ERROR", "WARN", "INFO", "INFO"]
    assert [(log.time_unix_nano - NOW) // SECOND for log in logs] == [0, 3, 60, 90]
    assert {(log.trace_id.hex(), log.span_id.hex()) for log in logs} == {(TRACE, "")}
    found = [attributes(log.attributes) for log in logs]
    assert len({one.pop("log.record.uid") for one in found}) == 4
    assert found[-1] == {
        "otel_ir.incident.id": request.incident_id,
        "otel_ir.incident.state": "closed",
        "otel_ir.incident.detail": "quiet",
        "otel_ir.incident.by": "ann",
        "otel_ir.incident.severity": "critical",
        "otel_ir.incident.title": "Large outbound body",
        "otel_ir.agent.id": "helpdesk/triage",
        "otel_ir.agent.id_source": "ancestor",
        "otel_ir.service": "helpdesk",
    }
    assert [one["otel_ir.incident.detail"] for one in found[:3]] == [
        "Large outbound body", "revoke_tools through guard is verified", "revoke_tools through guard is releasing",
    ]  # fmt: skip
    assert logs[1].body.string_value == f"{request.incident_id} is contained: revoke_tools through guard is verified"


def test_an_incident_that_is_opened_again_says_so(sink: Any, ledger: Ledger) -> None:
    ledger.record_alerts([alert()], NOW)
    request = ask(ledger, alert())
    take(ledger, request, "dispatched", "applied", "verified", "violated")
    export(ledger, sink, signals=("logs",))
    logs = [attributes(log.attributes) for log in sink.logs() if log.event_name == "otel_ir.incident.changed"]
    assert [log["otel_ir.incident.state"] for log in logs] == ["open", "contained", "open"]
    assert logs[-1]["otel_ir.incident.detail"] == "revoke_tools through guard is violated"


def change(*states: ActionState, about: Alert | None, **changes: Any) -> ActionChange:
    request = ActionRequest(incident_id="INC-1", verb="pause_agent", adapter="process", mode="enforce", requested_at=NOW, **changes)
    steps = tuple(StepTaken(NOW + n, state, "why") for n, state in enumerate(states))
    return ActionChange(number=7, request=request, steps=steps, alert=about)


@pytest.mark.parametrize("state", TOLD)
def test_status_and_severity_of_every_state(state: ActionState) -> None:
    one = change(ActionState.REQUESTED, state, about=alert())
    status = action_span(one, own_resource()).status
    assert (status.status_code.name, status.description) == (("ERROR", "why") if state in OUR_FAULT else ("UNSET", None))
    assert action_log(one, own_resource()).log_record.severity_number == ACTION_SEVERITY[state]


def test_every_state_has_a_severity() -> None:
    assert set(ACTION_SEVERITY) == set(TOLD)
    assert set(INCIDENT_SEVERITY) == set(IncidentState)


def test_what_a_person_asked_for_has_a_trace_of_its_incident() -> None:
    first = action_span(change(ActionState.REQUESTED, ActionState.VERIFIED, about=None), own_resource())
    other = action_span(change(ActionState.REQUESTED, ActionState.FAILED, about=None, turn=1), own_resource())
    assert first.parent is other.parent is None
    assert not first.links
    assert first.context is not None
    assert other.context is not None
    assert first.context.trace_id == other.context.trace_id
    assert first.context.span_id != other.context.span_id
    assert first.attributes is not None
    assert "otel_ir.alert.id" not in first.attributes


def test_where_the_alert_knows_no_span_the_alert_is_the_parent() -> None:
    from otel_ir.export import alert_span

    about = alert(trace_id="", span_id="")
    parent = alert_span(about, own_resource())
    span = action_span(change(ActionState.REQUESTED, ActionState.VERIFIED, about=about, alert_id=about.alert_id), own_resource())
    assert span.parent == parent.context


def test_hostile_text_is_bounded_and_encodable(sink: Any, ledger: Ledger) -> None:
    ledger.record_alerts([alert()], NOW)
    request = ask(ledger, alert(), reason="\ud800" + "x" * 100_000, target={"otel_ir.agent.id": "a\x00b"})
    ledger.transition(request.action_id, "failed", NOW, "\udfff" * 10_000)
    export(ledger, sink)
    (span,) = containment(sink.spans())
    values = attributes(span.attributes)
    assert len(values["otel_ir.action.reason"]) == len(values["otel_ir.action.detail"]) == len(span.status.message) == 4096
    assert len(attributes(span.events[-1].attributes)["otel_ir.action.detail"]) == 256


class Broken:
    """A ledger of a process that dies when it is to write down what was accepted."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger, self._name = ledger, name

    def __getattr__(self, name: str) -> Any:
        def die(*_: object) -> None:
            raise StorageError("the process is gone")

        return die if name == self._name else getattr(self._ledger, name)


@pytest.mark.parametrize("dies", ["mark_exported", "mark_actions_sent", "mark_incidents_sent"])
def test_what_was_accepted_and_not_written_down_is_sent_again_as_the_same(sink: Any, ledger: Ledger, dies: str) -> None:
    ledger.record_alerts([alert()], NOW)
    take(ledger, ask(ledger, alert()), "dispatched", "applied", "verified")
    export(Broken(ledger, dies), sink)
    logs = len(sink.logs())
    export(ledger, sink)
    assert len(sink.logs()) > logs, "something was sent again"
    assert len({span.span_id for span in sink.spans()}) == 2
    uids = {attributes(log.attributes).get("log.record.uid", "alert") for log in sink.logs()}
    assert len(uids) == 4
    wait(ledger, 0)


class Failures:
    """Counts exports that failed."""

    def __init__(self) -> None:
        self.count, self.changed = 0, threading.Condition()

    def add(self, name: str, value: int = 1, **attributes: str) -> None:
        with self.changed:
            self.count += attributes["outcome"] == "failed"
            self.changed.notify_all()

    def record(self, name: str, value: float, **attributes: str) -> None: ...
    def set(self, name: str, value: float, **attributes: str) -> None: ...


def test_an_endpoint_that_is_down_for_a_while_gets_everything_once(ledger: Ledger, quick: None) -> None:
    port, failures = free_port(), Failures()
    loop = ExportLoop(ledger_sources(ledger), OtlpExporter(ExportConfig(endpoint=f"http://127.0.0.1:{port}", timeout=0.2), failures))
    loop.start()
    for number in range(20):
        about = alert(alert_id=f"{number:032x}", agent_id=f"helpdesk/{number}")
        ledger.record_alerts([about], NOW)
        take(ledger, ask(ledger, about), "dispatched", "applied", "verified", "unverified", "verified")
        loop.notify()
    with failures.changed:
        failed = failures.count
        assert failures.changed.wait_for(lambda: failures.count > failed + 30, 60)
    with serving("grpc", port=port) as sink:
        wait(ledger)
        loop.close()
        assert len({span.span_id for span in sink.spans()}) == len(sink.spans()) == 80
        found = [attributes(span.attributes) for span in containment(sink.spans())]
    # In any order: a batch that timed out on its own waits for the next turn, and others pass it. Each step says when it was.
    states = [(str(one["otel_ir.action.id"]), one["otel_ir.action.state"]) for one in found]
    assert sorted(states) == sorted(told(ledger))


def test_what_is_refused_for_ever_does_not_stop_the_others(sink: Any, ledger: Ledger, quick: None) -> None:
    sink.poison = b"poison"
    ledger.record_alerts([alert()], NOW)
    for number in range(12):
        take(ledger, ask(ledger, alert(), subject=f"s{number}", reason="poison" if number in (0, 1, 7) else "good"), "failed")
    loop = ExportLoop(ledger_sources(ledger), OtlpExporter(config(sink)))
    loop.start()
    end = time.monotonic() + 20
    while len(ledger.unsent_actions(100)) > 3 or ledger.unsent_incidents(1) or ledger.unexported(1):
        assert time.monotonic() < end
        time.sleep(0.01)
    take(ledger, ask(ledger, alert(), subject="later"), "failed")
    while len(ledger.unsent_actions(100)) > 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert {one.request.reason for one in ledger.unsent_actions(100)} == {"poison"}
    sink.poison = None
    wait(ledger)
    loop.close()
    assert len({span.span_id for span in containment(sink.spans())}) == 13


def test_one_that_cannot_be_drawn_does_not_stop_the_others(
    sink: Any, ledger: Ledger, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def draw(one: ActionChange, resource: Any) -> Any:
        if one.request.subject == "s3":
            raise ValueError("a fault")
        return action_span(one, resource)

    monkeypatch.setattr("otel_ir.export.sources.action_span", draw)
    ledger.record_alerts([alert()], NOW)
    for number in range(8):
        take(ledger, ask(ledger, alert(), subject=f"s{number}"), "failed")
    loop = ExportLoop(ledger_sources(ledger), OtlpExporter(config(sink)))
    loop.start()
    end = time.monotonic() + 20
    while len(ledger.unsent_actions(100)) > 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    loop.close()
    assert [one.request.subject for one in ledger.unsent_actions(100)] == ["s3"]


def test_a_flood_of_alerts_does_not_hold_up_what_was_done(sink: Any, ledger: Ledger) -> None:
    ledger.record_alerts([alert(alert_id=f"{number:032x}") for number in range(1000)], NOW)
    take(ledger, ask(ledger, alert(alert_id=f"{0:032x}")), "dispatched", "applied", "verified", "violated")
    export(ledger, sink)
    places = [
        place
        for place, request in enumerate(sink.requests["traces"])
        for resource in request.resource_spans
        for scope in resource.scope_spans
        if containment(scope.spans)
    ]
    assert places == [1]
    assert len(sink.spans()) == 1002


def test_a_response_does_not_wait_for_an_endpoint_that_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:  # takes connections, and never answers
        life = Life(tmp_path)
        exporter = OtlpExporter(ExportConfig(endpoint=f"http://127.0.0.1:{hung.getsockname()[1]}", timeout=600))
        loop = ExportLoop(ledger_sources(life.ledger), exporter)
        loop.start()
        responder = life.start(observer=lambda *_: loop.notify())
        life.alert(responder, alert(sender="collector", event_time=time.time_ns(), received=time.time_ns()))
        assert life.states() == ["verified"]
        life.close()
        loop.close(0.2)
        assert not loop._thread.is_alive()


def test_what_a_real_response_does_arrives_step_by_step(sink: Any, tmp_path: Path) -> None:
    life = Life(tmp_path, "verify: {within: 0.2, recheck: 1, stale: 60}\nescalation: [revoke_tools, pause_agent]\n")
    loop = ExportLoop(ledger_sources(life.ledger), OtlpExporter(config(sink)))
    loop.start()
    responder = life.start(Lever(life.system), observer=lambda *_: loop.notify())
    about = alert(sender="collector", event_time=time.time_ns(), received=time.time_ns())
    life.alert(responder, about)
    life.system.held.clear()  # somebody else let go
    life.clock.advance(2)
    life.settled("escalated", "verified")
    wait(life.ledger)
    loop.close()
    life.close()
    spans = [attributes(span.attributes) for span in containment(sink.spans())]
    assert [(one["otel_ir.action.verb"], one["otel_ir.action.state"], one["otel_ir.action.cause"]) for one in spans] == [
        ("revoke_tools", "verified", "alert"),
        ("revoke_tools", "violated", "alert"),
        ("revoke_tools", "escalated", "alert"),
        ("pause_agent", "verified", "escalation"),
    ]
    assert {span.parent_span_id.hex() for span in containment(sink.spans())} == {SPAN}
    assert [span.status.code for span in containment(sink.spans())] == [0, 2, 0, 0]


WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from export.test_containment_export import NOW, alert, ask, take
from otel_ir.export import ExportConfig, ExportLoop, OtlpExporter, ledger_sources
from otel_ir.store import Ledger
ledger = Ledger.open(sys.argv[1])
loop = ExportLoop(ledger_sources(ledger), OtlpExporter(ExportConfig(endpoint=sys.argv[3], protocol=sys.argv[4])))
loop.start()
print("started", flush=True)
for number in range(int(sys.argv[5]), 1_000_000):
    about = alert(alert_id=f"{number:032x}", agent_id=f"helpdesk/{number}")
    ledger.record_alerts([about], NOW)
    take(ledger, ask(ledger, about), "dispatched", "applied", "verified", "violated", "escalated")
    loop.notify()
"""


def test_kill_9_loses_nothing_and_changes_no_id(sink: Any, tmp_path: Path) -> None:
    chance, url = random.Random(5), f"sqlite:///{tmp_path}/ledger.db"
    for run in range(3):
        arguments = [url, str(Path(__file__).parents[1]), sink.endpoint, sink.protocol, str(run * 100_000)]
        worker = subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        sink.wait("traces", len(sink.requests["traces"]) + 2)
        time.sleep(chance.uniform(0, 0.2))  # where the kill falls
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
    ledger = Ledger.open(url)
    export(ledger, sink)
    wait(ledger, 0)
    expected = sorted(told(ledger))
    spans = [(span.span_id, attributes(span.attributes)) for span in containment(sink.spans())]
    logs = [(attributes(log.attributes)["log.record.uid"], attributes(log.attributes)) for log in containment(sink.logs())]
    for arrived in (spans, logs):
        by_id: dict[Any, set[tuple[str, str]]] = {}
        for key, found in arrived:
            by_id.setdefault(key, set()).add((found["otel_ir.action.id"], found["otel_ir.action.state"]))
        assert all(len(steps) == 1 for steps in by_id.values())
        assert sorted(step for steps in by_id.values() for step in steps) == expected
    alerts = {attributes(span.attributes)["otel_ir.alert.id"] for span in sink.spans() if not containment([span])}
    assert alerts == {row.alert.alert_id for row in ledger.alerts(limit=10_000)}
    changes = {attributes(log.attributes)["log.record.uid"] for log in sink.logs() if log.event_name == "otel_ir.incident.changed"}
    entries = [entry.kind for row in ledger.incidents(limit=10_000) for entry in ledger.incident_log(row.incident_id)]
    assert len(changes) == len([kind for kind in entries if kind in set(IncidentState)])
    ledger.close()
