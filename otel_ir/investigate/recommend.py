"""What to do next: the article's recommendations by signal, and what follows from the facts. One table; the order is the order of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from otel_ir.investigate.model import (
    ActionFacts,
    Compromise,
    Destination,
    IncidentFacts,
    Part,
    Recommendation,
    Similar,
    Statement,
    say,
)
from otel_ir.investigate.sources import UNTRUSTED
from otel_ir.investigate.timeline import action_name
from otel_ir.investigate.words import short

DAY = 24


class Known(NamedTuple):
    """What recommendations are made from."""

    facts: IncidentFacts
    origin: Compromise | None
    destinations: tuple[Destination, ...]
    similar: tuple[Similar, ...]
    blind: bool
    """Whether arguments or results of the cited calls are missing in the telemetry."""

    def signal(self, *names: str) -> Statement | None:
        """Why, if an alert has one of these signals."""
        alert = next((one.alert for one in self.facts.alerts if one.alert.signal in names), None)
        return say("An alert says ", short(alert.signal), ".", spans=[alert.span_id]) if alert else None

    def stage(self, name: str) -> Statement | None:
        """Why, if an alert is of this stage."""
        alert = next((one.alert for one in self.facts.alerts if one.alert.stage == name), None)
        return say(f"An alert is of stage {name}: ", short(alert.signal), ".", spans=[alert.span_id]) if alert else None

    def tag(self, *prefixes: str) -> Statement | None:
        """Why, if an alert has a tag that begins so."""
        for one in self.facts.alerts:
            tag = next((tag for tag in one.alert.tags if tag.startswith(prefixes)), None)
            if tag:
                return say("An alert is tagged ", short(tag), ".", spans=[one.alert.span_id])
        return None


class Entry(NamedTuple):
    """A row of the table: ``when`` gives the reason, or ``None`` if the row does not apply; ``hours`` until it should be done."""

    key: str
    hours: int
    when: Callable[[Known], Statement | None]
    action: Callable[[Known], Statement]


def _fixed(text: str) -> Callable[[Known], Statement]:
    return lambda _: say(text)


def _always(text: str) -> Callable[[Known], Statement | None]:
    return lambda _: say(text)


def _came_in(known: Known) -> Statement | None:
    origin = known.origin
    if origin is None or origin.basis != "data_flow" or origin.kind not in UNTRUSTED or not origin.tool:
        return None
    return say("The instruction came in through it.", spans=[origin.span_id])


def _steered_to(known: Known) -> list[Destination]:
    return [one for one in known.destinations if one.from_outside]


def _pointed(known: Known) -> Statement | None:
    found = _steered_to(known)
    spans = [span for one in found for span in one.spans[:1]]
    return say("Calls were steered there by text that the agent was given.", spans=spans[:5]) if found else None


def _listed(texts: list[str]) -> Iterator[Part]:
    for place, text in enumerate(texts[:5]):
        yield from (", ", short(text)) if place else (short(text),)
    if len(texts) > 5:
        yield f" and {len(texts) - 5} more"


def _actions(found: list[ActionFacts]) -> Iterator[Part]:
    for place, one in enumerate(found[:5]):
        yield from (*((", ",) if place else ()), *action_name(one), f" ({one.state})")
    if len(found) > 5:
        yield f" and {len(found) - 5} more"


def _alike(known: Known) -> Statement | None:
    if not known.similar:
        return None
    hit = sum(one.exposed for one in known.similar)
    told = f", {hit} of which had the same values in their calls" if hit else ""
    spans = [span for one in known.similar for reason in one.reasons for span in reason.spans]
    count = len(known.similar)
    return say(f"{count} agents are alike{told}." if count > 1 else f"One agent is alike{told}.", spans=spans[:6])


def _open_actions(known: Known) -> list[ActionFacts]:
    proven = ("verified", "releasing", "released", "expired", "dry_run")
    return [one for one in known.facts.actions if one.state not in proven or (one.state != "dry_run" and not one.verified_at)]


def _unproven(known: Known) -> Statement | None:
    found = _open_actions(known)
    return say(f"Not proven: {len(found)} of {len(known.facts.actions)} actions.") if found else None


def _dry(known: Known) -> Statement | None:
    if not known.facts.actions:
        return say("No action was asked for.")
    return say("Every action was a dry run.") if all(one.state == "dry_run" for one in known.facts.actions) else None


TABLE: tuple[Entry, ...] = (
    Entry(
        "containment",
        4,
        lambda known: known.signal("containment_violated"),
        _fixed("Find out why the containment did not hold, and treat whatever the agent could reach as reached"),
    ),
    Entry("unproven", 4, _unproven, lambda known: say(
        "Find out why these were never proven to hold, or no longer are: ", *_actions(_open_actions(known)),
    )),
    Entry("enforce", 2 * DAY, _dry, _fixed("Decide whether the agent should have been stopped, and enforce the response policy if so")),
    Entry("destinations", 4, _pointed, lambda known: say(
        "Block and search all traffic to ", *_listed([one.text for one in _steered_to(known)]),
    )),
    Entry("source", DAY, _came_in, lambda known: say(
        "Treat results of ", short(known.origin.tool if known.origin else ""),
        " as untrusted: remove the text that brought the instruction in, and keep such text from deciding about calls",
    )),
    Entry("similar", DAY, _alike, lambda known: say(
        "Check, and restrict while the way in is open: ", *_listed([one.agent_id for one in known.similar]),
    )),
    Entry(
        "review-prompt",
        2 * DAY,
        _always("It is where the agent is told whom to obey."),
        _fixed("Review agent system prompt for injection vulnerabilities"),
    ),
    Entry("audit-data", DAY, lambda known: known.signal("data_exfiltration"), _fixed("Audit all data accessed by agent in last 24 hours")),
    Entry("notify-owners", 3 * DAY, lambda known: known.signal("data_exfiltration"), _fixed("Notify affected data owners")),
    Entry(
        "tool-permissions",
        2 * DAY,
        lambda known: known.signal("suspicious_tool_sequence"),
        _fixed("Review tool permission policies"),
    ),
    Entry(
        "burst",
        2 * DAY,
        lambda known: known.signal("tool_call_burst"),
        _fixed("Limit how many calls the agent may make, and find out what made it loop"),
    ),
    Entry(
        "errors",
        DAY,
        lambda known: known.signal("error_spike"),
        _fixed("Find out whether the failing calls were probing what the agent can reach"),
    ),
    Entry(
        "credentials",
        DAY,
        lambda known: known.stage("compromise"),
        _fixed("Rotate every credential that the agent could read or use since the first anomaly"),
    ),
    Entry(
        "egress",
        2 * DAY,
        lambda known: known.tag("atlas.aml.t0086", "atlas.aml.t0024", "atlas.aml.t0025"),
        _fixed("Allow outgoing calls of the agent only to destinations that are listed"),
    ),
    Entry(
        "content",
        2 * DAY,
        lambda known: say("Arguments or results of the calls that the alerts cite are not in the telemetry.") if known.blind else None,
        _fixed("Switch on content capture for this agent, so that the next investigation can follow values"),
    ),
    Entry("post-mortem", 2 * DAY, _always("So that what was learnt is not lost."), _fixed("Conduct post-mortem within 48 hours")),
)  # fmt: skip
"""Every recommendation there is, in the order of work."""


def recommend(known: Known) -> tuple[Recommendation, ...]:
    """The rows of the table that apply."""
    found = ((entry, entry.when(known)) for entry in TABLE)
    return tuple(
        Recommendation(key=entry.key, action=entry.action(known), because=because, hours=entry.hours) for entry, because in found if because
    )
