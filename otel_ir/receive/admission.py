"""What is taken, refused or dropped: the one place that both transports ask.

authenticate -> place -> (transport reads) -> uncompress -> examine -> append -> answer
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import zlib
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from otel_ir.errors import ConfigError, Overloaded
from otel_ir.model import SCOPE_NAME
from otel_ir.receive.config import AppendFn, Counter, ReceiveConfig, TokenConfig
from otel_ir.receive.other_signal import check_signal, refusal_of_unreadable
from otel_ir.receive.otlp_json import to_protobuf
from otel_ir.receive.refusal import Outcome, RefusedError
from otel_ir.receive.signals import ATTRIBUTES_FAULT, ID_FAULT, Signal

MAX_GROUPS = 65_536
"""Resources and scopes of one request: they are repeated for whole batches, more is an attack on memory."""
MAX_ITEMS = 262_144
"""Spans, log records or metrics of one request, for the same reason: an empty one takes two bytes here and 170 in memory."""
_GZIP_MEMBERS = 64
_INLINE_BYTES = 512 * 1024
"""Up to here a request is examined on the event loop (about 2 ms of ordinary spans), beyond it in a thread."""
_INLINE_JSON_BYTES = 8 * 1024

ANYBODY = TokenConfig(token="")
"""Who sends when no tokens are configured."""

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Examined(NamedTuple):
    """What a request holds: the protobuf to store (``None``: nothing), refused items with reasons, items of our own scope."""

    body: bytes | None
    refused: dict[str, int]
    own: int = 0


class Place:
    """One request at work, and the bytes of it that are in memory."""

    def __init__(self, admission: Admission) -> None:
        self._admission, self.size = admission, 0

    def hold(self, size: int) -> None:
        """The request takes ``size`` bytes now. Raises ``Overloaded``."""
        self._admission.reserve(size - self.size)
        self.size = size


class Admission:
    """Bounds and checks, for one receiver. Everything but ``examine`` runs on the event loop."""

    def __init__(self, config: ReceiveConfig, append: AppendFn, counters: Counter) -> None:
        self.config, self._append, self._counters = config, append, counters
        if not all(entry.token for entry in config.tokens):
            raise ConfigError("receive.tokens: a token is empty, which would let anybody in")
        self._tokens = [(_digest(entry.token), entry) for entry in config.tokens]
        self._in_flight = self._at_work = 0
        # One at a time: a hostile body may take 85 times its size in memory while it is parsed (measured).
        self._parsing = ThreadPoolExecutor(1, "receive-parse")
        self._converting = ThreadPoolExecutor(1, "receive-json")

    def close(self) -> None:
        """Let the threads go."""
        for executor in (self._parsing, self._converting):
            executor.shutdown(wait=False, cancel_futures=True)

    def count(self, transport: str, signal: Signal, outcome: Outcome) -> None:
        """One request was answered."""
        self._counters.add("otel_ir.receive.requests", 1, transport=transport, signal=signal.name, outcome=outcome.value)
        if outcome not in (Outcome.ACCEPTED, Outcome.PARTIAL):
            self._counters.add("otel_ir.receive.rejected", 1, transport=transport, signal=signal.name, reason=outcome.value)

    def authenticate(self, authorization: str | None) -> TokenConfig:
        """Who sends, by the ``authorization`` header. Raises ``RefusedError``."""
        if not self._tokens:
            return ANYBODY
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token.strip())
        found = [entry for digest, entry in self._tokens if hmac.compare_digest(digest, given)]
        if scheme.lower() != "bearer" or not found:
            raise RefusedError(Outcome.UNAUTHENTICATED, "a known bearer token is required in the authorization header")
        return found[0]

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place for one more request at work. Raises ``Overloaded``."""
        if self._at_work >= self.config.max_concurrent_requests:
            raise Overloaded(f"{self._at_work} requests are at work already")
        place = Place(self)
        self._at_work += 1
        try:
            yield place
        finally:
            self._at_work -= 1
            self._in_flight -= place.size

    def reserve(self, size: int) -> None:
        """``size`` more bytes in memory. Raises ``Overloaded``; a single request is let through whatever its size."""
        if size > 0 and self._in_flight and self._in_flight + size > self.config.max_in_flight_bytes:
            raise Overloaded(f"{self._in_flight} bytes are in flight already")
        self._in_flight += size

    async def uncompress(self, body: bytes, *, json: bool, place: Place) -> bytes:
        """The content of a gzip body, up to the limit of the encoding. Raises ``RefusedError``, ``Overloaded``."""
        limit = self.config.max_json_bytes if json else self.config.max_request_bytes
        content = await self._work(self._parsing, len(body) > _INLINE_BYTES // 8, gunzip, body, limit)
        place.hold(len(content))
        return content

    async def accept(self, transport: str, signal: Signal, sender: TokenConfig, content: bytes, *, json: bool) -> Message:
        """Check the content and make it durable; the response to send. Raises ``RefusedError``."""
        config = self.config
        if len(content) > (config.max_json_bytes if json else config.max_request_bytes):
            raise too_large(len(content), config.max_json_bytes if json else config.max_request_bytes)
        if json:
            content = await self._work(self._converting, len(content) > _INLINE_JSON_BYTES, to_protobuf, signal, content)
        examined = await self._work(
            self._parsing, len(content) > _INLINE_BYTES, examine, signal, content, sender.services, config.max_attributes
        )
        if examined.own:
            self._counters.add("otel_ir.receive.own_dropped", examined.own, signal=signal.name)
        if examined.body is not None and signal.name != "metrics":
            try:
                async with asyncio.timeout(config.request_seconds):
                    await self._append(signal.name, examined.body, tenant=sender.tenant, sender=sender.sender)
            except Exception as error:
                refusal = RefusedError.of(error)
                if refusal.outcome is Outcome.FAILED:
                    logger.exception("a request could not be stored")
                raise refusal from error
            self._counters.add("otel_ir.receive.bytes", len(examined.body), transport=transport, signal=signal.name)
        return self._answer(transport, signal, examined)

    def _answer(self, transport: str, signal: Signal, examined: Examined) -> Message:
        response = signal.response()
        for reason, count in examined.refused.items():
            self._counters.add("otel_ir.receive.items_rejected", count, signal=signal.name, reason=reason)
        if examined.refused:
            partial = response.partial_success
            setattr(partial, signal.rejected, sum(examined.refused.values()))
            partial.error_message = "; ".join(f"{count} refused: {reason}" for reason, count in examined.refused.items())
        self.count(transport, signal, Outcome.PARTIAL if examined.refused else Outcome.ACCEPTED)
        return response

    async def _work(self, executor: ThreadPoolExecutor, large: bool, function: Callable[..., _Result], *arguments: object) -> _Result:
        if not large:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: function(*arguments))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def too_large(size: int | str, limit: int) -> RefusedError:
    """The refusal of a body of ``size`` bytes."""
    return RefusedError(Outcome.TOO_LARGE, f"a request of {size} bytes is larger than the {limit} that are taken; send smaller batches")


def gunzip(body: bytes, limit: int) -> bytes:
    """The content of a gzip body, never more than ``limit`` bytes of it in memory. Raises ``RefusedError``."""
    pieces: list[bytes] = []
    room = limit
    for _ in range(_GZIP_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        try:
            pieces.append(member.decompress(body, room + 1))
        except zlib.error as error:
            raise RefusedError(Outcome.INVALID, f"not gzip: {error}") from None
        room -= len(pieces[-1])
        if room < 0:
            raise too_large("more", limit)
        if not member.eof:
            raise RefusedError(Outcome.INVALID, "gzip content is cut short")
        body = member.unused_data
        if not body:
            return b"".join(pieces)
    raise RefusedError(Outcome.INVALID, f"more than {_GZIP_MEMBERS} gzip members")


def examine(signal: Signal, content: bytes, services: tuple[str, ...], max_attributes: int) -> Examined:
    """Parse once, which checks wire format, UTF-8 and nesting (upb refuses more than 100 levels), then look at ids and scopes.

    Nothing to strip: the original bytes are to be stored. Raises ``RefusedError``.
    """
    try:
        message: Any = signal.request()
        message.ParseFromString(content)
    except DecodeError as error:
        message = None
        raise refusal_of_unreadable(signal, content, error) from None
    _check_counts(signal, message)
    check_signal(signal, message)
    if signal.faulty is None:
        return Examined(None, {})
    refused: Tally[str] = Tally()
    own = kept = 0
    changed = False
    for resource in getattr(message, signal.resources):
        foreign = bool(services) and _service(resource) not in services
        for scope in getattr(resource, signal.scopes):
            items = getattr(scope, signal.items)
            if scope.scope.name == SCOPE_NAME:
                own += len(items)
            elif foreign:
                refused["service.name is not one that this sender may speak for"] += len(items)
            else:
                faulty = signal.faulty(items, max_attributes)
                if faulty:
                    refused += _reasons(items, faulty, max_attributes)
                    _keep(items, set(range(len(items))).difference(faulty))
                    changed = True
                kept += len(items)
                continue
            del items[:]
            changed = True
    if not kept:
        return Examined(None, +refused, own)
    if changed:
        _drop_empty(signal, message)
        content = message.SerializeToString()
    return Examined(content, +refused, own)


def _check_counts(signal: Signal, message: Any) -> None:
    resources = getattr(message, signal.resources)
    groups = len(resources)
    if groups <= MAX_GROUPS:
        groups += sum(len(getattr(resource, signal.scopes)) for resource in resources)
    if groups > MAX_GROUPS:
        raise RefusedError(Outcome.INVALID, f"more than {MAX_GROUPS} resources and scopes in one request")
    items = sum(len(getattr(scope, signal.items)) for resource in resources for scope in getattr(resource, signal.scopes))
    if items > MAX_ITEMS:
        raise RefusedError(Outcome.INVALID, f"more than {MAX_ITEMS} {signal.items} in one request")


def _service(resource: Any) -> str:
    """``service.name`` of a resource; the last one, as a map would have it."""
    names = [attribute.value.string_value for attribute in resource.resource.attributes if attribute.key == "service.name"]
    return names[-1] if names else ""


def _reasons(items: Any, faulty: list[int], max_attributes: int) -> Tally[str]:
    return Tally(ATTRIBUTES_FAULT if len(items[position].attributes) > max_attributes else ID_FAULT for position in faulty)


def _keep(container: Any, positions: set[int]) -> None:
    """Keep these elements of a repeated field. Not ``del`` one by one, which is quadratic."""
    kept = [element for position, element in enumerate(container) if position in positions]
    del container[:]
    container.extend(kept)


def _drop_empty(signal: Signal, message: Any) -> None:
    """Drop scopes and resources that have no items (left)."""
    resources = getattr(message, signal.resources)
    for resource in resources:
        scopes = getattr(resource, signal.scopes)
        _keep(scopes, {position for position, scope in enumerate(scopes) if len(getattr(scope, signal.items))})
    _keep(resources, {position for position, resource in enumerate(resources) if len(getattr(resource, signal.scopes))})
