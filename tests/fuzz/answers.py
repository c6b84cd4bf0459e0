"""What servers answer and clients write: the query API, remote write, targets, pods."""

from __future__ import annotations

import json
import struct

from ebbtide import ReceiveError
from exporters.protobuf import length_delimited, varint
from receivers.discovery_prometheus import _targets
from receivers.kubernetes_pods import pod_group
from receivers.matrix import AnswerReader, BadAnswer, Metrics
from receivers.query_native import Histograms
from receivers.remote_write_snappy import TooLarge, inflate
from receivers.remote_write_v1 import ReaderV1
from receivers.remote_write_v2 import ReaderV2
from receivers.remote_write_wire import Malformed
from tests.fuzz.run import Target

_HISTOGRAM = '{"count":"3","sum":"1.5","buckets":[[0,"1","2","3"]]}'
_QUERIES = tuple(
    f'{{"status":"success","data":{{"resultType":"{kind}","result":{result}}},"warnings":["slow"]}}'.encode()
    for kind, result in (
        ("matrix", '[{"metric":{"__name__":"a","b":"\\"\\u00e9"},"values":[[1.5,"2"],[2,"NaN"]]}]'),
        ("matrix", f'[{{"metric":{{}},"values":[[1,"1"]],"histograms":[[1,{_HISTOGRAM}]]}}]'),
        ("vector", '[{"metric":{"__name__":"a"},"value":[1.781,"+Inf"]},{"metric":{},"value":[1,"0"]}]'),
        ("scalar", '[1,"2"]'),
    )
)
_TARGETS = json.dumps(
    {
        "data": {
            "activeTargets": [
                {
                    "scrapeUrl": "http://10.0.0.1:4191/metrics?a=b",
                    "labels": {"job": "j"},
                    "discoveredLabels": {"__meta_a": "b"},
                }
            ]
        }
    }
).encode()
_POD = json.dumps(
    {
        "metadata": {
            "name": "web-0",
            "namespace": "shop",
            "uid": "1",
            "labels": {"a/b": "c"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}],
        },
        "spec": {
            "nodeName": "n",
            "containers": [
                {"name": "p", "image": "i", "ports": [{"name": "m", "containerPort": 4191, "protocol": "TCP"}]}
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "hostIP": "10.0.0.2",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
).encode()


def _written() -> tuple[bytes, bytes]:
    value = b"\x09" + struct.pack("<d", 1.5)
    label = length_delimited(1, length_delimited(1, b"__name__") + length_delimited(2, b"a_total"))
    sample = length_delimited(2, value + b"\x10" + varint(1795362155542))
    first = length_delimited(1, label + sample)
    symbols = b"".join(length_delimited(4, symbol) for symbol in (b"", b"__name__", b"a_total"))
    series = length_delimited(1, b"\x01\x02") + sample + length_delimited(5, b"\x08\x01")
    return first * 2, symbols + length_delimited(5, series) * 2


def _snappy(data: bytes) -> bytes:
    """A block of literals alone."""
    return varint(len(data)) + b"".join(
        bytes([(len(part) - 1) << 2]) + part for at in range(0, len(data), 60) if (part := data[at : at + 60])
    )


def _query(data: bytes) -> object:
    reader = AnswerReader(Metrics(lambda labels: 0))
    for at in range(0, len(data), 1024):
        reader.feed(data[at : at + 1024])
    answer, histograms = reader.finish(), Histograms()
    return [histograms.read(slot, written) for slot, _, written in answer.natives]


def _pods(data: bytes) -> object:
    pod = json.loads(data)
    return pod_group(pod) if isinstance(pod, dict) else None


def targets() -> list[Target]:
    """Every parser of what others send us."""
    one, two = _written()
    return [
        Target("query", _query, _QUERIES, (BadAnswer,)),
        Target("remote write 1", lambda data: ReaderV1(lambda *_: 0).read(data), (one,), (Malformed,)),
        Target("remote write 2", lambda data: ReaderV2(lambda *_: 0).read(data), (two,), (Malformed,)),
        Target("snappy", lambda data: inflate(data, 1 << 20), (_snappy(one),), (Malformed, TooLarge)),
        Target("targets", lambda data: _targets(data, "j", "here"), (_TARGETS,), (ReceiveError,)),
        Target("pods", _pods, (_POD,), (ValueError, RecursionError)),  # of json, whose caller expects them
    ]
