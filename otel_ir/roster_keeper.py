"""Carries what the fold's events say of agents into the ledger's roster, without writing what stands there already."""

from __future__ import annotations

import time
from collections.abc import Callable

import polars as pl

from otel_ir.model import FoldOutput
from otel_ir.normalize.roster import ROSTER_SCHEMA, Roster
from otel_ir.store import AgentRow, Ledger

WRITE_SECONDS = 2.0
NAME_SECONDS = 600.0
"""So long it is waited for the name of who did something; it comes when the agent's own span ends."""
MOST_ROWS = 500
"""Agents written at once, every ``WRITE_SECONDS`` at most; more of them wait."""
MOST_WAITING, MOST_KNOWN = 100_000, 1_000_000
"""Beyond these the oldest are forgotten: they are written again when they are seen again."""
_HOUR = 3_600_000_000_000
_KEY = ("tenant", "agent_id")


class RosterKeeper:
    """Not thread-safe. What is lost by a kill comes again with the agent's next call."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock, self._roster = ledger, clock, Roster()
        self._waiting = ROSTER_SCHEMA.to_frame()
        self._known = pl.DataFrame(schema={"said": pl.UInt64})
        self._written = self._looked = clock()

    @property
    def unnamed_events(self) -> int:
        """Events that wait for the name of their agent. From any thread."""
        return self._roster.waiting().height

    @property
    def unnamed_services(self) -> int:
        """The services that they are of. From any thread."""
        return self._roster.waiting().n_unique()

    def take(self, output: FoldOutput) -> None:
        """Events and patches of a frame. Raises ``StorageError``; then they wait."""
        self._add(self._roster.take(output.events, output.patches, self._clock()))
        self.idle()

    def _add(self, seen: pl.DataFrame) -> None:
        if seen.height:
            # Once an hour an agent is written although nothing is new of it, so that it counts as seen.
            said = seen.select(
                pl.struct(*_KEY, "fingerprint", "tools", "models", "dialects", pl.col("last_seen") // _HOUR).hash().alias("said")
            )
            new = seen.hstack(said).join(self._known, on="said", how="anti", maintain_order="left")
            if new.height:
                self._known = pl.concat([self._known, new.select("said")]).tail(MOST_KNOWN)
                self._waiting = pl.concat([self._waiting, new.drop("said")]).tail(MOST_WAITING)

    def idle(self) -> None:
        """Write what waits if it is time for it; also when nothing comes any more. Raises ``StorageError``; then it waits on."""
        now = self._clock()
        if now - self._looked >= WRITE_SECONDS:
            self._looked = now
            self._add(self._roster.unnamed(now - NAME_SECONDS))
        if self._waiting.height and now - self._written >= WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the oldest that wait. Raises ``StorageError``; then they wait on."""
        self._written = self._clock()
        rows = self._waiting.head(MOST_ROWS)
        self._ledger.saw_agents(
            [
                AgentRow(**row | {"name": row["name"]} | {name: tuple(row[name]) for name in ("tools", "models", "dialects")})
                for row in rows.iter_rows(named=True)
            ]
        )
        self._waiting = self._waiting.slice(rows.height)
