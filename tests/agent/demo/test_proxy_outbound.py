"""The outbound half of a page."""

import pytest

from agent.demo.mesh import Mesh, MeshOptions


def labels_of(mesh: Mesh, read_page, service: str, at: float, family: str) -> list[dict[str, str]]:
    target = next(target for target in mesh.targets if target.labels.get("app") == service)
    page = read_page((mesh.page(target, at) or b"").decode())
    return [dict(labels) for _, labels, _ in page[family].samples]


def test_destinations_carry_their_workload(mesh: Mesh, origin: float, read_page) -> None:
    found = labels_of(mesh, read_page, "checkout", origin, "request_total")
    outbound = [item for item in found if item["direction"] == "outbound"]
    assert {item["dst_service"] for item in outbound} == {"cart", "payment", "shipping"}
    assert all(item["dst_deployment"] == item["dst_service"] and item["tls"] == "true" for item in outbound)


def test_unmeshed_destinations_have_no_identity(mesh: Mesh, origin: float, read_page) -> None:
    found = labels_of(mesh, read_page, "web", origin, "request_total")
    search = next(item for item in found if item.get("dst_service") == "search")
    assert (search["tls"], search["no_tls_reason"]) == ("no_identity", "not_provided_by_service_discovery")
    assert "server_id" not in search


def test_only_the_profiled_service_has_profile_routes(mesh: Mesh, origin: float, read_page) -> None:
    found = labels_of(mesh, read_page, "web", origin, "route_request_total")
    assert {item["dst"] for item in found} == {"catalog.shop.svc.cluster.local:80"}
    assert [item for item in found if "rt_route" not in item]


@pytest.mark.parametrize("routes", [0, 1, 10])
def test_any_number_of_routes_gives_good_pages(routes: int, origin: float, read_page) -> None:
    mesh = Mesh(MeshOptions(proxies=13, routes=routes, origin=origin))
    for target in mesh.targets:
        assert read_page((mesh.page(target, origin + 100) or b"").decode())
