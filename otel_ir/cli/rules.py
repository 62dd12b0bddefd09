"""``otel-ir rules``: check, lint, test, list, explain and evaluate rules, and their JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, fail, note, print_error, print_rows, say
from otel_ir.cli.rules_eval import Pipelines, Placeholders, evaluate
from otel_ir.errors import RuleError
from otel_ir.rules_path import shipped_rules

if TYPE_CHECKING:
    from otel_ir.sigma.load import Library
    from otel_ir.sigma.parse import Entry

rules_app = typer.Typer(help="Check, lint, test, list, explain and evaluate rules.", no_args_is_help=True)

_WHERE = "Folder or file of rules; the shipped ones if left out."
Rules = Annotated[Path | None, typer.Argument(metavar="[DIR]", help=_WHERE, show_default=False)]
RulesOption = Annotated[Path | None, typer.Option("--rules", help=_WHERE, show_default=False)]
One = Annotated[str | None, typer.Argument(metavar="[RULE]", help="Id, name or title; or a folder or file.", show_default=False)]
Form = Annotated[Format, typer.Option("--format", help="How to print.")]


@rules_app.command()
def check(rules: Rules = None, pipeline: Pipelines = None, placeholders: Placeholders = None, form: Form = Format.TABLE) -> None:
    """All errors of all files at once, as file:line:column: what: hint. Status 1 if there are any."""
    from otel_ir.sigma.testing import check_tests

    library = _load(rules, pipeline, placeholders)
    errors = sorted([*library.errors, *check_tests(library)], key=lambda error: (error.path, error.line, error.column))
    _print_findings(errors, form)
    if errors:
        raise typer.Exit(EXIT_FAILED)
    if form is Format.TABLE:
        say(f"{_count(library)}, no errors")


@rules_app.command()
def lint(rules: Rules = None, pipeline: Pipelines = None, placeholders: Placeholders = None, form: Form = Format.TABLE) -> None:
    """Advice on rules that work. Status 1 if there is any, or if there are errors."""
    from otel_ir.sigma.lint import lint as advise

    library = _load(rules, pipeline, placeholders)
    findings = sorted([*library.errors, *advise(library)], key=lambda error: (error.path, error.line, error.column))
    _print_findings(findings, form)
    if findings:
        raise typer.Exit(EXIT_FAILED)
    if form is Format.TABLE:
        say(f"{_count(library)}, no advice")


@rules_app.command("test")
def run_the_tests(rules: Rules = None, pipeline: Pipelines = None, placeholders: Placeholders = None, form: Form = Format.TABLE) -> None:
    """Run the tests inside the rules. Status 1 if one fails, or if a rule that alerts lacks one that fires or one that stays silent."""
    from otel_ir.detect import run_events
    from otel_ir.sigma.testing import run_tests

    library = _load(rules, pipeline, placeholders)
    for error in library.errors:
        print_error(error)
    outcomes = run_tests(library, run_events)
    rows = [
        {
            "result": "passed" if outcome.passed else "failed",
            "signal": outcome.signal,
            "test": outcome.test,
            "reason": outcome.reason,
            "rule_id": outcome.rule_id,
            "path": outcome.path,
            "line": outcome.line,
        }
        for outcome in outcomes
    ]
    print_rows(rows, form, columns=("result", "signal", "test", "reason"))
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if form is Format.TABLE:
        for outcome in failed:
            print_error(f"{outcome.path}:{outcome.line}: {outcome.signal}: {outcome.test}: {outcome.reason}")
        note(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if failed or library.errors:
        raise typer.Exit(EXIT_FAILED)


@rules_app.command("list")
def list_rules(rules: Rules = None, pipeline: Pipelines = None, placeholders: Placeholders = None, form: Form = Format.TABLE) -> None:
    """What is loaded. Errors go to stderr."""
    library = _load(rules, pipeline, placeholders)
    for error in library.errors:
        print_error(error)
    columns = ("severity", "stage", "signal", "title", "kind", "service", "alerts", "tags", "id")
    rows = [_row(library, entry) for entry in library.entries if entry.id in library.compiled]
    print_rows(rows, form, columns=columns, nothing="there are no rules" + (" without errors" if library.errors else f" in {rules}"))
    if not library.compiled:
        raise typer.Exit(EXIT_FAILED)


def _row(library: Library, entry: Entry) -> dict[str, Any]:
    compiled = library.compiled[entry.id]
    return {
        "id": compiled.id,
        "signal": compiled.signal,
        "title": compiled.title,
        "severity": compiled.severity,
        "stage": compiled.stage,
        "kind": getattr(compiled, "kind", "rule"),
        "service": compiled.service,
        "alerts": compiled.alerts,
        "tags": list(compiled.tags),
        "response": compiled.response,
        "tests": len(entry.extensions.tests),
        "path": compiled.path,
        "digest": compiled.digest,
    }


@rules_app.command()
def explain(
    rule: One = None,
    rules: RulesOption = None,
    pipeline: Pipelines = None,
    placeholders: Placeholders = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the Polars expressions, too; JSON always has them.")] = False,
    form: Form = Format.TABLE,
) -> None:
    """What a rule was compiled to: in plain words, with `--verbose` as an expression, too. All rules if none is named."""
    from otel_ir.sigma.extensions import suggest
    from otel_ir.sigma.words import explain as in_words

    if rule is not None and rules is None and Path(rule).exists():
        rules, rule = Path(rule), None
    library = _load(rules, pipeline, placeholders)
    for error in library.errors:
        print_error(error)
    entries = [entry for entry in library.entries if entry.id in library.compiled and (rule is None or rule in _called(library, entry))]
    if not entries:
        known = [name for entry in library.entries for name in _called(library, entry)]
        raise fail(RuleError(f"no rule {rule!r}" if rule else "no rules", hint=suggest(rule, known) if rule else ""))
    rows = [{**_row(library, entry), "words": in_words(library, entry), "expression": _expression(library, entry)} for entry in entries]
    if form is not Format.TABLE:
        print_rows(rows, form)
        return
    for row in rows:
        say(row["words"])
        if verbose and row["expression"]:
            say(f"\nCompiled to the Polars expression\n  {row['expression']}")
        say("")
    if not verbose and any(row["expression"] for row in rows):
        note("--verbose adds the Polars expression that each is compiled to")


def _called(library: Library, entry: Entry) -> tuple[str, ...]:
    return entry.id, str(entry.sigma.name), library.compiled[entry.id].title if entry.id in library.compiled else entry.id


def _expression(library: Library, entry: Entry) -> str | None:
    """Of a rule for another product, as ``rules eval`` runs it: all fields are text."""
    from otel_ir.sigma.compile import compile_detection
    from otel_ir.sigma.evaluate import text_columns

    predicate = getattr(library.compiled[entry.id], "predicate", None)
    if predicate is not None and not entry.ours:
        predicate = compile_detection(entry.sigma.detection, text_columns())
    return None if predicate is None else str(predicate)


@rules_app.command()
def schema() -> None:
    """The JSON Schema of a rule file, for editors."""
    import json

    from otel_ir.sigma.schema import rule_schema

    say(json.dumps(rule_schema(), ensure_ascii=False, indent=2))


rules_app.command("eval")(evaluate)


def _load(rules: Path | None, pipeline: list[Path] | None = None, placeholders: Path | None = None) -> Library:
    from otel_ir.sigma.load import load_library
    from otel_ir.sigma.pipeline import load_pipeline

    return load_library([rules or shipped_rules()], load_pipeline(pipeline or [], placeholders))


def _count(library: Library) -> str:
    return f"{len(library.ruleset.rules)} rules, {len(library.ruleset.correlations)} correlations"


def _print_findings(findings: list[RuleError], form: Format) -> None:
    if form is Format.TABLE:
        for finding in findings:
            print_error(finding)
    else:
        keys = ("path", "line", "column", "what", "hint")
        print_rows([{key: getattr(finding, key) for key in keys} for finding in findings], form)
