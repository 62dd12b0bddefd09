"""Calls by their ids, in all traces: the result of a call may come in another one, and so may a span that stands alone.

A call to which the model's answer gives no id is found by what is said of it, and has that of its result from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from otel_ir.normalize.by_conversation import find, put
from otel_ir.normalize.calls import Call, Trace, canonical, id_key, may_answer, said_key

Row = dict[str, Any]
Place = tuple[int, str, str, str | None]
"""Of a call: journal record, trace, key in it, conversation."""
_OF = itemgetter(3)


class ById:
    """``asked``: sender's call id, or what is said of the call (by_conversation.py) -> where such calls are, of all ``traces``.

    Both belong to ``Joins``; nothing is kept here.
    """

    def __init__(self, traces: dict[str, Trace], asked: dict[str, list[Place]]) -> None:
        self._traces, self._asked = traces, asked

    def enter(self, call: Call, key: str) -> None:
        """A new call, which has this key in its trace."""
        row = call.row
        place = (row["ordinal"], row["trace"], key, row["conversation"])
        self._put(id_key(row) if row["call_id"] is not None else said_key(row, call.arguments), place)

    def name(self, call: Call, result: Row, place: Place) -> None:
        """A call without an id has that of its result from now on."""
        call.row = call.row | {"call_id": result["call_id"]}
        self._put(id_key(result), place)

    def tool_of(self, tenant: str | None, sender: str | None, service: str | None, call_id: str, *, conversation: str | None) -> str | None:
        """Of the newest call with this id."""
        key = id_key({"tenant": tenant, "sender": sender, "service.name": service, "call_id": call_id})
        tools: list[str] = [call.row["tool"] for _, call in self._find(key, conversation)]
        return tools[-1] if tools else None

    def alike(self, row: Row) -> list[Call]:
        """The calls with this id in all traces of the same service, of no other conversation."""
        return [call for _, call in self._find(id_key(row), row["conversation"])]

    def nameless(self, row: Row) -> Iterator[tuple[Place, Call]]:
        """The unanswered calls without an id of which the same is said, as they came."""
        for place, call in self._find(said_key(row, canonical(row["arguments"])), row["conversation"]):
            if not call.answered and call.row["call_id"] is None:
                yield place, call

    def elsewhere(self, row: Row, may_be_of: Callable[[Row, Call], bool]) -> Call | None:
        """The newest call with this id, in its own trace or another one of the same service, that the row may be the result of; else the
        oldest unanswered one without an id of which the same is said, and which it ``may_be_of``.
        """
        fitting = [call for call in self.alike(row) if may_answer(row, call)]
        if not fitting and row["tool"] is not None and row["arguments"] is not None:
            return self._unnamed(row, may_be_of)
        own = [call for call in fitting if call.row["trace"] == row["trace"]]
        return next(reversed(own or [call for call in fitting if not call.answered] or fitting), None)

    def _unnamed(self, row: Row, may_be_of: Callable[[Row, Call], bool]) -> Call | None:
        for place, call in self.nameless(row):
            if may_be_of(row, call):
                self.name(call, row, place)
                return call
        return None

    def _find(self, key: str, conversation: str | None) -> Iterator[tuple[Place, Call]]:
        for place in find(self._asked, key, conversation, _OF):
            call = self._at(place)
            if call is not None:
                yield place, call

    def _put(self, key: str, place: Place) -> None:
        put(self._asked, key, place[-1], place, lambda one: (call := self._at(one)) is None or call.answered)

    def _at(self, place: Place) -> Call | None:
        _, trace, key, _ = place
        return self._traces[trace].calls.get(key) if trace in self._traces else None
