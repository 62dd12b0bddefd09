"""Writes the documentation that is made from tables: ``python -m tools.generate_docs`` (``--check``: say what is out of date, exit 1)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from otel_ir.model_lifecycle import ACTION_STATES, INCIDENT_STATES, TRANSITIONS
from otel_ir.normalize.reference import dialects_markdown, event_schema, schema_markdown
from otel_ir.sigma.schema import rule_schema

DOCS = Path(__file__).parent.parent / "docs"


def pages() -> dict[str, str]:
    """File name -> content, of every generated page."""
    return {
        "dialects.md": dialects_markdown(),
        "event-schema.json": json.dumps(event_schema(), ensure_ascii=False, indent=2) + "\n",
        "event-schema.md": schema_markdown(),
        "lifecycle.md": lifecycle_markdown(),
        "rule.schema.json": json.dumps(rule_schema(), ensure_ascii=False, indent=2) + "\n",
    }


def lifecycle_markdown() -> str:
    """The life of an action and of an incident, drawn from ``model_lifecycle``."""
    arrows = [f"    {state.value} --> {following.value}" for state, after in TRANSITIONS.items() for following in after]
    ends = [f"    {state.value} --> [*]" for state, after in TRANSITIONS.items() if not after]
    lines = [
        "# The life of an action, and of an incident",
        "",
        "Generated from `otel_ir/model_lifecycle.py` by `python -m tools.generate_docs`. The ledger takes no other step than these.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> requested",
        *arrows,
        *ends,
        "```",
        "",
        "| action | what is known |",
        "|---|---|",
        *(f"| `{state.value}` | {meaning} |" for state, meaning in ACTION_STATES.items()),
        "",
        "| incident | what it means |",
        "|---|---|",
        *(f"| `{state.value}` | {meaning} |" for state, meaning in INCIDENT_STATES.items()),
    ]
    return "\n".join(lines) + "\n"


def outdated(folder: Path) -> list[str]:
    """Names of the pages in ``folder`` that differ from what the tables say."""
    return [name for name, text in pages().items() if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text]


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 1 with ``--check`` when a page is out of date, 2 for wrong usage."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    late = outdated(DOCS)
    if not arguments:
        for name in late:
            (DOCS / name).write_text(pages()[name], encoding="utf-8")
    for name in late:
        print(f"docs/{name}: {'out of date; run python -m tools.generate_docs' if arguments else 'written'}")
    return 1 if arguments and late else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
