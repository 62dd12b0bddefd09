"""What ``otel-ir doctor`` shows to people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_ir.cli.output import clean, console, name

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red"}
_LABEL = 10
_MOST, _MOST_AGENTS, _MOST_SERVICES = 12, 20, 50
"""Entries of one list, agents of one service, and services that are shown."""
_FEW, _NOTE, _VERSION = 3, 1000, 40
_Row = dict[str, Any]


class _Line(NamedTuple):
    """One line: how far it is indented, its label, what it says."""

    indent: int
    label: str
    text: str
    style: str = ""


def print_told(told: _Row) -> None:
    """Checks, then each service with its agents, then what to switch on over all of them."""
    out = console()
    for one in told["checks"]:
        line = Text().append(f"{one['result']:<8}", style=_STYLES[one["result"]]).append(f"{one['check']:<12}", style="bold")
        line.append(clean(one["detail"]))
        if one["hint"]:
            line.append(f"  ({clean(one['hint'])})", style="dim")
        out.print(line, soft_wrap=True)
    of: dict[tuple[str, str], list[_Row]] = {}
    for agent in told["agents"]:
        of.setdefault((agent["otel_ir.tenant"], agent["service.name"]), []).append(agent)
    for service in told["services"][:_MOST_SERVICES]:
        _print(out, _service(service))
        agents = of.get((service["otel_ir.tenant"], service["service.name"]), [])
        for agent in agents[:_MOST_AGENTS]:
            _print(out, _agent(agent))
        if len(agents) > _MOST_AGENTS:
            _print(out, [_Line(2, "", f"and {len(agents) - _MOST_AGENTS} agents more (--format json)")])
    if len(told["services"]) > _MOST_SERVICES:
        _print(out, [_Line(0, "", f"and {len(told['services']) - _MOST_SERVICES} services more (--service NAME, --format json)")])
    if len(told["services"]) > 1 and told["switch_on"]:
        out.print("")
        _print(out, [_Line(0, "", "over all services, what helps most first", "bold")])
        _print(out, _settings(told["switch_on"]))


def _service(service: _Row) -> Iterator[_Line]:
    title = name(service["service.name"]) or "(no service.name)"
    tenant = f" of tenant {name(service['otel_ir.tenant'])}" if service["otel_ir.tenant"] else ""
    yield _Line(0, "", "")
    yield _Line(0, "", f"{title}{tenant}  {_count(service['spans'], 'span')}, {_count(service['logs'], 'log record')}", "bold")
    for one in service["scopes"][:_MOST]:
        version = f" {name(one['version'])}" if one["version"] else ""
        by = "nobody reads it" if one["dialect"] is None else f"{one['dialect']}{' (a guess)' if one['guess'] else ''}"
        yield _Line(2, "dialect", f"{by}: {one['rows']} of {name(one['scope']) or '(no scope)'}{version}")
    yield from _more(2, "dialect", service["scopes"])
    for text in service["notes"]:
        yield _Line(2, "note", name(text, _NOTE), "yellow")
    versions: dict[str, list[str]] = {}
    for one in service["scopes"]:
        if one["dialect"] is not None and one["version"]:
            versions.setdefault(one["dialect"], []).append(name(one["version"], _VERSION))
    yield from _settings(service["remedies"], versions)


def _settings(rows: list[_Row], versions: Mapping[str, list[str]] | None = None) -> Iterator[_Line]:
    """``versions``: of one service, by dialect; left out for what is said over all of them."""
    for one in rows[:_MOST]:
        where = ""
        if versions is None:
            few = ", ".join(name(service, 40) or "(no service.name)" for service in one["services"][:_FEW])
            dots = ", …" if len(one["services"]) > _FEW else ""
            where = f" for {_count(one['agents'], 'agent')} of {few}{dots}"
        sees = f"; {', '.join(one['unblinds'])} can see then" if one["unblinds"] else ""
        note = f" ({one['note']})" if one["note"] and versions is not None else ""
        emitters = ", ".join(" ".join((dialect, *_few((versions or {}).get(dialect, [])))) for dialect in one["dialects"])
        told = f"{one['setting']}{f' [{emitters}]' if emitters else ''} -> {', '.join(one['gives'])}{where}{sees}{note}"
        yield _Line(2, "switch on", told, "cyan")
    yield from _more(2, "switch on", rows)


def _few(versions: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(versions))
    return [*distinct[:_FEW], *(["…"] if len(distinct) > _FEW else [])]


def _agent(agent: _Row) -> Iterator[_Line]:
    dialects = ", ".join(f"{one['dialect'] or '?'}{' (a guess)' if one['guess'] else ''}" for one in agent["dialects"])
    types = ", ".join(f"{count} {kind}" for kind, count in agent["types"].items())
    yield _Line(0, "", "")
    yield _Line(2, "", f"{name(agent['otel_ir.agent.id'], 400)}  {clean(dialects)}  {types}", "bold")
    if not agent["missing"] and not agent["blind"] and not agent["lost"] and not agent["sampling"]:
        yield _Line(4, "ok", "nothing is missing", "green")
    for one in agent["missing"]:
        yield _Line(4, "missing", f"{one['what']} on {one['events']} of {one['of']}: {one['why']}", "yellow")
    for loss, count in agent["lost"].items():
        if loss != "absent":
            yield _Line(4, "lost", f"{loss} on {count} of {_count(agent['events'], 'event')}", "yellow")
    yield from _rules(agent)
    for text in agent["notes"]:
        yield _Line(4, "note", name(text, _NOTE))


def _rules(agent: _Row) -> Iterator[_Line]:
    """Correlations of one signal of which the same is to be said stand once."""
    lines = list(dict.fromkeys((*_blind(agent), *_sampled(agent))))
    yield from lines[:_MOST]
    yield from _more(4, lines[_MOST].label if len(lines) > _MOST else "", lines)


def _blind(agent: _Row) -> Iterator[_Line]:
    for one in agent["blind"]:
        how = "can never fire" if one["wholly"] else f"does not see {one['events']} of {_count(one['of'], 'event')}"
        how = "may fire falsely" if one["falsely"] else how
        style = "" if one["attribute"] else "bold red" if one["wholly"] else "yellow"
        needs = ", ".join(name(column) for column in one["needs"])
        yield _Line(4, "blind", f"{clean(one['signal'])} ({one['severity']}) {how}: it needs {needs}", style)


def _sampled(agent: _Row) -> Iterator[_Line]:
    for one in agent["sampling"]["rules"] if agent["sampling"] else []:
        detail = f": {one['detail']}" if one["detail"] else ""
        yield _Line(4, "sampled", f"{clean(one['signal'])} ({one['severity']}) {one['effect']}{detail}", "yellow")


def _more(indent: int, label: str, rows: list[Any]) -> Iterator[_Line]:
    if len(rows) > _MOST:
        yield _Line(indent, label, f"and {len(rows) - _MOST} more (--format json)")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print(out: Console, lines: Iterable[_Line]) -> None:
    """On a terminal a long line goes on below its text, elsewhere it stays one line."""
    for line in lines:
        label = f"{line.label:<{_LABEL}}" if line.label else ""
        start = " " * line.indent + label
        if out.is_terminal and len(start) + len(line.text) > out.width > len(start) + _LABEL:
            grid = Table.grid()
            grid.add_column(width=len(start), no_wrap=True)
            grid.add_column(overflow="fold")
            grid.add_row(Text(start, style="dim"), Text(line.text, style=line.style))
            out.print(grid)
        else:
            out.print(Text().append(start, style="dim").append(line.text, style=line.style), soft_wrap=True)
