"""Sigma rules, compiled to Polars expressions. Entry points: ``load_rules`` and ``matches``."""

from otel_ir.sigma.load import Library, load_library, load_rules
from otel_ir.sigma.match import matches
from otel_ir.sigma.ruleset import Baseline, Correlation, Definition, Rule, RuleSet

__all__ = ["Baseline", "Correlation", "Definition", "Library", "Rule", "RuleSet", "load_library", "load_rules", "matches"]
