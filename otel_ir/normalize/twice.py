"""One model call, two spans: the client library's own (``Dialect.inner``) and that of an instrumentation around it.

They share the id of the answer and overlap in time; ids alone are no proof. Of a call that failed, and so has no answer, the model that was
asked stands for it. In some dialects (``Dialect.nested``) one span of a call stands
directly under the other. Within one record the instrumentation's span is the event,
because it knows more; else the first that came is. The other one is its duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from otel_ir.normalize.calls import leads
from otel_ir.normalize.dialects import DIALECTS

MAX_ANSWERS = 100_000
"""Kept beyond the end of an epoch."""
MAX_ALIKE = 64
"""Newest model calls kept of one answer, or below one span."""
INNER = {dialect.name: dialect.inner for dialect in DIALECTS if dialect.inner}
"""dialect of a client library -> its provider"""
PROVIDERS = (*INNER.values(), *(provider.capitalize() for provider in INNER.values()), "Langchain")
"""What instrumentations call these providers, or write in their place."""
NESTED = tuple(dialect.name for dialect in DIALECTS if dialect.nested)
"""Dialects in which a model call directly under a model call is the same one."""


class Answer(NamedTuple):
    """A model call that no other span describes yet: ``inner`` says whose span it is; times in ns."""

    event: str
    ordinal: int
    inner: bool
    start: int
    end: int


class Twice:
    """State: the model calls of providers whose client libraries emit spans, by sender and answer (or model)."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}

    def fold(self, rows: Iterable[tuple[str, Answer]]) -> dict[str, str]:
        """(sender and answer, call) -> duplicate event: the event that it repeats."""
        found: dict[str, str] = {}
        for key, new in sorted(rows, key=lambda one: (one[1].ordinal, one[1].inner)):
            alike = self.answers.setdefault(key, [])
            for old in alike:
                if old.inner != new.inner and old.start <= new.end and new.start <= old.end and not leads(found, old.event, new.event):
                    found[new.event] = old.event
                    alike.remove(old)
                    break
            else:
                alike.append(new)
                del alike[:-MAX_ALIKE]
        return found

    def end_epoch(self, first: int) -> None:
        """Forgets what came before journal record ``first``, and the oldest beyond ``MAX_ANSWERS``."""
        kept = {key: left for key, alike in self.answers.items() if (left := [one for one in alike if one.ordinal >= first])}
        self.answers = {key: kept[key] for key in [*kept][-MAX_ANSWERS:]}

    def state(self) -> bytes:
        """What a checkpoint keeps (MessagePack)."""
        return msgspec.msgpack.encode(self.answers)

    def restore(self, state: bytes) -> None:
        """The inverse of ``state``."""
        self.answers = msgspec.msgpack.decode(state, type=dict[str, list[Answer]])
