"""What guards are there, what each must enforce, and what each says it enforces.

All of it is in memory: restrictions come again out of the ledger (``Adapter.restore``), and a guard that a new hub does not know is
told so and registers again. What a guard says is a claim of the agent's own process; only a probe (``probe``) asks for more.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from otel_ir.contain import procfs
from otel_ir.contain.bell import Bell
from otel_ir.contain.guard_info import GuardInfo, GuardKey, Round, Standing, State, changes_of, info_of
from otel_ir.contain.guard_wire import MAX_PROBES, MAX_RESTRICTIONS, Blocked, Probe, Register, Report, Restriction
from otel_ir.errors import InputError, Overloaded

LIVE_SECONDS = 60.0
"""A guard that was not heard from for longer is not live: nobody waits for it, and nothing is concluded from it."""
MAX_GUARDS = 2000
MAX_PER_SERVICE = 500
"""Registrations. Beyond it the one that is silent for longest gives way; where all are live, a new one is put off."""
FRESH_SECONDS = 1.0
"""For so long after it was heard from, nobody looks whether its process is still there."""
FORGET_SECONDS = 3600.0
"""A guard that was silent for longer, and whose process is not known to be alive, is forgotten."""
SLICE = 0.25
"""Seconds after which somebody who waits for answers looks whether those who owe them are still there."""
MAX_POLLS = 4
"""Polls that one guard may have waiting: one, and those whose connections broke and were not missed yet."""
TELL_SECONDS = 30.0
"""How often at most ``on_change`` is called only because a guard was heard from."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Guard:
    info: GuardInfo
    heard: float | None
    """When it was heard from last; ``None``: it is known from the ledger only, and must register."""
    recalled: float | None = None
    """When it was taken from the ledger."""
    told: float = 0.0
    acked: int = 0
    """The newest version of its service's restrictions that it said it applied."""
    applied: frozenset[str] = frozenset()
    asked: int = 0
    """Probes so far: the part of the ETag that is its own."""
    probes: dict[str, tuple[str, Round]] = field(default_factory=dict)
    polls: int = 0
    bell: Bell = field(default_factory=Bell)


@dataclass(slots=True)
class _Service:
    restrictions: dict[str, tuple[Restriction, int]] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    """The versions with which restrictions were taken out, newest last."""
    version: int = 0
    encoded: bytes = b"[]"
    guards: dict[str, _Guard] = field(default_factory=dict)
    reports: Bell = field(default_factory=Bell)
    """Rings when a guard of the service registered or reported."""


class GuardHub:
    """Guards and restrictions, by tenant and service. Every method is thread-safe; coroutines may run on any event loop.

    ``on_change(info)`` is told when a guard registered, said something else of itself, or was heard from (seldom);
    ``on_blocked(info, calls)`` what it kept from running. Both are called on the thread that brought the news and must not block.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int] = time.time_ns,
        ticks: Callable[[], float] = time.monotonic,
        on_change: Callable[[GuardInfo], None] | None = None,
        on_blocked: Callable[[GuardInfo, Sequence[Blocked]], None] | None = None,
    ) -> None:
        self.on_change, self.on_blocked = on_change, on_blocked
        self._clock, self._ticks = clock, ticks
        self._lock = threading.RLock()
        self._services: dict[tuple[str, str], _Service] = {}
        self._stops: dict[GuardKey, dict[str, Callable[[], bool]]] = {}
        # An ETag of an earlier life must not look like one of this.
        self._life, self._version, self._pruned = secrets.token_hex(6), 0, ticks()

    # What guards bring

    def register(self, tenant: str, who: Register, proof: procfs.Proof) -> GuardInfo:
        """A guard is there. Raises ``Overloaded`` at a bound, ``InputError`` when a live process of this machine has that instance id."""
        info = info_of(tenant, who, proof, self._clock())
        with self._lock:
            known = self._services.get((tenant, who.service), _Service()).guards.get(who.instance)
            same = known is not None and (known.info.pid, known.info.pid_start) == (info.pid, info.pid_start)
            if known and not same and known.info.runs_here:
                raise InputError(f"instance {who.instance[:100]!r} is another process, {known.info.pid}: take an instance id of your own")
            if not known:
                self._make_room(tenant, who.service)
            if not same:
                self._stops.pop(info.key, None)
            guard = known if known and same else _Guard(info, None)
            guard.info, guard.heard, guard.told = info, self._ticks(), self._ticks()
            service = self._service(tenant, who.service)
            service.guards[who.instance] = guard
            shown = self._shown(guard)
        service.reports.ring()
        self._tell(self.on_change, shown)
        return shown

    def state(self, key: GuardKey, etag: str) -> State | None:
        """What it must enforce, unless ``etag`` stands for just that. Raises ``KeyError`` for a guard that is not registered."""
        with self._lock:
            service, guard = self._registered(key)
            now = f"{self._life}.{service.version}.{guard.asked}"
            if etag == now:
                return None
            probes = [Probe(nonce, action) for nonce, (action, _) in guard.probes.items()]
            return State(now, b'{"restrictions":%b,"probes":%b}' % (service.encoded, msgspec.json.encode(probes)))

    async def changed(self, key: GuardKey, etag: str, seconds: float) -> State | None:
        """As ``state``, as soon as it differs; ``None`` when ``seconds`` passed first.

        Raises ``KeyError``, and ``Overloaded`` when the guard has too many polls waiting.
        """
        with self._lock:
            _, guard = self._registered(key)
            if guard.polls >= MAX_POLLS:
                raise Overloaded(f"{guard.polls} polls of this instance are waiting already")
            guard.polls += 1
        try:
            return await guard.bell.until(lambda: self.state(key, etag), seconds)
        finally:
            with self._lock:
                guard.polls -= 1

    def report(self, tenant: str, said: Report) -> None:
        """What a guard says of itself. Raises ``KeyError`` for one that is not registered."""
        with self._lock:
            service, guard = self._registered(GuardKey(tenant, said.service, said.instance))
            guard.acked, guard.applied = self._acked(said.etag), frozenset(said.applied)
            for answer in said.probes:
                action, asked = guard.probes.get(answer.nonce, ("", None))
                if asked and action == answer.id:
                    del guard.probes[answer.nonce]
                    asked.answers[said.instance] = answer
            if said.leaving:
                guard.heard, guard.applied = None, frozenset()
            before = guard.info
            guard.info = replace(before, blocked_total=said.blocked_total, **changes_of(said))
            news = guard.info != replace(before, blocked_total=said.blocked_total)
            if news or said.leaving or self._ticks() - guard.told >= TELL_SECONDS:
                news, guard.told = True, self._ticks()
            shown = self._shown(guard)
        service.reports.ring()
        if news:
            self._tell(self.on_change, shown)
        if said.blocked:
            self._tell(self.on_blocked, shown, said.blocked)

    # What is asked of guards

    def put(self, tenant: str, service: str, restriction: Restriction, *, bounded: bool = True) -> None:
        """From now on guards of that service must enforce it; one with the same id is replaced. Raises ``Overloaded`` at the bound."""
        with self._lock:
            found = self._service(tenant, service)
            if found.restrictions.get(restriction.id, (None, 0))[0] == restriction:
                return
            if bounded and restriction.id not in found.restrictions and len(found.restrictions) >= MAX_RESTRICTIONS:
                raise Overloaded(f"{MAX_RESTRICTIONS} restrictions of {service[:100]} are in force already")
            found.restrictions[restriction.id] = (restriction, self._version + 1)
            found.gone.pop(restriction.id, None)
            self._changed(found)

    def holds(self, tenant: str, service: str, action_id: str) -> bool:
        """Whether that restriction is asked for."""
        with self._lock:
            found = self._services.get((tenant, service))
            return found is not None and action_id in found.restrictions

    def take_out(self, tenant: str, service: str, action_id: str) -> None:
        """Guards must no longer enforce it. Others stay; one that is not there is no error."""
        with self._lock:
            found = self._services.get((tenant, service))
            if found and found.restrictions.pop(action_id, None):
                found.gone[action_id] = self._version + 1
                while len(found.gone) > MAX_RESTRICTIONS:
                    del found.gone[next(iter(found.gone))]
                self._changed(found)
                self._drop_if_empty(tenant, service)

    def standing(self, tenant: str, service: str, action_id: str) -> Standing:
        """How it stands with a restriction that is in force, or was taken out."""
        with self._lock:
            found = self._services.get((tenant, service), _Service())
            _, version = found.restrictions.get(action_id, (None, 0))
            without, stopped = found.gone.get(action_id, 0), self._stopped(tenant, service)
            live = {name: guard for name, guard in found.guards.items() if name not in stopped and self._is_live(guard)}
            return Standing(
                tuple(live),
                tuple(name for name, guard in live.items() if version and action_id in guard.applied and guard.acked >= version),
                (
                    *(name for name, guard in live.items() if action_id in guard.applied or guard.acked < without),
                    *self._awaited(found, stopped),
                ),
                stopped,
            )

    async def until(self, tenant: str, service: str, action_id: str, good: Callable[[Standing], bool], seconds: float) -> Standing:
        """How it stands as soon as that is ``good``, else after ``seconds``."""

        def found() -> Standing | None:
            standing = self.standing(tenant, service, action_id)
            return standing if good(standing) else None

        with self._lock:
            bell = self._services.get((tenant, service), _Service()).reports
        return await bell.until(found, seconds) or self.standing(tenant, service, action_id)

    async def probe(self, tenant: str, service: str, action_id: str, seconds: float) -> Round:
        """Ask every live guard of the service whether it stops a canary call; ends with the last answer, a bad one, or ``seconds``."""
        with self._lock:
            found = self._services.get((tenant, service), _Service())
            stopped = self._stopped(tenant, service)
            asked = {name: guard for name, guard in found.guards.items() if name not in stopped and self._is_live(guard)}
            this = Round((*asked, *self._awaited(found, stopped)), stopped)
            nonces = {}
            for name, guard in asked.items():
                if len(guard.probes) < MAX_PROBES:
                    nonces[name] = secrets.token_hex(16)
                    guard.probes[nonces[name]] = (action_id, this)
                    guard.asked += 1
        for guard in asked.values():
            guard.bell.ring()

        def over() -> bool | None:
            with self._lock:
                this.asked = tuple(name for name in this.asked if name in this.answers or name not in asked or self._is_live(asked[name]))
            return not this.silent or not all(answer.blocked for answer in list(this.answers.values())) or None

        end = self._ticks() + seconds
        try:
            # In slices: that the process of a guard ended is not told by anybody.
            while not await found.reports.until(over, min(SLICE, max(0.0, end - self._ticks()))) and self._ticks() < end:
                pass
        finally:
            with self._lock:
                for name, nonce in nonces.items():
                    asked[name].probes.pop(nonce, None)
        return this

    # What is known from elsewhere

    def mark_stopped(self, key: GuardKey, action_id: str, still: Callable[[], bool]) -> None:
        """The guard's process was stopped by that action, and is as long as ``still`` says so (it is asked often)."""
        with self._lock:
            self._stops.setdefault(key, {})[action_id] = still
        self._ring(key)

    def mark_running(self, key: GuardKey, action_id: str) -> None:
        """That action no longer stops the guard's process."""
        with self._lock:
            stops = self._stops.get(key, {})
            stops.pop(action_id, None)
            if not stops:
                self._stops.pop(key, None)
        self._ring(key)

    def recall(self, known: Iterable[GuardInfo]) -> None:
        """Guards of an earlier life, out of the ledger: not live, but their proven processes are still the same ones."""
        with self._lock:
            for info in known:
                guards = self._service(info.tenant, info.service).guards
                here = info.boot_id in ("", procfs.boot_id()) and info.runs_here
                if here and info.instance not in guards and self._count() < MAX_GUARDS:
                    guards[info.instance] = _Guard(replace(info, live=False), None, recalled=self._ticks())
                self._drop_if_empty(info.tenant, info.service)

    def guards(self, tenant: str | None = None, service: str | None = None) -> list[GuardInfo]:
        """What is known of guards, those of one tenant and service where they are given."""
        with self._lock:
            return [
                self._shown(guard)
                for guard in self._guards()
                if tenant in (None, guard.info.tenant) and service in (None, guard.info.service)
            ]

    # With the lock held

    def _service(self, tenant: str, service: str) -> _Service:
        return self._services.setdefault((tenant, service), _Service(version=self._version))

    def _registered(self, key: GuardKey) -> tuple[_Service, _Guard]:
        service = self._services[key[:2]]
        guard = service.guards[key.instance]
        if guard.heard is None:
            raise KeyError(key)
        guard.heard = self._ticks()
        guard.info = replace(guard.info, last_seen=self._clock())
        return service, guard

    def _changed(self, service: _Service) -> None:
        self._version += 1
        service.version = self._version
        service.encoded = msgspec.json.encode([restriction for restriction, _ in service.restrictions.values()])
        for guard in service.guards.values():
            guard.bell.ring()
        service.reports.ring()

    def _acked(self, etag: str) -> int:
        life, _, rest = etag.removeprefix("W/").strip('"').partition(".")
        version = rest.partition(".")[0]
        return int(version) if life == self._life and version.isdecimal() and len(version) < 20 else 0

    def _is_live(self, guard: _Guard) -> bool:
        if guard.heard is None or (silence := self._ticks() - guard.heard) > LIVE_SECONDS:
            return False
        # A proven process that ended is not waited for. While it polls, its connection shows that it is there.
        return silence < FRESH_SECONDS or guard.polls > 0 or not guard.info.proven or guard.info.runs_here

    def _awaited(self, service: _Service, stopped: Sequence[str]) -> list[str]:
        """Those of an earlier life whose processes are there: they enforce what they were told last, and have a while to come back."""
        known = {name: guard for name, guard in service.guards.items() if guard.heard is None and name not in stopped}
        oldest = self._ticks() - LIVE_SECONDS
        return [name for name, guard in known.items() if guard.recalled is not None and guard.recalled >= oldest and guard.info.runs_here]

    def _stopped(self, tenant: str, service: str) -> tuple[str, ...]:
        here = [(key, stops) for key, stops in self._stops.items() if key[:2] == (tenant, service)]
        return tuple(key.instance for key, stops in here if any(still() for still in stops.values()))

    def _shown(self, guard: _Guard) -> GuardInfo:
        return replace(guard.info, live=self._is_live(guard))

    def _guards(self) -> Iterator[_Guard]:
        return (guard for service in self._services.values() for guard in service.guards.values())

    def _count(self) -> int:
        return sum(len(service.guards) for service in self._services.values())

    def _make_room(self, tenant: str, service: str) -> None:
        now = self._ticks()
        if now - self._pruned >= LIVE_SECONDS:
            self._pruned = now
            for guard in list(self._guards()):
                if now - (guard.heard or 0.0) > FORGET_SECONDS and not guard.info.runs_here:
                    self._forget(guard)
        here = self._services.get((tenant, service), _Service()).guards
        if len(here) >= MAX_PER_SERVICE:
            self._forget_one(here.values())
        elif self._count() >= MAX_GUARDS:
            self._forget_one(self._guards())

    def _forget_one(self, guards: Iterable[_Guard]) -> None:
        """The one that is silent for longest. Raises ``Overloaded`` when every one is live."""
        silent = [guard for guard in guards if not self._is_live(guard) and not guard.info.runs_here]
        if not silent:
            raise Overloaded("there are as many guards as can be kept", retry_after=LIVE_SECONDS / 2)
        self._forget(min(silent, key=lambda guard: guard.heard or 0.0))

    def _forget(self, guard: _Guard) -> None:
        key = guard.info.key
        del self._services[key[:2]].guards[key.instance]
        self._drop_if_empty(key.tenant, key.service)

    def _drop_if_empty(self, tenant: str, service: str) -> None:
        found = self._services[tenant, service]
        if not found.guards and not found.restrictions:
            del self._services[tenant, service]

    # Without it

    def _ring(self, key: GuardKey) -> None:
        with self._lock:
            service = self._services.get(key[:2])
        if service:
            service.reports.ring()

    @staticmethod
    def _tell(observer: Callable[..., None] | None, *news: object) -> None:
        if observer:
            try:
                observer(*news)
            except Exception:
                _log.exception("an observer of guards raised")
