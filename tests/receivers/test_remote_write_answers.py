"""What is answered, by the specifications of remote write."""

from __future__ import annotations

import numpy as np
import pytest

from ebbtide import Exemplar, HttpRequest
from receivers import remote_write_answers as answers
from receivers.remote_write_samples import Decoded


def request(content_type: str = "", encoding: str = "snappy", path: str = "/w", method: str = "POST") -> HttpRequest:
    headers = [("content-encoding", encoding)] + ([("content-type", content_type)] if content_type else [])
    return HttpRequest(method, path, [], headers)


def decoded(refused: int = 0, reasons: tuple[str, ...] = ()) -> Decoded:
    empty = np.zeros(3, np.int64)
    exemplars = [(0, Exemplar((), 1.0, 0))]
    return Decoded(
        empty.astype(np.int32), np.zeros(3), empty, empty,
        exemplars=exemplars, histograms=1, refused=refused, reasons=list(reasons),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "version"),
    [
        ("", 1),
        ("application/x-protobuf", 1),
        ("application/x-protobuf;proto=prometheus.WriteRequest", 1),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", 2),
        ('Application/X-Protobuf ; charset=x; PROTO="io.prometheus.write.v2.Request"', 2),
    ],
)
def test_the_content_type_names_the_version(content_type: str, version: int) -> None:
    assert answers.version_of(request(content_type)) == version


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-protobuf;proto=other.Message", "x"]
)
def test_other_content_types_are_unacceptable(content_type: str) -> None:
    with pytest.raises(answers.Unacceptable, match="send "):
        answers.version_of(request(content_type))


def test_only_snappy_is_acceptable() -> None:
    answers.check_encoding(request(encoding="Snappy"))
    answers.check_encoding(request(encoding=""))
    for encoding in ("gzip", "zstd", "identity"):
        with pytest.raises(answers.Unacceptable, match="send snappy"):
            answers.check_encoding(request(encoding=encoding))


WRITTEN = (
    ("X-Prometheus-Remote-Write-Samples-Written", "2"),
    ("X-Prometheus-Remote-Write-Histograms-Written", "1"),
    ("X-Prometheus-Remote-Write-Exemplars-Written", "1"),
)


def test_what_is_taken_is_204_and_counted_in_2_0() -> None:
    answer = answers.taken(2, decoded())
    assert (answer.status, answer.body, answer.headers) == (204, b"", WRITTEN)
    assert answers.taken(1, decoded()).headers == ()


def test_what_is_taken_in_part_is_400_with_the_reasons() -> None:
    answer = answers.taken(2, decoded(5, ("one", "two", "one")))
    assert (answer.status, answer.headers) == (400, WRITTEN)
    assert answer.body == b"5 samples are refused, all others taken: one; two; 2 more\n"


def test_what_is_refused_has_written_nothing() -> None:
    answer = answers.refused(2, 413, "x" * 9999)
    assert (answer.status, len(answer.body)) == (413, answers.MAX_REASON + 1)
    assert {value for _, value in answer.headers} == {"0"}
    assert answers.refused(1, 400, "why").headers == ()


def test_what_should_come_again_is_503_with_the_time() -> None:
    answer = answers.later(5, "full")
    assert (answer.status, answer.headers) == (503, (("Retry-After", "5"),))


def test_who_is_not_let_in_is_told_how() -> None:
    assert answers.unauthorized("Bearer").headers == (("WWW-Authenticate", 'Bearer realm="ebbtide"'),)


@pytest.mark.parametrize(("path", "method", "status"), [("/x", "POST", 404), ("/w", "GET", 405), ("/w", "POST", 0)])
def test_other_paths_and_methods(path: str, method: str, status: int) -> None:
    answer = answers.not_here(request(path=path, method=method), "/w")
    assert (answer.status if answer else 0) == status
