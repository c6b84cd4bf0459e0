"""The shop and its pods."""

from agent.demo.shop import SERVICES, make_pods


def test_the_default_mesh_has_several_namespaces_a_replica_and_every_kind_of_owner() -> None:
    meshed = [pod for pod in make_pods(12) if pod.service.meshed]
    assert len(meshed) == 12
    assert len({pod.namespace for pod in meshed}) >= 5
    assert {pod.service.owner for pod in meshed} == {"deployment", "statefulset", "daemonset", "cronjob", "k8s_job"}
    assert len({pod.service.name for pod in meshed}) < len(meshed)


def test_names_and_addresses_are_unique_and_follow_from_the_seed() -> None:
    pods = make_pods(300, seed=5)
    assert len({pod.name for pod in pods}) == len({pod.ip for pod in pods}) == len(pods)
    assert pods == make_pods(300, seed=5)
    assert pods != make_pods(300, seed=6)


def test_calls_go_to_services_that_exist() -> None:
    names = {service.name for service in SERVICES}
    assert all(set(service.calls) <= names for service in SERVICES)


def test_routes_are_as_many_as_asked_for_and_all_different() -> None:
    for service in SERVICES:
        for count in (0, 1, 3, 10):
            assert len(set(service.routes(count))) == count


def test_port_80_is_left_out_of_the_authority() -> None:
    authorities = {service.name: service.authority for service in SERVICES}
    assert authorities["cart"] == "cart.shop.svc.cluster.local"
    assert authorities["payment"] == "payment.payments.svc.cluster.local:9000"
