"""What otel_ir keeps: the ledger (alerts, incidents, actions), the evidence (canonical events), the checkpoints (state of the fold)."""

from otel_ir.store.checkpoint import Checkpoint, CheckpointStore, Restored
from otel_ir.store.evidence import EvidenceConfig, EvidenceStore, read_events
from otel_ir.store.fleet_book import AgentRow, DrillRow, GuardRow, ledger_levels
from otel_ir.store.ledger import Ledger
from otel_ir.store.rows import ActionRow, AlertRow, IncidentRow, Step
from otel_ir.store.snapshot import SnapshotStore

__all__ = [
    "ActionRow",
    "AgentRow",
    "AlertRow",
    "Checkpoint",
    "CheckpointStore",
    "DrillRow",
    "EvidenceConfig",
    "EvidenceStore",
    "GuardRow",
    "IncidentRow",
    "Ledger",
    "Restored",
    "SnapshotStore",
    "Step",
    "ledger_levels",
    "read_events",
]
