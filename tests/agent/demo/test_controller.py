"""The control plane's pages."""

from agent.demo.controller import COMPONENTS, CONTROLLER_FAMILIES
from agent.demo.mesh import Mesh


def test_a_go_page_is_plain_text_with_a_summary(mesh: Mesh, origin: float, read_page) -> None:
    target = next(target for target in mesh.targets if target.name == "identity")
    text = (mesh.page(target, origin) or b"").decode()
    assert "# EOF" not in text
    assert "# UNIT" not in text
    family = read_page(text)["go_gc_duration_seconds"]
    assert family.meta["TYPE"] == "summary"
    assert [(name, dict(labels).get("quantile")) for name, labels, _ in family.samples] == [
        *(("go_gc_duration_seconds", quantile) for quantile in ("0", "0.25", "0.5", "0.75", "1")),
        ("go_gc_duration_seconds_sum", None),
        ("go_gc_duration_seconds_count", None),
    ]


def test_quantiles_rise(mesh: Mesh, origin: float, read_page) -> None:
    target = next(target for target in mesh.targets if target.name == "destination")
    samples = read_page((mesh.page(target, origin) or b"").decode())["go_gc_duration_seconds"].samples
    quantiles = [float(number) for _, _, number in samples[:5]]
    assert quantiles == sorted(quantiles)


def test_every_component_has_its_own_address_and_every_family_a_help() -> None:
    assert len({component.instance for component in COMPONENTS}) == len(COMPONENTS)
    assert all(family.help for family in CONTROLLER_FAMILIES.values())
