"""Everything that an incident takes place in, each part real: `otel-ir serve`, agents in their own processes, a system behind a webhook."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from contain.targets import WebhookTarget
from real.processes import OTEL_IR, Running, free_port, otel_ir_serving, until
from serve import guarded_agent

from otel_ir.contain import procfs
from otel_ir.model_lifecycle import IncidentState
from otel_ir.store import ActionRow, Ledger
from otel_ir.store.rows import IncidentRow

HARMFUL = 10_001
"""Characters of an outbound body that raise a critical alert."""

POLICY = """\
mode: enforce
playbooks: {take: [revoke_tools, isolate_network], stop: [pause_agent], all: [revoke_tools, isolate_network, pause_agent]}
policy:
  - {when: {service: vault}, playbook: stop}
  - {when: {service: bank}, playbook: all}
  - {when: {}, playbook: take}
verify: {within: 5, recheck: 1, stale: 2}
ttl: 600
watch: 2
adapters:
  guard: {type: guard, verbs: [revoke_tools, read_only_tools], retry: {attempts: 20, first: 0.1, longest: 0.5}}
  process: {type: process, method: signal, retry: {attempts: 20, first: 0.1, longest: 0.5}}
  soc:
    type: webhook
    url: "@HOOK@"
    check_url: "@HOOK@/check"
    secret_env: HOOK_SECRET
    reversible: true
    verbs: [isolate_network]
    retry: {attempts: 20, first: 0.1, longest: 0.5}
"""
"""Of services: `vault` has its process stopped, `bank` everything at once, all others the guard and the webhook."""

TOKENS = {"desk": "t-desk", "vault": "t-vault", "bank": "t-bank", "other": "t-other"}


class Agent:
    """One process of agents; ``call`` asks it for a call of a tool."""

    def __init__(self, service: str, names: str, cache: Path, port: int, log: Path, token: str) -> None:
        self.service, self.names = service, names
        command = [sys.executable, guarded_agent.__file__, service, names, str(cache)]
        address = f"http://127.0.0.1:{port}"
        env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_IR_GUARD_ENDPOINT": address,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}",
        }
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env, text=True)
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.hear()["ready"]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))

    def hear(self, seconds: float = 60) -> dict[str, Any]:
        """The next thing it says."""
        return self._said.get(timeout=seconds)

    def ask(self, tool: str = "look_around", *, agent: str = "", conversation: str = "c-1", body: int = 0, guarded: bool = True) -> None:
        """Have it call a tool, and do not wait for what comes of it."""
        asked = {
            "tool": tool, "agent": agent or self.names.partition(",")[0], "conversation": conversation, "body": body, "guarded": guarded,
        }  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()

    def call(self, tool: str = "look_around", **more: Any) -> bool:
        """Whether the call ran."""
        self.ask(tool, **more)
        return bool(self.hear()["ran"])

    def harm(self, **more: Any) -> None:
        """The call that raises a critical alert."""
        assert self.call("send_email", body=HARMFUL, **more)

    @property
    def stopped(self) -> bool:
        """Whether the kernel says that its process stands still."""
        return all(thread.stopped for thread in procfs.threads(self.process.pid))

    def kill(self) -> None:
        """For good, whatever state it is in."""
        self.process.kill()
        self.process.wait(20)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Desk:
    """The whole place. ``serve`` runs the server as often as a test wants, always at the same port and on the same data."""

    def __init__(self, folder: Path, stack: ExitStack, policy: str) -> None:
        self.folder, self._stack, self.port = folder, stack, free_port()
        self.data, self.hook = folder / "data", WebhookTarget()
        stack.callback(self.hook.close)
        self.policy, self._config = folder / "response.yaml", folder / "otel-ir.yaml"
        self.policy.write_text(policy.replace("@HOOK@", self.hook._hook.url))
        tokens = [{"token": token, "sender": name, "services": [name]} for name, token in TOKENS.items()]
        tokens.append({"token": "t-drill", "sender": "drill", "services": ["otel-ir-drill"]})
        self._config.write_text(json.dumps({"receive": {"tokens": tokens}, "checkpoint_seconds": 1}))
        self._ledger: Ledger | None = None

    @contextmanager
    def serve(self, *arguments: str) -> Iterator[Running]:
        """One life of the server; the test may kill it."""
        given = ("-c", str(self._config), "--response", str(self.policy), "--enforce", "--http", f"127.0.0.1:{self.port}", *arguments)
        with otel_ir_serving(self.data, *given, env={"HOOK_SECRET": self.hook.secrets[0]}) as server:
            yield server.running

    def agent(self, service: str = "desk", names: str = "triage", *, cache: str = "", token: str = "") -> Agent:
        """A process with agents; ``cache`` names the folder of its guard's cache."""
        log, folder = self.folder / f"{service}.log", self.folder / f"cache-{cache or service}"
        agent = Agent(service, names, folder, self.port, log, token or TOKENS[service])
        self._stack.callback(agent.kill)
        return agent

    @property
    def ledger(self) -> Ledger:
        """As it stands on disk, also while no server runs."""
        if self._ledger is None:
            self._ledger = Ledger.open(f"sqlite:///{self.data / 'ledger.db'}")
            self._stack.callback(self._ledger.close)
        return self._ledger

    def actions(self, service: str = "") -> list[ActionRow]:
        """What was asked for, oldest first."""
        rows = self.ledger.actions(limit=10_000, oldest=True)
        return [row for row in rows if not service or row.target.get("service.name") == service]

    def states(self, service: str = "") -> dict[str, str]:
        """Steps to their states; of a step that was taken again, the newest."""
        return {row.verb: row.state.value for row in self.actions(service)}

    def incident(self, service: str = "desk") -> IncidentRow:
        """The only incident of a service."""
        (row,) = [row for row in self.ledger.incidents(limit=1000) if row.service == service]
        return row

    def settled(self, service: str, *, seconds: float = 60, **states: str) -> None:
        """Wait until the actions of a service are in these states."""
        try:
            until(lambda: self.states(service) == states, seconds=seconds, what=f"{service}: {states}")
        except AssertionError as error:
            told = [(row.verb, row.turn, row.state.value, row.detail) for row in self.actions(service)]
            raise AssertionError(f"{error}\n{told}") from None

    def becomes(self, state: IncidentState, service: str = "desk", seconds: float = 60) -> None:
        """Wait until the incident of a service is in this state."""
        until(lambda: self.incident(service).state is state, seconds=seconds, what=f"the incident of {service}: {state}")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``otel-ir …`` on this data."""
        return subprocess.run(
            [OTEL_IR, *arguments, "--data", self.data], capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip

    def release(self, what: str, *more: str) -> subprocess.CompletedProcess[str]:
        """``otel-ir release``."""
        return self.command("release", what, "--reason", "checked", "--by", "ann", *more)

    def webhook_holds(self, row: ActionRow) -> bool:
        """Whether the system behind the webhook holds it."""
        return row.action_id in self.hook._held


def killed(running: Running, seconds: float = 0.0) -> None:
    """SIGKILL after so long, and until it is gone."""
    time.sleep(seconds)  # the moment of the kill is what the test is about
    running.process.kill()
    running.process.wait(30)


@contextmanager
def frozen(agent: Agent) -> Iterator[None]:
    """Its process stands still, and nobody but the test knows why."""
    os.kill(agent.process.pid, signal.SIGSTOP)
    until(lambda: agent.stopped, what="the stop")
    try:
        yield
    finally:
        os.kill(agent.process.pid, signal.SIGCONT)
