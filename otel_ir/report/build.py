"""From an investigation to a report: which facts stand where, in the order of the article and of SRE practice."""

from __future__ import annotations

from collections.abc import Iterator

from otel_ir.investigate.model import ActionFacts, Investigation, Outside, Part, Recommendation, Statement, say
from otel_ir.investigate.timeline import action_name
from otel_ir.investigate.words import flow, short, source
from otel_ir.provenance import mask_secrets
from otel_ir.report.facts import to_facts
from otel_ir.report.flow_figure import draw_flow
from otel_ir.report.model import Bullets, Figure, Fill, Grid, Item, Paragraph, Quote, Report, Section
from otel_ir.report.timeline_figure import draw_timeline
from otel_ir.report.times import moment, span

MAX_FLOWS = 20
HOUR = 3_600_000_000_000

PREVENTIVE = frozenset({"enforce", "source", "similar", "review-prompt", "tool-permissions", "burst", "egress", "content"})
"""Recommendations that keep it from happening again; the others deal with this incident. All of them are action items."""

ASKS: dict[str, tuple[str, str]] = {
    "summary": ("in two or three sentences for readers who were not there: what happened, and what it meant", "(not written yet)"),
    "impact": ("who was harmed and how much: customers, data, money, reputation; who was told, and when", "(not written yet)"),
    "timeline": ("what the telemetry cannot know: who noticed, who was called, what was decided and why", "(not written yet)"),
    "root-cause": ("why it was possible at all: ask why until the answer is something that can be changed", "(not written yet)"),
    "effectiveness": ("what worked, what was slow or failed, where luck helped", "(not written yet)"),
    "affected": ("whose data it was, what class it had, and whether it must be reported", "(not written yet)"),
    "prevention": ("which change would have stopped it at the first step, and which would have found it sooner", "(not written yet)"),
    "more-items": ("further action items, each with owner and deadline", "(none yet)"),
    "lessons": ("what to tell others who run agents: what went well, what went wrong, what was luck", "(not written yet)"),
}
"""Part for people -> what belongs there, and what stands there at first."""


def build_report(found: Investigation) -> Report:
    """The report. The same investigation gives the same report: no clock is looked at."""
    facts = found.facts
    sections = (
        Section("summary", "Summary", tuple(_summary(found))),
        Section("impact", "Impact", tuple(_impact(found))),
        Section("timeline", "Timeline", tuple(_timeline(found))),
        Section("root-cause", "Root cause", tuple(_root_cause(found))),
        Section("effectiveness", "Detection and containment", tuple(_effectiveness(found))),
        Section("affected", "Data and systems affected", tuple(_affected(found))),
        Section("prevention", "What prevents recurrence", tuple(_prevention(found))),
        Section("action-items", "Action items", tuple(_items(found))),
        Section("lessons", "Lessons", (fill("lessons"),)),
        Section("evidence", "Evidence", tuple(_evidence(found))),
    )
    title = say("Post-mortem ", short(facts.incident_id), ": ", short(facts.title or "incident", 120))
    return Report(facts.incident_id, title, sections, to_facts(found))


def fill(key: str) -> Fill:
    """A part for people, from ``ASKS``."""
    return Fill(key, *ASKS[key])


def held(found: Investigation) -> Statement:
    """What became of containment, in a sentence. ``contained`` stands here only where an action is, or was, verified."""
    actions = found.facts.actions
    proven = [one for one in actions if one.verified_at]
    if not actions:
        return say("No containment action was asked for.")
    if not proven:
        states = ", ".join(sorted({one.state.replace("_", " ") for one in actions}))
        return say(f"No containment action was verified ({len(actions)} asked for: {states}); nothing proves that the agent was stopped.")
    first = min(proven, key=lambda one: one.verified_at or 0)
    parts: list[Part] = ["The agent was contained: ", *action_name(first), f" was verified at {moment(first.verified_at)} UTC"]
    took = next((one.nanos for one in found.durations if one.key == "verify"), None)
    parts += [f", {span(took)} after the harmful call was received" if took is not None else "", "."]
    broken = [one for one in actions if any(step.state == "violated" for step in one.steps)]
    if broken:
        parts += [f" Violated afterwards: {len(broken)} of {len(actions)} actions."]
    elif len(proven) < len(actions):
        parts += [f" Never verified: {len(actions) - len(proven)} of {len(actions)} actions."]
    return say(*parts)


def _summary(found: Investigation) -> Iterator[Paragraph | Grid | Fill]:
    facts, main = found.facts, found.facts.main
    yield _pairs("At a glance", _glance(found))
    if facts.drill:
        yield Paragraph(say("This was a drill: the attack was synthetic."), "warning")
    for note in found.notes:
        yield Paragraph(say("This report is incomplete: ", Outside(note), "."), "warning")
    if main:
        alert = main.alert
        more = f" and {len(facts.alerts) - 1} more" if len(facts.alerts) > 1 else ""
        words = (
            f"At {moment(alert.event_time)} UTC an alert was raised about ",
            short(facts.agent_id),
            ", severity ",
            short(alert.severity),
            ": ",
        )
        yield Paragraph(say(*words, short(alert.signal), f"{more}: ", short(alert.description, 300), ".", spans=[alert.span_id]))
    if found.compromise:
        yield Paragraph(found.compromise.statement)
    yield Paragraph(held(found))
    yield fill("summary")


def _glance(found: Investigation) -> Iterator[tuple[str, Statement]]:
    facts = found.facts
    yield "Incident", say(short(facts.incident_id))
    yield "Agent", say(short(facts.agent_id))
    yield "State", say(facts.state)
    yield "Severity", say(short(facts.severity)) if facts.severity else say("-")
    yield "Began", say(_utc(found.compromise.at if found.compromise else None), _basis(found))
    yield "Alert", say(_utc(facts.main.alert.event_time if facts.main else None))
    yield "Contained", say(_utc(facts.contained_at) if facts.contained_at else "never: no action was verified")
    yield "Closed", say(_utc(facts.closed_at) if facts.closed_at else "not yet")


def _utc(nanos: int | None) -> str:
    return f"{moment(nanos)} UTC" if nanos else "-"


def _basis(found: Investigation) -> str:
    known = found.compromise is None or found.compromise.basis == "data_flow"
    return "" if known else " (the first event cited; where it began is not known)"


def _impact(found: Investigation) -> Iterator[Bullets | Paragraph | Fill]:
    calls = sum(one.calls for one in found.tools)
    told = [say(f"Since the first anomaly the agent made {calls:,} calls of {len(found.tools)} tools.")] if found.tools else []
    told += [flow(edge) for edge in found.edges if edge.role == "carry"][:MAX_FLOWS]
    outside = [one for one in found.destinations if one.from_outside]
    told += [say("Calls went to ", short(one.text), ", which came from text that the agent was given.", spans=one.spans) for one in outside]
    refused = sum(one.refused for one in found.tools)
    told += [say(f"Calls that were refused before they ran: {refused:,}.")] if refused else []
    yield Bullets(tuple(told)) if told else Paragraph(say("The evidence shows no effect."))
    yield fill("impact")


def _timeline(found: Investigation) -> Iterator[Figure | Grid | Fill]:
    begin = found.timeline[0].at if found.timeline else 0
    base = found.compromise.at if found.compromise else begin
    yield Figure("timeline", "From compromise to recovery", "Every entry stands in the table below.", draw_timeline(found))
    rows = tuple((say(moment(one.at)), say(offset(one.at - base)), one.statement) for one in found.timeline)
    yield Grid(
        "Times in UTC; + counts from where it began", ("Time", "+", "What happened"), rows, "The evidence and the ledger hold nothing."
    )
    yield fill("timeline")


def offset(nanos: int) -> str:
    """``+0.31 s``."""
    return f"+{span(nanos)}" if nanos >= 0 else span(nanos)


def _root_cause(found: Investigation) -> Iterator[Paragraph | Quote | Figure | Bullets | Fill]:
    origin = found.compromise
    if origin is None:
        yield Paragraph(say("Not known: the evidence holds none of the events that the alerts cite."), "warning")
    else:
        yield Paragraph(origin.statement, "" if origin.basis == "data_flow" else "warning")
        if origin.edge and origin.edge.excerpt:
            yield Quote(say("From ", *source(origin.edge), ":", spans=[origin.span_id]), mask_secrets(origin.edge.excerpt))
    if found.edges:
        yield Figure("flow", "How the values travelled", "The same, edge by edge, in the list below.", draw_flow(found))
        yield Bullets(tuple(flow(edge) for edge in found.edges[:MAX_FLOWS]))
    yield fill("root-cause")


def _effectiveness(found: Investigation) -> Iterator[Paragraph | Grid | Fill]:
    yield Paragraph(held(found))
    rows = tuple((say(one.name), say(span(one.nanos)), say(one.why)) for one in found.durations)
    yield Grid("How long it took", ("What", "Time", "Meaning"), rows, "No times are known.")
    received = found.facts.first.alert.received if found.facts.first else found.facts.opened_at
    actions = tuple(_action(one, received) for one in found.facts.actions)
    columns = ("Action", "State", "Dispatched", "Verified", "Ended", "Detail")
    yield Grid(
        "Actions, each with its true state; times from the receipt of the harmful call", columns, actions, "No action was asked for."
    )
    yield fill("effectiveness")


def _action(one: ActionFacts, since: int) -> tuple[Statement, ...]:
    times = (one.dispatched_at, one.verified_at, one.ended_at)
    after = (say(offset(at - since) if at else "-") for at in times)
    return (say(*action_name(one)), say(one.state.replace("_", " ")), *after, say(short(one.detail, 200)) if one.detail else say("-"))


def _affected(found: Investigation) -> Iterator[Grid | Fill]:
    places = tuple(
        (
            say(short(one.text)),
            say(one.kind),
            say(*_joined(one.tools)),
            say(f"{one.calls:,}", spans=one.spans[:2]),
            say(_yes(one.from_outside)),
        )
        for one in found.destinations
    )
    columns = ("Destination", "Kind", "Tools", "Calls", "Named by text the agent was given")
    yield Grid("Systems: where calls pointed", columns, places, "No call pointed anywhere.")
    tools = tuple(
        (say(short(one.tool), spans=[one.first_span]), say(f"{one.calls:,}"), say(f"{one.failed:,}"), say(f"{one.refused:,}"))
        for one in found.tools
    )
    yield Grid("Tools since the first anomaly", ("Tool", "Calls", "Failed", "Refused"), tools, "No tool was called.")
    people = [("conversation", one) for one in found.conversations] + [("user", one) for one in found.users]
    yield Grid(
        "Conversations and users", ("Kind", "Id"), tuple((say(kind), say(short(one))) for kind, one in people), "None is known by id."
    )
    alike = tuple(
        (say(short(one.agent_id)), say(_yes(one.exposed)), reason) for one in found.similar for reason in one.reasons
    )  # fmt: skip
    yield Grid("Similar agents", ("Agent", "Same values seen", "Why"), alike, "The evidence of the window shows no agent like it.")
    yield fill("affected")


def _pairs(caption: str, pairs: Iterator[tuple[str, Statement]]) -> Grid:
    return Grid(caption, ("", ""), tuple((say(name), value) for name, value in pairs), "")


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def _joined(texts: tuple[str, ...]) -> Iterator[Part]:
    for place, text in enumerate(texts):
        yield from (", ", short(text)) if place else (short(text),)


def _prevention(found: Investigation) -> Iterator[Bullets | Fill]:
    items = tuple(_sentence(one.action) for one in found.recommendations if one.key in PREVENTIVE)
    yield Bullets(items)
    yield fill("prevention")


def _sentence(one: Statement) -> Statement:
    return Statement((*one.parts, "."), one.spans)


def _items(found: Investigation) -> Iterator[Item | Fill]:
    main = found.facts.main
    base = main.alert.event_time if main else found.facts.opened_at
    yield from (_item(one, base) for one in found.recommendations)
    yield fill("more-items")


def _item(one: Recommendation, base: int) -> Item:
    due = moment(base + one.hours * HOUR)[:16]
    default = f"Owner: (nobody yet)\nDeadline: {due} UTC (proposed)\nState: open"
    return Item(one.action, one.because, Fill(f"item-{one.key}", "owner, deadline and state", default))


def _evidence(found: Investigation) -> Iterator[Paragraph | Grid | Bullets]:
    start, stop = found.window
    seen = f"{found.total_events:,} events of the agent between {moment(start)} and {moment(stop)} UTC"
    yield Paragraph(say(f"Looked at: {seen}, and what the data flow led to before. Times of events are the sender's clock, others ours."))
    if found.cut:
        yield Bullets(tuple(say("Left out: ", Outside(text), ".") for text in found.cut))
    rows = tuple((say(Outside(key)), what) for key, what in found.evidence)
    yield Grid("Spans cited above", ("Span", "What it is"), rows, "The evidence holds none of the spans cited.")
