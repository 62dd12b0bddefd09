"""``python -m otel_ir`` is ``otel-ir``."""

from otel_ir.cli import main

main()
