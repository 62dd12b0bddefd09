"""``otel-ir drill``."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, fail, note, print_error, print_rows
from otel_ir.cli.stores import DATA, Data, Form, Url, open_ledger, running_server

if TYPE_CHECKING:
    from otel_ir.drill.run import Drill

_COLUMNS = (
    "drill_id", "outcome", "mode", "seconds_to_receive", "seconds_to_alert", "seconds_to_dispatch", "seconds_to_verified",
    "seconds_to_blocked", "seconds_to_release", "faults",
)  # fmt: skip


def drill(
    data: Data = DATA,
    ledger: Url = None,
    server: Annotated[
        str | None, typer.Option(help="OTLP/HTTP address of the server.  [default: that of the data folder]", show_default=False)
    ] = None,
    token: Annotated[str, typer.Option(envvar="OTEL_IR_TOKEN", help="Bearer token of a sender that may speak for otel-ir-drill.")] = "",
    count: Annotated[int, typer.Option(help="How many, one after the other.", min=1, max=1000)] = 1,
    form: Form = Format.TABLE,
) -> None:
    """Prove that the whole way works, on an agent of our own: attack, alert, containment, proof, refused call, release. Measured.

    Times are in seconds: to receive is what the sender added, everything else but blocked counts from the receipt of the span.

    Example: `OTEL_IR_TOKEN=... otel-ir drill --count 20 --format json`
    """
    from otel_ir.drill.run import hold
    from otel_ir.processes import Interrupted, catching

    found = running_server(data)
    if server is None and found is None:
        raise fail(f"no server runs with {data}: start `otel-ir serve`, or give its address with --server")
    address = server or f"http://{(found or {})['http']}"
    drills: list[Drill] = []
    try:
        with closing(open_ledger(data, ledger)) as book, catching() as interrupt:
            for number in range(count):
                if count > 1:
                    note(f"drill {number + 1} of {count}")
                drills.append(hold(book, address, token, interrupt, note))
    except Interrupted as error:
        print_error(f"ended by {error}; what was contained is being let go of")
        raise typer.Exit(128 + error.number) from None
    print_rows([one.to_row() for one in drills], form, columns=_COLUMNS)
    if count > 1:
        for name in ("dispatch", "verified"):
            _spread(name, [value for one in drills if (value := getattr(one, f"seconds_to_{name}")) is not None])
    faults = [f"{one.drill_id}: {fault}" for one in drills for fault in one.faults]
    for fault in faults:
        print_error(fault)
    if faults:
        raise typer.Exit(EXIT_FAILED)
    if drills[0].mode == "dry-run":
        note("passed as a dry run: otel_ir is not enforcing, so nothing was contained (docs/response.md)")


def _spread(name: str, values: list[float]) -> None:
    if values:
        values.sort()
        at = {label: values[min(len(values) - 1, int(share * len(values)))] for label, share in (("p50", 0.5), ("p99", 0.99))}
        note(f"span received -> {name}: p50 {at['p50']:.3f} s, p99 {at['p99']:.3f} s, max {values[-1]:.3f} s ({len(values)} drills)")
