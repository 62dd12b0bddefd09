"""Calls that somebody refused, as requests tell of it: nothing may ever come back from them.

The refusal of a call is of the same tool, with arguments that do not contradict, of no other conversation, and no earlier than the call.
Where not both name their conversation, it is that of a call in its own trace, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec

from otel_ir.normalize.by_conversation import find, put
from otel_ir.normalize.calls import Call, agree, canonical, id_key, said_key

MAX_REFUSED, MAX_CHARACTERS = 200_000, 4096
"""Ids that are kept beyond the end of an epoch, and how long the arguments may be that are compared."""
Refusal = tuple[int, int, str, str, str | None, str | None]
"""Journal record, time (ns), trace, tool, arguments, conversation."""


class Refusals:
    """State: refusals by the call's id, and by what is said of the call."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Refusal]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """The message row of a refusal, which later requests repeat."""
        arguments = canonical(row["arguments"])
        short = arguments if len(arguments or "") <= MAX_CHARACTERS else None
        refusal = (row["ordinal"], row["time"], row["trace"], row["tool"], short, row["conversation"])
        for key in (id_key(row), said_key(row, arguments)):
            known = find(self.kept, key, row["conversation"], itemgetter(5))
            if not any(one[2:] == refusal[2:] and one[1] <= refusal[1] for one in known):
                put(self.kept, key, row["conversation"], refusal)

    def has(self, trace: str, call: Call, is_asked: Callable[[str, str | None], bool]) -> bool:
        """Whether the call of a trace was refused. ``is_asked``: whether another trace has a call like it, with such arguments."""
        key = id_key(call.row) if call.row["call_id"] is not None else said_key(call.row, call.arguments)
        for _, time, where, tool, arguments, conversation in find(self.kept, key, call.row["conversation"], itemgetter(5)):
            if tool == call.row["tool"] and time >= call.row["time"] and agree(arguments, call.arguments):
                surely = where == trace or (conversation is not None and conversation == call.row["conversation"])
                if surely or not is_asked(where, arguments):
                    return True
        return False

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``."""
        kept = {key: newer for key, alike in self.kept.items() if (newer := [one for one in alike if one[0] >= first])}
        self.kept = {key: kept[key] for key in [*kept][-MAX_REFUSED:]}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode(self.kept)

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.kept = msgspec.msgpack.decode(state, type=dict[str, list[Refusal]])
