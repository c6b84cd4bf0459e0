"""The manifests are what Kubernetes and Linkerd take, keep to "restricted", and fit the agent that they run."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli
import yaml

from agent.admin import Admin
from agent.config import load
from agent.ledger import Ledger
from tests.deploy.tools import DEPLOY, ROOT, output, program

HERE = Path(__file__).parent
BASE = DEPLOY / "kubernetes/base"
EXAMPLE = DEPLOY / "kubernetes/example"
SCHEMAS = [json.loads((HERE / f"{name}.schema.json").read_text()) for name in ("kubernetes", "linkerd")]

Manifest = dict[str, Any]


def manifests(text: str) -> Iterator[Manifest]:
    yield from filter(None, yaml.safe_load_all(text))


def built(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = program("kubectl", "kubernetes-client")
    done = output(kubectl, "kustomize", folder)
    if (
        done.returncode
        and folder != BASE
        and '"GitVersion": "v1.20.' in output(kubectl, "version", "--client", "-o", "json").stdout
    ):
        pytest.skip("kubectl 1.20 has a kustomize that knows no folders among the resources: 1.21 is needed")
    assert done.returncode == 0, done.stderr
    return list(manifests(done.stdout))


def check(manifest: Manifest) -> None:
    """Check a manifest against its kind's schema; raises ValidationError."""
    schema = next((one for one in SCHEMAS if manifest.get("kind") in one["$defs"]), None)
    assert schema is not None, f"no schema for {manifest.get('kind')}"
    jsonschema.validate(manifest, {**schema, "$ref": f"#/$defs/{manifest['kind']}"})


def written() -> list[Manifest]:
    files = [path for path in sorted(BASE.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [manifest for path in files for manifest in manifests(path.read_text(encoding="utf-8"))]


WRITTEN = written()
(DEPLOYMENT,) = (one for one in WRITTEN if one["kind"] == "Deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("manifest", WRITTEN, ids=lambda one: one["kind"])
def test_every_manifest_answers_its_schema(manifest: Manifest) -> None:
    check(manifest)


def spoil_key(pod: Manifest) -> None:
    pod["containers"][0]["readynessProbe"] = {}


def spoil_word(pod: Manifest) -> None:
    pod["containers"][0]["imagePullPolicy"] = "Sometimes"


def spoil_type(pod: Manifest) -> None:
    pod["terminationGracePeriodSeconds"] = "45"


def spoil_need(pod: Manifest) -> None:
    del pod["containers"][0]["name"]


@pytest.mark.parametrize("spoil", [spoil_key, spoil_word, spoil_type, spoil_need])
def test_the_schema_refuses_what_kubernetes_would(spoil: Callable[[Manifest], None]) -> None:
    spoiled = copy.deepcopy(DEPLOYMENT)
    spoil(spoiled["spec"]["template"]["spec"])
    with pytest.raises(jsonschema.ValidationError):
        check(spoiled)


def test_the_base_lists_all_that_is_there() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: folder.name)
def test_kustomize_builds_manifests_that_answer_their_schemas(folder: Path) -> None:
    found = {manifest["kind"]: manifest for manifest in built(folder)}
    secret = found.pop("Secret", None)
    for manifest in found.values():
        check(manifest)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert (
        volumes["config"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"] != "ebbtide"
    )  # with its hash
    assert found["ConfigMap"]["data"]["agent.toml"] == (folder / "agent.toml").read_text()
    if secret:
        assert volumes["secrets"]["secret"]["secretName"] == secret["metadata"]["name"]
    places = {
        manifest["metadata"].get("namespace") for kind, manifest in found.items() if kind != "AuthorizationPolicy"
    }
    assert places == {None, "ebbtide"}
    assert found["AuthorizationPolicy"]["metadata"]["namespace"] == "linkerd-viz"
    assert re.fullmatch(r"\S*ebbtide:[\d.]+", pod["containers"][0]["image"])


def test_the_image_is_the_one_of_this_version() -> None:
    version = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for folder in (BASE, EXAMPLE):
        (image,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
        assert image["name"] == CONTAINER["image"]
        assert image["newTag"] == version


def test_the_pod_is_restricted() -> None:
    """The Pod Security Standard "restricted" (kubernetes.io, Pod Security Standards), and a root that is only read."""
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(POD)
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] > 0
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    closed = CONTAINER["securityContext"]
    assert closed["allowPrivilegeEscalation"] is False
    assert closed["privileged"] is False
    assert closed["capabilities"] == {"drop": ["ALL"]}
    assert closed["readOnlyRootFilesystem"] is True
    assert not any("hostPort" in port for port in CONTAINER["ports"])
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert all(set(volume) - {"name"} <= allowed for volume in POD["volumes"])


def test_the_pod_may_do_nothing_in_the_cluster_and_is_known_to_linkerd() -> None:
    found = {manifest["kind"]: manifest for manifest in WRITTEN}
    account = found["ServiceAccount"]["metadata"]
    assert POD["serviceAccountName"] == account["name"]
    assert found["AuthorizationPolicy"]["spec"]["requiredAuthenticationRefs"] == [{"kind": "ServiceAccount", **account}]
    assert found["ServiceAccount"]["automountServiceAccountToken"] is False
    assert POD["automountServiceAccountToken"] is False
    assert DEPLOYMENT["spec"]["template"]["metadata"]["annotations"]["linkerd.io/inject"] == "enabled"


def test_there_is_one_agent_at_a_time() -> None:
    assert DEPLOYMENT["spec"]["replicas"] == 1
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe", "startupProbe"])
@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: folder.name)
def test_probes_reach_a_port_that_answers(probe: str, folder: Path) -> None:
    asked = CONTAINER[probe]["httpGet"]
    assert asked["path"] in Admin(Ledger(), lambda: True, str)._answers
    (port,) = (port["containerPort"] for port in CONTAINER["ports"] if port["name"] == asked["port"])
    document = tomli.loads((folder / "agent.toml").read_text())
    assert document["agent"]["admin"] == f"0.0.0.0:{port}"


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: folder.name)
def test_the_file_loads_and_the_pod_waits_for_its_end(folder: Path, tmp_path: Path) -> None:
    text = (folder / "agent.toml").read_text()
    names = re.findall(r"\$\{file:/run/secrets/ebbtide/([\w-]+)\}", re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    for name in names:
        (tmp_path / name).write_text("s3cr3t\n")
    (tmp_path / "agent.toml").write_text(text.replace("/run/secrets/ebbtide", str(tmp_path)))
    config = load(tmp_path / "agent.toml", {})
    assert config.warnings == []
    config.try_out()
    assert POD["terminationGracePeriodSeconds"] > config.agent.shutdown_timeout + 10
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert mounts == {"config": "/etc/ebbtide", "secrets": "/run/secrets/ebbtide"}
    assert CONTAINER["args"] == ["run", "/etc/ebbtide/agent.toml"]
