"""What samplers write down, in the words of each."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ir.doctor.sampling import of_attributes, of_state


@pytest.mark.parametrize(("state", "share"), [
    ("ot=th:c", 0.25),
    ("ot=rv:1;th:8,vendor=1", 0.5),
    ("other=1, ot=th:8", 0.5),
    ("ot=th:0", 1.0),
    ("ot=p:2;r:62", 0.25),
    ("ot=th:8;p:9", 0.5),
    ("es=s:0.1,other=1", 0.1),
    ("es=s:1", 1.0),
    ("es=s:7", None),
    ("vendor=th:c", None),
    ("ot=th:xyz", None),
    ("ot=th:" + "f" * 15, None),
    ("x" * 5000 + ",ot=th:c", None),
    ("", None),
])  # fmt: skip
def test_trace_states(state: str, share: float | None) -> None:
    assert of_state(state) == share


@pytest.mark.parametrize(("attributes", "found"), [
    ({"logfire.sample_rate": 0.2}, ("logfire.sample_rate", 0.2)),
    ({"microsoft.sample_rate": 50.0}, ("microsoft.sample_rate", 0.5)),
    ({"_MS.sampleRate": 25}, ("_MS.sampleRate", 0.25)),
    ({"_MS.sampleRate": 100}, None),
    ({"sampling.threshold": "c"}, ("sampling.threshold", 0.25)),
    ({"sampling.threshold": "no"}, None),
    ({"jaeger.sampler.type": "probabilistic", "jaeger.sampler.param": 0.5}, ("jaeger.sampler.param", 0.5)),
    ({"jaeger.sampler.type": "ratelimiting", "jaeger.sampler.param": 2.0}, ("jaeger.sampler.type", None)),
    ({"jaeger.sampler.type": "const", "jaeger.sampler.param": 1}, None),
    ({"logfire.sample_rate": "many"}, None),
    ({"logfire.sample_rate": float("nan")}, None),
    ({"microsoft.sample_rate": "many"}, None),
    ({"gen_ai.tool.name": "x"}, None),
])  # fmt: skip
def test_attributes_of_samplers(attributes: dict[str, str | float], found: tuple[str, float | None] | None) -> None:
    span = Span()
    for name, value in attributes.items():
        into = span.attributes.add(key=name).value
        if isinstance(value, str):
            into.string_value = value
        elif isinstance(value, int):
            into.int_value = value
        else:
            into.double_value = value
    assert of_attributes(span.attributes) == found
