"""What a dialect table is made of. A dialect is one file with one ``Dialect``: data, no code.

**Source** (where a value is read), in priority order, a string:

| source | means |
|---|---|
| ``key`` | attribute of the span or log record |
| ``key#member`` | member that a named unwrapper (``unwrap``) finds in the value of ``key`` |
| ``event:NAME/key`` | attribute of a span event of that name (of the last one, if it is repeated) |
| ``resource:key`` | attribute of the resource |
| ``@name`` ``@scope`` ``@kind`` | the span's name, its instrumentation scope, its kind |
| ``@status`` ``@message`` | the span's status code and status message |
| ``@event`` ``@body`` | the log record's event name (its field, else attribute ``event.name``, else a body that is one word) and body |
| ``=text`` | that very text |
| ``@input_messages`` ``@output_messages`` | messages that a reader (``messages.py``) put together from flattened attributes |

``On("tool_call", source)`` reads it on events of that type only.

**Condition** (of a classification rule), a string: ``source`` (it is there), ``!source`` (it is not), ``source=a|b`` (one of),
``source^=a`` (starts with), ``source$=a`` (ends with), ``source*=a`` (contains). A rule is an event type (or ``none``: structure
only) and conditions which must all hold; the first rule that holds wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, NamedTuple

from otel_ir.model import EVENT_COLUMNS, EventType

NOT_STATED = frozenset(
    {
        "event_time",
        "start_time",
        "event.type",
        "trace_id",
        "span_id",
        "otel_ir.parent_span_id",
        "otel_ir.span.name",
        "service.name",
        "service.instance.id",
        "otel_ir.tenant",
        "otel_ir.sender",
        "otel_ir.dialect",
        "otel_ir.agent.id",
        "otel_ir.agent.id_source",
        "otel_ir.content",
        "otel_ir.duplicate_of",
        "otel_ir.event.id",
        "otel_ir.journal.ordinal",
        "otel_ir.journal.position",
    }
)
"""Canonical columns that are observed or computed, and which no application can state: a sender may speak for its own services only,
so the service is the resource's, never an attribute of one span."""
STATED = tuple(name for name in EVENT_COLUMNS if name not in NOT_STATED)
"""Canonical columns which an application may state, by an attribute of that name; for ``event.type`` the attribute is ``EVENT_TYPE``."""
EVENT_TYPE = "otel_ir.event.type"
NO_EVENT = "none"
_TOOL = "gen_ai.tool.name"
CONTENT = (
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
)
"""What was said and done: what emitters leave out by default, and what their switches give back."""
LOSSES = ("absent", "truncated", "scrubbed", "dropped")
"""What ``otel_ir.content`` says of content: not there, cut, masked, evicted."""
ANYWHERE = "*"
"""What a call's id is unique within where a dialect does not say it: the same id and tool at the same time are one call."""
DETAIL = "detail"
"""No event, but part of the description of a call: the call that it names by id, else the span that it stands in."""
_CONDITION_MARKS = ("^=", "$=", "*=", "=")


class On(NamedTuple):
    """A source that counts on events of one type only."""

    event: str
    source: str


class Unwrap(NamedTuple):
    """Look into the value of ``source`` with the unwrapper ``via`` (``unwrap.py``); it gives ``members`` (sources ``source#member``).

    Only values that match the regular expression ``needs`` are looked at: unwrapping costs a step of Python per value. ``beside``: a
    second source, whose text (null where it is not there) the unwrapper gets as well. ``unless``: a source; where it is there, it says
    what the unwrapper would find.
    """

    source: str
    via: str
    members: tuple[str, ...]
    needs: str = ""
    event: str | None = None
    beside: str = ""
    unless: str = ""


class Remedy(NamedTuple):
    """What can be switched on at the emitter: ``setting`` (a name to search for, as it is written), the canonical columns it ``gives``.

    ``undoes``: a loss of ``otel_ir.content`` that it undoes; only where that came is it told of.
    """

    setting: str
    gives: tuple[str, ...]
    note: str = ""
    undoes: str = ""


class Condition(NamedTuple):
    """A parsed condition: ``mark`` is one of ``? ! = ^= $= *=``."""

    source: str
    mark: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One dialect.

    ``scopes``: instrumentation scopes, exact or ending in ``*``; ``name@version`` counts for that version only (``name@``: for none).
    ``markers``: attributes that choose the dialect where no scope does.
    ``columns``: canonical column <- sources. An attribute with the canonical name itself stands before them, unless it is listed.
    ``classify`` and ``classify_logs``: rules for spans and for log records.
    ``bogus``: values that mean nothing, by column. ``ignored``: columns that are not read at all, because their attributes say something
    else here. ``error``: conditions, any of which makes an event an error.
    ``not_errors``: regular expressions on ``type: message``; what matches is expected behavior, no failure.
    ``executed``: value of ``otel_ir.executed`` for a call that shows no result and no error, but its arguments; ``unproven`` without those.
    ``messages``: named reader of tool calls inside LLM messages (``readers.py``), None where the tool spans say it all; ``speaks``: the
    types of the spans that have them; ``reads``: sources that it reads beside those of the columns.
    ``tripped``: conditions under which a span says that the guardrail below it tripped.
    ``rejected``: regular expressions; a tool result in an LLM message that matches one says that a person refused the call.
    ``pending``: the same, where it says that the call waits for a person.
    ``spanned``: every call that runs has a span of its own, so a result in messages alone is no proof that it ran.
    ``remedies``: what to switch on at the emitter where columns stay empty, the best first; ``otel-ir doctor`` says it.
    ``call``: sources; the first value together with the call's id (of a model call: the response's) says that two records describe the
    same call; ``ANYWHERE`` leaves that to the tool and the time. ``weak``: columns in which what another description says counts more.
    ``within``: sources; log records without a trace that share these values are siblings: of one agent's run.
    ``nameless``: its messages give no ids of calls, while its tool spans may.
    ``nested``: a model call directly under a model call is the same one. ``inside``: so is a tool call under a tool call, whoever's.
    ``hosts``: below the span of a hand-off stands what the agent does that it goes to.
    ``inner``: of a client library that emits spans itself, its provider: an instrumentation's span may describe the same model call.
    ``signal``: ``traces`` or ``logs`` if the table is for one of them only.
    """

    name: str
    about: str
    scopes: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str | On, ...]] = field(default_factory=dict)
    classify: tuple[tuple[str, ...], ...] = ()
    classify_logs: tuple[tuple[str, ...], ...] = ()
    unwrap: tuple[Unwrap, ...] = ()
    bogus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    error: tuple[str, ...] = ("@status=2", "error.type")
    not_errors: tuple[str, ...] = ()
    executed: str = "unknown"
    unproven: str = "unknown"
    messages: str | None = None
    speaks: tuple[str, ...] = ("model_output",)
    reads: tuple[str, ...] = ()
    tripped: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    spanned: bool = False
    remedies: tuple[Remedy, ...] = ()
    call: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    inner: str | None = None
    nested: bool = False
    nameless: bool = False
    inside: bool = False
    hosts: bool = False
    signal: str | None = None

    def __post_init__(self) -> None:
        types = {*EventType, NO_EVENT, DETAIL}
        wrong = [rule[0] for rule in (*self.classify, *self.classify_logs) if rule[0] not in types]
        wrong += [name for name in (*self.columns, *self.bogus, *self.ignored) if name not in STATED]
        wrong += [name for remedy in self.remedies for name in remedy.gives if name not in STATED]
        wrong += [remedy.undoes for remedy in self.remedies if remedy.undoes not in ("", *LOSSES)]
        given = {f"{one.source}#{member}" for one in self.unwrap for member in one.members}
        wrong += [source for source in self.sources() if "#" in source and source not in given]
        if wrong:
            raise ValueError(f"dialect {self.name}: {', '.join(wrong)}")

    def but(self, **changes: Any) -> Dialect:
        """A relative of this dialect: as ``dataclasses.replace``, but ``columns`` and ``bogus`` are laid over the ones here."""
        merged: dict[str, Any] = {
            key: {**getattr(self, key), **value} if key in ("columns", "bogus") else value for key, value in changes.items()
        }
        return replace(self, **merged)

    def sources_of(self, column: str) -> tuple[tuple[str | None, str], ...]:
        """``(event type or None, source)`` of a canonical column, best first."""
        if column in self.ignored:
            return ()
        listed = tuple((one.event, one.source) if isinstance(one, On) else (None, one) for one in self.columns.get(column, ()))
        return listed if any(source == column for _, source in listed) else ((None, column), *listed)

    @cached_property
    def plan(self) -> tuple[tuple[str, tuple[tuple[str | None, str], ...]], ...]:
        """Every stated column with its sources, worst first, so that a later one may write over an earlier one."""
        return tuple((column, self.sources_of(column)[::-1]) for column in STATED)

    @cached_property
    def needed(self) -> frozenset[str]:
        """Every source that has to be read from the batch for this table."""
        return frozenset(self.sources())

    @cached_property
    def verdicts(self) -> tuple[tuple[str, str], ...]:
        """Regular expression on a result, and what it says of the call (``otel_ir.executed``)."""
        listed = ((self.rejected, "rejected"), (self.pending, "pending_approval"))
        return tuple(("|".join(patterns), word) for patterns, word in listed if patterns)

    @cached_property
    def _handing(self) -> tuple[Condition, ...]:
        asked = [condition(text) for rule in self.classify if rule[0] == "handoff" for text in rule[1:]]
        return tuple(one for one in asked if one.source == _TOOL and one.mark in ("=", "^="))

    def hands_over(self, tool: str | None) -> bool:
        """Whether calling this tool is a hand-off, as the rules for spans name them."""
        return tool is not None and any(tool in one.values if one.mark == "=" else tool.startswith(one.values) for one in self._handing)

    def conditions(self, *, logs: bool) -> list[str]:
        """Every condition of the table, for spans or for log records."""
        return [text for rule in (self.classify_logs if logs else self.classify) for text in rule[1:]] + [*self.error, *self.tripped]

    def sources(self) -> Iterator[str]:
        """Every source that the table names (repetitions included)."""
        for column in self.columns:
            yield from (source for _, source in self.sources_of(column))
        yield from (source for one in self.unwrap for source in (one.source, one.beside, one.unless) if source)
        yield from self.call
        yield from self.within
        yield from self.reads
        yield from (condition(text).source for logs in (False, True) for text in self.conditions(logs=logs))


@cache
def condition(text: str) -> Condition:
    """Parse a condition; see the module's text."""
    if text.startswith("!"):
        return Condition(text[1:], "!")
    for mark in _CONDITION_MARKS:
        source, found, values = text.partition(mark)
        if found:
            return Condition(source, mark, tuple(values.split("|")))
    return Condition(text, "?")
