"""HTTP client spans that were answered 401 or 403: no framework emits an authentication event of its own."""

from __future__ import annotations

from otel_ir.normalize.table import Dialect

_REFUSED = "=401|403"

DIALECT = Dialect(
    name="http",
    about="HTTP client spans (semantic conventions 1.20 and later, and before): an answer 401 or 403 is an auth event.",
    markers=("http.response.status_code", "http.status_code"),
    classify=(
        ("auth", "@kind=3", f"http.response.status_code{_REFUSED}"),
        ("auth", "@kind=3", f"http.status_code{_REFUSED}"),
    ),
    columns={"error.type": ("http.response.status_code", "http.status_code")},
    error=(f"http.response.status_code{_REFUSED}", f"http.status_code{_REFUSED}"),
)
