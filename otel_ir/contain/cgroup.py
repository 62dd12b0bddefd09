"""Freezing a control group (cgroup v2): everything in it stops, also what a process started, and no signal continues any of it."""

from __future__ import annotations

import os
from pathlib import Path

from otel_ir.contain import procfs


def mount() -> Path | None:
    """Where cgroup v2 is mounted as a whole; ``None`` where it is not."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # proc_pid_mountinfo(5): (3) root of the mount, (4) mount point, after a hyphen the type.
        fields, _, kind = line.partition(" - ")
        root, place = fields.split()[3:5]
        if kind.startswith("cgroup2 ") and root == "/":
            return Path(place)
    return None


def of(pid: int, root: Path) -> Path | None:
    """The group of a process, a folder under ``root``; ``None`` when it cannot be told."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    name = next((line[3:] for line in lines if line.startswith("0::")), "")
    if not name.startswith("/") or ".." in name.split("/") or name.endswith(" (deleted)"):
        return None
    return root / name.lstrip("/")


def why_not(pid: int, group: Path | None, root: Path | None) -> str:
    """Why freezing its group is not the way to stop a process; empty when it is: whatever is in it is that process or came of it."""
    if root is None:
        return "cgroup v2 is not mounted"
    if group is None or group == root:
        return f"process {pid} is in no group of its own"
    if not os.access(group / "cgroup.freeze", os.W_OK):
        return f"{group}/cgroup.freeze cannot be written"
    try:
        strangers = [one for one in _members(group) if pid not in procfs.ancestors(one)]
    except OSError as error:
        return f"{group}: {error.strerror}"
    return f"{group} holds other processes too, such as {strangers[0]}" if strangers else ""


def freeze(group: Path, *, frozen: bool) -> None:
    """Ask the kernel; ``is_frozen`` tells when it is done. Raises ``OSError``."""
    (group / "cgroup.freeze").write_text("1" if frozen else "0")


def is_frozen(group: Path) -> bool:
    """Whether everything in it stands still."""
    try:
        return "frozen 1" in (group / "cgroup.events").read_text().splitlines()
    except OSError:
        return False


def holds(group: Path, pid: int) -> bool:
    """Whether the process is in it."""
    try:
        return pid in _members(group)
    except OSError:
        return False


def _members(group: Path) -> list[int]:
    return [int(pid) for folder, _, _ in os.walk(group) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
