"""What to switch on: the settings that the dialects name, for what an agent's events lack, and which rules see again then."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from otel_ir.doctor.blind import Blind
from otel_ir.doctor.coverage import AGENT, AgentCover, base_of
from otel_ir.doctor.survey import ServiceSurvey
from otel_ir.normalize.dialects import DIALECTS
from otel_ir.normalize.table import CONTENT, STATED, Dialect, Remedy

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
_BACK = {"truncated": "whole texts", "scrubbed": "true values", "dropped": "all attributes"}
_SAMPLING = Remedy("OTEL_TRACES_SAMPLER=parentbased_always_on", (), "and no sampling processor before otel_ir: it judges every span")
_LENT = ("gen_ai.agent.name", "gen_ai.conversation.id", "user.id")
"""What an agent's own span lends to the others."""
_SEVERITIES = ("critical", "high", "medium", "low")
_WIDEST_FIRST = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": ("SPAN_AND_EVENT", "SPAN_ONLY")}
"""Variables of which a process has one value, whatever instruments it: the values that dialects ask for, the one that gives most first."""
_ONE_VALUE = "one value for the whole process: this one serves each of its instrumentations, with content in spans and log records"
_Row = dict[str, Any]


def useful(dialect: Dialect, columns: Iterable[str]) -> bool:
    """Whether a setting of this dialect's emitter gives one of the columns."""
    return not {name for remedy in dialect.remedies if not remedy.undoes for name in remedy.gives}.isdisjoint(columns)


def kept_share(service: ServiceSurvey | None) -> float | None:
    """The share of spans that a sampler says it kept; None where none says it."""
    return None if service is None or service.kept >= 1 else round(service.kept, 6)


def of_agent(cover: AgentCover, missing: list[_Row], blind: list[Blind], *, sampled: bool, beside: Container[str] = ()) -> list[_Row]:
    """What to switch on, each once: what the dialects name, else what any emitter can do.

    ``beside``: dialects of its service that may be none of an event, because they only tell more of what is one.
    """
    lacking = {name: row["what"] for row in missing for name in row["columns"]}
    lacking |= {name: name for one in blind for name in one.needs if name in STATED and name not in lacking}
    rows: dict[str, _Row] = {}
    given, undone = set[str](), set[str]()
    for dialect in (one for one in DIALECTS if one.name in cover.dialects or (one.signal == "logs" and one.name in beside)):
        here = (
            set(lacking) if dialect.name not in cover.dialects else {_agent(name) for name in cover.lacking(dialect.name)} & lacking.keys()
        )
        whole = cover.whole(dialect.name)
        for remedy in dialect.remedies:
            if remedy.undoes and cover.losses[remedy.undoes]:
                _add(rows, remedy, (), {_BACK[remedy.undoes]}, (), dialect.name)
                undone.add(remedy.undoes)
            if remedy.undoes:
                continue
            columns = {_agent(name) for name in remedy.gives} & here
            if not whole.isdisjoint(CONTENT) and not whole.isdisjoint(remedy.gives):
                columns -= set(CONTENT)  # it is on: what it gives elsewhere is there
            if columns:
                _add(rows, remedy, columns, {lacking[name] for name in columns}, blind, dialect.name)
                given |= {lacking[name] for name in columns}
    for loss, remedy in _BY_LOSS.items():
        if cover.losses[loss] and loss not in undone:
            _add(rows, remedy, (), {_BACK[loss]}, (), None)
    if sampled:
        _add(rows, _SAMPLING, (), {"every span"}, (), None)
    needed = {base_of(name) for one in blind for name in one.needs}
    for column, what in lacking.items():
        # The agent is known by its name; an id of ours nobody can state.
        name = "gen_ai.agent.name" if column == AGENT else column
        if what not in given and name in STATED and name not in CONTENT and (name in _LENT or column in needed):
            given.add(what)
            note = "the application can set it: its agent's own span is enough" if name in _LENT else "the application can set it"
            _add(rows, Remedy(f"span attribute {name}", (), note), (column,), {what}, blind, None)
    return list(rows.values())


def _agent(name: str) -> str:
    return AGENT if name == "gen_ai.agent.name" else name


def _add(
    rows: dict[str, _Row], remedy: Remedy, columns: Iterable[str], gives: set[str], blind: Iterable[Blind], dialect: str | None
) -> None:
    columns = set(columns)
    unblinds = {one.signal: one.severity for one in blind if {base_of(name) for name in one.needs} <= columns}
    fresh = {"setting": remedy.setting, "gives": [], "note": remedy.note, "dialects": [], "unblinds": []}
    found = {"gives": gives, "unblinds": unblinds, "dialects": () if dialect is None else (dialect,)}
    _join(rows.setdefault(remedy.setting, fresh), found)


def _join(row: _Row, other: Mapping[str, Any]) -> None:
    for key in ("gives", "unblinds", "dialects"):
        row[key] = sorted({*row[key], *other[key]})


def agree(agents: Iterable[_Row], dialects: Iterable[str]) -> None:
    """Where dialects of one service ask for different values of one variable, each agent of it is told the one that serves all."""
    present = set(dialects)
    asked = {remedy.setting for one in DIALECTS if one.name in present for remedy in one.remedies}
    for variable, values in _WIDEST_FIRST.items():
        settings = [f"{variable}={value}" for value in values]
        chosen = [one for one in settings if one in asked]
        if len(chosen) < 2:
            continue
        for agent in agents:
            rows: list[_Row] = []
            merged: _Row | None = None
            for row in agent["remedies"]:
                if row["setting"] not in settings:
                    rows.append(row)
                elif merged is None:
                    merged = row | {"setting": chosen[0], "note": _ONE_VALUE}
                    rows.append(merged)
                else:
                    _join(merged, row)
            agent["remedies"] = rows


def together(agents: Iterable[_Row]) -> list[_Row]:
    """The remedies of several agents, each once: of how many agents and services, and what helps most first."""
    rows: dict[str, _Row] = {}
    worst: dict[str, int] = {}
    for agent in agents:
        severities = {one["signal"]: _SEVERITIES.index(one["severity"]) for one in agent["blind"]}
        for remedy in agent["remedies"]:
            row = rows.setdefault(remedy["setting"], remedy | {"agents": 0, "services": []})
            _join(row, remedy)
            row["agents"] += 1
            row["services"] += [agent["service.name"]] if agent["service.name"] not in row["services"] else []
            here = min((severities[signal] for signal in remedy["unblinds"]), default=len(_SEVERITIES))
            worst[remedy["setting"]] = min(here, worst.get(remedy["setting"], here))
    return sorted(rows.values(), key=lambda row: (worst[row["setting"]], -row["agents"]))
