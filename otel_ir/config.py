"""``otel-ir.yaml``: composes the settings of the stages, each of which stands beside its stage."""

from __future__ import annotations

from pathlib import Path

import msgspec

from otel_ir.errors import ConfigError
from otel_ir.export import ExportConfig
from otel_ir.journal import JournalConfig
from otel_ir.receive import ReceiveConfig
from otel_ir.respond import Document
from otel_ir.store import EvidenceConfig


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything ``otel-ir serve`` can be told in a file. Command-line options win over it."""

    data: str = "otel-ir-data"
    """Folder of journal, ledger, evidence and checkpoints."""
    rules: str | None = None
    """Folder or file of rules; the shipped pack where it is not set."""
    response: str | None = None
    """Response policy; the shipped one where it is not set."""
    ledger: str | None = None
    """SQLAlchemy URL of the ledger; SQLite in the data folder where it is not set."""
    evidence_url: str | None = None
    """Folder or object-store URL of the evidence; the data folder where it is not set."""
    enforce: bool = False
    """One of the two switches; the other is ``mode: enforce`` in the response policy."""
    checkpoint_seconds: float = 30.0
    """Checkpoints are at least this far apart."""
    receive: ReceiveConfig = ReceiveConfig()
    journal: JournalConfig = JournalConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    export: ExportConfig | None = None


def load_config(path: Path | None) -> Config:
    """Reads the file, or gives the defaults. Raises ``ConfigError`` with ``file:line: key: what: hint`` for every fault."""
    if path is None:
        return Config()
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file: give another one with -c, or none for the defaults")
    return Document.read(path).convert(Config, ())
