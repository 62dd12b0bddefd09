"""What it costs to watch containments: the same events through ``detect.contained`` alone, with none, one and a thousand in force.

One agent breaks its containment with every call. The others hold still: theirs were applied after their last call.

python -m benchmarks.watch [--spans 200000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.generator import MINUTE, PAST, PER_AGENT, PER_RUN, Identity, generate
from otel_ir.decode import decode_traces
from otel_ir.detect.contained import Contained, Containment
from otel_ir.model import EPOCH, Record
from otel_ir.model_lifecycle import ActionState
from otel_ir.normalize.extract import extract
from otel_ir.normalize.roster import Roster
from otel_ir.normalize.weave import Weaver

IN_FORCE = (0, 1, 1000)
FRAMES = (64, 1)
"""Requests folded at once: a busy server, a quiet one."""
Frame = tuple[pl.DataFrame, pl.DataFrame, list[int]]


def main() -> None:
    """Prints CPU-seconds per million spans. Raises ``AssertionError`` where the violations are not those that were planned."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--spans", type=int, default=200_000, help="spans (default %(default)s, a multiple of 100)")
    spans = parser.parse_args().spans
    table = Table(title="CPU-s per million spans", title_justify="left", box=None, pad_edge=False)
    for name in ("identity", "requests a frame", *(f"{number:,} in force" for number in IN_FORCE), "roster"):
        table.add_column(name, justify="right")
    identities: tuple[Identity, ...] = ("own", "late")
    for identity in identities:
        anchor = time.time_ns()
        records = [
            Record(at, "traces", anchor + at * 5_000_000, body)
            for at, body in enumerate(generate(spans, anchor=anchor, identity=identity).requests, 1)
        ]
        for size in FRAMES:
            frames = list(_woven(records, size))
            agents = _agents(frames)
            costs = []
            for number in IN_FORCE:
                seconds, found = _watched(frames, agents[:number], anchor)
                planned = (PER_AGENT if identity == "own" else PER_AGENT - PER_AGENT // PER_RUN) if number else 0
                assert found == planned, f"{found} violations instead of {planned}"
                costs.append(seconds)
            costs.append(_roster(frames, agents))
            table.add_row(identity, str(size), *(f"{seconds / spans * 1e6:.2f}" for seconds in costs))
    Console().print(table)


def _woven(records: Sequence[Record], size: int) -> Iterator[Frame]:
    weaver, frame = Weaver(), []
    for record in records:
        frame.append(record)
        if len(frame) < size and record.ordinal % EPOCH != EPOCH - 1 and record is not records[-1]:
            continue
        found = extract(decode_traces(frame))
        woven = weaver.fold(found.events, found.nodes, found.calls, found.tells)
        if record.ordinal % EPOCH == EPOCH - 1:
            weaver.end_epoch(record.ordinal // EPOCH, record.received)
        # As it is when it comes from the weaver: texts are views.
        yield woven.events, woven.patches, [one.ordinal for one in frame]
        frame = []


def _agents(frames: Sequence[Frame]) -> list[tuple[str, str]]:
    """(service, agent id) of the agents, in a fixed order."""
    named = ((one, "service.name") for events, _, _ in frames for one in [events])
    known = pl.concat(
        one.filter(pl.col("otel_ir.agent.id_source") == "own").select(service, "otel_ir.agent.id").unique() for one, service in named
    )
    return known.unique().sort("otel_ir.agent.id").rows()


def _watched(frames: Sequence[Frame], agents: Sequence[tuple[str, str]], anchor: int) -> tuple[float, int]:
    """CPU seconds, and how many violations were counted."""
    watch = Contained()
    for number, (service, agent) in enumerate(agents):
        selectors = [{"otel_ir.agent.id": agent}, {"gen_ai.conversation.id": f"none-{number}"}]
        since = anchor + 60 * MINUTE if number else anchor - PAST - MINUTE
        made = Containment(
            action_id=f"act-{number}", state=ActionState.VERIFIED, verb="pause_agent", service=service, since=since, selectors=selectors
        )
        watch.control(made, 0)
    counts: dict[str, int] = {}
    began = time.process_time()
    for events, patches, ordinals in frames:
        alerts, raised = watch.fold(events, patches, "rules", dict.fromkeys(ordinals, 1))
        counts |= {alert.alert_id: 1 for alert in alerts} | {alert_id: count for _, alert_id, count in raised}
        if ordinals[-1] % EPOCH == EPOCH - 1:
            watch.end_epoch(1)
    return time.process_time() - began, sum(counts.values())


def _roster(frames: Sequence[Frame], agents: Sequence[tuple[str, str]]) -> float:
    roster, seen = Roster(), set()
    began = time.process_time()
    for events, patches, _ in frames:
        seen |= set(roster.take(events, patches)["agent_id"])
    seconds = time.process_time() - began
    assert seen == {agent for _, agent in agents}, f"{len(seen)} agents instead of {len(agents)}"
    return seconds


if __name__ == "__main__":
    main()
