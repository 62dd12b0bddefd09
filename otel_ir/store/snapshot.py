"""Evidence set aside before anything is done to an agent: the alert, and the very bytes of the request that completed it.

A folder per incident with plain files. ``alert-<id>.json`` names the SHA-256 of ``record-<ordinal>.binpb``, an OTLP request as any tool
reads it. What else the agent did stands in the evidence tables; this is what must not depend on a buffer that is not flushed yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from otel_ir.model import Alert, Record
from otel_ir.store.files import sync
from otel_ir.store.rows import bounded
from otel_ir.timefmt import rfc3339

MAX_PER_INCIDENT = 100
"""Alerts of one incident that are set aside; what comes after is in the evidence tables all the same."""
MAX_BYTES = 4 << 30
"""Of requests in all incidents together. One request of a hostile sender may complete alerts about thousands of agents, and a disk that is
full stops detection for everybody."""
MAX_SHARED = 64
"""Requests of which it is remembered where they are: the next incident gets a link to the same file."""


class SnapshotStore:
    """Thread-safe: every file is written once, beside its place, and moved there when it is on the medium."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._shared: dict[int, Path] = {}
        self._bytes: int | None = None

    def keep(self, alert: Alert, incident_id: str, record: Record | None, at: int) -> str:
        """Set aside ``alert`` and the journal record that completed it. -> one line for the incident's log. Raises ``OSError``."""
        folder = self._folder / incident_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"alert-{bounded(alert.alert_id, 64)}.json"
        if sum(1 for _ in folder.glob("alert-*.json")) >= MAX_PER_INCIDENT and not (folder / name).exists():
            return f"evidence of {MAX_PER_INCIDENT} alerts is set aside already"
        content: dict[str, object] = {"kept_at": rfc3339(at), "incident_id": incident_id, "alert": alert.to_row()}
        content["contributing"] = [ref._asdict() for ref in alert.contributing]
        if record and self._keep_record(folder / f"record-{record.ordinal}.binpb", record):
            raw = f"record-{record.ordinal}.binpb"
            digest = hashlib.sha256(record.body).hexdigest()
            content["record"] = {"file": raw, "kind": record.kind, "received": rfc3339(record.received), "sha256": digest}
        _write(folder / name, json.dumps(content, ensure_ascii=False, indent=2).encode("utf-8", "replace"))
        full = f"without its request: {self._max_bytes:,} bytes of requests are set aside already"
        what = (
            "its request is not in the journal any more"
            if not record
            else "with the request that completed it"
            if "record" in content
            else full
        )
        return f"{incident_id}/{name}: {what}"

    def _keep_record(self, path: Path, record: Record) -> bool:
        """Write the request, or link it to where it is already. ``False``: there is no room for it."""
        if path.exists():
            return True
        with self._lock:
            shared = self._shared.get(record.ordinal)
            if shared and shared.exists():
                path.hardlink_to(shared)
                sync(path.parent)
                return True
            if self._bytes is None:
                files = {(info := file.stat()).st_ino: info.st_size for file in self._folder.glob("*/record-*.binpb")}
                self._bytes = sum(files.values())
            if self._bytes + len(record.body) > self._max_bytes:
                return False
            _write(path, record.body)
            self._bytes += len(record.body)
            self._shared[record.ordinal] = path
            while len(self._shared) > MAX_SHARED:
                del self._shared[next(iter(self._shared))]
        return True


def _write(path: Path, content: bytes) -> None:
    if path.exists():
        return
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    sync(path.parent)
