"""Both forms: joined, cut and made, and never larger than said."""

from __future__ import annotations

import json

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import comparable, reference_request
from ebbtide import Batch, Payload
from exporters.otlp_forms import Form, JsonForm, ProtobufForm
from exporters.otlp_json import from_json

FORMS: list[Form] = [ProtobufForm(), JsonForm()]


def read(form: Form, body: bytes) -> ExportMetricsServiceRequest:
    return ExportMetricsServiceRequest.FromString(from_json(body) if isinstance(form, JsonForm) else body)


@pytest.mark.parametrize("form", FORMS)
def test_join(form: Form, batch: Batch):
    request = reference_request(batch)
    bodies = [
        form.make(ExportMetricsServiceRequest(resource_metrics=[resource]).SerializeToString())
        for resource in request.resource_metrics
    ]
    joined = form.join(bodies)
    assert comparable(read(form, joined)) == comparable(request)
    assert len(joined) <= sum(map(len, bodies))
    assert form.join([joined]) == joined


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("max_bytes", [10**6, 8000, 3000, 1000, 10])
def test_cut(form: Form, batch: Batch, max_bytes: int):
    request = reference_request(batch)
    payload = Payload(b"", form.make(request.SerializeToString()), 22, len(batch))
    pieces = form.cut(payload, max_bytes)
    assert all(len(piece.body) <= max_bytes or piece.points == 1 for piece in pieces)
    assert (sum(p.points for p in pieces), sum(p.samples for p in pieces)) == (22, len(batch))
    joined = read(form, form.join([piece.body for piece in pieces]))
    assert list(comparable(joined).items()) == list(comparable(request).items())


def test_json_is_one_object(batch: Batch):
    body = JsonForm().make(reference_request(batch).SerializeToString())
    assert list(json.loads(body)) == ["resourceMetrics"]


def test_either_form_is_brought_into_the_other(batch: Batch):
    body = reference_request(batch).SerializeToString()
    text = JsonForm().make(body)
    assert JsonForm().adopt(body) == JsonForm().adopt(text) == text
    assert ProtobufForm().adopt(body) == body
    assert comparable(ExportMetricsServiceRequest.FromString(ProtobufForm().adopt(text))) == comparable(
        ExportMetricsServiceRequest.FromString(body)
    )
