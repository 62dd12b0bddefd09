"""``otel-ir rules eval``: any Sigma rules over any events."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, console, fail, note, print_error, print_rows

if TYPE_CHECKING:
    from otel_ir.detect.over_events import Match, OverEvents
    from otel_ir.sigma.evaluate import Evaluator, Hit

Pipelines = Annotated[
    list[Path] | None,
    typer.Option(
        "--pipeline", metavar="FILE", help="pySigma processing pipeline, applied to the rules; may be repeated.", show_default=False
    ),
]
Placeholders = Annotated[
    Path | None,
    typer.Option(
        "--placeholders", metavar="FILE", help="Values of %placeholders% ('expand'): YAML, NAME: [value, ...].", show_default=False
    ),
]
TimeField = Annotated[
    str | None,
    typer.Option(
        "--time-field",
        metavar="NAME",
        help="Where the time of an event stands, for correlations; the first usual name that holds one (docs/rules.md) if left out.",
        show_default=False,
    ),
]
SHOWN = 20
"""Lines that are no events, of which each is told; the rest is counted."""


def evaluate(
    rules: Annotated[Path, typer.Argument(metavar="DIR", help="Folder or file of Sigma rules, of any product.")],
    events: Annotated[str, typer.Argument(metavar="EVENTS.ndjson", help="Events, one JSON object a line; - for stdin.")],
    pipeline: Pipelines = None,
    placeholders: Placeholders = None,
    time_field: TimeField = None,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.NDJSON,
) -> None:
    """Any Sigma rules over any events, fields as they are: one match per line, {"rule_id", "event"}, of correlations with their "events".

    Correlations come at the end, when all events are known. Rules that cannot be loaded and lines that are no events are told and
    counted on stderr. Status 1 if nothing could be run.
    """
    from otel_ir.detect.over_events import OverEvents
    from otel_ir.sigma.evaluate import Evaluator
    from otel_ir.sigma.load import read_library
    from otel_ir.sigma.pipeline import load_pipeline

    library = read_library([rules], load_pipeline(pipeline or [], placeholders))
    evaluator = Evaluator(library, _Told(events).line)
    for error in library.errors:
        print_error(error)
    if not library.entries:
        raise typer.Exit(EXIT_FAILED)
    per_rule = Counter[str]()
    mended = Counter[str]()
    correlated = OverEvents(evaluator.correlations, evaluator.loud, time_field)
    with correlated, _open(events) as stream, _progress(events) as advance:
        evaluator.heard = correlated.hear if evaluator.correlations else None
        hits = evaluator.hits(_lines(stream, advance, mended))
        _print(_counted(chain(hits, correlated.matches()), per_rule), form)
    _summary(evaluator, per_rule, mended["lines"])
    _left_out(correlated)


class _Told:
    """Tells the first lines that are no events, each with its number."""

    def __init__(self, path: str) -> None:
        self.path, self.count = path, 0

    def line(self, number: int, why: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            print_error(f"{self.path}:{number}: {why}: the line is skipped")
        elif self.count == SHOWN + 1:
            print_error(f"{self.path}:{number}: more such lines are counted only")


def _summary(evaluator: Evaluator, per_rule: Counter[str], mended: int) -> None:
    refused = len(evaluator.library.refused)
    note(
        f"{per_rule.total():,} matches of {len(per_rule):,} rules in {evaluator.events:,} events; "
        f"{len(evaluator.entries):,} rules run, {refused:,} not loaded{' (why stands above)' if refused else ''}, "
        f"{evaluator.skipped:,} lines skipped, {len(evaluator.correlations):,} correlations run"
    )
    if mended:
        note(f"{mended:,} lines held bytes that are no UTF-8; they were read with U+FFFD in their place")


def _left_out(correlated: OverEvents) -> None:
    """What correlations would have looked at, and could not."""
    if correlated.untimed:
        where = "--time-field names where" if len(correlated.time_fields) > 1 else f"--time-field {correlated.time_fields[0]} is not where"
        what = f"{correlated.untimed:,} events that rules of a correlation match hold no readable time and took no part in it"
        note(f"{what}: {where} it stands in them")
    if correlated.cut:
        note(f"{correlated.cut:,} events were left out of correlations, as too much was kept already: run fewer of them, or fewer events")


def _counted(hits: Iterator[Hit | Match], per_rule: Counter[str]) -> Iterator[Hit | Match]:
    for hit in hits:
        per_rule[hit.rule_id] += 1
        yield hit


def _print(hits: Iterator[Hit | Match], form: Format) -> None:
    """NDJSON repeats the event as it was written: digits, escapes and repeated keys are those of its line."""
    if form is Format.NDJSON:
        for hit in hits:
            more = "" if (group := hit.group) is None else f',"events":[{",".join(hit.lines)}],"group":{_json(group)}'
            sys.stdout.write(f'{{"rule_id":{_json(hit.rule_id)},"event":{hit.line}{more}}}\n')
    else:
        print_rows((_row(hit) for hit in hits), form)


def _row(hit: Hit | Match) -> dict[str, Any]:
    row = {"rule_id": hit.rule_id, "event": _printable(json.loads(hit.line))}
    return row if (group := hit.group) is None else row | {"events": [_printable(json.loads(line)) for line in hit.lines], "group": group}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _printable(event: dict[str, Any]) -> Any:
    """JSON may hold half a surrogate pair, which no output can."""
    return json.loads(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace"))


@contextmanager
def _open(path: str) -> Iterator[IO[bytes]]:
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as stream:
            yield stream
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise fail(f"{path}: cannot be read: {error.strerror}") from None


def _lines(stream: IO[bytes], advance: Callable[[int], None], mended: Counter[str]) -> Iterator[str]:
    """Lines without their break. Of one that is too long only so much that this shows is kept."""
    from otel_ir.sigma.evaluate import MAX_LINE

    while line := stream.readline(MAX_LINE + 2):
        rest = line
        while not rest.endswith(b"\n") and (rest := stream.readline(MAX_LINE)):
            advance(len(rest))
        advance(len(line))
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            mended["lines"] += 1
            text = line.decode("utf-8", "replace")
        yield text.removeprefix("\ufeff").strip()


@contextmanager
def _progress(path: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal to which the matches do not go themselves."""
    terminal = console(stderr=True)
    if not terminal.is_terminal or sys.stdout.isatty():
        yield lambda _size: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    total = Path(path).stat().st_size if path != "-" else None
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, redirect_stdout=False) as progress:  # stdout is what scripts read
        task = progress.add_task("eval", total=total)
        yield lambda size: progress.advance(task, size)
