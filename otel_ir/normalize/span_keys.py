"""Numbers for the spans and calls that rows name: hashes with a secret number, so that no sender can make two of them alike."""

from __future__ import annotations

import secrets

import numpy as np
import polars as pl

from otel_ir.normalize.few import is_null
from otel_ir.normalize.hashes import Keys, hashed, mixed

SPAN = ("tenant", "sender", "trace_id", "span_id")
"""What names a span in frames other than that of events, where the first two are ``otel_ir.tenant`` and ``otel_ir.sender``."""


class SpanKeys:
    """``seed``: the secret number, which a checkpoint keeps."""

    def __init__(self) -> None:
        self.seed = secrets.randbits(63)

    def of(self, frame: pl.DataFrame, span: str) -> Keys:
        """Of the spans in this column, 0 for none."""
        tenant, sender, trace, spans = hashed(self.seed, *_scope(frame), frame[span])
        keys = mixed(self.seed, mixed(self.seed, tenant, sender, trace), spans)
        return where(frame["trace_id"], where(frame[span], keys))

    def of_nodes(self, nodes: pl.DataFrame) -> tuple[Keys, Keys, Keys]:
        """Of spans, their parents (0 for none) and their traces."""
        tenant, sender, trace, span, parent = hashed(self.seed, *(nodes[name] for name in (*SPAN, "parent_span_id")))
        scope = mixed(self.seed, tenant, sender, trace)
        return mixed(self.seed, scope, span), where(nodes["parent_span_id"], mixed(self.seed, scope, parent)), scope

    def of_calls(self, frame: pl.DataFrame, call_id: str, tool: str, scopes: Keys | None = None) -> Keys:
        """Of the calls that rows describe, 0 where they do not say which. ``scopes``: keys of the rows' traces, where they are known."""
        if frame[call_id].null_count() == frame.height:
            return np.zeros(frame.height, dtype=np.uint64)
        if scopes is None:
            scopes = mixed(self.seed, *_scope(frame))
        calls = mixed(self.seed, scopes, *hashed(self.seed, frame[call_id], frame[tool]))
        return where(frame[tool], where(frame[call_id], calls))

    def of_call(self, tenant: str | None, sender: str | None, trace: str | None, call_id: str | None, tool: str | None) -> int:
        """The key of one call, as ``of_calls`` gives it."""
        if call_id is None or tool is None:
            return 0
        parts = pl.Series([tenant, sender, trace, call_id, tool], dtype=pl.String).hash(self.seed).to_numpy()
        scope = mixed(self.seed, *(parts[at : at + 1] for at in range(3)))
        return int(mixed(self.seed, scope, parts[3:4], parts[4:5])[0])


def where(stated: pl.Series, keys: Keys) -> Keys:
    """The keys, 0 where nothing is stated."""
    return np.where(is_null(stated), np.uint64(0), keys) if stated.null_count() else keys


def _scope(frame: pl.DataFrame) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Tenant, sender and trace of each row."""
    prefix = "otel_ir." if "otel_ir.tenant" in frame.columns else ""
    return frame[f"{prefix}tenant"], frame[f"{prefix}sender"], frame["trace_id"]
