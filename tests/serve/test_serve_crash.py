"""kill -9 at any moment: nothing acknowledged is lost, no alert is doubled, no hook is called twice but under the same key."""

from __future__ import annotations

import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from real.processes import otel_ir_serving, until
from serve.spans import tool_request
from standardwebhooks import Webhook

from otel_ir.store import Ledger, read_events

SECRET = "whsec_" + "c2VjcmV0" * 5
ROUNDS, REQUESTS = 4, 60


class Hook:
    """A target that acknowledges every call, counting by idempotency key."""

    def __init__(self) -> None:
        hook = self
        self.calls: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                Webhook(SECRET).verify(body, dict(self.headers))
                hook.calls[self.headers["webhook-id"]] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Hook:
    target = Hook()
    yield target
    target.server.shutdown()
    target.server.server_close()


def _policy(path: Path, port: int) -> Path:
    path.write_text(
        f"""
mode: enforce
safety: {{require_sender: false, actions_per_minute: 100000, fleet_floor: 100000}}
adapters:
  soc: {{type: webhook, url: "http://127.0.0.1:{port}/hook", secret_env: HOOK_SECRET}}
"""
    )
    return path


def test_kill_nine_loses_nothing_and_repeats_nothing(tmp_path: Path, hook: Hook) -> None:
    chance = random.Random(3)
    policy = _policy(tmp_path / "response.yaml", hook.server.server_address[1])
    acknowledged: list[str] = []
    for round_number in range(ROUNDS):
        last = round_number == ROUNDS - 1
        with otel_ir_serving(tmp_path / "data", "--response", str(policy), "--enforce", env={"HOOK_SECRET": SECRET}) as server:
            killer = threading.Timer(chance.uniform(0.1, 1.5), server.running.process.kill)
            if not last:
                killer.start()
            with grpc.insecure_channel(server.grpc) as channel:
                stub = TraceServiceStub(channel)
                try:
                    for number in range(REQUESTS):
                        request, agent = tool_request(f"{round_number}-{number}")
                        stub.Export(request, timeout=10)
                        acknowledged.append(agent)
                except grpc.RpcError:
                    assert not last
            if last:
                _settled(tmp_path / "data", set(acknowledged))
            else:
                until(lambda: server.running.process.poll() is not None, what="the kill")
    raised = Counter(alert["otel_ir.agent.id"].removeprefix("shop/") for alert in alerts_of(tmp_path / "data"))
    assert set(raised) >= set(acknowledged)
    assert set(raised.values()) == {1}
    kept = read_events(str(tmp_path / "data" / "evidence")).collect()
    names = Counter(kept["gen_ai.agent.name"].to_list())
    assert set(names) >= set(acknowledged)
    assert set(names.values()) == {1}
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'data' / 'ledger.db'}")
    actions = {action.action_id: action for action in ledger.actions(limit=100_000)}
    ledger.close()
    assert set(hook.calls) <= set(actions)
    for action_id, calls in hook.calls.items():
        assert calls <= actions[action_id].attempts


def _settled(data: Path, agents: set[str]) -> None:
    """Waits until every acknowledged call raised its alert and every alert had its hook."""
    ledger = Ledger.open(f"sqlite:///{data / 'ledger.db'}")
    until(lambda: {row.alert.agent_name for row in ledger.alerts(limit=10_000)} >= agents, seconds=90, what="all alerts")
    until(lambda: _answered(ledger) == {row.alert.alert_id for row in ledger.alerts(limit=10_000)}, seconds=150, what="all hooks called")
    until(lambda: not ledger.unfinished_actions(), what="all actions finished")
    ledger.close()


def _answered(ledger: Ledger) -> set[str | None]:
    return {action.alert_id for action in ledger.actions(states=["unverified"], limit=100_000)}


def alerts_of(data: Path) -> list[dict]:
    ledger = Ledger.open(f"sqlite:///{data / 'ledger.db'}")
    rows = [row.alert.to_row() for row in ledger.alerts(limit=100_000)]
    ledger.close()
    return rows
