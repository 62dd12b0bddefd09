"""``otel-ir backtest``: rules over kept evidence."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_ir.cli.output import Format, console, fail, note, print_rows
from otel_ir.cli.replay import RulesDir, load_ruleset
from otel_ir.cli.stores import DATA, Data, Form

if TYPE_CHECKING:
    from otel_ir.backtest import Backtest
    from otel_ir.model import Alert
    from otel_ir.sigma.ruleset import Correlation, Rule, RuleSet

_TABLE = ("severity", "rule", "agent", "day", "count", "first_time", "first_trace_id", "first_span_id", "blind")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_SECOND = 1_000_000_000
_BAD_TIME = "is no time: write 7d, 24h, 90m or a date like 2026-01-31 or 2026-01-31T08:00:00Z"

Since = Annotated[str, typer.Option("--since", metavar="TIME", help="From when: 7d, 24h, 90m ago, or a date and time (UTC).")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until when, exclusive; now if left out.", show_default=False)]
Evidence = Annotated[
    str | None, typer.Option("--evidence", help="Folder or URL of the evidence, where it is not in the data folder.", show_default=False)
]
Examples = Annotated[int, typer.Option(help="Examples of each rule, agent and day.", min=0, max=100)]


def backtest(
    since: Since, until: Until = None, rules: RulesDir = None, data: Data = DATA, evidence: Evidence = None, examples: Examples = 3,
    form: Form = Format.TABLE,
) -> None:  # fmt: skip
    """Rules over kept evidence: what would have fired, how often, on whom. A summary on stderr; nothing is written or done.

    Works while the server runs and when it does not.

    Examples:

        otel-ir backtest --since 7d                        # the shipped rules
        otel-ir backtest --since 24h --rules my-rules
        otel-ir backtest --since 2026-01-01 --until 2026-02-01 --format ndjson

    """
    from otel_ir.backtest import backtest as run

    now = time.time_ns()
    start, end = _time(since, now, "--since"), _time(until, now, "--until") if until else now
    if start >= end:
        raise typer.BadParameter("nothing lies between it and the end: give an earlier one", param_hint="--since")
    ruleset = load_ruleset(rules)
    place = data / "evidence"
    if evidence is None and not place.exists():
        raise fail(f"{place}: there is no evidence: give the folder of `otel-ir serve` with --data, or its place with --evidence")
    with _progress() as advance:
        found = run(evidence or str(place), ruleset, start, end, examples=examples, on_rows=advance)
    judged: list[Rule | Correlation] = [*(rule for rule in ruleset.rules if rule.alerts), *ruleset.correlations]
    rows = [row for one in judged for row in _rows(found, one)]
    print_rows([row | _first(row) for row in rows] if form is Format.TABLE else rows, form, columns=_TABLE)
    _summary(found, ruleset)


def _time(text: str, now: int, option: str) -> int:
    """Unix nanoseconds of a time as people write it."""
    from datetime import UTC, datetime

    if ago := _AGO.fullmatch(text.strip()):
        return max(0, now - int(ago[1]) * _UNITS[ago[2]] * _SECOND)
    try:
        moment = datetime.fromisoformat(text.strip())
        found = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000) * 1_000
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} {_BAD_TIME}", param_hint=option) from None
    if not 0 <= found < 1 << 62:
        raise typer.BadParameter(f"{text!r} is before 1970 or too late", param_hint=option)
    return found


def _rows(found: Backtest, one: Rule | Correlation) -> Iterator[dict[str, Any]]:
    """A row for each agent and day; one with the count 0 for a rule that did not fire, with none for one that could not be judged."""
    from otel_ir.timefmt import rfc3339

    blind = list(found.blind.get(one.id, ()))
    partly = {name: rfc3339(at) for name, at in found.partly.get(one.id, {}).items()}
    rule = {"rule_id": one.id, "rule": one.signal, "severity": one.severity}
    rest = {"blind": blind, "values_since": partly}
    counted = sorted((key, count) for key, count in found.counts.fired.items() if key.rule_id == one.id)
    for key, count in counted:
        shown = [_example(alert) for alert in found.counts.examples[key]]
        yield rule | {"agent": key.agent_id, "day": key.day, "count": count, "examples": shown} | rest
    if not counted:
        yield rule | {"agent": None, "day": None, "count": None if blind or not found.events else 0, "examples": []} | rest


def _example(alert: Alert) -> dict[str, Any]:
    from otel_ir.timefmt import rfc3339

    return {
        "event_time": rfc3339(alert.event_time),
        "trace_id": alert.trace_id,
        "span_id": alert.span_id,
        "description": alert.description,
    }


def _first(row: dict[str, Any]) -> dict[str, Any]:
    """What a table shows of the examples."""
    first = row["examples"][0] if row["examples"] else {}
    told = {f"first_{name.removeprefix('event_')}": first.get(name) for name in ("event_time", "trace_id", "span_id")}
    return told | {"count": "blind" if row["blind"] and not row["count"] else row["count"]}


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing where nobody looks."""
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield lambda _done, _all: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=terminal, transient=True) as progress:
        task = progress.add_task("backtest", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _summary(found: Backtest, ruleset: RuleSet) -> None:
    from otel_ir.timefmt import rfc3339

    if found.first is None or found.last is None:
        note("no events in this span of time: nothing can be said of any rule")
        return
    span = f"{found.events} events from {rfc3339(found.first)} to {rfc3339(found.last)}"
    note(f"{span}, {found.counts.fired.total()} alerts; {found.warm_up_events} events from before, to fill windows")
    signals = {one.id: one.signal for one in (*ruleset.rules, *ruleset.correlations)}
    for rule, columns in found.blind.items():
        note(f"{signals[rule]}: blind: evidence has no value of {', '.join(columns)}")
    for rule, since in found.partly.items():
        told = ", ".join(f"{name} since {rfc3339(at)}" for name, at in since.items())
        note(f"{signals[rule]}: evidence has {told} only")
    if found.counts.evicted:
        note(f"{found.counts.evicted} rows of window state were dropped at its bounds; counts may be too low")
