"""Calls that no answer tells of: some emitters leave them out, of streams for example, and only the next request repeats them.

A call that a request repeats with its result was made since an earlier request of the same conversation, in the same trace, that did not
repeat it and whose answer was silent about calls. What already stands in the first request was said before, in another trace. A call
stands where it was told of first, as it does where answers tell; nothing depends on which of the two requests comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

MAX_CONVERSATIONS = 20_000
MAX_WAITING, MAX_CHARACTERS = 16, 4096
"""Repeated calls of a conversation that wait for a silent answer, and how long their arguments may be."""
_MAX_SILENT = 256
"""Of one conversation: the first ones, which do not repeat what comes later."""
SEPARATOR = "\x1f"
"""Between the ids that a silent answer's request repeats."""

Row = dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """``silent``: (time of the answer, ns; ids of the calls that its request repeats). ``waiting``: message rows of results."""

    ordinal: int
    silent: list[tuple[int, str]] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)


class Echoes:
    """State: conversations, by trace and by what they begin with."""

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}

    def fold(self, row: Row) -> list[Row]:
        """A message row of a silent answer, or of a result -> the results that are known now to be of calls made in their trace."""
        if row["begins"] is None:
            return []
        conversation = self.conversations.setdefault(f"{row['trace']}{row['begins']}", Conversation(row["ordinal"]))
        if len(self.conversations) > MAX_CONVERSATIONS:
            del self.conversations[next(iter(self.conversations))]
        if row["side"] == "result":
            told = row | {"result": None}  # the result itself is kept once, by joins.py
            if any(_made_since(silent, row) for silent in conversation.silent):
                return [told]
            if row["call_id"] is not None and row["tool"] is not None and len(row["arguments"] or "") <= MAX_CHARACTERS:
                _wait(conversation.waiting, told)
            return []
        silent = (row["time"], row["arguments"])
        conversation.silent = sorted([*conversation.silent, silent])[:_MAX_SILENT]
        found = [one for one in conversation.waiting if _made_since(silent, one)]
        conversation.waiting = [one for one in conversation.waiting if one not in found]
        return sorted(found, key=lambda one: one["time"])

    def end_epoch(self, first: int) -> None:
        """Forgets what began before journal record ``first``."""
        self.conversations = {key: one for key, one in self.conversations.items() if one.ordinal >= first}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode(self.conversations)

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.conversations = msgspec.msgpack.decode(state, type=dict[str, Conversation])


def _made_since(silent: tuple[int, str], row: Row) -> bool:
    return silent[0] < row["time"] and row["call_id"] not in silent[1].split(SEPARATOR)


def _wait(waiting: list[Row], row: Row) -> None:
    """Of the requests that repeat a call, the first in time tells of it."""
    for at, known in enumerate(waiting):
        if (known["call_id"], known["tool"], known["arguments"]) == (row["call_id"], row["tool"], row["arguments"]):
            if row["time"] < known["time"]:
                waiting[at] = row
            return
    if len(waiting) < MAX_WAITING:
        waiting.append(row)
