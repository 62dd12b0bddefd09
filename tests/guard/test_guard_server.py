"""A guard and a scripted server: what it is told, what it does, and that nothing a server does reaches the agent."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from guard.peer import AGENT, SERVICE, Server, answer, guarding, paused, revoked, runs, until

from otel_ir.guard import Guard, client
from otel_ir.guard.link import Link


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST", 0.01)
    monkeypatch.setattr(client, "LONGEST", 0.05)
    monkeypatch.setattr(client, "REPORT_EVERY", 0.05)


def stopped(guard: Guard, tool: str = "send_email") -> bool:
    return not runs(guard, tool)


def test_it_registers_takes_the_state_and_says_what_is_in_force(server: Server) -> None:
    etag = server.forbid(revoked("send_email"))
    with guarding(server.url, token="t0ken", agent="hijacked") as guard:
        until(lambda: server.applied() == ["a-1"], what="applied")
        assert stopped(guard)
        assert runs(guard, "get_order")
        assert runs(guard, "send_email", agent="benign")
    (method, path, headers, registered), *_ = server.requests
    assert (method, path) == ("POST", "/guard/v1/register")
    assert headers["Authorization"] == "Bearer t0ken"
    assert registered["service"] == SERVICE
    assert registered["pid"] == os.getpid()
    assert registered["pid_start"] > 0
    assert registered["fail"] == "open"
    assert registered["agents"] == ["hijacked"]
    assert registered["self_test"] == {"outcome": "not_run", "detail": ""}
    first = next(one for one in server.requests if "/state" in one[1])
    assert "If-None-Match" not in first[2]
    assert f"service={SERVICE}&instance={registered['instance']}&wait=0.5" in first[1]
    assert server.reports[0]["etag"] == etag


def test_a_new_state_is_in_force_at_once_and_a_call_that_waits_goes_on(server: Server) -> None:
    with guarding(server.url) as guard:
        until(lambda: server.reports)
        server.forbid(revoked())
        until(lambda: stopped(guard))
        server.forbid()
        until(lambda: runs(guard, "send_email"))
        server.forbid(paused())
        until(lambda: server.applied() == ["a-2"])
        ran: list[bool] = []
        thread = threading.Thread(target=lambda: ran.append(runs(guard, "send_email")))
        thread.start()
        time.sleep(0.05)
        assert not ran
        server.forbid()
        thread.join(20)
        assert ran == [True]


def test_a_probe_runs_the_decision_that_real_calls_take(server: Server) -> None:
    conversation = {"gen_ai.conversation.id": "c-1"}
    probes = tuple({"nonce": f"n{number}", "id": f"a-{number}"} for number in (1, 2, 3, 4))
    with guarding(server.url) as guard:
        guard.hooked("manual")
        server.forbid(
            revoked("send_email"), paused(selector=conversation), revoked(action="a-4", selector={"service.name": SERVICE}), probes=probes
        )
        answers = until(lambda: server.reports and server.reports[-1]["probes"])
    assert {one["nonce"]: one["blocked"] for one in answers} == {"n1": True, "n2": True, "n3": False, "n4": False}
    assert {one["nonce"]: one["detail"] for one in answers} == {
        "n1": "", "n2": "", "n3": "not in force here", "n4": "otel_ir.canary would run",
    }  # fmt: skip
    assert guard.restrictions


def test_a_guard_without_hooks_or_with_a_failed_self_test_admits_it(server: Server) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked(), probes=({"nonce": "n1", "id": "a-1"},))
        (one,) = until(lambda: server.reports and server.reports[-1]["probes"])
        assert (one["blocked"], one["detail"]) == (False, "no hook is attached to this guard")
        guard.hooked("manual")
        guard.test("manual", lambda: "the canary sang")
        server.forbid(revoked(), probes=({"nonce": "n2", "id": "a-1"},))
        until(lambda: any(one["nonce"] == "n2" for one in server.reports[-1]["probes"]))
        (one,) = server.reports[-1]["probes"]
        assert not one["blocked"]
        assert "the canary sang" in one["detail"]
        until(lambda: any(one["self_test"]["outcome"] == "failed" for one in server.registered.values()))
        assert next(iter(server.registered.values()))["frameworks"] == ["manual"]


def test_blocked_calls_are_reported_once_and_counted(server: Server) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        for number in range(150):
            assert not runs(guard, f"tool_{number}", conversation="c-1")
        until(lambda: server.reports[-1]["blocked_total"] == 150)
        until(lambda: not guard._link.report()["blocked"])
    told = [one for report in server.reports for one in report["blocked"]]
    assert 100 <= len(told) <= 150
    assert len({one["tool"] for one in told}) == len(told)
    assert told[-1] == told[-1] | {
        "id": "a-1", "verb": "revoke_tools", "tool": "tool_149", "agent": f"{SERVICE}/hijacked", "conversation": "c-1", "trace_id": "",
    }  # fmt: skip
    assert abs(told[-1]["at"] - time.time_ns()) < 60e9


def test_what_is_left_is_reported_when_it_closes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPORT_EVERY", 30.0)
    monkeypatch.setattr(client, "LEAVE", 20.0)
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        assert stopped(guard)
    assert server.reports[-1]["blocked_total"] == 1
    assert server.reports[-1]["leaving"] is True
    assert "leaving" not in server.reports[0]


def test_closing_does_not_wait_for_a_server_that_is_not_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with guarding(server.url) as guard:
        until(lambda: server.reports)
        server.close()
        until(lambda: guard._link._client and not guard._link._client._up and not guard._link._client._sending)
        monkeypatch.setattr(client, "LEAVE", 20.0)
        began = time.monotonic()
    assert time.monotonic() - began < 15


# --- the server goes and comes ---------------------------------------------------------------------------------------------


def test_a_server_that_was_restarted_is_registered_with_again(server: Server) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        server.close()
        assert stopped(guard)
        again = Server(server.port)
        try:
            again.forbid(revoked(action="a-9"))
            until(lambda: again.applied() == ["a-9"])
            assert again.registered
            assert stopped(guard)
        finally:
            again.close()


def test_a_server_that_forgot_the_guard_is_registered_with_again(server: Server) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        server.registered.clear()
        assert stopped(guard)  # its report finds out first, or the next poll
        until(lambda: server.registered)
        until(lambda: server.reports[-1]["blocked_total"] == 1)


def test_a_contained_agent_stays_so_when_it_restarts_while_the_server_is_down(server: Server) -> None:
    with guarding(server.url):
        server.forbid(revoked("send_email"), revoked("late", action="a-5", expires=time.time_ns() + 10**12))
        until(lambda: len(server.applied()) == 2)
    server.close()
    with guarding(server.url) as guard:
        assert stopped(guard)
        assert stopped(guard, "late")
        assert runs(guard, "get_order")
    with guarding(server.url, cache=False) as guard:
        assert runs(guard, "send_email")


def test_time_runs_out_locally_too(server: Server) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked(expires=time.time_ns() + 300_000_000))
        until(lambda: server.applied() == ["a-1"])
        server.close()
        until(lambda: runs(guard, "send_email"))
        assert guard._link.report()["applied"] == []


def test_an_empty_state_is_kept_as_well(server: Server) -> None:
    server.forbid(revoked())
    with guarding(server.url):
        until(lambda: server.applied() == ["a-1"])
        server.forbid()
        until(lambda: server.reports[-1]["applied"] == [])
    server.close()
    with guarding(server.url) as guard:
        assert runs(guard, "send_email")


def test_workers_that_were_given_one_instance_id_take_their_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=shared")
    server.script[("POST", "register")] = [answer(409, {"error": "shared is another process"})]
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        assert "shared" not in server.registered
        assert server.reports[-1]["instance"] == guard.settings.instance != "shared"


# --- fail open, fail closed ------------------------------------------------------------------------------------------------


def test_fail_closed_without_a_state(caplog: pytest.LogCaptureFixture) -> None:
    port = _closed_port()
    with guarding(f"http://127.0.0.1:{port}", fail="closed") as guard, pytest.raises(PermissionError, match="has no state yet"):
        guard.check("get_order", agent="benign")
    with guarding(f"http://127.0.0.1:{port}") as guard:
        assert runs(guard, "get_order")
    with guarding("", fail="closed") as guard, pytest.raises(PermissionError, match="has no otel_ir server"):
        guard.check("get_order")


def test_fail_closed_with_a_server_then_without_it_then_with_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with guarding(server.url, fail="closed", stale_after=60) as guard:
        until(lambda: runs(guard, "get_order"))
        server.close()
        assert runs(guard, "get_order")
        began = time.monotonic
        monkeypatch.setattr("otel_ir.guard.link.time", _Shifted(began, 61))
        assert not runs(guard, "get_order")
        again = Server(server.port)
        try:
            until(lambda: runs(guard, "get_order"))
        finally:
            again.close()
    with guarding(server.url, fail="closed") as guard:
        assert runs(guard, "get_order")  # by the cache, for as long as it is fresh


class _Shifted:
    """The clock, some seconds on."""

    def __init__(self, monotonic: Callable[[], float], seconds: float) -> None:
        self._monotonic, self._seconds = monotonic, seconds
        self.time_ns = time.time_ns

    def monotonic(self) -> float:
        return self._monotonic() + self._seconds


def test_refused_access_is_no_contact(server: Server) -> None:
    denied = [answer(401, {"error": "who are you"})] * 50
    server.script[("POST", "register")] = list(denied)
    with guarding(server.url, fail="closed") as guard:
        until(lambda: server.asked("register") > 2)
        assert not runs(guard, "get_order")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 301, 204])
def test_what_is_held_is_kept_whatever_the_server_answers(server: Server, status: int) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        polls = server.asked("/state") + sum("/state?" in path for _, path, _, _ in server.requests)
        server.script[("GET", "state")] = [answer(status, {"error": "no"}, Retry_After="0.01", Location="http://127.0.0.1:1/")] * 5
        server.script[("POST", "report")] = [answer(status, {"error": "no"})] * 5
        until(lambda: sum("/state?" in path for _, path, _, _ in server.requests) > polls + 3)
        assert stopped(guard)
        server.forbid()
        until(lambda: runs(guard, "send_email"))


# --- a hostile server ------------------------------------------------------------------------------------------------------


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


def _garbage(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"\x00\xffNOT HTTP AT ALL\r\n\r\n")
    request.close_connection = True


def _endless_header(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n")
    request.close_connection = True


def _short_body(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"restr')
    request.close_connection = True


def _drip(request: BaseHTTPRequestHandler) -> None:
    """A byte now and then: a socket's timeout never comes."""
    try:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(2000):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.01)
    except OSError:
        request.close_connection = True


HOSTILE: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "hang up": _hang_up,
    "garbage": _garbage,
    "endless header": _endless_header,
    "short body": _short_body,
    "no JSON": answer(200, b"<html>", ETag='"x"'),
    "huge": answer(200, b"[" * (5 << 20), ETag='"x"'),
    "wrong types": answer(200, {"restrictions": "all", "probes": {}}, ETag='"x"'),
    "nonsense entries": answer(200, {"restrictions": [], "probes": [{"nonce": 1}, [], None]}, ETag=""),
    "drip": _drip,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_answer_never_reaches_the_agent(server: Server, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(client, "GRACE", 0.2)
    monkeypatch.setattr(client, "SLACK", 0.1)
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        for request in (("GET", "state"), ("POST", "report"), ("POST", "register")):
            server.script[request] = [HOSTILE[how]] * 2
        server.forbid(revoked(), paused())  # wakes the poll, the answer to which is not hostile yet
        guard.hooked("manual", "another")
        assert stopped(guard)
        until(lambda: not server.script[("GET", "state")] and not server.script[("POST", "report")])
        if how != "nonsense entries":
            assert stopped(guard)
        server.forbid(revoked(action="a-7"))
        until(lambda: server.applied() == ["a-7"])
        assert stopped(guard)


def test_a_broken_entry_is_told_and_the_rest_is_in_force(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with guarding(server.url) as guard:
        server.state({"restrictions": [{"id": "x", "verb": "explode"}, revoked().to_json()], "probes": [], "new": {"key": 1}})
        until(lambda: server.applied() == ["a-1"])
        assert stopped(guard)
    assert any("explode" in record.message for record in caplog.records)


def test_a_server_that_does_not_let_us_wait_is_not_asked_in_a_loop(server: Server) -> None:
    with guarding(server.url):
        until(lambda: server.reports)
        server.script[("GET", "state")] = [answer(304)] * 10_000
        server.forbid(revoked())
        begun = len(server.script[("GET", "state")])
        until(lambda: len(server.script[("GET", "state")]) < begun)
        time.sleep(0.5)
        assert begun - len(server.script[("GET", "state")]) <= 3


def test_what_goes_wrong_is_logged_once_without_the_token(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.script[("POST", "register")] = [answer(403, {"error": "not your service\r\nsecond line"})] * 5
    with guarding(server.url, token="s3cret"):
        until(lambda: server.asked("register") > 4)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "403" in told[0]
    assert "\n" not in told[0]
    assert "s3cret" not in caplog.text


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- fork ------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_is_a_guard_of_its_own_and_contained_from_its_first_moment(server: Server, tmp_path: Path) -> None:
    with guarding(server.url) as guard:
        server.forbid(revoked())
        until(lambda: server.applied() == ["a-1"])
        guard.restrict(revoked("local", action="mine", selector={"otel_ir.agent.id": f"{SERVICE}/other"}))
        parent = guard.settings.instance
        with guard._lock, guard._link._lock, guard._bell._condition:  # held by a thread that the child does not have
            child = os.fork()
            if child == 0:
                found = [stopped(guard), not runs(guard, "local", agent="other"), runs(guard, "x", agent="third")]
                deadline = time.monotonic() + 20
                while guard.settings.instance not in server.registered and time.monotonic() < deadline:
                    if guard._link.report()["etag"] == server.etag:
                        break
                    time.sleep(0.01)
                (tmp_path / "found").write_text(json.dumps([*found, guard.settings.instance]))
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        first, second, third, instance = json.loads((tmp_path / "found").read_text())
        assert (first, second, third) == (True, True, True)
        assert instance != parent
        until(lambda: set(server.registered) == {parent, instance})
        assert server.registered[instance]["pid"] == child
        assert server.registered[parent]["pid"] == os.getpid()
        assert stopped(guard)


def test_nothing_is_talked_to_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a client was made")

    monkeypatch.setattr("otel_ir.guard.link.Client", never)
    with guarding() as guard:
        guard.restrict(revoked())
        assert stopped(guard)
        guard.lift("a-1")
        guard.lift("never there")
        assert runs(guard, "send_email")


def test_the_process_is_described_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    with guarding() as guard:
        monkeypatch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError("no /proc")))
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError("no /proc")))
        about = Link(guard).registration()
    assert (about["pid_start"], about["boot_id"]) == (None, None)
    assert AGENT
