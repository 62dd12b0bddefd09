"""Calls that no answer tells of: some emitters leave them out, of streams for example, and only the next request repeats them.

A call that a request repeats with its result was made since an earlier request of the same conversation, in the same trace, that did not
repeat it and whose answer was silent about calls. What already stands in the first request was said before, in another trace. A call
stands where it was told of first, as it does where answers tell; nothing depends on which of the two requests comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

MAX_CONVERSATIONS = 20_000
MAX_WAITING, MAX_CHARACTERS = 16, 4096
"""Repeated calls of a conversation that wait for a silent answer, and how long their arguments may be."""
_MAX_SILENT = 256
"""Of one conversation: the first ones, which do not repeat what comes later."""
MAX_HELD = 1 << 26
"""Bytes of ids and characters of waiting calls, of all conversations; the oldest are forgotten."""
_ID = 8
"""Bytes that are kept of an id."""
SEPARATOR = "\x1f"
"""Between the ids that a silent answer's request repeats."""

Row = dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """``silent``: (time of the answer, ns; hashes of the ids of the calls that its request repeats). ``waiting``: message rows of results.
    ``size``: what it holds.
    """

    ordinal: int
    silent: list[tuple[int, bytes]] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    size: int = 0


class Echoes:
    """State: conversations, by trace and by what they begin with."""

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.held = 0

    def fold(self, row: Row) -> list[Row]:
        """A message row of a silent answer, or of a result -> the results that are known now to be of calls made in their trace."""
        if row["begins"] is None:
            return []
        conversation = self.conversations.setdefault(f"{row['trace']}{row['begins']}", Conversation(row["ordinal"]))
        found = _heard(conversation, row) if row["side"] == "result" else _spoken(conversation, row)
        self.held -= conversation.size
        conversation.size = sum(len(ids) for _, ids in conversation.silent) + sum(_size(one) for one in conversation.waiting)
        self.held += conversation.size
        while len(self.conversations) > MAX_CONVERSATIONS or self.held > MAX_HELD:
            self._forget(next(iter(self.conversations)))
        return found

    def _forget(self, conversation: str) -> None:
        self.held -= self.conversations.pop(conversation).size

    def end_epoch(self, first: int) -> None:
        """Forgets what began before journal record ``first``."""
        while self.conversations and self.conversations[oldest := next(iter(self.conversations))].ordinal < first:
            self._forget(oldest)

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode(self.conversations)

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.conversations = msgspec.msgpack.decode(state, type=dict[str, Conversation])
        self.held = sum(one.size for one in self.conversations.values())


def _heard(conversation: Conversation, row: Row) -> list[Row]:
    told = row | {"result": None, "stated": None}  # the result itself is kept once, by joins.py
    call = _hashed(row["call_id"] or "")
    if any(_made_since(silent, row, call) for silent in conversation.silent):
        return [told]
    if row["call_id"] is not None and row["tool"] is not None and len(row["arguments"] or "") <= MAX_CHARACTERS:
        _wait(conversation.waiting, told)
    return []


def _spoken(conversation: Conversation, row: Row) -> list[Row]:
    silent = (row["time"], b"".join(sorted(_hashed(one) for one in row["arguments"].split(SEPARATOR) if one)))
    conversation.silent = sorted([*conversation.silent, silent])[:_MAX_SILENT]
    found = [one for one in conversation.waiting if _made_since(silent, one, _hashed(one["call_id"]))]
    conversation.waiting = [one for one in conversation.waiting if one not in found]
    return sorted(found, key=lambda one: one["time"])


def _hashed(call_id: str) -> bytes:
    return blake2b(call_id.encode("utf-8", "replace"), digest_size=_ID).digest()


def _made_since(silent: tuple[int, bytes], row: Row, call: bytes) -> bool:
    """``call``: the hash of the row's id."""
    time, ids = silent
    if time >= row["time"]:
        return False
    at = ids.find(call)
    while at > 0 and at % _ID:  # across two of them
        at = ids.find(call, at + 1)
    return at < 0


def _size(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))


def _wait(waiting: list[Row], row: Row) -> None:
    """Of the requests that repeat a call, the first in time tells of it."""
    for at, known in enumerate(waiting):
        if (known["call_id"], known["tool"], known["arguments"]) == (row["call_id"], row["tool"], row["arguments"]):
            if row["time"] < known["time"]:
                waiting[at] = row
            return
    if len(waiting) < MAX_WAITING:
        waiting.append(row)
