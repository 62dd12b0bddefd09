"""The journal: the only hand-off between the outside and the engine.

A request is acknowledged when its bytes are in the journal and synced, not earlier, not later. ``FileJournal`` is the
embedded implementation; whatever satisfies ``Journal`` can take its place.
"""

from __future__ import annotations

from otel_ir.journal.file import FileJournal
from otel_ir.journal.protocol import Journal, JournalConfig

__all__ = ["FileJournal", "Journal", "JournalConfig"]
