"""What happened: timeline, where it began, what was touched, who is alike, what to do. Pure over frames; ``load`` reads the evidence."""

from otel_ir.investigate.investigate import article, investigate
from otel_ir.investigate.ledger import Book, incident_facts, read_incident
from otel_ir.investigate.load import Evidence, load_evidence
from otel_ir.investigate.model import IncidentFacts, Investigation, Outside, Statement

__all__ = [
    "Book",
    "Evidence",
    "IncidentFacts",
    "Investigation",
    "Outside",
    "Statement",
    "article",
    "incident_facts",
    "investigate",
    "load_evidence",
    "read_incident",
]
