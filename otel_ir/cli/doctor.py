"""``otel-ir doctor``: what is wrong with the installation, and with what agents send."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, fail, name, note, print_rows
from otel_ir.rules_path import shipped_rules

if TYPE_CHECKING:
    from otel_ir.doctor.diagnose import Diagnosis
    from otel_ir.model import Record
    from otel_ir.sigma.load import Library

_MIB = 1024 * 1024

Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]...", help="OTLP files or folders: look at these, not at the installation.", show_default=False),
]


def doctor(
    paths: Paths = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="otel-ir.yaml.", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of all state.  [default: ./otel-ir-data]", show_default=False)] = None,
    rules: Annotated[Path | None, typer.Option(help="Folder or file of rules.  [default: the shipped ones]", show_default=False)] = None,
    response: Annotated[Path | None, typer.Option(help="Response policy.  [default: the shipped one]", show_default=False)] = None,
    service: Annotated[str | None, typer.Option(metavar="NAME", help="Only agents of this `service.name`.", show_default=False)] = None,
    newest: Annotated[int, typer.Option(metavar="MIB", help="How much of the journal to look at, the newest of it.", min=1)] = 64,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Check the installation and what agents send: which fields are missing, which rules that blinds, and what to switch on.

    Examples:

        otel-ir doctor                         # config, ports, stores, adapters, rules, clock, versions; then the live stream
        otel-ir doctor -c otel-ir.yaml
        otel-ir doctor spans.jsonl logs.jsonl  # only what these OTLP files leave out
        otel-ir doctor spans.jsonl --format json | jq '.agents[].remedies'

    Exit status 1 if a check failed, or if a rule can never fire on an agent because of what its telemetry leaves out.

    """
    if paths:
        from otel_ir.offline import read_records

        checks = list[dict[str, Any]]()
        found = _diagnosed(read_records(paths), _library(rules, strict=True), service, checks, live=False)
    else:
        records, checks, rules = _installation(config, data, rules, response, newest * _MIB)
        found = _diagnosed(records, _library(rules, strict=False), service, checks, live=True)
    told = {
        "checks": checks,
        "services": found.services,
        "agents": found.agents,
        "switch_on": found.switch_on,
        "faults": found.faults,
    }
    _print(told, form)
    if found.faults or any(one["result"] == "fault" for one in checks):
        raise typer.Exit(EXIT_FAILED)


def _installation(
    config: Path | None, data: Path | None, rules: Path | None, response: Path | None, newest: int
) -> tuple[list[Record], list[dict[str, Any]], Path | None]:
    """-> the newest records of the journal, the checks, and where the rules are."""
    import msgspec

    from otel_ir.cli.stores import running_server
    from otel_ir.doctor.checks import check_all, place_of, read_config, set_aside
    from otel_ir.errors import StorageError
    from otel_ir.journal.peek import newest_records

    settings, checks = read_config(config)
    if settings is None:
        return [], checks, rules
    given = {key: str(path) for key, path in (("data", data), ("rules", rules), ("response", response)) if path}
    settings = msgspec.structs.replace(settings, **given)
    if data is not None and not data.is_dir():
        raise fail(f"{data}: there is no such folder: give the folder that `otel-ir serve --data` has, or leave --data out")
    checks += check_all(place_of(settings, running_server(Path(settings.data))))
    try:
        records = newest_records(Path(settings.data) / "journal", newest)
    except StorageError:  # the check of the journal tells it
        records = []
    aside = set_aside(Path(settings.data))
    records = [record for record in records if record.ordinal not in aside]
    return records, checks, Path(settings.rules) if settings.rules else None


def _library(rules: Path | None, *, strict: bool) -> Library:
    """Exits with status 1 where ``strict`` and no rule can be used; else the checks tell it."""
    from otel_ir.sigma.load import load_library

    library = load_library([rules or shipped_rules()])
    if strict and not library.compiled:
        raise fail(*(library.errors or (f"{rules}: there are no rules",)))
    return library


def _diagnosed(records: Iterable[Record], library: Library, service: str | None, checks: list[dict[str, Any]], *, live: bool) -> Diagnosis:
    from otel_ir.doctor.checks import FAULT, row
    from otel_ir.doctor.coverage import coverage
    from otel_ir.doctor.diagnose import diagnose
    from otel_ir.doctor.survey import QUIET, Survey
    from otel_ir.errors import OtelIrError
    from otel_ir.model_lifecycle import DRILL_SERVICE
    from otel_ir.offline import final_form

    survey = Survey()
    try:
        covers = coverage(final_form(survey.tap(records), library.ruleset), library.ruleset.fields)
    except OtelIrError:
        raise
    except Exception as error:
        # What the fold cannot take is a defect; whoever looks for one must still hear what else there is.
        if not live:
            raise
        covers, why = [], f"a record among the newest cannot be folded: {type(error).__name__}: {error}"[:500]
        checks.append(row("live stream", FAULT, why, "its agents are not told of; the server sets such a record aside (skipped.json)"))
    services = survey.services(QUIET if live else 0)

    def wanted(one: str) -> bool:
        return one == service if service is not None else one != DRILL_SERVICE

    if service is not None and services and not any(one.service == service for one in services):
        seen = ", ".join(name(one.service or "-") for one in services[:20])
        raise fail(f"--service {name(service)}: nothing of it was seen; there is: {seen}")
    return diagnose(library, [one for one in covers if wanted(one.service)], [one for one in services if wanted(one.service)])


def _print(told: dict[str, Any], form: Format) -> None:
    from otel_ir.cli.doctor_text import print_told
    from otel_ir.cli.output import print_json

    if form is Format.JSON:
        print_json(told)
    elif form is Format.NDJSON:
        kinds = {"checks": "check", "services": "service", "agents": "agent", "switch_on": "setting"}
        print_rows(({"kind": kind} | row for key, kind in kinds.items() for row in told[key]), form)
    else:
        print_told(told)
        note(_summary(told))


def _summary(told: dict[str, Any]) -> str:
    if [one["check"] for one in told["checks"]] == ["config"] * len(told["checks"]) and told["checks"]:
        return "nothing else was looked at: mend the configuration first"
    agents = told["agents"]
    if not agents:
        spans, logs = (sum(one[kind] for one in told["services"]) for kind in ("spans", "logs"))
        where = f"no event of an agent was found in {spans} spans and {logs} log records"
        return f"{where}: docs/dialects.md says what is read, docs/quickstart.md how to send it"
    number = "1 agent" if len(agents) == 1 else f"{len(agents)} agents"
    blind = [{one["rule_id"] for one in agent["blind"] if one["wholly"] and not one["attribute"]} for agent in agents]
    if not any(blind):
        return f"{number}; no rule is kept from ever firing by what they leave out"
    rules, on = len(set[str]().union(*blind)), sum(map(bool, blind))
    return f"{number}; because of what is missing, {rules} rule{'s'[: rules > 1]} can never fire on {on} of them (blind, above)"
