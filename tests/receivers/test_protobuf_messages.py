"""The messages by their numbers on the wire (client_model, metrics.proto)."""

from receivers.protobuf_messages import message_class


def test_fields_have_their_numbers() -> None:
    family = message_class("MetricFamily")(name=b"a", help=b"h", type=4, unit=b"u")
    metric = family.metric.add(timestamp_ms=5)
    metric.label.add(name=b"n", value=b"v")
    metric.histogram.sample_count = 7
    metric.histogram.bucket.add(cumulative_count=1, upper_bound=1.0)
    metric.histogram.positive_delta.append(-1)
    assert family.SerializeToString() == (
        b"\x0a\x01a\x12\x01h\x18\x04\x22\x1d\x0a\x06\x0a\x01n\x12\x01v\x30\x05"
        b"\x3a\x11\x08\x07\x1a\x0b\x08\x01\x11\x00\x00\x00\x00\x00\x00\xf0\x3f\x68\x01\x2a\x01u"
    )


def test_a_class_is_made_once() -> None:
    assert message_class("Metric") is message_class("Metric")
