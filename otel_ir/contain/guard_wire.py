"""The messages of the guard protocol (docs/guard-protocol.md), with their bounds.

A message beyond a bound, or with a value of another type, is refused as a whole; unknown keys are ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

PATH = "/guard/v1"
MAX_BODY = 64 * 1024
"""Bytes of a request."""
MAX_TEXT = 1024
"""Characters of any string."""
MAX_WAIT = 25.0
"""Seconds for which a poll is held back at most."""
MAX_RESTRICTIONS = 1000
"""Restrictions of one service, and action ids that one guard reports."""
MAX_PROBES = 100
"""Unanswered probes of one guard."""
MAX_BLOCKED = 100
"""Blocked calls of one report; more are only counted (``blocked_total``)."""
MAX_AGENTS = 256
MAX_FRAMEWORKS = 64

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Agents = Annotated[list[Text], msgspec.Meta(max_length=MAX_AGENTS)]
GuardVerb = Literal["revoke_tools", "read_only_tools", "pause_agent"]


class SelfTest(msgspec.Struct, frozen=True):
    """What became of the guard's own canary call at its start."""

    outcome: Literal["passed", "failed", "not_run"] = "not_run"
    detail: Text = ""


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """A guard says who it is. ``pid_start`` is field 22 of /proc/PID/stat, ``boot_id`` that of /proc/sys/kernel/random."""

    service: Name
    instance: Name
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    pid_start: Natural | None = None
    boot_id: Text | None = None
    host: Text = ""
    version: Text = ""
    fail: Literal["open", "closed"] = "open"
    frameworks: Annotated[list[Text], msgspec.Meta(max_length=MAX_FRAMEWORKS)] = []
    agents: Agents = []
    self_test: SelfTest = SelfTest()


class Restriction(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard must enforce. Times are Unix nanoseconds; ``tools`` ``None`` means all."""

    id: str
    verb: str
    selectors: list[dict[str, str]]
    tools: list[str] | None
    read_only: list[str]
    since: int
    expires: int | None
    incident: str
    reason: str


class Probe(msgspec.Struct, frozen=True):
    """A request to try a canary call as the one whom restriction ``id`` is about."""

    nonce: str
    id: str


class ProbeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the canary call was stopped."""

    nonce: Id
    id: Id
    blocked: bool
    detail: Text = ""


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a guard did not let run, as the guard tells it."""

    id: Id
    verb: Text = ""
    tool: Text | None = None
    agent: Text | None = None
    conversation: Text | None = None
    trace_id: Text | None = None
    span_id: Text | None = None
    at: Natural = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard enforces now (``applied``, as of the state with ``etag``), and what happened since its last report."""

    service: Name
    instance: Name
    etag: Text = ""
    applied: Annotated[list[Id], msgspec.Meta(max_length=MAX_RESTRICTIONS)] = []
    probes: Annotated[list[ProbeAnswer], msgspec.Meta(max_length=MAX_PROBES)] = []
    blocked: Annotated[list[Blocked], msgspec.Meta(max_length=MAX_BLOCKED)] = []
    blocked_total: Natural = 0
    agents: Agents | None = None
    self_test: SelfTest | None = None
    leaving: bool = False
    """The last word of a guard whose process ends: nobody needs to wait for it."""
