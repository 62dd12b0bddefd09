"""Events, requests and rules -> what is wrong with the telemetry of each service and agent, and what to switch on. Plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_ir.doctor.blind import Blind, blind_rules
from otel_ir.doctor.coverage import AGENT, KINDS, LOSSES, AgentCover, Kind
from otel_ir.doctor.survey import ServiceSurvey
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import CONTENT, STATED, Remedy
from otel_ir.sigma.load import Library

_BY_LOSS: Mapping[str, Remedy] = {
    "truncated": Remedy(
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        CONTENT,
        "raise it, or unset it, with OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: texts are cut there",
    ),
    "dropped": Remedy("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", CONTENT, "raise it (the SDK's default is 128): the oldest attributes are evicted"),
    "scrubbed": Remedy(
        "(the emitter's scrubbing)", CONTENT, "the emitter or a processor on the way masks values; allow those that rules read"
    ),
}
_SAMPLING = Remedy("OTEL_TRACES_SAMPLER=parentbased_always_on", (), "and no sampling processor before otel_ir: it judges every span")
_LOSS_WORDS = {
    "absent": "content capture is off",
    "truncated": "texts are cut",
    "scrubbed": "values are masked",
    "dropped": "attributes were evicted",
}
_BACK = {"truncated": "whole texts", "scrubbed": "true values", "dropped": "all attributes"}
_ORPHANS = 0.05
"""Share of spans without their parent from which on sampling, or a sender that is not connected, is suspected."""


@dataclass(slots=True)
class Diagnosis:
    """``services`` and ``agents`` as rows (see ``docs/doctor.md``)."""

    services: list[dict[str, Any]] = field(default_factory=list)
    agents: list[dict[str, Any]] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Rules that are wholly blind on an agent because content or identity is missing."""
        return sum(one["wholly"] and not one["attribute"] for agent in self.agents for one in agent["blind"])


def diagnose(library: Library, covers: Iterable[AgentCover], services: Sequence[ServiceSurvey]) -> Diagnosis:
    """One row per service (most telemetry first) and per agent (most events first)."""
    found = Diagnosis([_service(one) for one in services])
    by_name = {(one.tenant, one.service): one for one in services}
    found.agents = [_agent(library, one, by_name.get((one.tenant, one.service))) for one in covers]
    return found


def _service(one: ServiceSurvey) -> dict[str, Any]:
    scopes = []
    for name, scope in sorted(one.scopes.items(), key=lambda item: (-item[1].rows, item[0])):
        for (dialect, guess), rows in scope.read_by.most_common():
            scopes.append({"scope": name, "version": scope.version, "dialect": dialect, "guess": guess, "rows": rows})
    return {
        "service.name": one.service,
        "otel_ir.tenant": one.tenant,
        "spans": one.spans,
        "logs": one.logs,
        "traces": one.traces,
        "scopes": scopes,
        "parents_missing": one.orphans,
        "traces_without_root": one.rootless,
        "sampled_spans": one.sampled,
        "kept_share": round(one.kept, 6),
        "notes": _service_notes(one),
    }


def _service_notes(one: ServiceSurvey) -> list[str]:
    notes = []
    unread = [name for name, scope in one.scopes.items() if all(dialect is None for dialect, _ in scope.read_by)]
    if unread and len(unread) == len(one.scopes):
        notes.append(f"no table reads its scopes ({', '.join(sorted(unread)[:5])}): nothing of it is an event, it only links spans")
    if one.sampled:
        notes.append(f"sampled: the trace state says that as little as {one.kept:.2%} of the traces were kept")
    if one.spans and one.orphans > _ORPHANS * one.spans:
        what = f"{one.orphans} of {one.spans} spans have a parent that did not come"
        notes.append(f"{what}: a sampler or filter drops it, another service of the trace does not send here, or it is still running")
    return notes


def _agent(library: Library, cover: AgentCover, service: ServiceSurvey | None) -> dict[str, Any]:
    missing = [row for kind in KINDS if (row := _missing(cover, kind)) is not None]
    blind = blind_rules(library, cover)
    sampled = service is not None and (service.sampled > 0 or service.orphans > _ORPHANS * service.spans)
    dialects = [
        {"dialect": name, "guess": service is not None and service.is_guess(name), "events": count}
        for name, count in cover.dialects.most_common()
    ]
    return {
        "otel_ir.agent.id": cover.agent,
        "service.name": cover.service,
        "otel_ir.tenant": cover.tenant,
        "dialects": dialects,
        "events": cover.events,
        "types": dict(cover.types.most_common()),
        "missing": missing,
        "lost": {name: cover.losses[name] for name in LOSSES if cover.losses[name]},
        "blind": [_blind(one) for one in blind],
        "remedies": _remedies(cover, missing, blind, sampled=sampled),
        "notes": _notes(cover, dialects),
    }


def _missing(cover: AgentCover, kind: Kind) -> dict[str, Any] | None:
    lacking, of = cover.gaps(kind)
    if not lacking:
        return None
    return {"what": kind.label, "columns": list(kind.columns), "events": lacking, "of": of, "why": _why(cover, kind, whole=lacking == of)}


def _why(cover: AgentCover, kind: Kind, *, whole: bool) -> str:
    if kind.columns[0] not in CONTENT:
        return "its telemetry does not say it" if whole else "not every span says it"
    said = [_LOSS_WORDS[name] for name in ("dropped", "truncated", "scrubbed") if cover.losses[name]]
    if kind.label == "system prompt":
        return "neither an attribute nor a message of its own"
    return ", ".join([_LOSS_WORDS["absent"] if whole else "not every span has it", *said])


def _blind(one: Blind) -> dict[str, Any]:
    return {
        "rule_id": one.rule_id,
        "signal": one.signal,
        "severity": one.severity,
        "events": one.events,
        "of": one.of,
        "wholly": one.wholly,
        "attribute": one.attribute,
        "needs": list(one.needs),
    }


def _remedies(cover: AgentCover, missing: list[dict[str, Any]], blind: list[Blind], *, sampled: bool) -> list[dict[str, Any]]:
    """What to switch on, each once: what the dialects name, else what any emitter can do."""
    lacking = {name: row["what"] for row in missing for name in row["columns"]}
    lacking |= {name: name for one in blind for name in one.needs if name in STATED and name not in lacking}
    rows: dict[str, dict[str, Any]] = {}
    given: set[str] = set()
    for dialect in (one for one in DIALECTS if one.name in cover.dialects):
        here = {AGENT if name == "gen_ai.agent.name" else name for name in cover.lacking(dialect.name)} & lacking.keys()
        for remedy in dialect.remedies:
            columns = {AGENT if name == "gen_ai.agent.name" else name for name in remedy.gives}
            gives = {lacking[name] for name in columns & here}
            if gives:
                rows.setdefault(remedy.setting, _remedy(remedy, gives, dialect.name))
                given |= gives
    for loss, remedy in _BY_LOSS.items():
        if cover.losses[loss]:
            rows[remedy.setting] = _remedy(remedy, {_BACK[loss]}, None)
    if sampled:
        rows[_SAMPLING.setting] = _remedy(_SAMPLING, {"every span"}, None)
    for column, what in lacking.items():
        # The agent is known by its name; an id of ours nobody can state.
        name = "gen_ai.agent.name" if column == AGENT else column
        if what not in given and name in STATED and name not in CONTENT:
            given.add(what)
            rows[f"span attribute {name}"] = _remedy(Remedy(f"span attribute {name}", (), "stated by the application"), {what}, None)
    return list(rows.values())


def _remedy(remedy: Remedy, gives: set[str], dialect: str | None) -> dict[str, Any]:
    return {"setting": remedy.setting, "gives": sorted(gives), "note": remedy.note, "dialect": dialect}


def _notes(cover: AgentCover, dialects: list[dict[str, Any]]) -> list[str]:
    types, notes = cover.types, []
    guessed = [one["dialect"] for one in dialects if one["guess"]]
    if guessed:
        notes.append(f"read as {', '.join(guessed)} by its attributes: no table knows its scope, so more may be missing than seems")
    if types["model_output"] and not types["tool_call"]:
        notes.append("no tool call came: if it uses tools, this emitter has no spans for them, and rules on tool_call see nothing")
    if "messages" in cover.dialects:
        notes.append(f"{cover.dialects['messages']} tool calls are known from messages only: no span says that they ran")
    return notes
