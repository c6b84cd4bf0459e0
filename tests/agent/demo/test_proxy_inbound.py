"""The inbound half of a page."""

from agent.demo.mesh import Mesh


def samples(mesh: Mesh, read_page, service: str, at: float, family: str) -> list[dict[str, str]]:
    target = next(target for target in mesh.targets if target.labels.get("app") == service)
    page = read_page((mesh.page(target, at) or b"").decode())
    return [{"value": number, **dict(labels)} for _, labels, number in page[family].samples]


def test_clients_are_told_apart_by_their_identity(mesh: Mesh, origin: float, read_page) -> None:
    found = samples(mesh, read_page, "catalog", origin, "request_total")
    clients = {item.get("client_id", "").partition(".")[0] for item in found if item["target_port"] == "80"}
    assert {"web", "recommendation"} <= clients


def test_grpc_fails_behind_a_status_200(mesh: Mesh, origin: float, read_page) -> None:
    found = samples(mesh, read_page, "payment", origin, "response_total")
    served = [item for item in found if item["target_port"] == "9000"]
    assert {(item["status_code"], item["classification"], item["grpc_status"]) for item in served} == {
        ("200", "success", "0"),
        ("200", "failure", "14"),
    }


def test_answers_are_as_many_as_requests(mesh: Mesh, origin: float, read_page) -> None:
    requests = samples(mesh, read_page, "checkout", origin, "request_total")
    answers = samples(mesh, read_page, "checkout", origin, "response_total")
    for route in ("checkout-orders", "checkout-vouchers"):
        asked = sum(int(item["value"]) for item in requests if item.get("route_name") == route)
        answered = sum(int(item["value"]) for item in answers if item.get("route_name") == route)
        assert asked == answered > 0


def test_the_admin_port_counts_its_own_scrapes(mesh: Mesh, origin: float, read_page) -> None:
    found = samples(mesh, read_page, "cart", origin, "request_total")
    assert any(item["target_addr"] == "0.0.0.0:4191" and int(item["value"]) > 0 for item in found)
