"""Facts about processes of this machine, out of /proc (Linux). Nothing here changes anything.

A process is named by its id *and* the clock tick of its start: ids are used again, such pairs are not until the next boot.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD (include/linux/sched.h)."""
_ESTABLISHED = "01"


class Stat(NamedTuple):
    """Some fields of /proc/PID/stat (proc_pid_stat(5)): 3, 4, 9 and 22."""

    state: str
    parent: int
    flags: int
    start: int

    @property
    def stopped(self) -> bool:
        """By a signal or a tracer."""
        return self.state in "Tt"

    @property
    def exited(self) -> bool:
        """Dead, perhaps not yet collected by its parent."""
        return self.state in "ZXx"

    @property
    def kernel(self) -> bool:
        """A thread of the kernel."""
        return bool(self.flags & _KERNEL_THREAD)


def stat(pid: int, thread: int | None = None) -> Stat | None:
    """Of a process, or of one thread of it; ``None`` when there is none."""
    place = f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat"
    try:
        # The command in parentheses may contain anything, parentheses too.
        fields = Path(place).read_bytes().rpartition(b")")[2].split()
        return Stat(fields[0].decode(), int(fields[1]), int(fields[6]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def threads(pid: int) -> list[Stat]:
    """The threads of a process."""
    try:
        found = [stat(pid, int(name)) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208  # ids, not paths
    except OSError:
        return []
    return [one for one in found if one]


def alive(pid: int, start: int) -> bool:
    """Whether that very process is there and has not exited."""
    one = stat(pid)
    return one is not None and one.start == start and any(not thread.exited for thread in threads(pid))


def ancestors(pid: int) -> list[int]:
    """The process itself, its parent, and so on."""
    line = [pid]
    while (one := stat(line[-1])) and one.parent and one.parent not in line:
        line.append(one.parent)
    return line


def children(pid: int) -> list[int]:
    """Its children that have not exited."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if (one := stat(child)) and not one.exited]


def boot_id() -> str:
    """Of this boot of this machine; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def pid_namespace() -> str:
    """Within which process ids mean what they mean here; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


Address = tuple[str, int]


class Proof(NamedTuple):
    """Whether a process is the one that holds the other end of a connection; ``reason`` says why not, and is empty when it is."""

    start: int | None
    reason: str = ""


def prove(pid: int, start: int | None, boot: str | None, client: Address | None, server: Address | None) -> Proof:
    """Whether the connection from ``client`` to ``server`` belongs to process ``pid``, as that process says of itself.

    Reads whole tables of the kernel: milliseconds on a busy machine, so not for an event loop.
    """
    if not sys.platform.startswith("linux"):
        return Proof(start, "this can only be proven on Linux")
    try:
        if not client or not server or not _plain(client[0]).is_loopback:
            return Proof(start, "it does not connect over the loopback interface")
    except ValueError:
        return Proof(start, "it does not connect over the loopback interface")
    if boot is not None and boot != boot_id():
        return Proof(start, "it runs on another machine (boot_id differs)")
    before = stat(pid)
    if before is None:
        return Proof(start, f"there is no process {pid} here (another container?)")
    if start is not None and start != before.start:
        return Proof(start, f"process {pid} was started at another time than it says")
    sockets = set(_inodes(client, server))
    if not sockets:
        return Proof(before.start, "its connection is not in this network namespace")
    try:
        held = sockets & set(_open_sockets(pid))
    except OSError as error:
        return Proof(before.start, f"the open files of process {pid} cannot be read: {error.strerror}")
    after = stat(pid)
    if not held or after is None or after.start != before.start:
        return Proof(before.start, f"its connection does not belong to process {pid}")
    return Proof(before.start)


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _inodes(local: Address, remote: Address) -> Iterator[str]:
    """Inodes of the established sockets from ``local`` to ``remote``."""
    for table, version in (("/proc/net/tcp", 4), ("/proc/net/tcp6", 6)):
        ends = [_hexadecimal(local, version), _hexadecimal(remote, version)]
        with contextlib.suppress(OSError), Path(table).open(encoding="ascii") as lines:
            for line in lines:
                fields = line.split(None, 10)
                if fields[1:3] == ends and fields[3] == _ESTABLISHED and fields[9] != "0":
                    yield fields[9]


def _hexadecimal(address: Address, version: int) -> str:
    """As in /proc/net/tcp and tcp6: 32-bit words in the machine's byte order; IPv4 in the latter as ::ffff:a.b.c.d."""
    plain = _plain(address[0])
    packed = plain.packed
    if version == 6 and plain.version == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{address[1]:04X}"


def _open_sockets(pid: int) -> Iterator[str]:
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115  # a name such as socket:[123], no path
                if target.startswith("socket:["):
                    yield target[8:-1]
