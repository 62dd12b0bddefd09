"""Checks of an installation. Each gives rows ``check, result (ok, warning, fault), detail, hint``; none raises, none changes anything."""

from __future__ import annotations

import json
import platform
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from otel_ir.config import Config, load_config
from otel_ir.errors import ConfigError, OtelIrError
from otel_ir.journal.peek import newest_records

OK, WARNING, FAULT = "ok", "warning", "fault"
LOW_DISK = 1 << 30
"""Free bytes below which the journal is about to refuse telemetry."""
_CONNECT_SECONDS = 3.0
_SECOND = 1_000_000_000
_OLDEST_NOW = 1_767_225_600 * _SECOND
"""2026: a clock before it was never set."""
_METRICS = 1 << 20
_REJECTED = re.compile(r'otel_ir_receive_(items_)?rejected_total\{.*reason="([^"\\]{1,200})".*\} (\d+(?:\.\d+)?(?:e\+\d{1,2})?)$')
_FAULTS = 10
"""Faults of one kind that are told."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """What is checked. ``server``: what ``serve.json`` says of the server that runs, None where none does."""

    config: Config
    server: dict[str, Any] | None
    now: int

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self.config.data)


def row(check: str, result: str, detail: str, hint: str = "") -> Row:
    """One row."""
    return {"check": check, "result": result, "detail": detail, "hint": hint}


def read_config(path: Path | None) -> tuple[Config | None, list[Row]]:
    """The configuration, None where it cannot be used."""
    try:
        config = load_config(path)
    except ConfigError as error:
        return None, [row("config", FAULT, line) for line in str(error).splitlines()[:_FAULTS]]
    return config, [row("config", OK, str(path) if path else "the defaults (no otel-ir.yaml was given with -c)")]


def check_all(place: Place) -> list[Row]:
    """Every check, in the order of ``CHECKS``; one that fails on its own account is a fault."""
    rows: list[Row] = []
    for name, check in CHECKS.items():
        try:
            rows += check(place)
        except (OtelIrError, OSError) as error:
            rows += [row(name, FAULT, line) for line in str(error).splitlines()[:_FAULTS]]
    return rows


def _versions(place: Place) -> Iterator[Row]:
    del place
    from packaging.requirements import Requirement

    wrong = []
    for text in requires("otel_ir") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "none"
        if found == "none" or not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is installed, {wanted.specifier or 'any'} is needed")
    named = ", ".join(f"{name} {version(name)}" for name in ("otel_ir", "polars", "deltalake", "sqlalchemy"))
    yield from (row("versions", FAULT, text, "pip install --upgrade otel_ir") for text in wrong[:_FAULTS])
    yield row("versions", OK, f"{named}, Python {platform.python_version()}")


def _clock(place: Place) -> Iterator[Row]:
    newest = newest_records(place.data / "journal", 1)
    if place.now < _OLDEST_NOW:
        yield row("clock", FAULT, "it stands before 2026", "set it: rules look at times")
    elif newest and newest[-1].received > place.now + _SECOND:
        ahead = (newest[-1].received - place.now) / _SECOND
        yield row(
            "clock",
            FAULT,
            f"the newest record was received {ahead:.0f} s from now",
            "the clock went back: run NTP (chrony, systemd-timesyncd)",
        )
    else:
        yield row("clock", OK, "it did not go back behind the newest record")


def _ports(place: Place) -> Iterator[Row]:
    from otel_ir.receive.config import parse_endpoint

    receive = place.config.receive
    for name, endpoint in (("grpc", receive.grpc_endpoint), ("http", receive.http_endpoint)):
        if place.server is not None:
            yield _answers("ports", f"OTLP/{name}", str(place.server.get(name, endpoint)), "see the log of `otel-ir serve`")
            continue
        host, port = parse_endpoint(endpoint, f"receive.{name}_endpoint")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                hint = f"another process has it? Give another one: receive.{name}_endpoint, or --{name} HOST:PORT"
                yield row("ports", FAULT, f"OTLP/{name}: {endpoint} cannot be bound: {error.strerror}", hint)
            else:
                yield row("ports", OK, f"OTLP/{name}: {endpoint} is free (no server runs)")


def _answers(check: str, what: str, endpoint: str, hint: str) -> Row:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return row(check, FAULT, f"{what}: {endpoint} does not answer: {error}", hint)
    return row(check, OK, f"{what}: {endpoint} answers")


def _senders(place: Place) -> Iterator[Row]:
    tokens = place.config.receive.tokens
    for (what, reason), count in _refused(place).items():
        wrong = "senders need one of receive.tokens, as authorization: Bearer …" if reason == "unauthenticated" else "docs/receive.md"
        yield row("senders", WARNING, f"{count} {what} were refused since the server started: {reason}", wrong)
    if tokens:
        yield row("senders", OK, f"they must show one of {len(tokens)} tokens")
    elif place.config.enforce:
        hint = "receive.tokens: containment is carried out only for senders that somebody vouches for"
        yield row("senders", WARNING, "anybody who can connect may send for any agent", hint)
    else:
        yield row("senders", OK, "anybody who can connect may send, for any agent (receive.tokens)")


def _refused(place: Place) -> dict[tuple[str, str], int]:
    """(what, reason) -> how many the running server refused; empty where none runs, or it does not say."""
    found: Counter[tuple[str, str]] = Counter()
    for line in metrics_of(place.server):
        if one := _REJECTED.match(line):
            found["spans or log records" if one[1] else "requests", one[2]] += int(float(one[3]))
    return dict((+found).most_common(_FAULTS))


def metrics_of(server: dict[str, Any] | None) -> list[str]:
    """Lines of what a running server (``serve.json``) says of itself, as Prometheus text; empty where none runs, or it does not say."""
    if server is None:
        return []
    try:
        with urlopen(f"http://{server.get('http', '')}/metrics", timeout=_CONNECT_SECONDS) as answer:
            return str(answer.read(_METRICS).decode("utf-8", "replace")).splitlines()
    except (OSError, ValueError, HTTPException):
        return []


def _disk(place: Place) -> Iterator[Row]:
    folder = place.data
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK
    hint = "telemetry is refused (never dropped) when the disk is full: free some, or lower journal.retain_bytes" if low else ""
    yield row("data folder", WARNING if low else OK, f"{place.data}: {free / (1 << 30):.1f} GiB free", hint)


def _journal(place: Place) -> Iterator[Row]:
    found = newest_records(place.data / "journal", 1 << 20)
    if not found:
        yield row("journal", OK, "nothing was received yet")
        return
    age = max(0, place.now - found[-1].received) / _SECOND
    yield row("journal", OK, f"the newest records can be read; record {found[-1].ordinal} is {age:.0f} s old")
    if aside := set_aside(place.data):
        what = f"{len(aside)} records were set aside, the last is {max(aside)}"
        yield row("journal", WARNING, what, f"they made the engine fail; its log says how ({place.data / 'skipped.json'})")


def set_aside(data: Path) -> frozenset[int]:
    """Ordinals of journal records that the engine could not fold; empty also where the file that says it cannot be read."""
    try:
        return frozenset(int(one) for one in json.loads((data / "skipped.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return frozenset()


def _ledger(place: Place) -> Iterator[Row]:
    from otel_ir.store import Ledger

    url = place.config.ledger
    if url is None and not (place.data / "ledger.db").exists():
        yield row("ledger", OK, "there is none yet: `otel-ir serve` makes it")
        return
    with closing(Ledger.open(url or f"sqlite:///{place.data / 'ledger.db'}")) as book:
        drills = book.drills(limit=1)
        yield row("ledger", OK, f"it can be read and is of this version; {book.count_agents('', 0)} agents")
    if not drills:
        yield row("drill", WARNING, "none was ever held", "otel-ir drill proves the way from a span to a stopped agent")
    elif drills[0].outcome == "failed":
        yield row("drill", FAULT, "the last one failed", "otel-ir drill")
    else:
        yield row("drill", OK, f"the last one: {drills[0].outcome}, {(place.now - drills[0].started_at) / 86_400 / _SECOND:.1f} days ago")


def _evidence(place: Place) -> Iterator[Row]:
    from otel_ir.store.delta import read_table

    url = (place.config.evidence_url or str(place.data / "evidence")).rstrip("/")
    if "://" not in url and not Path(url).exists():
        yield row("evidence", OK, "there is none yet: `otel-ir serve` makes it")
        return
    tables = [read_table(f"{url}/{name}", dict(place.config.evidence.storage_options)) for name in ("events", "identity")]
    yield row("evidence", OK, f"both tables can be read, versions {tables[0].version()} and {tables[1].version()}")


def _rules(place: Place) -> Iterator[Row]:
    from otel_ir.rules_path import shipped_rules
    from otel_ir.sigma import load_rules

    ruleset, errors = load_rules([Path(place.config.rules) if place.config.rules else shipped_rules()])
    yield from (row("rules", FAULT, str(error), "otel-ir rules check") for error in errors[:_FAULTS])
    alerting = sum(rule.alerts for rule in ruleset.rules) + len(ruleset.correlations)
    if not errors:
        none = "nothing can raise an alert" if not alerting else ""
        yield row("rules", FAULT if none else OK, none or f"{len(ruleset.rules)} rules, {len(ruleset.correlations)} correlations")


def _response(place: Place) -> Iterator[Row]:
    from otel_ir.contain import build_adapters
    from otel_ir.respond import load_policy

    policy, document = load_policy(Path(place.config.response) if place.config.response else None)
    adapters = build_adapters(policy, document)
    enforcing = place.config.enforce and policy.mode == "enforce"
    if not adapters:
        yield row("adapters", WARNING, "none is configured: nothing can be contained", "docs/response.md")
    else:
        yield row(
            "adapters", OK, f"{', '.join(adapters)}: the settings can be used", "otel-ir preflight asks each whether it could act now"
        )
    mode = "enforcing" if enforcing else "dry run: actions are recorded, not carried out"
    yield row("response", OK, mode, "" if enforcing else "mode: enforce in response.yaml, and --enforce (docs/response.md)")


def _export(place: Place) -> Iterator[Row]:
    if place.config.export is None:
        yield row("export", OK, "alerts stay in the ledger", "--export sends them on")
        return
    url = urlsplit(place.config.export.endpoint)
    port = url.port or (443 if url.scheme == "https" else 80)
    yield _answers("export", "the endpoint of alerts", f"{url.hostname}:{port}", "is the Collector up? export.endpoint")


CHECKS: dict[str, Callable[[Place], Iterator[Row]]] = {
    "versions": _versions,
    "clock": _clock,
    "ports": _ports,
    "senders": _senders,
    "data folder": _disk,
    "journal": _journal,
    "ledger": _ledger,
    "evidence": _evidence,
    "rules": _rules,
    "adapters": _response,
    "export": _export,
}
"""By name, in the order told."""


def place_of(config: Config, server: dict[str, Any] | None) -> Place:
    """What is to be checked, now."""
    return Place(config, server, time.time_ns())
