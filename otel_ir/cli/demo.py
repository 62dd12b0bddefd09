"""``otel-ir demo``."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, console, fail, print_error

if TYPE_CHECKING:
    from rich.console import Console

    from otel_ir.demo.happenings import Result
    from otel_ir.demo.screen import Screen

SVG_WIDTH = 112


def demo(
    form: Annotated[Format, typer.Option("--format", help="table: watch it; json: one object at the end.")] = Format.TABLE,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep all files in this new folder.", show_default=False)] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw what was shown as a picture.", show_default=False)] = None,
) -> None:
    """An agent is hijacked by a ticket it reads: alert, proven containment, blocked call, release, post-mortem. Its benign twin works on.

    Offline, in a few seconds.

    Example: `otel-ir demo --keep otel-ir-demo`, then `otel-ir alerts --data otel-ir-demo/otel-ir-data`
    """
    if importlib.util.find_spec("pydantic_ai") is None:
        raise fail("the demo's agent framework is not installed: pip install 'otel_ir[demo]'")
    if form is Format.NDJSON:
        raise typer.BadParameter("table or json", param_hint="--format")
    from otel_ir.demo.run import run
    from otel_ir.demo.screen import Screen
    from otel_ir.processes import Failed, Interrupted, catching

    screens = [] if form is Format.JSON else [Screen(_console())]
    drawing = _drawing() if svg else None
    if drawing:
        screens.append(Screen(drawing))
    try:
        with catching() as interrupt, _folder(keep) as folder:
            _all(screens, lambda screen: screen.intro())
            result = run(folder, lambda happening: _all(screens, lambda screen: screen.show(happening)), interrupt, _reports(keep))
    except Failed as error:
        raise fail(f"the demo failed: {error}") from None
    except Interrupted as error:
        print_error(f"the demo was ended by {error}; nothing is left behind")
        raise typer.Exit(128 + error.number) from None
    _all(screens, lambda screen: screen.summary(result, _next(keep)))
    if drawing and svg:
        _draw(drawing, svg)
    _finish(result, form)


def _finish(result: Result, form: Format) -> None:
    if form is Format.JSON:
        sys.stdout.write(json.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n")
    if result.problems:
        if form is Format.JSON:
            for problem in result.problems:
                print_error(f"not as it should be: {problem}")
        raise typer.Exit(EXIT_FAILED)


def _reports(keep: Path | None) -> Path | None:
    """Where the post-mortem goes: what is to be looked at afterwards must not be in a folder that goes away."""
    return None if keep else Path(tempfile.gettempdir()) / "otel-ir-demo-reports"


def _next(keep: Path | None) -> list[tuple[str, str]]:
    if keep:
        look = (f"otel-ir alerts --data {keep / 'otel-ir-data'}", "what the ledger says now (and otel-ir actions)")
    else:
        look = ("otel-ir demo --keep otel-ir-demo", "the same, with its files to look at")
    return [
        look,
        ("otel-ir rules explain suspicious_tool_sequence", "what the rule does, in words"),
        ("otel-ir serve", "for your own agents: OTLP on ports 4317 and 4318"),
    ]


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A folder that goes away again, or the one to be kept, which must be new or empty."""
    try:
        if keep is None:
            with tempfile.TemporaryDirectory(prefix="otel-ir-demo-", ignore_cleanup_errors=True) as name:
                yield Path(name)
            return
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise typer.BadParameter(f"{keep} is not empty", param_hint="--keep")
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}") from None
    yield keep.resolve()


def _console() -> Console:
    # A terminal of another encoding shows a question mark instead of ending the demo.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return console()


def _drawing() -> Console:
    from rich.console import Console

    return Console(
        record=True,
        file=io.StringIO(),
        width=SVG_WIDTH,
        force_terminal=True,
        color_system="truecolor",
        markup=False,
        highlight=False,
        emoji=False,
    )


def _draw(drawing: Console, svg: Path) -> None:
    """The picture names no font of the web: whoever shows it fetches nothing."""
    import re

    from rich._export_format import CONSOLE_SVG_FORMAT

    form = re.sub(r"\s*@font-face \{\{.*?\}\}|\s*<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg.write_text(drawing.export_svg(title="otel-ir demo", code_format=form), encoding="utf-8")


def _all(screens: list[Screen], do: Callable[[Screen], None]) -> None:
    for screen in screens:
        do(screen)
