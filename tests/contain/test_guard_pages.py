"""The guard protocol over real connections: every message, every refusal, its bounds, and what one sender can see of another."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from contain.scripted import Line, ScriptedGuard
from contain.served import Server, wait_for

from otel_ir.contain import GuardHub, GuardInfo, guard_http, guard_hub, procfs
from otel_ir.contain.guard_wire import MAX_AGENTS, MAX_BLOCKED, MAX_BODY, MAX_RESTRICTIONS, MAX_TEXT, Register, Report, Restriction
from otel_ir.errors import Overloaded
from otel_ir.receive import TokenConfig


def restriction(number: int = 1, **changes: Any) -> Restriction:
    given: dict[str, Any] = {
        "id": f"{number:032x}",
        "verb": "revoke_tools",
        "selectors": [{"otel_ir.agent.id": "helpdesk/triage"}, {"gen_ai.conversation.id": "c"}],
        "tools": None,
        "read_only": [],
        "since": 1,
        "expires": None,
        "incident": "INC-20260101000000-aaaaaa",
        "reason": "held",
    }
    return Restriction(**given | changes)


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    with closing(Line(server.port)) as line:
        yield line


class Waiting:
    """A poll that waits, in a thread."""

    def __init__(self, port: int, etag: str, instance: str = "i-1", wait: float = 25, token: str = "") -> None:
        self._pool = ThreadPoolExecutor(1)
        self._line = Line(port, token)
        self._answer = self._pool.submit(self._line.state, "helpdesk", instance, wait, etag)

    def answer(self) -> Any:
        try:
            return self._answer.result(20)
        finally:
            self._line.close()
            self._pool.shutdown()

    @property
    def done(self) -> bool:
        return self._answer.done()


def waiting(server: Server, instance: str = "i-1", tenant: str = "") -> int:
    guards = server.hub._services[tenant, "helpdesk"].guards
    return guards[instance].polls


# The messages


def test_a_guard_registers_gets_its_state_and_reports(server: Server, line: Line) -> None:
    status, _, body = line.register(frameworks=["pydantic_ai"], agents=["triage"], host="h", version="1", fail="closed", unknown={"a": [1]})
    assert (status, body) == (200, {"wait": 25})
    status, headers, body = line.state()
    assert (status, body) == (200, {"restrictions": [], "probes": []})
    assert headers["cache-control"] == "no-store"
    server.hub.put("", "helpdesk", restriction(tools=["send_email"], expires=5))
    status, again, body = line.state(etag=headers["etag"])
    assert status == 200
    assert again["etag"] != headers["etag"]
    assert body["restrictions"] == [
        {
            "id": f"{1:032x}",
            "verb": "revoke_tools",
            "selectors": [{"otel_ir.agent.id": "helpdesk/triage"}, {"gen_ai.conversation.id": "c"}],
            "tools": ["send_email"],
            "read_only": [],
            "since": 1,
            "expires": 5,
            "incident": "INC-20260101000000-aaaaaa",
            "reason": "held",
        }
    ]
    assert line.report(etag=again["etag"], applied=[f"{1:032x}"], blocked_total=7, agents=["triage", "writer"])[::2] == (204, None)
    assert server.hub.standing("", "helpdesk", f"{1:032x}").enforcing == ("i-1",)
    (info,) = server.hub.guards()
    assert (info.agents, info.blocked_total, info.frameworks, info.fail) == (("triage", "writer"), 7, ("pydantic_ai",), "closed")
    assert info.live


def test_an_etag_that_is_still_good_is_304(line: Line) -> None:
    line.register()
    _, headers, _ = line.state()
    for form in (headers["etag"], headers["etag"].strip('"'), "W/" + headers["etag"]):
        status, again, body = line.state(etag=form)
        assert (status, body) == (304, None)
        assert again["etag"] == headers["etag"]
    assert line.state(etag='"other"')[0] == 200


def test_a_waiting_poll_is_woken_by_a_change_and_by_a_probe(server: Server, line: Line) -> None:
    line.register()
    _, headers, _ = line.state()
    poll = Waiting(server.port, headers["etag"])
    wait_for(lambda: waiting(server) == 1, "the poll")
    server.hub.put("", "helpdesk", restriction())
    status, headers, body = poll.answer()
    assert status == 200
    assert len(body["restrictions"]) == 1

    poll = Waiting(server.port, headers["etag"])
    wait_for(lambda: waiting(server) == 1, "the poll")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.run, server.hub.probe("", "helpdesk", f"{1:032x}", 20))
        _, headers, body = poll.answer()
        (probe,) = body["probes"]
        assert probe["id"] == f"{1:032x}"
        line.report(etag=headers["etag"], probes=[probe | {"blocked": True, "detail": "d"}])
        assert asked.result(20).answers["i-1"].blocked
    assert line.state(etag=headers["etag"])[0] == 304, "an answered probe is no news"
    assert line.state()[2]["probes"] == []


def test_a_poll_ends_after_its_time(line: Line) -> None:
    line.register()
    _, headers, _ = line.state()
    assert line.state(etag=headers["etag"], wait=0.05)[0] == 304


def test_only_the_one_who_was_asked_answers_a_probe(server: Server, line: Line) -> None:
    line.register()
    line.register(instance="i-2")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.run, server.hub.probe("", "helpdesk", "a", 20))
        (probe,) = wait_for(lambda: line.state()[2]["probes"], "the probe")
        (other,) = line.state(instance="i-2")[2]["probes"]
        assert probe["nonce"] != other["nonce"]
        line.report(instance="i-2", probes=[probe | {"blocked": True}, {"nonce": "0" * 32, "id": "a", "blocked": True}])
        line.report(instance="i-2", probes=[other | {"blocked": True, "id": "b"}])
        assert asked.running(), "neither another's nonce, nor one that was made up, nor that of another action is an answer"
        line.report(instance="i-2", probes=[other | {"blocked": True}])
        line.report(probes=[probe | {"blocked": True}])
        assert asked.result(20).silent == ()


def test_what_is_enforced_counts_only_for_the_state_it_was_said_of(server: Server, line: Line) -> None:
    """A widened restriction has the id of the narrower one, which the guard enforced before."""
    line.register()
    server.hub.put("", "helpdesk", restriction())
    _, headers, _ = line.state()
    server.hub.put("", "helpdesk", restriction(selectors=[{"otel_ir.agent.id": "helpdesk/other"}]))
    for etag in (headers["etag"], "", '"x.99999.0"', "\u00b2"):
        line.report(etag=etag, applied=[f"{1:032x}"])
        assert server.hub.standing("", "helpdesk", f"{1:032x}").enforcing == ()
    _, headers, _ = line.state()
    line.report(etag=headers["etag"].strip('"'), applied=[f"{1:032x}"])
    assert server.hub.standing("", "helpdesk", f"{1:032x}").enforcing == ("i-1",)


def test_observers_are_told_and_cannot_harm(server: Server, line: Line) -> None:
    seen: list[GuardInfo] = []
    blocked: list[Any] = []

    def on_change(info: GuardInfo) -> None:
        seen.append(info)
        raise RuntimeError("the ledger is full")

    server.hub.on_change, server.hub.on_blocked = on_change, lambda info, calls: blocked.append((info.instance, calls[0].tool, len(calls)))
    line.register(agents=["a"])
    assert line.report(agents=["a", "b"])[0] == 204
    assert line.report(agents=["a", "b"], blocked=[{"id": "1", "verb": "revoke_tools", "tool": "rm", "at": 3}])[0] == 204
    assert [info.agents for info in seen] == [("a",), ("a", "b")]
    assert blocked == [("i-1", "rm", 1)]


# Refusals


@pytest.mark.parametrize(
    ("page", "body", "message"),
    [
        ("register", b"", "truncated"),
        ("register", b"[]", "Expected `object`"),
        ("register", b"{}", "missing required field"),
        ("register", {"service": "s", "instance": "i", "pid": "1"}, "Expected `int`"),
        ("register", {"service": "s", "instance": "i", "pid": 0}, ">= 1"),
        ("register", {"service": "s", "instance": "i", "pid": 2**31}, "<= 2147483647"),
        ("register", {"service": "s", "instance": "i", "pid": 2**200}, "pid"),
        ("register", {"service": "s", "instance": "i", "pid": True}, "Expected `int`"),
        ("register", {"service": "", "instance": "i", "pid": 1}, "length >= 1"),
        ("register", {"service": "s" * (MAX_TEXT + 1), "instance": "i", "pid": 1}, "length <="),
        ("register", {"service": "s", "instance": "i", "pid": 1, "agents": ["a"] * (MAX_AGENTS + 1)}, "length <="),
        ("register", {"service": "s", "instance": "i", "pid": 1, "fail": "maybe"}, "Invalid enum value"),
        ("register", {"service": "s", "instance": "i", "pid": 1, "self_test": "passed"}, "Expected `object`"),
        ("report", b"\xff\xfe{}", "Error"),
        ("report", b'{"service": "\xff", "instance": "i"}', "Error"),
        ("report", b'{"service": "s", "instance": "i", "x": ' + b"[" * 60_000, "RecursionError"),
        ("report", {"service": "s", "instance": "i", "applied": ["a"] * (MAX_RESTRICTIONS + 1)}, "length <="),
        ("report", {"service": "s", "instance": "i", "applied": [1]}, "Expected `str`"),
        ("report", {"service": "s", "instance": "i", "blocked": [{"id": "a"}] * (MAX_BLOCKED + 1)}, "length <="),
        ("report", {"service": "s", "instance": "i", "blocked_total": -1}, ">= 0"),
        ("report", {"service": "s", "instance": "i", "probes": [{"nonce": "n", "id": "a", "blocked": "yes"}]}, "Expected `bool`"),
    ],
)
def test_a_body_that_is_none_is_400_with_the_reason_on_one_line(server: Server, line: Line, page: str, body: Any, message: str) -> None:
    status, headers, answer = line.ask("POST", page, body)
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert message in answer["error"]
    assert "\n" not in answer["error"]
    assert not server.hub.guards()


def test_hostile_strings_stay_strings(server: Server, line: Line) -> None:
    name = "\x1b[31m\n<script>\u202e\x00"
    assert line.register(name, name, agents=[name])[0] == 200
    assert line.state(name, name)[0] == 200
    assert server.hub.guards()[0].agents == (name,)


def test_a_body_that_is_too_large(server: Server, line: Line) -> None:
    status, _, answer = line.ask("POST", "register", b" " * (MAX_BODY + 1))
    assert (status, answer) == (413, {"error": f"a request is larger than the {MAX_BODY} bytes that are taken"})
    with closing(Line(server.port)) as other:
        assert other.ask("POST", "register", b" " * MAX_BODY)[0] == 400


def test_a_page_in_a_browser_cannot_register(line: Line) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert line.ask("POST", "register", b"{}", content_type=kind)[0] == 415
    assert line.ask("POST", "register", b"{}", content_encoding="gzip")[0] == 415
    assert line.ask("GET", "register")[0] == 405


@pytest.mark.parametrize("query", ["", "service=helpdesk", "instance=i", "service=&instance=i", "service=a&instance=b&wait=soon"])
def test_a_query_that_is_none(line: Line, query: str) -> None:
    status, _, answer = line.ask("GET", f"state?{query}")
    assert status == 400
    assert answer["error"]


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "1e999"])
def test_a_strange_wait_is_no_wait(line: Line, wait: str) -> None:
    line.register()
    etag = line.state()[1]["etag"]
    started = time.monotonic()
    assert line.ask("GET", f"state?service=helpdesk&instance=i-1&wait={wait}", if_none_match=etag)[0] == 304
    assert time.monotonic() - started < 10


def test_who_is_not_registered_is_404(server: Server, line: Line) -> None:
    assert line.state()[::2] == (404, {"error": "unknown instance"})
    assert line.report()[::2] == (404, {"error": "unknown instance"})
    line.register()
    assert line.state("other")[0] == line.state(instance="i-2")[0] == 404
    server.stop()
    server.start(GuardHub())
    with closing(Line(server.port)) as again:
        assert again.state()[0] == 404


def test_a_request_that_does_not_arrive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_http, "READ_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"POST /guard/v1/report HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{")
        assert raw.recv(4096).startswith(b"HTTP/1.1 408 ")


# Who may


TOKENS = (
    TokenConfig(token="h", tenant="acme", sender="h", services=("helpdesk",)),
    TokenConfig(token="b", tenant="acme", sender="b", services=("billing",)),
    TokenConfig(token="o", tenant="other", sender="o"),
)


@pytest.fixture
def guarded() -> Iterator[Server]:
    running = Server(tokens=TOKENS)
    yield running
    running.close()


def test_a_sender_is_known_by_its_token(guarded: Server) -> None:
    for token in ("", "x"):
        with closing(Line(guarded.port, token)) as line:
            for status, headers, body in (line.register(), line.state(), line.report()):
                assert status == 401
                assert headers["www-authenticate"] == "Bearer"
                assert body["error"]


def test_a_sender_that_speaks_for_another_service_sees_nothing(guarded: Server) -> None:
    guarded.hub.put("acme", "helpdesk", restriction())
    with closing(Line(guarded.port, "h")) as own, closing(Line(guarded.port, "b")) as foreign, closing(Line(guarded.port, "o")) as other:
        assert own.register()[0] == 200
        for status, _, body in (foreign.register(), foreign.state(), foreign.report(applied=[f"{1:032x}"])):
            assert (status, set(body)) == (403, {"error"})
        assert [info.pid for info in guarded.hub.guards()] == [os.getpid()]
        # Another tenant has services of the same name, and they are others.
        assert other.state()[0] == 404
        assert other.register()[0] == 200
        assert other.state()[2] == {"restrictions": [], "probes": []}
        assert other.report(applied=[f"{1:032x}"])[0] == 204
        assert guarded.hub.standing("acme", "helpdesk", f"{1:032x}").enforcing == ()
        assert len(own.state()[2]["restrictions"]) == 1


def test_a_change_wakes_only_its_own_service(guarded: Server) -> None:
    with closing(Line(guarded.port, "o")) as other, closing(Line(guarded.port, "h")) as own:
        other.register()
        own.register()
        polls = {
            "o": Waiting(guarded.port, other.state()[1]["etag"], token="o"),
            "h": Waiting(guarded.port, own.state()[1]["etag"], token="h"),
        }
        wait_for(lambda: waiting(guarded, tenant="acme") == waiting(guarded, tenant="other") == 1, "the polls")
        guarded.hub.put("acme", "helpdesk", restriction())
        assert polls["h"].answer()[0] == 200
        assert not polls["o"].done
        guarded.hub.put("other", "helpdesk", restriction(2))
        assert [one["id"] for one in polls["o"].answer()[2]["restrictions"]] == [f"{2:032x}"]


# Whose process it is


def test_the_process_is_proven_by_its_connection(server: Server, line: Line) -> None:
    start = procfs.stat(os.getpid()).start  # type: ignore[union-attr]
    line.register(pid_start=start, boot_id=procfs.boot_id())
    (info,) = server.hub.guards()
    assert (info.proven, info.proof, info.pid_start) == (True, "", start)
    assert info.runs_here


def test_a_registration_for_a_foreign_process_is_not_proven(server: Server, line: Line) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        line.register(pid=other.pid)
        (info,) = server.hub.guards()
        assert not info.proven
        assert info.proof == f"its connection does not belong to process {other.pid}"
        assert not info.runs_here
        other.communicate(b"\n")


@pytest.mark.parametrize(
    ("claim", "reason"),
    [({"pid_start": 1}, "at another time"), ({"boot_id": "x"}, "another machine"), ({"pid": 2**31 - 1}, "there is no process")],
)
def test_what_is_not_so_is_not_proven(server: Server, line: Line, claim: dict[str, Any], reason: str) -> None:
    line.register(**claim)
    assert reason in server.hub.guards()[0].proof


def test_a_header_does_not_change_who_connects(server: Server) -> None:
    """Else whoever can connect could pass for the process at the other end of another connection."""
    with socket.create_connection(("127.0.0.1", server.port)) as victim, closing(Line(server.port)) as line:
        host, port = victim.getsockname()
        body = {"service": "helpdesk", "instance": "i-1", "pid": os.getpid()}
        line.ask("POST", "register", body, x_forwarded_for=f"10.1.1.1:{port}", x_forwarded_proto="https")
        assert server.hub.guards()[0].proven, "10.1.1.1 is not believed"
        assert host == "127.0.0.1"


def test_an_instance_belongs_to_one_process(server: Server, line: Line) -> None:
    code = (
        "import http.client, json, os, sys\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {server.port})\n"
        "body = json.dumps({'service': 'helpdesk', 'instance': 'i-1', 'pid': os.getpid()})\n"
        "c.request('POST', '/guard/v1/register', body, {'content-type': 'application/json'})\n"
        "print(c.getresponse().status, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "200\n"
        status, _, answer = line.register()
        assert status == 409
        assert f"is another process, {other.pid}" in answer["error"]
        assert line.register(instance="i-2")[0] == 200
        other.communicate("\n")
    assert line.register()[0] == 200, "it ended: the id is free"
    assert {info.pid for info in server.hub.guards()} == {os.getpid()}


# Bounds and the end


def test_bounds_of_guards_in_number(server: Server, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_hub, "MAX_PER_SERVICE", 2)
    monkeypatch.setattr(guard_hub, "MAX_GUARDS", 3)
    foreign = {"pid": 2**31 - 1}  # not proven, so silence is all that tells
    for instance in ("i-1", "i-2"):
        assert line.register(instance=instance, **foreign)[0] == 200
    status, headers, answer = line.register(instance="i-3", **foreign)
    assert (status, headers["retry-after"]) == (429, "30")
    assert "as many guards" in answer["error"]
    assert line.register("other", **foreign)[0] == 200
    assert line.register("third", **foreign)[0] == 429
    assert line.register(instance="i-1", **foreign)[0] == 200, "who is there already can register again"
    monkeypatch.setattr(guard_hub, "LIVE_SECONDS", -1.0)
    assert line.register(instance="i-3", **foreign)[0] == 200
    assert {info.instance for info in server.hub.guards("", "helpdesk")} == {"i-1", "i-3"}, "the one silent for longest gave way"


def test_bounds_of_polls_in_number(server: Server, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.register()
    etag = line.state()[1]["etag"]
    polls = [Waiting(server.port, etag) for _ in range(guard_hub.MAX_POLLS)]
    wait_for(lambda: waiting(server) == guard_hub.MAX_POLLS, "the polls")
    assert line.state(etag=etag, wait=25)[0] == 429
    monkeypatch.setattr(guard_http, "MAX_POLLS", guard_hub.MAX_POLLS)
    line.register(instance="i-2")
    status, headers, _ = line.state(instance="i-2")
    assert (status, headers["retry-after"]) == (503, "1")
    server.hub.put("", "helpdesk", restriction())
    assert {poll.answer()[0] for poll in polls} == {200}


def test_messages_at_work_are_bounded(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_http, "MAX_AT_WORK", 0)
    assert line.register()[0] == line.report()[0] == 429


def test_restrictions_are_bounded_but_not_what_comes_from_the_ledger() -> None:
    hub = GuardHub()
    for number in range(MAX_RESTRICTIONS):
        hub.put("", "s", restriction(number))
    with pytest.raises(Overloaded):
        hub.put("", "s", restriction(MAX_RESTRICTIONS))
    hub.put("", "s", restriction(1, reason="again"))
    hub.put("", "s", restriction(MAX_RESTRICTIONS), bounded=False)
    assert hub.holds("", "s", f"{MAX_RESTRICTIONS:032x}")
    for number in range(MAX_RESTRICTIONS + 1):
        hub.take_out("", "s", f"{number:032x}")
    assert not hub._services


def test_who_hangs_up_takes_no_place(server: Server, line: Line) -> None:
    line.register()
    etag = line.state()[1]["etag"]
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(
            f"GET /guard/v1/state?service=helpdesk&instance=i-1&wait=25 HTTP/1.1\r\nhost: x\r\nif-none-match: {etag}\r\n\r\n".encode()
        )
        wait_for(lambda: waiting(server) == 1, "the poll")
    wait_for(lambda: waiting(server) == 0, "its end")


def test_polls_do_not_hold_up_the_end(server: Server, line: Line) -> None:
    line.register()
    etag = line.state()[1]["etag"]
    polls = [Waiting(server.port, etag) for _ in range(3)]
    wait_for(lambda: waiting(server) == 3, "the polls")
    started = time.monotonic()
    server.stop(30)
    assert time.monotonic() - started < 10
    assert {poll.answer()[0] for poll in polls} == {304}
    server.start(GuardHub())


def test_polls_take_nothing_from_telemetry() -> None:
    server = Server(max_concurrent_requests=1)
    try:
        with closing(Line(server.port)) as line:
            line.register()
            etag = line.state()[1]["etag"]
            polls = [Waiting(server.port, etag) for _ in range(3)]
            wait_for(lambda: waiting(server) == 3, "the polls")
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as telemetry:
                telemetry.request("POST", "/v1/traces", b"", {"content-type": "application/x-protobuf"})
                assert telemetry.getresponse().status == 200
            server.stop()
            assert {poll.answer()[0] for poll in polls} == {304}
    finally:
        server.start(GuardHub())
        server.close()


def test_no_thread_is_taken_by_a_poll(server: Server, line: Line) -> None:
    line.register()
    etag = line.state()[1]["etag"]
    query = f"GET /guard/v1/state?service=helpdesk&instance=i-1&wait=25 HTTP/1.1\r\nhost: x\r\nif-none-match: {etag}\r\n\r\n"
    before = threading.active_count()
    sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(guard_hub.MAX_POLLS)]
    for one in sockets:
        one.sendall(query.encode())
    wait_for(lambda: waiting(server) == len(sockets), "the polls")
    assert threading.active_count() <= before
    for one in sockets:
        one.close()


def test_a_guard_lives_through_a_restart_of_the_server(server: Server) -> None:
    guard = ScriptedGuard(server.port)
    wait_for(server.hub.guards, "its registration")
    server.hub.put("", "helpdesk", restriction())
    wait_for(lambda: guard.enforced, "the restriction")
    server.stop()
    hub = GuardHub()
    server.start(hub)
    wait_for(lambda: guard.registered == 2, "the second registration")
    hub.put("", "helpdesk", restriction(2))
    wait_for(lambda: set(guard.enforced) == {f"{2:032x}"}, "the restriction of the new server")
    guard.close()


def test_silence_ends_life_and_memory() -> None:
    now = [0.0]
    hub = GuardHub(ticks=lambda: now[0])
    hub.register("", Register(service="s", instance="i", pid=7), procfs.Proof(1, "unproven"))
    now[0] = 60.0
    assert hub.guards()[0].live
    now[0] = 60.5
    assert not hub.guards()[0].live
    hub.report("", Report(service="s", instance="i"))
    assert hub.guards()[0].live
    now[0] = 4000.0
    hub.register("", Register(service="s", instance="other", pid=7), procfs.Proof(1, "unproven"))
    assert [info.instance for info in hub.guards()] == ["other"]


def test_guards_of_an_earlier_life_must_register_but_are_known() -> None:
    me = os.getpid()
    start = procfs.stat(me).start  # type: ignore[union-attr]
    hub, seen = GuardHub(), []
    hub.recall(
        [
            GuardInfo(tenant="", service="s", instance="here", pid=me, pid_start=start, proven=True, live=True),
            GuardInfo(tenant="", service="s", instance="gone", pid=me, pid_start=start - 1, proven=True),
            GuardInfo(tenant="", service="s", instance="earlier boot", pid=me, pid_start=start, boot_id="x", proven=True),
            GuardInfo(tenant="", service="t", instance="unproven", pid=me, pid_start=start),
        ]
    )
    (info,) = hub.guards()
    assert (info.instance, info.live) == ("here", False)
    with pytest.raises(KeyError):
        hub.state(info.key, "")
    hub.on_change = seen.append
    hub.register("", Register(service="s", instance="here", pid=me), procfs.Proof(start))
    assert seen[0].live
    assert json.loads(hub.state(info.key, "").body) == {"restrictions": [], "probes": []}  # type: ignore[union-attr]
