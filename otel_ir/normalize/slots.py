"""The tables behind identity.py: what spans say of themselves, and what is known for the children of a span. Numbers and texts in columns.

An identity is a number; 0 says nothing. What is known of a field is the identity that said it, and the journal record from which on.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from otel_ir.normalize.few import FEW, Mask, is_null
from otel_ir.normalize.hashes import HashIndex, Keys, Numbers, firsts, mixed

AGENT, CONVERSATION, USER = FIELDS = range(3)
"""The fields of an identity. As bits of a mask: ``1 << AGENT`` and so on."""
SLOT = "slot"
"""Helper column of events and of changes: the key of the parent span that events take identity from (0: none)."""
SAID = ["service.name", "agent_name", "agent_id", "conversation", "user"]
_TEXTS = ("s_id", "s_name", "s_agent_id", "s_conversation", "s_user")
_VALUES = ("agent", "conversation", "user")
_IDENTITIES = pl.Schema({"number": pl.UInt64, **dict.fromkeys(_VALUES, pl.UInt64), **dict.fromkeys(_TEXTS, pl.String)})
_NOBODY = pl.DataFrame({name: [0 if dtype == pl.UInt64 else None] for name, dtype in _IDENTITIES.items()}, schema=_IDENTITIES)
_SOURCES = pl.Series(["none", "sibling", "ancestor"], dtype=pl.String)
_SMALLEST = 64


class Identities:
    """What spans say: the agent (its id, its name, ``gen_ai.agent.id``), the conversation, the user. Numbered, from 1 on."""

    def __init__(self, known: pl.DataFrame = _NOBODY) -> None:
        self._parts = [known]
        self._index = HashIndex(known.height)
        self._index.claim(known["number"].to_numpy()[1:], np.arange(1, known.height))
        self._values = np.zeros((3, max(_SMALLEST, 2 * known.height)), dtype=np.uint64)
        self._values[:, : known.height] = [known[name].to_numpy() for name in _VALUES]
        self._count = known.height

    def __len__(self) -> int:
        return self._count

    def enter(self, seed: int, keys: Keys, said: pl.DataFrame) -> Numbers:
        """``keys``: a hash of what each row says; ``said``: that, columns ``SAID``. -> numbers of their identities."""
        numbers = self._index.find(keys)
        fresh = np.flatnonzero(numbers < 0)
        if len(fresh):
            fresh = fresh[firsts(keys[fresh])]
            self._add(seed, keys[fresh], said[pl.Series(fresh.astype(np.uint32))])
            numbers = self._index.find(keys)
        return numbers

    def _add(self, seed: int, keys: Keys, said: pl.DataFrame) -> None:
        texts = said.select_seq(**_agents()) if said.height <= FEW else said.select(**_agents())
        agents = mixed(seed, said["service.name"].fill_null(""), texts["s_name"], texts["s_agent_id"])
        values = [np.where(is_null(texts["s_id"]), np.uint64(0), agents)]
        values += [np.where(is_null(texts[name]), np.uint64(0), mixed(seed, texts[name])) for name in ("s_conversation", "s_user")]
        columns = [pl.Series("number", keys), *(pl.Series(name, value) for name, value in zip(_VALUES, values, strict=True))]
        start, end = self._count, self._count + len(keys)
        self._index.claim(keys, np.arange(start, end))
        if end > self._values.shape[1]:
            self._values = np.concatenate([self._values, np.zeros((3, end), dtype=np.uint64)], axis=1)
        self._values[:, start:end] = values
        self._count = end
        self._parts.append(solid(texts.insert_column(0, columns[0]).hstack(columns[1:])[_IDENTITIES.names()]))
        # Parts of about one size become one, so there are few, and a text is copied seldom.
        while len(self._parts) > 1 and self._parts[-2].height < 2 * self._parts[-1].height:
            self._parts[-2:] = [pl.concat(self._parts[-2:], rechunk=True)]

    def values(self, field: int, numbers: Numbers) -> Keys:
        """What identities say of a field, as numbers: equal where that is equal, 0 for nothing."""
        values: Keys = self._values[field][numbers]
        return values

    def texts(self, who: Numbers, source: Numbers) -> list[pl.Series]:
        """Of rows of three identities (who says the agent, the conversation, the user): columns ``_TEXTS`` and ``s_source``."""
        known = pl.concat(self._parts, rechunk=False)
        rows = [pl.Series(numbers.astype(np.uint32)) for numbers in who]
        found = [known[name][rows[max(0, place - 2)]].alias(name) for place, name in enumerate(_TEXTS)]
        return [*found, _SOURCES[pl.Series(source.astype(np.uint32))].alias("s_source")]

    def one(self, number: int) -> tuple[tuple[str, str | None, str | None] | None, str | None, str | None]:
        """An identity as ``identity.Identity``."""
        for part in self._parts:
            if number < part.height:
                agent, name, agent_id, conversation, user = part[number, list(_TEXTS)].row(0)
                return None if agent is None else (agent, name, agent_id), conversation, user
            number -= part.height
        raise IndexError(number)

    def keep(self, used: Numbers) -> None:
        """Forgets all but these (ascending, from 0 on), which are numbered anew in this order."""
        self.__init__(pl.concat(self._parts, rechunk=True)[pl.Series(used.astype(np.uint32))])  # type: ignore[misc]

    def state(self) -> pl.DataFrame:
        """What a checkpoint keeps, and ``__init__`` takes."""
        return pl.concat(self._parts, rechunk=True)


def _agents() -> dict[str, pl.Expr]:
    """An empty name, and an empty id, name nobody."""
    name, agent_id = pl.col("agent_name"), pl.col("agent_id")
    known = pl.when(agent_id != "").then(agent_id).otherwise(pl.when(name != "").then(name))
    return {
        "s_id": pl.concat_str(pl.col("service.name").fill_null(""), pl.lit("/"), known),
        "s_name": pl.when(known.is_not_null()).then(name),
        "s_agent_id": pl.when(known.is_not_null()).then(agent_id),
        "s_conversation": pl.col("conversation"),
        "s_user": pl.col("user"),
    }


class Table:
    """Whole numbers in rows, found by key (the first column). Rows are numbered as they come; those below ``first`` are forgotten."""

    def __init__(self, width: int, rows: NDArray[np.int64] | None = None, first: int = 0) -> None:
        size = 0 if rows is None else rows.shape[1]
        self.first, self.end = first, first + size
        self._rows = np.zeros((width, max(_SMALLEST, 2 * size)), dtype=np.int64)
        self._index = HashIndex(size)
        if rows is not None:
            self._rows[:, :size] = rows
            self._index.claim(rows[0].view(np.uint64), np.arange(first, self.end))

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def rows(self) -> NDArray[np.int64]:
        """A view, from ``first`` on; what is written into it stays. Rows that are claimed later are not in it."""
        return self._rows[:, : self.end - self.first]

    def find(self, keys: Keys) -> Numbers:
        """The number of each key, -1 where it is absent."""
        return self._index.find(keys, self.first)

    def claim(self, keys: Keys) -> tuple[Numbers, Numbers]:
        """The number of each key, with new rows of zeros for those that are absent; and which of ``keys`` these are (of equal ones the
        first).
        """
        numbers = self.find(keys)
        absent = np.flatnonzero(numbers < 0)
        if not len(absent):
            return numbers, absent
        provisional = np.arange(self.end, self.end + len(absent))
        claimed = self._index.claim(keys[absent], provisional, self.first)
        new = claimed == provisional
        fresh = absent[new]
        if len(fresh) < len(absent):
            place = np.cumsum(new) - 1
            claimed = self.end + place[claimed - self.end]
            self._index.move(keys[fresh], claimed[new])
        numbers[absent] = claimed
        start, end = self.end - self.first, self.end - self.first + len(fresh)
        if end > self._rows.shape[1]:
            self._rows = np.concatenate([self.rows, np.zeros((len(self._rows), end), dtype=np.int64)], axis=1)
        self._rows[1:, start:end] = 0
        self._rows[0, start:end] = keys[fresh].view(np.int64)
        self.end += len(fresh)
        return numbers, fresh

    def forget(self, first: int) -> None:
        """Rows with smaller numbers."""
        kept = self._rows[:, first - self.first : self.end - self.first]
        self._rows = np.concatenate([kept, np.zeros_like(kept)], axis=1)
        self.first = first


def take_first(who: Numbers, when: Numbers, rows: Numbers, said: Numbers, at: Numbers) -> Mask:
    """Writes into one field (``who``, ``when``) what is said of rows that do not know it yet: of several the first. -> which were taken."""
    new: Mask = (said != 0) & (who[rows] == 0)
    fresh = np.flatnonzero(new)[::-1]
    # Of several assignments to one place the last one holds.
    who[rows[fresh]], when[rows[fresh]] = said[fresh], at[fresh]
    return new


def solid(events: pl.DataFrame) -> pl.DataFrame:
    """A copy that shares no memory: texts are views into whole requests, which would be kept for one id in them."""
    return pl.DataFrame(
        [
            pl.Series(column.name, pl.from_arrow(column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())), dtype=column.dtype)
            for column in events.get_columns()
        ]
    )
