"""The story: a server, a system that is asked to act, two agents; watched until everything that was begun has an outcome.

What is shown as the server's doing is read from its ledger and its evidence, never assumed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import yaml

from otel_ir.demo.desk import BENIGN, HIJACKED, SERVICE
from otel_ir.demo.happenings import Acted, Answered, Called, Happening, Raised, Result, Started
from otel_ir.demo.hook import Hook, receiving
from otel_ir.demo.processes import POLL_SECONDS, Interrupt, Process, environment, running
from otel_ir.errors import StorageError
from otel_ir.model_lifecycle import UNFINISHED
from otel_ir.store import Ledger
from otel_ir.store.rows import AlertRow

DATA = "otel-ir-data"
"""Name of the server's data folder inside the demo's folder."""
START_SECONDS = 60.0
STORY_SECONDS = 90.0
"""Limits for a machine that is busy; the story takes a few seconds."""
BATCH_MILLISECONDS = 200
"""What the agents' batch processor waits (the SDK's default is 5,000). It is part of every measured time."""
_SECRET = "OTEL_IR_DEMO_SECRET"  # noqa: S105  # the name of a variable

Tell = Callable[[Happening], None]


def run(folder: Path, tell: Tell, interrupt: Interrupt) -> Result:
    """Tells the story in ``folder``, which stays as it is afterwards. Raises ``Failed`` or ``Interrupted``; leaves no process behind."""
    began = time.monotonic()
    tokens = {name: secrets.token_urlsafe(24) for name in (HIJACKED, BENIGN)}
    with ExitStack() as stack:
        hook = stack.enter_context(receiving())
        _configure(folder, hook, tokens)
        server = stack.enter_context(running(_server(folder, hook)))
        address = interrupt.until(lambda: _address(folder, server), START_SECONDS, "the server does not start")
        ledger = stack.enter_context(closing(Ledger.open(f"sqlite:///{folder / DATA / 'ledger.db'}")))
        watch = Watch(ledger, hook, {name: stack.enter_context(running(_agent(name, folder, address, tokens[name]))) for name in tokens})
        tell(Started(address["http"], hook.url))
        end = time.monotonic() + STORY_SECONDS
        while not watch.settled and server.status is None and time.monotonic() < end:
            interrupt.check()
            for happening in watch.look():
                tell(happening)
            time.sleep(POLL_SECONDS)
        # It drains: what was received is folded, what was begun is finished. So after this, silence means something.
        drained = server.stop() == 0
        interrupt.check()
        for happening in watch.look():
            tell(happening)
        result = watch.result()
    result.events = _evidence(folder)
    result.seconds = time.monotonic() - began
    result.problems = _problems(result, watch, server if not drained else None)
    return result


@dataclass(slots=True)
class Watch:
    """What the agents say and what the ledger has, looked at again and again."""

    ledger: Ledger
    hook: Hook
    agents: dict[str, Process]
    calls: dict[str, Called] = field(default_factory=dict)
    alerts: dict[str, AlertRow] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    acted: dict[str, str] = field(default_factory=dict)
    """Actions that have an outcome, with their alerts."""
    waiting: bool = True

    def look(self) -> Iterator[Happening]:
        """What is new."""
        for name, agent in self.agents.items():
            for said in agent.said():
                if said["kind"] == "call":
                    call = Called(name, said["tool"], said["arguments"], said["result"], said["span_id"])
                    self.calls[call.span_id] = call
                    yield call
                else:
                    self.answered.add(name)
                    yield Answered(name, said["text"])
        yield from self._raised()
        yield from self._acted()

    def _raised(self) -> Iterator[Happening]:
        for row in reversed(self.ledger.alerts()):
            if row.alert.alert_id not in self.alerts:
                self.alerts[row.alert.alert_id] = row
                cited = [self.calls[ref.span_id] for ref in row.alert.contributing if ref.span_id in self.calls]
                yield Raised(row, tuple(cited))

    def _acted(self) -> Iterator[Happening]:
        rows = self.ledger.actions()[::-1]
        self.waiting = any(row.state in UNFINISHED for row in rows)
        for row in rows:
            alert = self.alerts.get(str(row.alert_id))
            if alert and row.action_id not in self.acted and row.state not in UNFINISHED:
                self.acted[row.action_id] = alert.alert.alert_id
                yield Acted(row, alert, row.action_id in self.hook.accepted)

    @property
    def settled(self) -> bool:
        """Whether both agents have ended, and every alert (there must be one) has an action, and no action waits for its outcome."""
        over = all(agent.ended for agent in self.agents.values())
        return over and bool(self.alerts) and not self.waiting and self.alerts.keys() == set(self.acted.values())

    def result(self) -> Result:
        """What the ledger has at the end."""
        alerts, actions = self.ledger.alerts(), self.ledger.actions()
        calls = Counter(call.agent for call in self.calls.values())
        return Result(alerts[::-1], actions[::-1], frozenset(self.hook.accepted), dict(calls))


def _configure(folder: Path, hook: Hook, tokens: dict[str, str]) -> None:
    """The files of an operator who trusts it: both switches on. Only senders with a token may speak, and only for their service."""
    tokens_of = [{"token": token, "sender": f"host-of-{name}", "services": [SERVICE]} for name, token in tokens.items()]
    receive = {"grpc_endpoint": "127.0.0.1:0", "http_endpoint": "127.0.0.1:0", "tokens": tokens_of}
    webhook = {"type": "webhook", "url": hook.url, "secret_env": _SECRET, "retry": {"attempts": 3, "first": 0.2, "longest": 1.0}}
    files = {
        "otel-ir.yaml": {"data": DATA, "response": "response.yaml", "receive": receive},
        "response.yaml": {"mode": "enforce", "adapters": {"webhook": webhook}},
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _server(folder: Path, hook: Hook) -> Process:
    env = environment(**{_SECRET: hook.secret})
    arguments = ("serve", "--config", "otel-ir.yaml", "--enforce", "--grace", "10")
    return Process("otel_ir", *arguments, folder=folder, log=folder / "serve.log", env=env)


def _address(folder: Path, server: Process) -> dict[str, str] | None:
    """``serve.json`` once the server is ready."""
    server.expect_running("the server")
    file = folder / DATA / "serve.json"
    address: dict[str, str] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return address


def _agent(name: str, folder: Path, address: dict[str, str], token: str) -> Process:
    env = environment(
        OTEL_SERVICE_NAME=SERVICE,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address['http']}",
        OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{quote(token)}",
        OTEL_BSP_SCHEDULE_DELAY=str(BATCH_MILLISECONDS),
    )
    return Process("otel_ir.demo.agent", name, folder=folder, log=folder / f"{name}.log", env=env, lines=True)


def _evidence(folder: Path) -> dict[str, int]:
    """Tool calls by agent as the server kept them."""
    import polars as pl

    from otel_ir.store.evidence import read_events

    try:
        events = read_events(str(folder / DATA / "evidence")).filter(pl.col("event.type") == "tool_call").collect()
    except StorageError:
        return {}
    ids = Counter(events["otel_ir.agent.id"].to_list())
    return {name: ids[f"{SERVICE}/{name}"] for name in (HIJACKED, BENIGN)}


def _problems(result: Result, watch: Watch, server: Process | None) -> list[str]:
    """What must be so for the story to be true, and is not."""
    agents = {name: [row for row in result.alerts if row.alert.agent_id == f"{SERVICE}/{name}"] for name in (HIJACKED, BENIGN)}
    critical = [row for row in agents[HIJACKED] if row.alert.severity == "critical"]
    applied = {row.alert_id for row in result.actions if row.state == "applied" and row.action_id in result.verified}
    checks = {
        f"the server did not end as it should: {server.last_words() if server else ''}": server is None,
        "the hijacked agent raised no critical alert": bool(critical),
        "no hook was called and acknowledged for it": any(row.alert.alert_id in applied for row in critical),
        f"{len(agents[BENIGN])} alerts about the benign agent": not agents[BENIGN],
        f"{len(result.alerts)} alerts, of which some are about neither agent": len(result.alerts) == sum(map(len, agents.values())),
    }
    for name, agent in watch.agents.items():
        checks[f"the {name} agent did not finish: {agent.last_words()}"] = name in watch.answered and agent.status == 0
        counts = result.calls.get(name, 0), result.events.get(name, 0)
        checks[f"of {counts[0]} calls of the {name} agent {counts[1]} stand in the evidence"] = counts[0] == counts[1] > 0
    return [what for what, so in checks.items() if not so]
