"""The story: a server, a system that is asked to act, two agents with a guard each; watched until everything that was begun has an
outcome; then a person lets go, and the post-mortem is written.

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
from otel_ir.demo.happenings import HOOK, Acted, Answered, Blocked, Called, Happening, LetGo, Raised, Result, Started
from otel_ir.demo.hook import Hook, receiving
from otel_ir.errors import StorageError
from otel_ir.model_lifecycle import WORK, ActionState, Order
from otel_ir.processes import POLL_SECONDS, Interrupt, Process, environment, running
from otel_ir.store import Ledger
from otel_ir.store.rows import ActionRow, AlertRow

DATA = "otel-ir-data"
"""Name of the server's data folder inside the demo's folder."""
START_SECONDS = 60.0
STORY_SECONDS = 90.0
RELEASE_SECONDS = 30.0
"""Limits for a machine that is busy; the story takes a few seconds."""
BATCH_MILLISECONDS = 200
"""What the agents' batch processor waits (the SDK's default is 5,000). It is part of every measured time."""
_SECRET = "OTEL_IR_DEMO_SECRET"  # noqa: S105  # the name of a variable

Tell = Callable[[Happening], None]


def run(folder: Path, tell: Tell, interrupt: Interrupt, reports: Path | None = None) -> Result:
    """Tells the story in ``folder``, which stays as it is afterwards; the post-mortem goes to ``reports`` (a folder in it by default).

    Raises ``Failed`` or ``Interrupted``; leaves no process behind.
    """
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
        watch.contained = ledger.actions(oldest=True)
        for happening in _let_go(watch, interrupt):
            tell(happening)
        for agent in watch.agents.values():
            agent.stop()
        # It drains: what was received is folded, what was begun is finished. So after this, silence means something.
        drained = server.stop() == 0
        interrupt.check()
        for happening in watch.look():
            tell(happening)
        result = watch.result()
        result.events = _evidence(folder)
        result.postmortem = _postmortem(folder, ledger, result, reports or folder / "reports")
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
    blocked: list[Blocked] = field(default_factory=list)
    acted: set[str] = field(default_factory=set)
    """Actions whose outcome was told."""
    waiting: bool = True
    contained: list[ActionRow] = field(default_factory=list)
    """The actions before the release."""

    def look(self) -> Iterator[Happening]:
        """What is new."""
        for name, agent in self.agents.items():
            for said in agent.said():
                if said["kind"] == "call":
                    call = Called(name, said["tool"], said["arguments"], said["result"], said["span_id"])
                    self.calls[call.span_id] = call
                    yield call
                elif said["kind"] == "blocked":
                    self.blocked.append(Blocked(name, said["tool"], said["reason"]))
                    yield self.blocked[-1]
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
        rows = self.ledger.actions(oldest=True)
        planned = all(row.planned_at is not None for row in self.ledger.alerts())
        self.waiting = not rows or not planned or any(row.state in WORK for row in rows)
        for row in rows:
            alert = self.alerts.get(str(row.alert_id))
            if alert and row.action_id not in self.acted and row.state not in WORK:
                self.acted.add(row.action_id)
                yield Acted(row, alert, self._steps(row.action_id), row.action_id in self.hook.accepted)

    def _steps(self, action_id: str) -> tuple[str, ...]:
        return tuple(step.to_state.value for step in self.ledger.history(action_id))

    @property
    def settled(self) -> bool:
        """Whether both agents are done, there was an alert, and no action waits for its outcome; or an agent ended on its own."""
        if any(agent.ended for agent in self.agents.values()):
            return True
        return self.answered == self.agents.keys() and bool(self.alerts) and not self.waiting

    def result(self) -> Result:
        """What the ledger has at the end."""
        actions = self.ledger.actions(oldest=True)
        return Result(
            alerts=self.ledger.alerts()[::-1],
            actions=self.contained,
            ended={row.action_id: row for row in actions},
            signed=frozenset(self.hook.accepted),
            blocked=self.blocked,
            incidents=self.ledger.incidents(),
            calls=dict(Counter(call.agent for call in self.calls.values())),
            steps={row.action_id: self._steps(row.action_id) for row in actions},
        )


def _let_go(watch: Watch, interrupt: Interrupt) -> Iterator[Happening]:
    """What a person does when it is over: an order in the ledger, carried out by the server, as `otel-ir release` gives it."""
    ledger = watch.ledger
    for incident in ledger.incidents():
        ledger.order(
            Order(kind="release", who="demo", reason="the ticket was removed", at=time.time_ns(), incident_id=incident.incident_id)
        )

    def over() -> bool:
        return not ledger.waiting_orders() and not ledger.work(limit=1)

    interrupt.until(over, RELEASE_SECONDS, "the agent is not let go of")
    incidents = {row.incident_id: row for row in ledger.incidents()}
    for row in ledger.actions():
        if row.let_go and row.incident_id in incidents:
            yield LetGo(row, incidents[row.incident_id])


def _postmortem(folder: Path, ledger: Ledger, result: Result, reports: Path) -> Path | None:
    """The post-mortem of the incident, as `otel-ir postmortem` writes it; -> the page to open."""
    from otel_ir.cli.incidents import find
    from otel_ir.investigate import investigate, load_evidence
    from otel_ir.report import build_report, write_report

    if not result.incidents:
        return None
    facts = find(ledger, result.incidents[-1].incident_id)
    try:
        report = build_report(investigate(facts, load_evidence(str(folder / DATA / "evidence"), facts)))
    except StorageError:
        return None
    paths, _ = write_report(report, reports)
    return next((path for path in paths if path.suffix == ".html"), None)


def _configure(folder: Path, hook: Hook, tokens: dict[str, str]) -> None:
    """The files of an operator who trusts it: both switches on. Only senders with a token may speak, and only for their service."""
    tokens_of = [{"token": token, "sender": f"host-of-{name}", "services": [SERVICE]} for name, token in tokens.items()]
    receive = {"grpc_endpoint": "127.0.0.1:0", "http_endpoint": "127.0.0.1:0", "tokens": tokens_of}
    webhook = {
        "type": "webhook", "url": hook.url, "secret_env": _SECRET, "verbs": ["isolate_network", "rotate_credentials"],
        "retry": {"attempts": 3, "first": 0.2, "longest": 1.0},
    }  # fmt: skip
    files = {
        "otel-ir.yaml": {"data": DATA, "response": "response.yaml", "receive": receive},
        "response.yaml": {
            "mode": "enforce",
            "playbooks": {"contain": ["revoke_tools", "isolate_network", "rotate_credentials"], "restrict": ["read_only_tools"]},
            "adapters": {"guard": {"type": "guard"}, HOOK: webhook},
        },
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
        OTEL_IR_GUARD_ENDPOINT=f"http://{address['http']}",
        OTEL_IR_GUARD_CACHE=str(folder / "guard-cache" / name),
    )
    return Process("otel_ir.demo.agent", name, folder=folder, log=folder / f"{name}.log", env=env, lines=True)


def _evidence(folder: Path) -> dict[str, int]:
    """Tool calls by agent as the server kept them, without those that were refused."""
    import polars as pl

    from otel_ir.store.evidence import read_events

    ran = (pl.col("event.type") == "tool_call") & (pl.col("otel_ir.executed").fill_null("") != "rejected")
    try:
        events = read_events(str(folder / DATA / "evidence")).filter(ran).collect()
    except StorageError:
        return {}
    ids = Counter(events["otel_ir.agent.id"].to_list())
    return {name: ids[f"{SERVICE}/{name}"] for name in (HIJACKED, BENIGN)}


def _problems(result: Result, watch: Watch, server: Process | None) -> list[str]:
    """What must be so for the story to be true, and is not."""
    agents = {name: [row for row in result.alerts if row.alert.agent_id == f"{SERVICE}/{name}"] for name in (HIJACKED, BENIGN)}
    critical = {row.alert.alert_id for row in agents[HIJACKED] if row.alert.severity == "critical"}
    mine = [row for row in result.actions if row.alert_id in critical]
    hooked = [row for row in mine if row.adapter == HOOK and row.applied_at and row.action_id in result.signed]
    over = (ActionState.RELEASED, ActionState.EXPIRED, ActionState.FAILED, ActionState.DRY_RUN)
    checks = {
        f"the server did not end as it should: {server.last_words() if server else ''}": server is None,
        "the hijacked agent raised no critical alert": bool(critical),
        "no action was verified for it": any(row.state is ActionState.VERIFIED for row in mine),
        "no hook was called and acknowledged for it": bool(hooked),
        "no call of the hijacked agent was blocked": any(one.agent == HIJACKED for one in result.blocked),
        "a call of the benign agent was blocked": not any(one.agent == BENIGN for one in result.blocked),
        f"{len(agents[BENIGN])} alerts about the benign agent": not agents[BENIGN],
        f"{len(result.alerts)} alerts, of which some are about neither agent": len(result.alerts) == sum(map(len, agents.values())),
        "something is still in force": all(row.state in over for row in result.ended.values()),
        "no post-mortem was written": result.postmortem is not None,
    }
    for name, agent in watch.agents.items():
        checks[f"the {name} agent did not finish: {agent.last_words()}"] = name in watch.answered and agent.status == 0
        counts = result.calls.get(name, 0), result.events.get(name, 0)
        checks[f"of {counts[0]} calls of the {name} agent {counts[1]} stand in the evidence"] = counts[0] == counts[1] > 0
    return [what for what, so in checks.items() if not so]
