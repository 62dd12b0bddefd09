"""Checkpoints: the state of the fold after a journal record, so that a restart replays only what came after it.

One file each, a ZIP archive without compression of its own (any tool opens it): ``manifest.json`` with the SHA-256 of every
part, frames as Arrow IPC, everything else as bytes. It appears under its name whole and durable or not at all.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import msgspec
import polars as pl

from otel_ir.errors import StorageError
from otel_ir.store.files import sync

_log = logging.getLogger(__name__)

FORMAT = 1
KEEP = 2
_NAME = re.compile(r"checkpoint-(\d{20})\.zip")
_MANIFEST = "manifest.json"
_STAMP = (1980, 1, 1, 0, 0, 0)
"""Of every entry (the oldest a ZIP file can say), so that equal states give equal files."""

State = Mapping[str, pl.DataFrame | bytes]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part as the manifest has it; ``size`` in bytes."""

    kind: Literal["frame", "bytes"]
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint says about itself. ``code`` names the version of the state's structure."""

    format: int
    code: str
    ordinal: int
    parts: dict[str, Part]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after the journal record ``ordinal``."""

    ordinal: int
    state: dict[str, pl.DataFrame | bytes]


@dataclass(frozen=True, slots=True)
class Restored:
    """The newest checkpoint that can be used, or ``None``: then replay the journal from its beginning.

    ``skipped`` says for each newer one why it was not used.
    """

    checkpoint: Checkpoint | None
    skipped: tuple[str, ...] = ()


class CheckpointStore:
    """Keeps the newest ``KEEP`` checkpoints in a directory. One owner; not thread-safe.

    ``code`` names the version of the state's structure: a checkpoint with another one is not loaded, the journal is replayed.
    A checkpoint must not run ahead of evidence: save only ordinals <= ``EvidenceStore.version``.
    """

    def __init__(self, directory: Path, *, code: str) -> None:
        """Creates the directory and removes what a crash left half written. Raises ``StorageError``."""
        self._directory, self._code = directory, code
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for draft in directory.glob("*.tmp"):
                draft.unlink()
        except OSError as error:
            raise StorageError(f"{directory}: {error.strerror}") from error

    @property
    def ordinals(self) -> list[int]:
        """Of the checkpoints there are, oldest first."""
        found = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(match[1]) for match in found if match)

    @property
    def floor(self) -> int:
        """The journal must keep every record after this one: a damaged checkpoint is replaced by an older one and a replay."""
        kept = self.ordinals
        return kept[0] if len(kept) >= KEEP else 0

    def save(self, ordinal: int, state: State) -> None:
        """Write a checkpoint and drop all but the newest ``KEEP``. Raises ``StorageError``; the older ones are still there then."""
        path = self._path(ordinal)
        draft = path.with_suffix(".tmp")
        try:
            with draft.open("wb") as file:
                _write(file, Manifest(FORMAT, self._code, ordinal, {}), state)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync(self._directory)
            # Newer ones are of a run that this one did not restore; they must not win at the next start.
            for other in self.ordinals:
                if other > ordinal:
                    self._path(other).unlink()
            for old in self.ordinals[:-KEEP]:
                self._path(old).unlink()
        except (OSError, pl.exceptions.PolarsError) as error:
            draft.unlink(missing_ok=True)
            raise StorageError(f"{path}: checkpoint was not written: {error}") from error

    def load(self) -> Restored:
        """The newest checkpoint that is whole, of this format and of this ``code``. Never raises for a damaged one."""
        skipped: list[str] = []
        for ordinal in reversed(self.ordinals):
            try:
                return Restored(self._read(ordinal), tuple(skipped))
            except Exception as error:  # damage shows as anything: bad ZIP, bad JSON, missing part, wrong length
                skipped.append(f"{self._path(ordinal).name}: {error}")
                _log.warning("%s: not used: %s", self._path(ordinal), error)
        return Restored(None, tuple(skipped))

    def _path(self, ordinal: int) -> Path:
        return self._directory / f"checkpoint-{ordinal:020d}.zip"

    def _read(self, ordinal: int) -> Checkpoint:
        with zipfile.ZipFile(self._path(ordinal)) as archive:
            manifest = msgspec.json.decode(archive.read(_MANIFEST), type=Manifest)
            if manifest.format != FORMAT:
                raise StorageError(f"format {manifest.format}, this version reads {FORMAT}")
            if manifest.code != self._code:
                raise StorageError(f"state of version {manifest.code!r}, this is {self._code!r}")
            if manifest.ordinal != ordinal:
                raise StorageError(f"is of journal record {manifest.ordinal}")
            return Checkpoint(ordinal, {name: _part(archive, name, part) for name, part in manifest.parts.items()})


def _part(archive: zipfile.ZipFile, name: str, part: Part) -> pl.DataFrame | bytes:
    content = archive.read(_entry(name, part.kind))
    if len(content) != part.size or hashlib.sha256(content).hexdigest() != part.sha256:
        raise StorageError(f"part {name!r} is damaged")
    return pl.read_ipc(io.BytesIO(content)) if part.kind == "frame" else content


def _entry(name: str, kind: str) -> str:
    return f"{name}.arrow" if kind == "frame" else f"{name}.bin"


def _write(file: IO[bytes], manifest: Manifest, state: State) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in state.items():
            kind: Literal["frame", "bytes"] = "frame" if isinstance(value, pl.DataFrame) else "bytes"
            with archive.open(zipfile.ZipInfo(_entry(name, kind), _STAMP), "w", force_zip64=True) as entry:
                hashing = _Hashing(entry)
                if isinstance(value, pl.DataFrame):
                    value.write_ipc(cast("IO[bytes]", hashing), compression="lz4")
                else:
                    hashing.write(value)
            manifest.parts[name] = Part(kind, hashing.size, hashing.sha256.hexdigest())
        archive.writestr(zipfile.ZipInfo(_MANIFEST, _STAMP), msgspec.json.format(msgspec.json.encode(manifest)))


class _Hashing(io.RawIOBase):
    """Writes through to a ZIP entry, counting and hashing."""

    def __init__(self, entry: IO[bytes]) -> None:
        self._entry, self.size, self.sha256 = entry, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._entry.write(data)
