"""Where a value came from: what is compared (``values``), whether it stood among instructions (``instructions``). Pure and linear."""

from otel_ir.provenance.instructions import Instruction, find_instruction
from otel_ir.provenance.values import Leaf, Leaves, Value, Values, leaves, mask_secrets, plain, values

__all__ = ["Instruction", "Leaf", "Leaves", "Value", "Values", "find_instruction", "leaves", "mask_secrets", "plain", "values"]
