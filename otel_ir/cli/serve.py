"""``otel-ir serve``."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from otel_ir.cli.output import EXIT_FAILED, note, print_error, say

if TYPE_CHECKING:
    from otel_ir.config import Config
    from otel_ir.service import Service


def serve(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="otel-ir.yaml.", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of all state.  [default: ./otel-ir-data]", show_default=False)] = None,
    grpc: Annotated[
        str | None, typer.Option(help="OTLP/gRPC host:port; port 0 takes any.  [default: 127.0.0.1:4317]", show_default=False)
    ] = None,
    http: Annotated[str | None, typer.Option(help="OTLP/HTTP host:port.  [default: 127.0.0.1:4318]", show_default=False)] = None,
    rules: Annotated[Path | None, typer.Option(help="Folder or file of rules.  [default: the shipped ones]", show_default=False)] = None,
    response: Annotated[Path | None, typer.Option(help="Response policy.  [default: the shipped one]", show_default=False)] = None,
    export: Annotated[
        str | None, typer.Option(help="OTLP endpoint alerts and metrics go to, http(s)://host:port.", show_default=False)
    ] = None,
    export_protocol: Annotated[str, typer.Option(help="grpc or http/protobuf.")] = "grpc",
    enforce: Annotated[bool, typer.Option("--enforce", envvar="OTEL_IR_ENFORCE", help="Second switch beside `mode: enforce`.")] = False,
    grace: Annotated[float, typer.Option(help="Seconds to drain on SIGTERM.")] = 20.0,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log more.")] = False,
) -> None:
    """Receive OTLP, detect, alert and respond; the whole system, in one folder.

    Examples:

        otel-ir serve                                 # embedded defaults, data in ./otel-ir-data
        otel-ir serve --export http://localhost:4317  # alerts back into your Collector
        otel-ir serve -c otel-ir.yaml --enforce       # hooks are called if response.yaml says mode: enforce too

    SIGTERM (or Ctrl-C) drains: what was taken is judged and kept before it leaves, within the grace.

    """
    from otel_ir.config import load_config

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _merged(load_config(config), data, grpc, http, rules, response, export, export_protocol, enforce=enforce)
    if not asyncio.run(_run(settings, grace)):
        print_error("not everything was drained in time; the journal has it, and the next start goes on from there")
        raise typer.Exit(EXIT_FAILED)


def _merged(
    config: Config, data: Path | None, grpc: str | None, http: str | None, rules: Path | None, response: Path | None,
    export: str | None, protocol: str, *, enforce: bool,
) -> Config:  # fmt: skip
    from otel_ir.errors import ConfigError
    from otel_ir.export import ExportConfig

    receive = config.receive
    given = {name: value for name, value in (("grpc_endpoint", grpc), ("http_endpoint", http)) if value}
    changes = {name: str(value) for name, value in (("data", data), ("rules", rules), ("response", response)) if value}
    sent = config.export
    if export:
        try:
            sent = msgspec.convert({"endpoint": export, "protocol": protocol}, ExportConfig)
        except (msgspec.ValidationError, ValueError) as error:
            raise ConfigError(f"--export {export} --export-protocol {protocol}: {error}") from None
    return msgspec.structs.replace(
        config, **changes, receive=msgspec.structs.replace(receive, **given), export=sent, enforce=enforce or config.enforce
    )


async def _run(config: Config, grace: float) -> bool:
    from otel_ir.service import Service

    service = Service(config)
    await service.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _announce(service)
    watching = asyncio.create_task(service.watch_rules())
    await stop.wait()
    watching.cancel()
    note("draining")
    return await service.stop(grace)


def _announce(service: Service) -> None:
    receive = service.config.receive
    grpc, http = receive.grpc_endpoint.rpartition(":")[0], receive.http_endpoint.rpartition(":")[0]
    count = f"{len(service.ruleset.rules)} rules, {len(service.ruleset.correlations)} correlations"
    mode = "ENFORCING: actions are carried out" if service.responder.enforcing else "dry run: actions are recorded, not carried out"
    say(f"otel_ir listens on {grpc}:{service.receiver.grpc_port} (OTLP/gRPC) and {http}:{service.receiver.http_port} (OTLP/HTTP)")
    say(f"  rules     {count}")
    say(f"  response  {mode}")
    say(f"  alerts    {service.config.export.endpoint if service.config.export else 'in the ledger only (--export sends them on)'}")
    say(f"  data      {service.data.resolve()}")
