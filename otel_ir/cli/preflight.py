"""``otel-ir preflight``: could every adapter act, if it had to? Asks the server that runs, and acts on nobody."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Annotated, Any

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, fail, note, print_error, print_rows
from otel_ir.cli.stores import DATA, Data, Form, Url, open_ledger, person, running_server

POLL = 0.1


def preflight(
    data: Data = DATA,
    ledger: Url = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the server's answer.", min=0)] = 30.0,
    form: Form = Format.TABLE,
) -> None:
    """Prove before the incident that each adapter can be reached and may act. Exit status 1 if one cannot.

    Example: `otel-ir preflight --format json`
    """
    from otel_ir.model_lifecycle import Order

    with closing(open_ledger(data, ledger)) as book:
        number = book.order(Order(kind="preflight", who=person(), reason="", at=time.time_ns()))
        end = time.monotonic() + wait
        while (told := book.find_order(number)) is None or told.taken_at is None:
            if time.monotonic() >= end:
                here = "" if running_server(data) else f": no server runs with {data}; start `otel-ir serve`"
                raise fail(f"nobody answered within {wait:g} s{here}")
            time.sleep(POLL)
        drills = book.drills(limit=1)
    answer: dict[str, Any] = json.loads(told.answer)
    print_rows(answer["adapters"], form, columns=("adapter", "type", "verbs", "ready", "verifiable", "reversible", "seconds", "detail"))
    faults = [one["adapter"] for one in answer["adapters"] if not one["ready"]]
    for verb in answer["unserved"]:
        note(f"no adapter can do {verb}, which a playbook asks for")
    if not answer["enforcing"]:
        note("otel_ir is not enforcing: actions are recorded and nothing is done (mode in response.yaml, --enforce)")
    age = f"{(time.time_ns() - drills[0].started_at) / 86_400e9:.1f} days ago: {drills[0].outcome}" if drills else "never (otel-ir drill)"
    note(f"last drill: {age}")
    if not answer["adapters"]:
        raise fail("no adapter is configured: nothing can be contained (docs/response.md)")
    if faults:
        print_error(f"not ready: {', '.join(faults)}")
        raise typer.Exit(EXIT_FAILED)
