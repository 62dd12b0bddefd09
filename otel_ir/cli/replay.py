"""``otel-ir replay``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.output import Format, console, fail, note, print_line, print_rows

if TYPE_CHECKING:
    from otel_ir.offline import Replay
    from otel_ir.sigma.ruleset import RuleSet

RulesDir = Annotated[Path | None, typer.Option("--rules", metavar="DIR", help="Rules; the shipped ones if left out.", show_default=False)]

_TABLE = ("event_time", "agent.threat.detection.severity", "otel_ir.alert.signal", "otel_ir.agent.id", "description")


def replay(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="OTLP files or folders: JSON, JSON lines, .binpb; may be gzipped.")
    ],
    rules: RulesDir = None,
    alerts: Annotated[
        Path | None, typer.Option("--alerts", metavar="FILE", help="Write the alerts here, not to stdout.", show_default=False)
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.NDJSON,
) -> None:
    """The engine over files: alerts on stdout, a summary on stderr.

    Example: `otel-ir replay spans.jsonl --rules my-rules --format table`
    """
    from otel_ir.offline import replay as run

    ruleset = load_ruleset(rules)
    total = sum(file.stat().st_size for path in paths for file in _files(path))
    with _progress(total) as advance:
        found = run(paths, ruleset, advance)
    rows = [alert.to_row() | {"otel_ir.alert.count": found.counts.get(alert.alert_id, 1)} for alert in found.alerts]
    if alerts:
        try:
            with alerts.open("w", encoding="utf-8") as out:
                for row in rows:
                    print_line(row, out)
        except OSError as error:
            raise fail(f"{alerts}: cannot be written: {error.strerror}") from None
    else:
        print_rows(rows, form, columns=_TABLE)
    _summary(found)


def load_ruleset(rules: Path | None) -> RuleSet:
    """The rules of a folder or a file. Exits with status 1 and all errors when there are any."""
    from otel_ir.rules_path import shipped_rules
    from otel_ir.sigma import load_rules

    ruleset, errors = load_rules([rules or shipped_rules()])
    if errors:
        raise fail(*errors)
    return ruleset


def _files(path: Path) -> list[Path]:
    from otel_ir.otlp_files import otlp_files

    return otlp_files(path)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing where nobody looks."""
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield lambda _size: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=terminal, transient=True) as progress:
        task = progress.add_task("replay", total=total)
        yield lambda size: progress.advance(task, size)


def _summary(found: Replay) -> None:
    by_severity = {name: sum(alert.severity == name for alert in found.alerts) for name in ("critical", "high", "medium", "low")}
    told = ", ".join(f"{count} {name}" for name, count in by_severity.items() if count) or "none"
    note(f"{found.records} requests, {found.events} events, {len(found.alerts)} alerts ({told})")
    if found.evicted:
        note(f"{found.evicted} rows of window state were dropped at its bounds; counts may be too low")
