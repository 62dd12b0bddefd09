"""Where a command finds what `otel-ir serve` keeps: the options that all of them share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_ir.cli.output import Format, fail

if TYPE_CHECKING:
    from otel_ir.store import Ledger

Data = Annotated[Path, typer.Option(help="Data folder of `otel-ir serve`.")]
Url = Annotated[
    str | None, typer.Option("--ledger", help="SQLAlchemy URL, where the ledger is not in the data folder.", show_default=False)
]
Limit = Annotated[int, typer.Option(help="How many at most, newest first.", min=1)]
Form = Annotated[Format, typer.Option("--format", help="How to print.")]
DATA = Path("otel-ir-data")


def open_ledger(data: Path, url: str | None) -> Ledger:
    """The ledger of a data folder, or at a URL. Exits with status 1 when there is none."""
    from otel_ir.store import Ledger

    file = data / "ledger.db"
    if url is None and not file.exists():
        raise fail(f"{file}: there is no ledger: give the folder of `otel-ir serve` with --data, or its URL with --ledger")
    return Ledger.open(url or f"sqlite:///{file}")


def running_server(data: Path) -> dict[str, Any] | None:
    """``serve.json`` of a server that runs now (``grpc``, ``http``, ``pid``), ``None`` when none does on this machine."""
    try:
        found = json.loads((data / "serve.json").read_text(encoding="utf-8"))
        os.kill(int(found["pid"]), 0)
    except PermissionError:
        pass  # it runs, as somebody else
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(found)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: int) -> int:
    """``90s``, ``15m``, ``6h``, ``7d`` before ``now``, or a time (ISO 8601, UTC where no zone is given), in Unix nanoseconds."""
    from datetime import UTC, datetime

    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in _UNITS:
        return now - int(number) * _UNITS[unit] * 1_000_000_000
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no duration such as 90s, 15m, 6h or 7d, and no time such as 2026-01-31T12:00:00Z") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000_000)


def person() -> str:
    """Who gives an order, where nothing else is said: the login name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        return f"uid {os.getuid()}"
