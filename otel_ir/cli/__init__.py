"""The command line. Each command stands in a file of its own and imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_ir import __version__
from otel_ir.cli.agents import agents
from otel_ir.cli.backtest import backtest
from otel_ir.cli.demo import demo
from otel_ir.cli.doctor import doctor
from otel_ir.cli.drill import drill
from otel_ir.cli.events import events
from otel_ir.cli.hands import contain, release
from otel_ir.cli.incidents import incidents
from otel_ir.cli.investigate import investigate, postmortem
from otel_ir.cli.ledger import actions, alerts
from otel_ir.cli.preflight import preflight
from otel_ir.cli.replay import replay
from otel_ir.cli.rules import rules_app
from otel_ir.cli.serve import serve
from otel_ir.errors import OtelIrError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Incident detection and response for AI agents, on OpenTelemetry.",
    epilog="Exit status: 0 it ran, 1 it failed or found faults, 2 wrong usage.",
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        typer.echo(f"otel-ir {__version__}")
        raise typer.Exit


COMMANDS = (
    serve, demo, events, replay, backtest, alerts, actions, agents, doctor, contain, release, preflight, drill, incidents, investigate,
    postmortem,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(rules_app, name="rules")


def main() -> None:
    """Entry point of ``otel-ir``. Faults of the operator's making are one clear line, not a traceback."""
    from otel_ir.cli.output import EXIT_FAILED, print_error

    try:
        app()
    except OtelIrError as error:
        print_error(error)
        raise SystemExit(EXIT_FAILED) from None
    except BrokenPipeError:
        raise SystemExit(EXIT_FAILED) from None
