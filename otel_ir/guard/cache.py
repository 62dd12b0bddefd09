"""The last state a server gave, kept on disk: a contained agent stays contained when it restarts while the server is down."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from otel_ir.errors import InputError, StorageError
from otel_ir.guard.restriction import Restriction, Wanted, parse_state

VERSION = 1
MAX_BYTES = 4 << 20


class Cache:
    """One file per service in ``folder``, readable only by its owner, replaced as a whole."""

    def __init__(self, folder: Path, service: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", service)[:40]
        self.path = folder / f"{name}-{hashlib.sha256(service.encode()).hexdigest()[:16]}.json"
        self._service = service

    def load(self) -> Wanted | None:
        """What was kept, or None where nothing was. Raises ``StorageError`` when there is something that cannot be read."""
        try:
            with self.path.open("rb") as file:
                body = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror or error}") from None
        try:
            if len(body) > MAX_BYTES:
                raise InputError("larger than any state")
            kept = parse_state(body)
            about = json.loads(body)
            if about.get("version") != VERSION or about.get("service") != self._service:
                raise InputError("of another version or service")
        except InputError as error:
            raise StorageError(f"{self.path}: {error}") from None
        return kept

    def save(self, restrictions: Iterable[Restriction]) -> None:
        """Durable when it returns. Raises ``StorageError``."""
        body = json.dumps({"version": VERSION, "service": self._service, "restrictions": [one.to_json() for one in restrictions]}).encode()
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp: a new file, mode 0600, that nobody else can have prepared.
            handle, name = tempfile.mkstemp(dir=folder, prefix=".state-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            _sync(folder)
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror or error}") from None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
