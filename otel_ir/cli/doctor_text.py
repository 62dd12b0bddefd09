"""What ``otel-ir doctor`` shows to people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from otel_ir.cli.output import clean, console

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red"}
_LABEL = 10
_MOST = 12
"""Entries of one list that are shown."""


def print_told(told: dict[str, Any]) -> None:
    """Checks, services with something to say, agents."""
    out = console()
    for one in told["checks"]:
        line = Text(f"{one['result']:<8}", style=_STYLES[one["result"]])
        line.append(f"{one['check']:<12}", style="bold").append(clean(one["detail"]), style="")
        if one["hint"]:
            line.append(f"  ({clean(one['hint'])})", style="dim")
        out.print(line, soft_wrap=True)
    for service in told["services"]:
        for text in service["notes"]:
            name = clean(service["service.name"]) or "(no service.name)"
            out.print(Text(f"\n{name}", style="bold").append(f"  {clean(text)}", style="yellow"), soft_wrap=True)
    for agent in told["agents"]:
        out.print("")
        for line in _agent(agent):
            out.print(line, soft_wrap=True)


def _agent(agent: dict[str, Any]) -> Iterator[Text]:
    dialects = ", ".join(f"{one['dialect'] or '?'}{' (a guess)' if one['guess'] else ''}" for one in agent["dialects"])
    types = ", ".join(f"{count} {name}" for name, count in agent["types"].items())
    yield Text(clean(agent["otel_ir.agent.id"]), style="bold").append(f"  {clean(dialects)}  {clean(types)}", style="")
    if not agent["missing"] and not agent["blind"] and not agent["lost"]:
        yield _line("ok", "nothing is missing", "green")
    for one in agent["missing"]:
        yield _line("missing", f"{one['what']} on {one['events']} of {one['of']}: {one['why']}", "yellow")
    for name, count in agent["lost"].items():
        if name != "absent":
            yield _line("lost", f"{name} on {count} of {agent['events']} events", "yellow")
    for one in agent["blind"][:_MOST]:
        how = "can never fire" if one["wholly"] else f"does not see {one['events']} of {one['of']} events"
        style = "" if one["attribute"] else "bold red" if one["wholly"] else "yellow"
        yield _line("blind", f"{one['signal']} ({one['severity']}) {how}: it needs {', '.join(one['needs'])}", style)
    if len(agent["blind"]) > _MOST:
        yield _line("blind", f"and {len(agent['blind']) - _MOST} more (--format json)", "")
    for one in agent["remedies"][:_MOST]:
        note = f" ({one['note']})" if one["note"] else ""
        yield _line("switch on", f"{one['setting']} -> {', '.join(one['gives'])}{note}", "cyan")
    for text in agent["notes"]:
        yield _line("note", text, "")


def _line(label: str, text: str, style: str) -> Text:
    return Text(f"  {label:<{_LABEL}}", style="dim").append(clean(text), style=style)
