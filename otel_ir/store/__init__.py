"""What otel_ir keeps: the ledger (alerts, actions), the evidence (canonical events), the checkpoints (state of the fold)."""

from otel_ir.store.checkpoint import Checkpoint, CheckpointStore, Restored
from otel_ir.store.evidence import EvidenceConfig, EvidenceStore, read_events
from otel_ir.store.ledger import Ledger
from otel_ir.store.rows import ActionRow, AlertRow, Step

__all__ = [
    "ActionRow",
    "AlertRow",
    "Checkpoint",
    "CheckpointStore",
    "EvidenceConfig",
    "EvidenceStore",
    "Ledger",
    "Restored",
    "Step",
    "read_events",
]
