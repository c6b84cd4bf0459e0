"""A whole page of a proxy, beside recorded pages of a real one."""

import io
import tarfile
from pathlib import Path

import pytest

from agent.demo.mesh import Mesh

RECORDED = ("via_prometheus/page_A.prom", "via_prometheus/page_B.prom")

# Label names that no recorded proxy showed, and why the demo does.
JUSTIFIED = {
    "dst_statefulset": "the recording's only StatefulSet was not meshed; here one is, hence server_id beside it",
}


def recorded(vectors: Path, read_page) -> dict[str, tuple[dict[str, str], set[tuple[str, tuple[str, ...]]]]]:
    """Families of the recorded pages: their # lines, and every (sample name, label names in order) seen."""
    families: dict[str, tuple[dict[str, str], set[tuple[str, tuple[str, ...]]]]] = {}
    for name in RECORDED:
        archive = vectors / "linkerd_proxy_recorded" / f"{name.partition('/')[0]}.tar.xz"
        with tarfile.open(archive) as tar:
            member = next(member for member in tar if member.name.endswith(name))
            _join(families, read_page((tar.extractfile(member) or io.BytesIO()).read().decode()))
    with tarfile.open(vectors / "linkerd_proxy_recorded" / "startup_A.tar.xz") as tar:
        for member in tar:
            if member.name.endswith(("0004.prom", "0044.prom")):
                _join(families, read_page((tar.extractfile(member) or io.BytesIO()).read().decode()))
    return families


def _join(families, page) -> None:
    for name, family in page.items():
        _, shapes = families.setdefault(name, (family.meta, set()))
        shapes |= {(sample, tuple(key for key, _ in labels)) for sample, labels, _ in family.samples}


@pytest.fixture(scope="module")
def pages(mesh: Mesh, origin: float, read_page):
    texts = [mesh.page(target, origin + 6000) for target in mesh.targets if target.openmetrics_tail]
    joined: dict = {}
    for text in texts:
        if text is not None:
            _join(joined, read_page(text.decode()))
    return joined


def test_families_kinds_helps_and_units_are_those_of_the_real_proxy(vectors: Path, read_page, pages) -> None:
    real = recorded(vectors, read_page)
    # Identity is asked so seldom, and a mesh at rest refuses so little, that some are recorded in longer runs only.
    only_here = {"inbound_http_local_ratelimit_total"}
    assert set(real) - set(pages) == set()
    assert set(pages) - set(real) == only_here
    assert {name: meta for name, (meta, _) in pages.items() if name in real} == {
        name: meta for name, (meta, _) in real.items()
    }


def test_label_names_and_their_order_are_those_of_the_real_proxy(vectors: Path, read_page, pages) -> None:
    real = recorded(vectors, read_page)
    new = {shape for name, (_, shapes) in pages.items() if name in real for shape in shapes - real[name][1]}
    assert {shape for shape in new if not JUSTIFIED.keys() & set(shape[1])} == set()


def test_the_page_is_a_hybrid(mesh: Mesh, origin: float) -> None:
    lines = (mesh.page(mesh.targets[0], origin) or b"").decode().splitlines()
    assert lines[-1] == "# EOF"
    assert "# TYPE request_total counter" in lines
    assert "# TYPE process_cpu_seconds counter" in lines
    assert "# UNIT process_cpu_seconds seconds" in lines
    assert lines.index("# TYPE stack_poll_total_ms counter") < lines.index("# TYPE proxy_build_info gauge")
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)


def test_numbers_look_like_the_proxys(mesh: Mesh, origin: float, read_page) -> None:
    page = read_page((mesh.page(mesh.targets[0], origin) or b"").decode())
    text = {sample: number for family in page.values() for sample, _, number in family.samples}
    assert text["response_latency_ms_sum"].isdigit()
    assert text["process_clock_time_seconds"] == "1800000000.0"
    assert text["process_network_receive_bytes_total"].endswith(".0")
    assert text["outbound_http_balancer_queue_gate_timeout_seconds"] == "3.0"
    assert not any("e" in number for number in text.values())


def test_empty_labels_are_there(mesh: Mesh, origin: float) -> None:
    text = (mesh.page(mesh.targets[0], origin) or b"").decode()
    for label in ("grpc_status", "hostname", "errno", "parent_section_name", "vendor", "error"):
        assert f'{label}=""' in text
