"""What keeps a flood of alerts from stopping a fleet: so many actions a minute, and no more than a share of the agents at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from otel_ir.model_lifecycle import DRILL_SERVICE
from otel_ir.respond.book import Book
from otel_ir.respond.policy import SafetyConfig
from otel_ir.respond.target import AGENT

_SECOND = 1_000_000_000
DAY = 86_400 * _SECOND
"""An agent that was not seen for a day is not counted as part of the fleet."""


class TokenBucket:
    """At most ``per_minute`` at once, and so many per minute in the long run. ``clock`` in nanoseconds. Not thread-safe."""

    def __init__(self, per_minute: int, clock: Callable[[], int]) -> None:
        self._rate, self._clock = per_minute / 60, clock
        self._tokens, self._size, self._then = float(per_minute), float(per_minute), 0

    def spent(self, times: list[int]) -> None:
        """Take what an earlier run took, at these times (ns, ascending): a restart must not open the cap again."""
        for at in times:
            self._tokens = min(self._size, self._tokens + max(0, at - self._then) / _SECOND * self._rate) - 1
            self._then = at

    def take(self) -> bool:
        """Whether there is one left; takes it."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + max(0, now - self._then) / _SECOND * self._rate)
        self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Caps:
    """Both caps, over the ledger, of each tenant for itself: what one does must not use up what protects another. Not thread-safe.

    Drills have a bucket of their own, and hold nobody of the fleet.
    """

    def __init__(self, book: Book, config: SafetyConfig, clock: Callable[[], int]) -> None:
        self._book, self._config, self._clock = book, config, clock
        self._buckets: dict[tuple[str, bool], TokenBucket] = {}

    def resume(self) -> None:
        """After a start: count what was dispatched in the last minute. Raises ``StorageError``."""
        spent: dict[tuple[str, bool], list[int]] = {}
        for tenant, service, at in self._book.dispatched_since(self._clock() - 60 * _SECOND):
            spent.setdefault((tenant, service == DRILL_SERVICE), []).append(at)
        for key, times in spent.items():
            self._bucket(*key).spent(times)

    def _bucket(self, tenant: str, drill: bool) -> TokenBucket:
        return self._buckets.setdefault((tenant, drill), TokenBucket(self._config.actions_per_minute, self._clock))

    def refusal(self, target: Mapping[str, str]) -> str:
        """Why one more action on this target would be too much; empty when it may be (and then it is counted)."""
        tenant, agent, drill = target.get("otel_ir.tenant", ""), target.get(AGENT, ""), target.get("service.name") == DRILL_SERVICE
        if not drill and (reason := self._too_many(tenant, agent)):
            return reason
        if not self._bucket(tenant, drill).take():
            return f"more than {self._config.actions_per_minute} actions per minute (safety.actions_per_minute)"
        return ""

    def _too_many(self, tenant: str, agent: str) -> str:
        held = self._book.held_agents(tenant) - {agent}
        fleet = self._book.count_agents(tenant, self._clock() - DAY)
        most = max(self._config.fleet_floor, int(self._config.fleet_share * fleet))
        if len(held) < most:
            return ""
        return f"{len(held)} of {fleet} agents are held already, at most {most} may be (safety.fleet_share, fleet_floor)"
