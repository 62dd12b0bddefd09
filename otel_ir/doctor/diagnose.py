"""Events, requests and rules -> what is wrong with the telemetry of each service and agent, and what to switch on. Plain rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_ir.doctor.blind import Blind, blind_rules
from otel_ir.doctor.coverage import KINDS, LOSSES, SYSTEM_PROMPT, AgentCover, Kind
from otel_ir.doctor.remedy import agree, kept_share, of_agent, together, useful
from otel_ir.doctor.survey import QUIET, ServiceSurvey
from otel_ir.doctor.undercount import distorted
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import CONTENT
from otel_ir.sigma.load import Library

_LOSS_WORDS = {
    "absent": "content capture is off",
    "truncated": "texts are cut",
    "scrubbed": "values are masked",
    "dropped": "attributes were evicted",
}
_NO_SWITCH = "not sent, and otel_ir knows of no setting that gives it"
_ORPHANS = 0.05
"""Share of spans without their parent from which on sampling, or a sender that is not connected, is suspected."""
_FEW = 5
Row = dict[str, Any]


@dataclass(slots=True)
class Diagnosis:
    """``services``, ``agents`` and ``switch_on`` as rows (see ``docs/doctor.md``)."""

    services: list[Row] = field(default_factory=list)
    agents: list[Row] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Rules that are wholly blind on an agent because content or identity is missing."""
        return sum(one["wholly"] and not one["attribute"] for agent in self.agents for one in agent["blind"])

    @property
    def switch_on(self) -> list[Row]:
        """What helps most first, over all services."""
        return together(self.agents)


def diagnose(library: Library, covers: Iterable[AgentCover], services: Sequence[ServiceSurvey]) -> Diagnosis:
    """One row per service (most telemetry first) and per agent (most events first)."""
    by_name = {(one.tenant, one.service): one for one in services}
    agents = [_agent(library, one, by_name.get((one.tenant, one.service))) for one in covers]
    of: dict[tuple[str, str], list[Row]] = {}
    for agent in agents:
        of.setdefault((agent["otel_ir.tenant"], agent["service.name"]), []).append(agent)
    for key, those in of.items():
        seen = {one["dialect"] for agent in those for one in agent["dialects"]}
        agree(those, seen | set(by_name[key].dialects) if key in by_name else seen)
    return Diagnosis([_service(one, of.get((one.tenant, one.service), [])) for one in services], agents)


def _service(one: ServiceSurvey, agents: list[Row]) -> Row:
    scopes, dialects = [], Counter[tuple[str | None, bool]]()
    for name, scope in sorted(one.scopes.items(), key=lambda item: (-item[1].rows, item[0])):
        for (dialect, guess), rows in scope.read_by.most_common():
            scopes.append({"scope": name, "version": scope.version, "dialect": dialect, "guess": guess, "rows": rows})
            dialects[dialect, guess] += rows
    return {
        "service.name": one.service,
        "otel_ir.tenant": one.tenant,
        "spans": one.spans,
        "logs": one.logs,
        "traces": one.traces,
        "agents": len(agents),
        "dialects": [{"dialect": name, "guess": guess, "rows": rows} for (name, guess), rows in dialects.most_common() if name],
        "scopes": scopes,
        "missing": _missing_together(agents),
        "remedies": together(agents),
        "parents_missing": one.orphans,
        "parents_awaited": one.awaited,
        "traces_without_root": one.rootless,
        "sampled_spans": one.sampled,
        "kept_share": round(one.kept, 6),
        "signs_of_sampling": _signs(one),
        "notes": _service_notes(one),
    }


def _missing_together(agents: list[Row]) -> list[Row]:
    found: dict[str, Row] = {}
    for row in (row for agent in agents for row in agent["missing"]):
        known = found.setdefault(row["what"], {"what": row["what"], "columns": row["columns"], "events": 0, "of": 0})
        known["events"] += row["events"]
    for kind in found.values():
        kind["of"] = sum(agent["expected"].get(kind["what"], 0) for agent in agents)
    return sorted(found.values(), key=lambda row: [one.label for one in KINDS].index(row["what"]))


def _signs(one: ServiceSurvey) -> Row:
    found: Row = dict(one.signs.most_common())
    if one.spans and one.orphans > _ORPHANS * one.spans:
        found["parents that did not come"] = one.orphans
    return found


def _service_notes(one: ServiceSurvey) -> list[str]:
    notes = []
    unread = [name for name, scope in one.scopes.items() if all(dialect is None for dialect, _ in scope.read_by)]
    if unread and len(unread) == len(one.scopes):
        names = ", ".join(name[:100] or "(no name)" for name in sorted(unread)[:_FEW])
        notes.append(f"no table reads its scopes ({names}): nothing of it is an event, it only links spans")
    if one.kept < 1:
        signs = ", ".join(one.signs)
        notes.append(f"sampled: as little as {one.kept:.2%} of the traces were kept ({signs}, {one.sampled} times)")
    elif one.sampled:
        notes.append(f"sampled: {', '.join(f'{name} ({count} times)' for name, count in one.signs.items())}; how much, nobody says")
    if one.spans and one.orphans > _ORPHANS * one.spans:
        what = f"{one.orphans} of {one.spans} spans have a parent that did not come, {one.rootless} of {one.traces} traces no root"
        notes.append(f"{what}: a sampler or filter drops it, or another service of the trace does not send here")
    if one.awaited:
        notes.append(f"{one.awaited} spans wait for their parent: of their traces something came in the last {QUIET // 10**9} s")
    return notes


def _agent(library: Library, cover: AgentCover, service: ServiceSurvey | None) -> Row:
    missing = [row for kind in KINDS if (row := _missing(cover, kind)) is not None]
    blind = blind_rules(library, cover)
    signs = _signs(service) if service is not None else {}
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
        "expected": {kind.label: of for kind in KINDS if (of := cover.gaps(kind)[1])},
        "missing": missing,
        "lost": {name: cover.losses[name] for name in LOSSES if cover.losses[name]},
        "blind": [_blind(one) for one in blind],
        "sampling": _sampling(library, cover, service, signs) if signs else None,
        "remedies": of_agent(cover, missing, blind, sampled=bool(signs), beside=service.dialects if service is not None else ()),
        "notes": _notes(cover, dialects),
    }


def _missing(cover: AgentCover, kind: Kind) -> Row | None:
    lacking, of = cover.gaps(kind)
    if not lacking:
        return None
    return {"what": kind.label, "columns": list(kind.columns), "events": lacking, "of": of, "why": _why(cover, kind, whole=lacking == of)}


def _why(cover: AgentCover, kind: Kind, *, whole: bool) -> str:
    if kind.columns[0] not in CONTENT:
        return "its telemetry does not say it" if whole else "not every span says it"
    said = [_LOSS_WORDS[name] for name in ("dropped", "truncated", "scrubbed") if cover.losses[name]]
    if kind.label == SYSTEM_PROMPT and any("gen_ai.input.messages" in cover.whole(name) for name in cover.dialects):
        return "neither an attribute nor the first message: it may have none"
    if whole and not any(useful(dialect, kind.columns) for dialect in DIALECTS if dialect.name in cover.dialects):
        return ", ".join([_NO_SWITCH, *said])
    if whole and any(not cover.whole(name).isdisjoint(CONTENT) for name in cover.dialects):
        return ", ".join(["not sent, though other content is", *said])
    return ", ".join([_LOSS_WORDS["absent"] if whole else "not every span has it", *said])


def _blind(one: Blind) -> Row:
    return {
        "rule_id": one.rule_id,
        "signal": one.signal,
        "severity": one.severity,
        "events": one.events,
        "of": one.of,
        "wholly": one.wholly,
        "falsely": one.falsely,
        "attribute": one.attribute,
        "needs": list(one.needs),
    }


def _sampling(library: Library, cover: AgentCover, service: ServiceSurvey | None, signs: Row) -> Row:
    kept = kept_share(service)
    return {"signs": signs, "kept_share": kept, "rules": [one._asdict() for one in distorted(library, cover, kept)]}


def _notes(cover: AgentCover, dialects: list[Row]) -> list[str]:
    types, notes = cover.types, []
    guessed = [one["dialect"] for one in dialects if one["guess"]]
    if guessed:
        notes.append(f"read as {', '.join(guessed)} by its attributes: no table knows its scope, so more may be missing than seems")
    if types["model_output"] and not types["tool_call"]:
        notes.append("no tool call came: if it uses tools, this emitter has no spans for them, and rules on tool_call see nothing")
    if count := cover.dialects["messages"]:
        notes.append(f"tool calls known from messages only: {count}; no span says that they ran")
    return notes
