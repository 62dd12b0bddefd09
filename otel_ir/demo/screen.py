"""What one sees of the demo: one line a happening, a box for an alert where there is a terminal. Colors only where they are wanted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from otel_ir.cli.output import clean
from otel_ir.demo.desk import BENIGN, HIJACKED, SERVICE
from otel_ir.demo.happenings import Acted, Answered, Blocked, Called, Happening, LetGo, Raised, Result, Started

INTRO = (
    "Two support agents, the same program with the same tools. The ticket of one carries an instruction.",
    "Only the model is scripted: framework, telemetry, server, rules and hook are real. Nothing leaves this machine.",
)
_NAMES = {HIJACKED: "yellow", BENIGN: "green", "server": "blue", "response": "magenta", "release": "cyan"}
_STATES = {"verified": "bold green", "unverified": "yellow", "failed": "bold red", "dry_run": "cyan", "released": "cyan"}
_INDENT = 19
_WIDEST = 40
"""Characters shown of an argument."""


class Screen:
    """Shows happenings as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def intro(self) -> None:
        """What one is about to see."""
        for line in INTRO:
            self._print(Text(line, style="dim"))
        self._print(Text())

    def show(self, happening: Happening) -> None:
        """One happening."""
        match happening:
            case Started():
                self._line("server", Text(f"takes OTLP at {happening.endpoint}; hooks go to {happening.hook}"))
            case Called():
                self._line(happening.agent, _call(happening))
                if happening.tool == "read_ticket":
                    self._aside(Text(f"“{clean(' '.join(happening.result.split()))}”", style="italic dim"))
            case Answered():
                self._line(happening.agent, Text(clean(happening.text), style="dim"))
            case Raised():
                self._alert(happening)
            case Acted():
                self._acted(happening)
            case Blocked():
                refused = Text.assemble((clean(happening.tool), "bold"), ("  BLOCKED", "bold green"), ": it did not run")
                self._line(happening.agent, refused)
                self._aside(Text(f"“{clean(happening.reason)}”", style="italic dim"))
            case LetGo():
                action = happening.action
                told = Text.assemble((f"{action.state.value:<11}", _STATES.get(action.state.value, "")), (clean(action.detail), "dim"))
                self._line("release", Text.assemble(f"{action.adapter:<5} {action.verb:<19}", told))

    def _alert(self, raised: Raised) -> None:
        alert = raised.row.alert
        where = f", conversation {alert.conversation_id}" if alert.conversation_id else ""
        facts = [("why", Text(clean(alert.description))), ("who", Text(clean(f"{alert.agent_id}{where}")))]
        facts += [("evidence", Text.assemble((f"span {call.span_id}  ", "dim"), _call(call))) for call in raised.evidence]
        facts.append(("tags", Text(clean(", ".join(alert.tags)), style="dim")))
        heading = Text(f"ALERT {alert.severity} · {clean(alert.signal)}", style="bold red")
        if self._console.is_terminal:
            self._print(Panel(_grid(facts), title=heading, title_align="left", border_style="red"))
            return
        self._line("server", heading)
        for name, fact in facts:
            self._aside(Text.assemble(f"{name:<10}", fact))

    def _acted(self, acted: Acted) -> None:
        action, alert = acted.action, acted.alert.alert
        state = Text(f"{action.state.value:<11}", style=_STATES.get(action.state.value, ""))
        at = action.verified_at or action.dispatched_at
        took = f"{(at - alert.received) / 1e9:.2f} s after the span" if at else "never sent"
        path = " > ".join(acted.steps[1:])
        self._line("response", Text.assemble(f"{action.adapter:<5} {action.verb:<19}", state, (f"{took} · {path}", "dim")))
        self._aside(Text(clean(action.detail), style="dim"))

    def summary(self, result: Result, commands: Iterable[tuple[str, str]]) -> None:
        """What it came to, and where to go next."""
        facts = []
        for name in (HIJACKED, BENIGN):
            signals = [row.alert.signal for row in result.alerts if row.alert.agent_id == f"{SERVICE}/{name}"]
            told = f"{_count(len(signals), 'alert')}: {', '.join(signals)}" if signals else "silent"
            facts.append((name, Text(clean(f"{_count(result.events.get(name, 0), 'call')} judged, {told}"))))
        verified = sum(action.verified_at is not None for action in result.actions)
        told = f"{_count(len(result.actions), 'action')}, {verified} verified, {_count(len(result.blocked), 'call')} blocked"
        facts.append(("response", Text(told)))
        states = dict.fromkeys(row.state.value for row in result.incidents)
        facts.append(
            ("incident", Text(", ".join(f"{row.incident_id} {row.state.value}" for row in result.incidents) if states else "none"))
        )
        facts.append(("report", Text(str(result.postmortem) if result.postmortem else "none")))
        self._print(Text())
        self._rows(facts)
        if result.seconds_to_dispatch is not None and result.seconds_to_receive is not None:
            proof = f", {result.seconds_to_verified:.2f} s to the proof that it holds" if result.seconds_to_verified is not None else ""
            times = (result.seconds_to_receive, result.seconds_to_dispatch)
            self._print(
                Text(
                    "\n{:.2f} s from the harmful call to the receipt of its span; from there {:.2f} s to the first step".format(*times)
                    + proof
                    + "."
                )
            )
            self._print(
                Text(
                    "verified: a canary call through the guard was stopped. unverified: the hook acknowledged, nothing proves it.",
                    style="dim",
                )
            )
        for problem in result.problems:
            self._print(Text(clean(f"not as it should be: {problem}"), style="bold red"))
        self._print(Text("\nNext"))
        self._rows([(f"  {command}", Text(meaning, style="dim")) for command, meaning in commands])

    def _rows(self, rows: list[tuple[str, Text]]) -> None:
        width = max(len(name) for name, _ in rows)
        for name, fact in rows:
            self._print(Text.assemble((f"{clean(name):<{width}}   ", _NAMES.get(name, "bold")), fact))

    def _line(self, name: str, what: Text) -> None:
        at = Text(f"{time.monotonic() - self._began:5.1f} s  ", style="dim")
        head = Text.assemble(at, (f"{name:<9} ", _NAMES.get(name, "")))
        if not self._console.is_terminal:
            self._print(head + what)
            return
        row = Table.grid()
        row.add_column(width=_INDENT)
        row.add_column(overflow="fold")
        row.add_row(head, what)
        self._print(row)

    def _aside(self, what: Text) -> None:
        """Under the line before; on a terminal it stays there when it wraps."""
        self._print(Padding(what, (0, 0, 0, _INDENT)) if self._console.is_terminal else Text.assemble(" " * _INDENT, what))

    def _print(self, what: RenderableType) -> None:
        # Where nobody looks a line is a line, however long.
        self._console.print(what, soft_wrap=not self._console.is_terminal)


def _grid(facts: list[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for fact in facts:
        grid.add_row(*fact)
    return grid


def _call(call: Called) -> Text:
    return Text.assemble((clean(call.tool), "bold"), f"({_arguments(call.arguments)})")


def _arguments(arguments: Mapping[str, str]) -> str:
    short = (" ".join(value.split()) for value in arguments.values())
    return ", ".join(
        f"{name}={clean(value if len(value) <= _WIDEST else value[: _WIDEST - 1] + '…')}"
        for name, value in zip(arguments, short, strict=True)
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
