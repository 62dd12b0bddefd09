"""Results that came before their call, of whatever trace of the same service it will be.

A request repeats the ids of the calls whose results it carries; an answer may tell of its calls without ids. So a result is found by its
id, and by what its request says of the call: of results that say the same, the first in time that is later than the call is the call's.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import msgspec

from otel_ir.normalize.by_conversation import drop, find, put
from otel_ir.normalize.calls import MAX_ALIKE, Call, canonical, id_key, may_answer, said_key
from otel_ir.normalize.held import weight

MAX_UNASKED, MAX_UNASKED_CHARACTERS = 20_000, 4096
"""Results that wait for a call of another trace."""
MAX_HELD = 1 << 26
"""Characters of all of them."""

Row = dict[str, Any]
_OF = itemgetter("conversation")


class Unasked:
    """State. ``results``: sender's call id -> message rows; ``said``: what is said of the call -> sender's call ids of such rows.

    Long arguments are kept in brief, and their row has ``brief``: such are compared, but not told.
    """

    def __init__(self) -> None:
        self.results: dict[str, list[Row]] = {}
        self.said: dict[str, list[str]] = {}
        self._held = 0

    def add(self, row: Row, *, told: bool) -> None:
        """A result whose call is in no trace yet. ``told``: whether a span told the result itself."""
        if not told and len(row["result"] or "") > MAX_UNASKED_CHARACTERS:
            return
        if len(row["arguments"] or "") > MAX_UNASKED_CHARACTERS:
            row = row | {"arguments": canonical(row["arguments"]), "brief": True}
        key = id_key(row)
        self._bound(row)
        self._keep_first(key, row | {"result": None} if told else row)
        if row["tool"] is not None and row["arguments"] is not None:
            ids = self.said.setdefault(said_key(row, canonical(row["arguments"])), [])
            if key not in ids and len(ids) < MAX_ALIKE:
                ids.append(key)
        while len(self.results) > MAX_UNASKED:
            del self.results[next(iter(self.results))]
        if len(self.said) > MAX_UNASKED:
            del self.said[next(iter(self.said))]

    def may_be_of(self, row: Row, call: Call) -> bool:
        """Whether a result was told of first after a call, and not by the request of the call itself."""
        alike = [one for one in self._of(id_key(row), row) if one["tool"] == row["tool"]]
        return _is_after(min([*alike, row], key=lambda one: int(one["time"])), call.row)

    def _bound(self, row: Row) -> None:
        """Forgets the oldest where it may be too much with one more."""
        self._held += weight(row)
        if self._held <= MAX_HELD:
            return
        self._held = weight(row) + sum(weight(one) for rows in self.results.values() for one in rows)
        for oldest in [*self.results]:
            if self._held <= MAX_HELD * 3 // 4:
                break
            self._held -= sum(weight(one) for one in self.results.pop(oldest))

    def take(self, row: Row, call: Call) -> Row | None:
        """The result of a call that a message row tells of; it waits no longer."""
        if row["call_id"] is not None:
            found = first_answer(self._of(id_key(row), row), row, call)
        else:
            waiting = [one for key in self.said.get(said_key(row, call.arguments), ()) for one in self._of(key, row)]
            later = [one for one in waiting if _is_after(one, row) and may_answer(one, call)]
            found = min(later, key=lambda one: int(one["time"]), default=None)
        if found is not None:
            self._forget(found)
        return found

    def _of(self, key: str, row: Row) -> list[Row]:
        """The results with this id that are of no other conversation than the row."""
        return find(self.results, key, row["conversation"], _OF)

    def _forget(self, row: Row) -> None:
        drop(self.results, id_key(row), row["conversation"], row)

    def _keep_first(self, key: str, row: Row) -> None:
        """Of requests that repeat a result, the first in time tells of it."""
        what = ("call_id", "tool", "arguments", "result", "conversation")
        for known in self._of(key, row):
            if all(known[name] == row[name] for name in what):
                if row["time"] >= known["time"]:
                    return
                self._forget(known)
                break
        put(self.results, key, row["conversation"], row)

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``."""
        self.results = {key: kept for key, rows in self.results.items() if (kept := [row for row in rows if row["ordinal"] >= first])}
        self.said = {key: left for key, ids in self.said.items() if (left := [one for one in ids if one in self.results])}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode((self.results, self.said, self._held))

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.results, self.said, self._held = msgspec.msgpack.decode(state, type=tuple[dict[str, list[Row]], dict[str, list[str]], int])


def _is_after(result: Row, call: Row) -> bool:
    return bool(result["time"] >= call["time"] and result["event"] != call["event"])


def first_answer(results: list[Row], row: Row, call: Call) -> Row | None:
    """Ids may come again: of several results the first one in time, as it would have been, had the call come before them."""
    answers = (one for one in results if one["call_id"] == row["call_id"] and may_answer(one, call))
    return min(answers, key=lambda one: (one["time"] < row["time"], one["time"]), default=None)
