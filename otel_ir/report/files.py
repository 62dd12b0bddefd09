"""Writes a report into a folder. What people wrote into the Markdown file is read first and stands in all three files afterwards."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from otel_ir.errors import StorageError
from otel_ir.report.fill import Written, read_written
from otel_ir.report.html import to_html
from otel_ir.report.markdown import to_markdown
from otel_ir.report.model import Report

MAX_BYTES = 16 * 1024 * 1024
"""Of a Markdown file that somebody wrote into. A larger one is not read, and not overwritten."""


def write_report(report: Report, folder: Path) -> tuple[list[Path], Written]:
    """INC-….md, .html and .json. -> their paths, and what people wrote. Raises ``StorageError``; each file is written whole or not at all.

    The same report over the same files gives the same bytes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{_name(report.incident_id)}.{form}" for form in FORMATS]
        written = _written(paths[0])
        for path, write in zip(paths, FORMATS.values(), strict=True):
            _replace(path, write(report, written))
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror}: choose another folder with --out") from error
    return paths, written


def to_json(report: Report, written: Written) -> str:
    """The facts, and what people wrote, by part."""
    kept = written.kept(report.defaults)
    text = json.dumps(
        report.facts | {"written": written.filled(report.defaults) | ({"kept": kept} if kept else {})}, ensure_ascii=False, indent=2
    )
    return text.encode("utf-8", "replace").decode() + "\n"


FORMATS: dict[str, Callable[[Report, Written], str]] = {"md": to_markdown, "html": to_html, "json": to_json}
"""End of the file's name -> what writes it. The Markdown file is the one in which people write."""


def _name(incident_id: str) -> str:
    """An id comes from the ledger; only what is harmless in a path is left of it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", incident_id).lstrip(".") or "incident"


def _written(path: Path) -> Written:
    if not path.exists():
        return Written()
    if path.stat().st_size > MAX_BYTES:
        raise StorageError(f"{path} has more than {MAX_BYTES:,} bytes: move it away, nothing was written")
    return read_written(path.read_bytes().decode("utf-8", "surrogateescape"))


def _replace(path: Path, text: str) -> None:
    """As a whole, so that a crash or a full disk leaves the file that people wrote into as it was."""
    content = text.encode("utf-8", "surrogateescape")
    if path.exists() and path.read_bytes() == content:
        return
    draft, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
