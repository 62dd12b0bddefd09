"""``python -m benchmarks.agent_rules``: what rules about agents cost an event of the detector, against their number and the frame's height.

Generated rules in the style of shipped ones (a tool and a part of an argument, words in a prompt, errors, handoffs), over event frames in
which seven of ten are tool calls. Which event matches which rule is planned, and every case asserts that exactly these matches are found.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml

EVENTS = 32_768
PLANTED = 50
"""One event in so many is planned to match a rule."""
SERVICES = ("tool_call",) * 14 + ("model_output",) * 5 + ("agent_invocation",)
"""Of events. Of rules: one in ten is about retrievals, handoffs or guardrails, of which there are none."""
TOOLS = ("search_docs", "read_ticket", "update_ticket", "http_request", "send_email", "database_query", "file_read", "calculator")
PROSE = "The order was shipped on Monday and should arrive within three working days; the customer asked for another address. " * 8


class Case(NamedTuple):
    """One line of the table."""

    rules: int
    height: int
    cpu_us_per_event: float
    peak_mib: float
    matches: int


def service(number: int) -> str:
    """The event type that rule ``number`` looks at."""
    if number % 10 == 9:
        return ("retrieval", "handoff", "guardrail")[number // 10 % 3]
    return "model_output" if number % 10 >= 7 else "tool_call"


def needle(number: int) -> str:
    """A word that only rule ``number`` looks for."""
    return "".join(chr(97 + int(digit)) for digit in f"{number * 7919 % 100_000:05d}") + "z"


def rule(number: int) -> dict[str, Any]:
    """The rule that looks for the word ``needle(number)``."""
    kind, word = service(number), needle(number)
    selection: dict[str, Any] = {"gen_ai.tool.call.arguments|contains": [f"{word}1", f"{word}2"], "gen_ai.tool.name": list(TOOLS[:6])}
    if kind == "model_output":
        selection = {"gen_ai.output.messages|contains": word}
    elif kind != "tool_call":
        selection = {"gen_ai.tool.call.result|contains": word}
    elif number % 10 == 5:
        selection = {"gen_ai.tool.call.arguments|re": f"{word}[0-9]+", "error": False}
    elif number % 10 == 6:
        selection = {"error.message|contains": word}
    return {
        "title": f"Generated rule {number}",
        "id": str(uuid.UUID(int=number + 1)),
        "logsource": {"product": "opentelemetry", "category": "ai_agent", "service": kind},
        "detection": {"selection": selection, "filter": {"user.id|startswith": "test-"}, "condition": "selection and not filter"},
        "level": "medium",
    }


def frame(first: int, height: int, rules: int) -> tuple[pl.DataFrame, int]:
    """Events (``EVENT_SCHEMA``), and how many matches there are among them."""
    from otel_ir.model import EVENT_SCHEMA

    rows, expected = [], 0
    for number in range(first, first + height):
        chance = random.Random(number)
        kind = chance.choice(SERVICES)
        row: dict[str, Any] = {"event.type": kind, "event_time": number, "user.id": chance.choice(["ann", "test-1"]), "error": False}
        wanted = number // PLANTED % rules if number % PLANTED == 0 else None
        word = _written(wanted)
        if kind == "tool_call":
            row |= {"gen_ai.tool.name": chance.choice(TOOLS[:6]), "gen_ai.tool.call.result": PROSE[:300]}
            row["gen_ai.tool.call.arguments"] = json.dumps({"query": f"{PROSE[:200]} {word}", "customer": number})
        elif kind == "model_output":
            row |= {"gen_ai.input.messages": PROSE, "gen_ai.output.messages": f"{PROSE[:500]} {word}", "gen_ai.request.model": "m"}
        found = wanted is not None and service(wanted) == kind and wanted % 10 != 6 and row["user.id"] == "ann"
        expected += found
        rows.append(row)
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in EVENT_SCHEMA}, schema=EVENT_SCHEMA), expected


def _written(wanted: int | None) -> str:
    """What an event says so that a rule matches; patterns mind the case."""
    if wanted is None:
        return "-"
    return f"{needle(wanted)}1" if wanted % 10 == 5 else f"{needle(wanted).upper()}1"


def run(folder: str, rules: int, height: int, events: int) -> None:
    """One case, in a process of its own; prints its figures."""
    from otel_ir.sigma import load_rules, matches

    ruleset, errors = load_rules([Path(folder)])
    assert not errors, errors[:3]
    found = expected = 0
    spent = 0.0
    for first in range(0, events, height):
        made, planned = frame(first, height, rules)
        began = time.process_time()
        found += int(sum(column.sum() for column in matches(ruleset.rules, made)))
        spent += time.process_time() - began
        expected += planned
    assert found == expected, f"{rules} rules: {found} matches instead of {expected}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([rules, height, spent / events * 1e6, peak, found]))


def case(rules: int, height: int, events: int = EVENTS) -> Case:
    """Generates the rules, and runs them in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="otel-ir-bench-") as work:
        for first in range(0, rules, 100):
            documents = [rule(number) for number in range(first, min(first + 100, rules))]
            (Path(work) / f"{first}.yml").write_text(yaml.safe_dump_all(documents, sort_keys=False))
        code = f"from benchmarks.agent_rules import run; run({work!r}, {rules}, {height}, {events})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        return Case(*json.loads(done.stdout))


def main(numbers: list[int], heights: list[int], events: int) -> None:
    """Prints the table."""
    names = ("rules", "events a frame", "CPU µs an event", "times the first", "peak MiB", "matches")
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for height in heights:
        first = 0.0
        for rules in numbers:
            one = case(rules, height, events)
            first = first or one.cpu_us_per_event
            print(
                f"| {one.rules:,} | {one.height:,} | {one.cpu_us_per_event:,.1f} | {one.cpu_us_per_event / first:.1f} "
                f"| {one.peak_mib:,.0f} | {one.matches:,} |",
                flush=True,
            )


if __name__ == "__main__":
    main([30, 300, 1000], [512, 16_384], EVENTS)
