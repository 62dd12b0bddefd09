"""What is known of a call that several descriptions tell of, and the names by which a description finds it (same.py, served.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from itertools import islice
from typing import Any

from otel_ir.model import TOLD_COLUMNS
from otel_ir.normalize.calls import canonical
from otel_ir.normalize.columns import SCRUBBED
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.json_text import members
from otel_ir.normalize.table import ANYWHERE

EVENT, CALL_ID, EXECUTED, TOOL = "otel_ir.event.id", "gen_ai.tool.call.id", "otel_ir.executed", "gen_ai.tool.name"
FACTS = (*(name for name in TOLD_COLUMNS if name != "otel_ir.handoff.to"), EXECUTED, CALL_ID)
SERVER = "server"
"""Kind of a description by an MCP server, which knows no ids."""
NEAR, AFTER = 1_000_000_000, 50_000_000
"""ns: how far apart two descriptions of one call may be; how much of a server's span may lie outside its client's."""
_ARGUMENTS = "gen_ai.tool.call.arguments"
_WHOSE = ("gen_ai.conversation.id", "user.id", "gen_ai.agent.name")
"""Columns in which descriptions of one call say the same or nothing."""
_MAX_MEMBERS, _MAX_COMPARED, _PREFIX = 32, 1 << 14, 64
"""Arguments of one call, characters of all of them, and of each, up to which they are compared: what comes later may be cut."""
_FAR = {"unknown": 0, "pending_approval": 1, "rejected": 2, "yes": 3}

Rank = tuple[int, int, bytes]
Told = dict[str, Any]
Times = tuple[int, int]
"""Start and end, ns."""


@dataclass(slots=True)
class Thing:
    """A call, or an approval of one. ``event``: what describes it, None while only parts are known. ``facts``: column -> (rank, value);
    the value is dropped once the event has it. ``of``: of an approval, the number of its call; ``approvals``: the other way.
    ``scope``: what its id is unique within, None where no description says; ``start`` and ``end`` (ns): of what was described so far.
    ``said``: whose it is and what it was given, column or argument -> hashes of what its descriptions say.
    """

    number: int
    ordinal: int
    event: str | None = None
    kinds: list[str] = field(default_factory=list)
    facts: dict[str, tuple[Rank, Any]] = field(default_factory=dict)
    of: int | None = None
    approvals: list[int] = field(default_factory=list)
    scope: str | None = None
    start: int = 0
    end: int = 0
    said: dict[str, list[int]] = field(default_factory=dict)

    def says(self, said: Mapping[str, int]) -> None:
        """A description of it says that (``said_of``)."""
        for name, digest in said.items():
            if digest not in (known := self.said.setdefault(name, [])):
                known.append(digest)


def facts_of(row: Told) -> Told:
    weak = DIALECTS[row["dialect"]].weak
    facts = {column: (rank_of(column, row[column], weak=column in weak), row[column]) for column in FACTS if row[column] is not None}
    if row["call"] == ANYWHERE and row["error"] and row[CALL_ID] is not None:
        facts.pop(EXECUTED, None)  # that it ran is a guess, others know
    return facts


def rank_of(column: str, value: Any, *, weak: bool) -> Rank:
    """Which of two values counts: the greater rank. It does not keep the text itself."""
    if column == EXECUTED:
        return (_FAR.get(value, 0), 0, b"")
    if isinstance(value, str):
        return (int(not weak), len(value), blake2b(value.encode("utf-8", "replace"), digest_size=8).digest())
    return (int(not weak), int(value), b"")


def size_of(facts: Told) -> int:
    return sum(len(value) for _, value in facts.values() if isinstance(value, str))


def compatible(thing: Thing, row: Told) -> bool:
    """Whether the two may be of one tool: names that differ are of two, unless one of them is a weak one."""
    name = row[TOOL]
    if name is None or TOOL not in thing.facts or TOOL in DIALECTS[row["dialect"]].weak:
        return True
    strength, known = thing.facts[TOOL]
    return not strength[0] or plain(known) == plain(name)


def said_of(row: Told) -> dict[str, int]:
    """Whose call it is, and what it was given, as far as the description itself says so: name -> hash; see ``agree`` for the arguments."""
    found = {name: _hash(row[name]) for name in _WHOSE if row[name] is not None}
    arguments = row[_ARGUMENTS]
    if arguments is None or len(arguments) > _MAX_COMPARED or _ARGUMENTS in DIALECTS[row["dialect"]].weak:
        return found
    given = islice(members(arguments).items(), _MAX_MEMBERS)
    return found | {f"{_ARGUMENTS} {name}": _hash((value or "")[:_PREFIX]) for name, value in given if not _scrubbed(value)}


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=7).digest())


def _scrubbed(value: str | None) -> bool:
    return value is not None and any(mark in value for mark in SCRUBBED)


def contradict(said: Mapping[str, list[int]], others: Mapping[str, Iterable[int]]) -> bool:
    """Whether both name a conversation, a user, an agent or an argument, and not the same one."""
    return any(not {*said[name]} & {*others[name]} for name in said.keys() & others.keys())


def plain(tool: str) -> str:
    """A tool's name without the server in front (``mcp__server__tool``)."""
    return tool.rpartition("__")[2] if tool.startswith("mcp__") else tool


def call_key(row: Told) -> str | None:
    model = row["event.type"] == "model_output"
    call_id = row["gen_ai.response.id"] if model else row[CALL_ID]
    if row["call"] is None or call_id is None or row["call"] == ANYWHERE:
        return None
    # Ids come from outside: the length keeps two pairs apart that read alike.
    return f"{'model' if model else 'tool'} {_who(row)}{len(row['call'])}:{row['call']}/{call_id}"


def _who(row: Told) -> str:
    return f"{row['otel_ir.tenant'] or ''}\x1f{row['otel_ir.sender'] or ''}\x1f"


def by_id(row: Told) -> str | None:
    return None if row[CALL_ID] is None or row["call"] is None else f"id {_who(row)}{row[CALL_ID]}"


def by_name(row: Told) -> str | None:
    return None if row[TOOL] is None or row["call"] is None else f"name {_who(row)}{plain(row[TOOL])}"


def by_arguments(row: Told) -> str | None:
    arguments = row[_ARGUMENTS]
    if arguments is None or row["call"] is None or not _unnamed(row["dialect"]):
        return None
    return f"arguments {_who(row)}{blake2b((canonical(arguments) or '').encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


@cache
def _unnamed(dialect: int) -> bool:
    """Whether names of tools may say nothing there."""
    return TOOL in DIALECTS[dialect].bogus


def kind_of(row: Told) -> str:
    """One record of each of these may describe a call: its own emitter's span and log record, somebody else's, the server's."""
    if row["call"] != ANYWHERE:
        return str(row["signal"])
    return SERVER if row[CALL_ID] is None else "other"


def served(kinds: list[str], kind: str) -> bool:
    """Whether one of the two is the span of a server and nothing else."""
    return SERVER not in kinds if kind == SERVER else kinds == [SERVER]


def within(inner: Times, outer: Times) -> bool:
    """Whether the server's span (``inner``) lies within the other one; a log record is written when the call is over."""
    if outer[0] == outer[1]:
        return -AFTER <= outer[1] - inner[1] <= NEAR
    return outer[0] - AFTER <= inner[0] and inner[1] <= outer[1] + AFTER


def near(thing: Thing, row: Told) -> bool:
    start, end = int(row["start_time"]), int(row["event_time"])
    return thing.start - NEAR <= end and start <= thing.end + NEAR


def place_of(row: Told) -> str:
    """The span of an approval, whether it is that span or a log record of it; else its call."""
    if row["signal"] == "log" and row["about"] is not None:
        return str(row["about"])
    return str(row[EVENT]) if row["signal"] == "span" else call_key(row) or str(row[EVENT])
