"""Pages over time: steady, reshuffled, expiring, restarting; equal for equal options."""

import numpy as np
import pytest

from agent.demo.mesh import Mesh, MeshOptions, Target, page_number


def by_app(mesh: Mesh, app: str) -> Target:
    return next(target for target in mesh.targets if target.labels.get("app") == app)


def order(page: bytes) -> list[bytes]:
    return [line.rpartition(b" ")[0] for line in page.splitlines() if not line.startswith(b"#")]


def test_equal_options_give_equal_pages(mesh: Mesh, origin: float) -> None:
    twin = Mesh(mesh.options)
    other = Mesh(MeshOptions(proxies=13, routes=2, seed=2, origin=origin))
    for at in (origin - 5000, origin, origin + 777):
        assert [mesh.page(t, at) for t in mesh.targets] == [twin.page(t, at) for t in twin.targets]
    assert mesh.page(mesh.targets[0], origin) != other.page(other.targets[0], origin)


def test_a_steady_page_keeps_its_lines_and_moves_its_numbers(mesh: Mesh, origin: float) -> None:
    target = mesh.targets[0]
    first, second = (mesh.page(target, origin + seconds) or b"" for seconds in (0, 10))
    assert order(first) == order(second)
    assert first != second


def test_one_page_shows_a_series_twice_with_different_values(mesh: Mesh, origin: float) -> None:
    lines = (mesh.page(mesh.targets[0], origin) or b"").splitlines()
    keys = [line.rpartition(b" ")[0] for line in lines if not line.startswith(b"#")]
    twice = {key for key in keys if keys.count(key) > 1}
    assert len(twice) == 1
    assert len({line for line in lines if line.rpartition(b" ")[0] in twice}) == 2
    other = order(mesh.page(mesh.targets[1], origin) or b"")
    assert len(set(other)) == len(other)


def test_a_birth_reshuffles_the_legacy_families_only(origin: float) -> None:
    mesh = Mesh(MeshOptions(proxies=13, routes=2, origin=origin))
    target = by_app(mesh, "nightly-report")
    before, after = None, None
    for second in range(0, 2400, 10):
        page = mesh.page(target, origin + second)
        if page is None:
            continue
        if before is not None and len(order(page)) > len(order(before)):
            after = page
            break
        before = page
    assert before is not None
    assert after is not None

    def kept(page: bytes, other: bytes, start: bytes) -> list[bytes]:
        both = set(order(page)) & set(order(other))
        return [line for line in order(page) if line in both and line.startswith(start)]

    assert kept(before, after, b"stack_") != kept(after, before, b"stack_")
    assert kept(before, after, b"process_") == kept(after, before, b"process_")


def test_idle_series_expire_and_come_back_from_zero(origin: float, read_page) -> None:
    mesh = Mesh(MeshOptions(proxies=13, routes=2, origin=origin))
    target = by_app(mesh, "nightly-report")
    seen = []
    for second in range(0, 3600, 30):
        page = read_page((mesh.page(target, origin + second) or b"").decode())
        rows = page.get("request_total").samples if page else []
        seen.append(sum(int(number) for _, labels, number in rows if dict(labels)["direction"] == "outbound"))
    born = next(at for at, number in enumerate(seen) if number)
    gone = seen.index(0, born)
    back = next(number for number in seen[gone:] if number)
    assert max(seen[born:gone]) > back > 0


def away(mesh: Mesh, target: Target, origin: float) -> list[float]:
    """The seconds after ``origin`` at which the process of a target is down."""
    seconds = np.arange(0.0, 4000.0)
    times = np.tile(origin + seconds, (len(mesh.form.traffic.processes), 1))
    up = mesh.formulas.at(times).drivers[mesh.form.traffic.resolve(("up", target.page.process))]
    return seconds[up == 0].tolist()


def test_a_restarted_proxy_is_away_for_a_moment_and_starts_again(mesh: Mesh, origin: float, read_page) -> None:
    target = mesh.targets[3]
    down = away(mesh, target, origin)
    assert 13 <= down[-1] - down[0] <= 15
    pages = [mesh.page(target, origin + second) for second in (down[0] - 5, down[0], down[-1], down[-1] + 5)]
    assert [page is None for page in pages] == [False, True, True, False]
    before, after = (
        read_page(page.decode())["process_uptime_seconds"].samples[0][2] for page in pages if page is not None
    )
    assert float(before) > 60 > 10 > float(after)


def test_just_after_a_start_families_without_a_sample_show_bare(mesh: Mesh, origin: float, read_page) -> None:
    target = mesh.targets[3]
    page = read_page((mesh.page(target, origin + away(mesh, target, origin)[-1] + 1) or b"").decode())
    assert page["control_response_total"].samples == []
    assert page["control_response_total"].meta["TYPE"] == "counter"


def test_identity_is_asked_at_the_start_and_forgotten_ten_minutes_later(mesh: Mesh, origin: float, read_page) -> None:
    target = mesh.targets[3]
    started = origin + away(mesh, target, origin)[-1] + 1
    for second, expected in ((30, True), (580, True), (620, False)):
        page = read_page((mesh.page(target, started + second) or b"").decode())
        asked = any(
            dict(labels)["addr"].startswith("linkerd-identity")
            for _, labels, _ in page["control_response_total"].samples
        )
        assert asked is expected
        assert page["control_identity_balancer_queue_requests"].samples[0][2] == "1"


@pytest.mark.parametrize(
    ("value", "decimal", "text"),
    [(5.0, False, "5"), (5.0, True, "5.0"), (1795361510.2033246, True, "1795361510.2033246"), (0.25, False, "0.25"),
     (1.0005e-05, True, "0.000010005"), (346544041.0, True, "346544041.0"), (0.0, True, "0.0")],
)  # fmt: skip
def test_numbers_on_pages(value: float, decimal: bool, text: str) -> None:
    assert page_number(value, decimal) == text
