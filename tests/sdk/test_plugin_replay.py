"""The plug-in raises what ``otel-ir replay`` raises over the same spans: the same alerts, of the same agents, in any arrival."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Span
from sdk.conftest import LARGE, Agents, alerts_on
from thorough import examples

from otel_ir.engine import Fold
from otel_ir.model import Alert, AlertUpdate, Record
from otel_ir.offline import replay
from otel_ir.rules_path import shipped_rules
from otel_ir.sdk.fold import TRACES, WINDOWS, Folding, Found
from otel_ir.sigma import load_rules

RULES, _ = load_rules([shipped_rules()])
TOOLS = ("lookup", "read_secret", "database_query", "file_read", "http_request", "send_email")


class Told(Folding):
    """A fold that remembers what it was given and what it found."""

    def __init__(self, ruleset: Any) -> None:
        super().__init__(ruleset)
        self.given: list[tuple[int, bytes]] = []
        self.alerts: list[Alert] = []
        self.updates: list[AlertUpdate] = []

    def fold(self, spans: Sequence[tuple[int, bytes]]) -> Found:
        found = super().fold(spans)
        self.given += spans
        self.alerts += found.alerts
        self.updates += found.updates
        return found


def _work(made: Agents, chance: random.Random, agent: str) -> None:
    with made.run(agent, conversation=f"c-{agent}") as run:
        parent: Span = run
        for _ in range(chance.randint(3, 12)):
            roll = chance.random()
            if roll < 0.15:
                made.start("GET", parent, **{"http.request.method": "GET"}).end()
            elif roll < 0.25:
                made.exfiltrate(parent)
            elif roll < 0.35:
                made.start("chat", parent, **{"gen_ai.operation.name": "chat", "gen_ai.agent.name": agent}).end()
            else:
                made.call(chance.choice(TOOLS), parent, LARGE if chance.random() < 0.1 else None)


def _final(alerts: Sequence[Alert], updates: Sequence[AlertUpdate]) -> list[dict[str, Any]]:
    known = {alert.alert_id: alert for alert in alerts}
    for update in updates:
        if update.agent_id is not None:
            names = ("agent_id", "agent_id_source", "agent_name", "conversation_id", "user_id")
            known[update.alert_id] = replace(known[update.alert_id], **{name: getattr(update, name) for name in names})
    return sorted((alert.to_row() for alert in known.values()), key=lambda row: row["alert_id"])


def _files(spans: Sequence[ReadableSpan], folder: Path) -> Path:
    path = folder / "spans.binpb"
    bodies = [encode_spans([span]).SerializeToString() for span in spans]
    path.write_bytes(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))
    return path


@settings(max_examples=examples(5), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, 10**9), st.sampled_from([1, 4]))
def test_the_plugin_and_a_replay_raise_the_same(agents: Callable[..., Agents], tmp_path_factory: Any, seed: int, threads: int) -> None:
    made = agents()
    made.processor._new_folds = Told
    chances = [random.Random(seed + number) for number in range(threads)]
    working = [threading.Thread(target=_work, args=(made, chance, f"agent-{n}")) for n, chance in enumerate(chances)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join(300)
    assert made.provider.force_flush()
    told: Any = made.processor._folds
    mine = _final(told.alerts, told.updates)

    # The offline engine, given the same records, one by one.
    fold, alerts, updates = Fold(RULES, traces=TRACES, windows=WINDOWS), [], []
    for ordinal, (received, body) in enumerate(told.given, 1):
        output = fold.fold([Record(ordinal, "traces", received, body)])
        alerts += output.alerts
        updates += output.updates
    assert [asdict(alert) for alert in told.alerts] == [asdict(alert) for alert in alerts]
    assert [asdict(update) for update in told.updates] == [asdict(update) for update in updates]

    # otel-ir replay over what an exporter wrote (own spans of the plug-in are none of the agents').
    shown = [span for span in made.spans if span not in made.own]
    found = replay([_files(shown, tmp_path_factory.mktemp("spans"))], RULES)
    assert sorted((alert.to_row() for alert in found.alerts), key=lambda row: row["alert_id"]) == mine

    # And each of them is an event or a span.
    events = [dict(event.attributes or {}) for span in made.spans for event in alerts_on(span)]
    assert sorted(event["otel_ir.alert.id"] for event in events) == [row["alert_id"] for row in mine]
