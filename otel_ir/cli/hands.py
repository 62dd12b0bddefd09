"""``otel-ir contain`` and ``otel-ir release``: the responder's hands. They write orders into the ledger; the server carries them out."""

from __future__ import annotations

import time
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_ir.cli.output import EXIT_FAILED, Format, fail, name, note, print_error, print_rows, with_detail
from otel_ir.cli.stores import DATA, Data, Form, Url, open_ledger, person, running_server

if TYPE_CHECKING:
    from otel_ir.model_lifecycle import Order
    from otel_ir.store import ActionRow, Ledger

POLL = 0.1
_SUGGESTED, _ALIKE = 3, 0.75
"""Names that are suggested at most, and how alike they must be (``difflib``)."""
_COLUMNS = ("verb", "adapter", "mode", "state", "detail")

By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides.  [default: your login name]", show_default=False)]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the outcome.", min=0)]


def contain(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="otel_ir.agent.id, as in `otel-ir alerts`: service/agent.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger and in the post-mortem.")],
    by: By = None,
    verb: Annotated[
        list[str] | None, typer.Option("--verb", help="A step to take; may be given again.  [default: the playbook `contain`]")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Tenant of the agent.")] = "",
    data: Data = DATA,
    ledger: Url = None,
    wait: Wait = 30.0,
    form: Form = Format.TABLE,
) -> None:
    """Contain an agent now, whatever the rules say. Exit status 0 only if at least one step is verified to hold.

    One that was never seen is contained in advance, with a warning: see that its name is right (`otel-ir agents`).

    Example: `otel-ir contain support-desk/triage --reason "odd mails" --verb revoke_tools`
    """
    from otel_ir.model_lifecycle import IN_FORCE, ActionState, Order

    with closing(open_ledger(data, ledger)) as book:
        order = Order(
            kind="contain", who=by or person(), reason=reason, at=time.time_ns(), tenant=tenant, agent_id=agent, verbs=tuple(verb or ())
        )
        if unseen := _never_seen(book, agent, tenant):
            note(f"warning: {unseen}")
        incident = _carried_out(book, order, data, wait).incident_id
        rows = [row for row in _settled(book, incident, wait) if row.requested_at >= order.at or row.state in IN_FORCE]
    print_rows([row.to_row() if form is Format.TABLE else with_detail(row.to_row()) for row in rows], form, columns=_COLUMNS)
    verified = [row for row in rows if row.state is ActionState.VERIFIED]
    if verified:
        note(f"{incident}: {agent} is contained: {len(verified)} of {len(rows)} steps verified")
        note(f"to let go: otel-ir release {incident} --reason ...")
        return
    print_error(f"{incident}: {agent} is NOT known to be contained: no step is verified")
    raise typer.Exit(EXIT_FAILED)


def release(
    what: Annotated[str, typer.Argument(metavar="ID", help="An incident (INC-...), or one action of it.")],
    reason: Annotated[str, typer.Option(help="Why it is safe; it stands in the ledger and in the post-mortem.")],
    by: By = None,
    data: Data = DATA,
    ledger: Url = None,
    wait: Wait = 30.0,
    form: Form = Format.TABLE,
) -> None:
    """Let go of an agent, in reverse order; then it is watched, and a new alert takes all steps again at once.

    Example: `otel-ir release INC-20260101000000-0123abcd --reason "ticket removed, prompt fixed"`
    """
    from otel_ir.model_lifecycle import ActionState, Order

    with closing(open_ledger(data, ledger)) as book:
        incident, chosen = _meant(book, what)
        order = Order(kind="release", who=by or person(), reason=reason, at=time.time_ns(), incident_id=incident, verbs=chosen)
        answer = _carried_out(book, order, data, wait).answer
        rows = [row for row in _settled(book, incident, wait) if row.let_go and (not chosen or row.action_id in chosen)]
        found = book.incidents(incident_id=incident, limit=1)
    print_rows([row.to_row() for row in rows], form, columns=_COLUMNS)
    left = [row for row in rows if row.state not in (ActionState.RELEASED, ActionState.EXPIRED)]
    if left:
        print_error(f"{incident}: {len(left)} steps are NOT known to be let go of")
        raise typer.Exit(EXIT_FAILED)
    note(f"{incident}: {answer}; it is {found[0].state.value if found else 'unknown'} now")


def _never_seen(book: Ledger, agent: str, tenant: str) -> str:
    """Empty if the agent is known; else that it is not, and what may have been meant."""
    if book.agents(tenant=tenant, agent_id=agent, limit=1) or book.incidents(tenant=tenant, agent_id=agent, limit=1):
        return ""
    if elsewhere := book.agents(agent_id=agent, limit=1):
        found = elsewhere[0].tenant
        hint = (
            f"it was, as one of tenant {name(found)!r}: --tenant {name(found)}"
            if found
            else "it was, as one of no tenant: leave --tenant out"
        )
    else:
        known = [row.agent_id for row in book.agents(tenant=tenant)]
        near = [one for one in known if one.endswith(f"/{agent}")] or get_close_matches(agent, known, n=_SUGGESTED, cutoff=_ALIKE)
        few = ", ".join(name(one) for one in near[:_SUGGESTED])
        hint = f"did you mean {few}?" if near else "`otel-ir agents` lists those that were"
    return f"{name(agent)} was never seen; {hint}"


def _meant(book: Ledger, what: str) -> tuple[str, tuple[str, ...]]:
    if book.incidents(incident_id=what, limit=1):
        return what, ()
    found = book.actions(action_id=what, limit=1)
    if found and found[0].incident_id:
        return found[0].incident_id, (what,)
    raise fail(f"{what}: there is no such incident or action: `otel-ir incidents` and `otel-ir actions` list them")


def _carried_out(book: Ledger, order: Order, data: Path, wait: float) -> Order:
    """Puts the order down and waits until the server took it. Exits with status 1 when it was refused, or nobody takes it."""
    number = book.order(order)
    end = time.monotonic() + wait
    while True:
        told = book.find_order(number)
        if told and told.taken_at is not None:
            break
        if time.monotonic() >= end:
            here = "" if running_server(data) else f": no server runs with {data}; start `otel-ir serve`"
            raise fail(f"order {number} is written down and nobody has taken it yet{here}; it is carried out as soon as a server does")
        time.sleep(POLL)
    if not told.ok:
        raise fail(told.answer)
    return told


def _settled(book: Ledger, incident: str, wait: float) -> list[ActionRow]:
    """The incident's actions, once none of them waits for an outcome or a check any more."""
    from otel_ir.model_lifecycle import WORK

    end = time.monotonic() + wait
    while True:
        rows = book.actions(incident_id=incident, limit=1000, oldest=True)
        if not any(row.state in WORK for row in rows) or time.monotonic() >= end:
            return rows
        time.sleep(POLL)
