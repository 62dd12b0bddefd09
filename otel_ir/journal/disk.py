"""The calls to the operating system that may fail, in one place, so that tests can let them fail."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from otel_ir.errors import StorageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors after which the same write may succeed later: no space, over quota, over the file size limit."""

_BUFFERS = min(os.sysconf("SC_IOV_MAX"), 1024)
_FULLSYNC = getattr(fcntl, "F_FULLFSYNC", None)
_datasync = getattr(os, "fdatasync", os.fsync)


class Disk:
    """Writing and syncing of segments. All methods raise ``OSError``."""

    def create(self, path: Path) -> int:
        """A new, empty file, open for reading and writing; what was there under that name is gone."""
        path.unlink(missing_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        """All of ``buffers`` at ``offset``; part of them may be there when it raises."""
        for start in range(0, len(buffers), _BUFFERS):
            some: list[bytes | memoryview] = list(buffers[start : start + _BUFFERS])
            while some:
                written = os.pwritev(fd, some, offset)
                offset += written
                while some and written >= len(some[0]):
                    written -= len(some.pop(0))
                if some:
                    some[0] = memoryview(some[0])[written:]

    def sync(self, fd: int) -> None:
        """Return when the content of the file is on the medium. After an error nothing is known of any unsynced page."""
        if _FULLSYNC is not None:
            fcntl.fcntl(fd, _FULLSYNC)  # macOS: fsync alone leaves the data in the drive's cache (fsync(2) there)
        else:
            _datasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to ``size`` bytes and sync that."""
        os.ftruncate(fd, size)
        self.sync(fd)

    def publish(self, draft: Path, path: Path) -> None:
        """Give a finished file its name, durably."""
        draft.replace(path)
        self.sync_directory(path.parent)

    def sync_directory(self, directory: Path) -> None:
        """A new name is durable only after its directory is (fsync(2))."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def lock(directory: Path) -> int:
    """An exclusive lock on the directory, held by the descriptor returned. Raises ``StorageError`` when somebody else has it."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise StorageError(
            f"{directory}: in use by process {holder or 'unknown'}; a journal has one owner, stop that process first"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
