"""What adapters act on, the real thing each: it can obey, refuse, hang, lie, be contained already, be gone, and recover."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from contain import scripted
from contain.hook import SECRET, Hook, reply
from contain.scripted import ScriptedGuard
from contain.served import Server, wait_for

from otel_ir.contain import GuardHub, Surroundings, procfs
from otel_ir.contain.guard_wire import Report
from otel_ir.model_lifecycle import ActionRequest


class WebhookTarget:
    """The system behind a webhook: it knows what it was asked to hold, and says so."""

    refusal = "failed"

    def __init__(self) -> None:
        self._hook = Hook()
        self._held: set[str] = set()
        self._lies = False
        self._hook.then = self._obey
        self.around = Surroundings()
        self.section = {
            "type": "webhook", "url": self._hook.url, "check_url": self._hook.url + "/check", "secret_env": "HOOK_SECRET",
            "reversible": True, "timeout": 5,
        }  # fmt: skip
        self.secrets = (SECRET, SECRET.removeprefix("whsec_"), "secret-path")

    def _obey(self, handler: BaseHTTPRequestHandler) -> None:
        message = handler.call.verified()  # type: ignore[attr-defined]
        action = message["data"]["action"]["id"]
        if message["type"] == "agent.containment.check":
            state = "in_force" if action in self._held else "not_in_force"
            return reply(200, json.dumps({"action_id": action, "state": state}).encode())(handler)
        if message["type"] == "agent.containment.released":
            self._held.discard(action)
        elif not self._lies:
            self._held.add(action)
        return reply(204)(handler)

    def refuse(self) -> None:
        self._hook.then = reply(403, b"not allowed")

    def hang(self) -> None:
        self._hook.then = self._hook.held(self._obey)

    def lie(self, _patch: pytest.MonkeyPatch) -> None:
        self._lies = True

    def contain(self, request: ActionRequest) -> None:
        self._held.add(request.action_id)

    def gone(self) -> None:
        self._hook.close()

    def recover(self) -> None:
        self._hook.then = self._obey
        self._hook.release.set()

    def restart(self) -> Surroundings:
        return Surroundings()

    def keys(self) -> set[str]:
        """The idempotency key of every action that arrived."""
        return {call.headers["webhook-id"] for call in self._hook.calls}

    def holds(self, request: ActionRequest) -> bool:
        return request.action_id in self._held

    def close(self) -> None:
        self._hook.close()


class GuardTarget:
    """Two guards of one service, in threads, that speak to a real server."""

    refusal = "retry"  # a guard does as it is asked or says nothing
    secrets = ()

    def __init__(self) -> None:
        self._server = Server()
        self._guards = [self._guard(number) for number in (1, 2)]
        self.around = Surroundings(hub=self._server.hub)
        self.section = {"type": "guard", "timeout": 1.5, "check_timeout": 1.0}
        wait_for(lambda: len(self._server.hub.guards()) == 2, "their registration")

    def _guard(self, number: int) -> ScriptedGuard:
        return ScriptedGuard(self._server.port, "helpdesk", f"i-{number}", agents=["triage"])

    def refuse(self) -> None:
        for guard in self._guards:
            guard.deaf = True

    def hang(self) -> None:
        for guard in self._guards:
            guard.hang()

    def lie(self, _patch: pytest.MonkeyPatch) -> None:
        self._guards[1].lies = True  # one of two is enough

    def contain(self, request: ActionRequest) -> None:
        """They enforce it already, from a durable cache."""
        for guard in self._guards:
            guard.enforced = {request.action_id: {}}

    def gone(self) -> None:
        self.hang()
        for guard in self._guards:
            guard.close()

    def recover(self) -> None:
        for guard in self._guards:
            guard.resume()

    def restart(self) -> Surroundings:
        self._server.stop()
        self._server.start(GuardHub())
        wait_for(lambda: len(self._server.hub.guards()) == 2, "their registration")
        return Surroundings(hub=self._server.hub)

    def keys(self) -> set[str]:
        services = self._server.hub._services.values()
        return {key for service in services for key in service.restrictions}

    def holds(self, request: ActionRequest) -> bool:
        return any(request.action_id in guard.enforced for guard in self._guards)

    def close(self) -> None:
        for guard in self._guards:
            guard.close()
        self._server.close()


class Child:
    """A process of an agent, which counts and has a guard."""

    def __init__(self, port: int, agents: str = "triage", service: str = "helpdesk", instance: str = "i-1") -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._counter, self._fifo = Path(self._folder.name, "counter"), Path(self._folder.name, "fifo")
        command = [sys.executable, scripted.__file__, str(port), service, instance, agents, str(self._counter), str(self._fifo)]
        self.process = subprocess.Popen(command)
        self.pid, self._hangs = self.process.pid, False
        wait_for(self.count, "its start")

    def count(self) -> int:
        try:
            return int.from_bytes(self._counter.read_bytes(), "little")
        except FileNotFoundError:
            return 0

    def runs_on(self) -> None:
        """Asserts that it counts further."""
        now = self.count()
        wait_for(lambda: self.count() > now + 1, "counting")

    @property
    def stands_still(self) -> bool:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return "State:\tT" in status

    def hang(self) -> None:
        os.mkfifo(self._fifo)
        self._hangs = True
        wait_for(lambda: any(thread.state == "D" for thread in procfs.threads(self.pid)), "hanging")

    def recover(self) -> None:
        if self._hangs:
            wait_for(self._written, "the reader")  # it waits for one, but perhaps not yet
            self._hangs = False

    def _written(self) -> bool:
        try:
            os.close(os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.process.kill()
        self.recover()
        self.process.wait(20)
        self._folder.cleanup()


class ProcessTarget:
    """A process that an agent lives in."""

    refusal = "failed"
    secrets = ()

    def __init__(self) -> None:
        self._server = Server()
        self.around = Surroundings(hub=self._server.hub)
        self.section = {"type": "process", "method": "signal", "timeout": 1.5}
        self.child = Child(self._server.port)
        wait_for(lambda: any(info.runs_here for info in self._server.hub.guards()), "its registration")

    def refuse(self) -> None:
        self._server.hub.report("", Report(service="helpdesk", instance="i-1", agents=["triage", "writer"]))

    def hang(self) -> None:
        self.child.hang()

    def lie(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(signal, "pidfd_send_signal", lambda *_: None)

    def contain(self, _request: ActionRequest) -> None:
        """Somebody stopped it already."""
        os.kill(self.child.pid, signal.SIGSTOP)
        wait_for(lambda: self.child.stands_still, "the stop")

    def gone(self) -> None:
        self.child.close()

    def recover(self) -> None:
        self.child.recover()

    def restart(self) -> Surroundings:
        self._server.stop()
        self._server.start(GuardHub())
        return Surroundings(hub=self._server.hub)

    def keys(self) -> set[str]:
        return {action for actions in self.around.stopped.values() for action in actions}

    def holds(self, _request: ActionRequest) -> bool:
        return self.child.stands_still

    def close(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.child.close()
        self._server.close()


TARGETS: dict[str, Any] = {"guard": GuardTarget, "process": ProcessTarget, "webhook": WebhookTarget}
