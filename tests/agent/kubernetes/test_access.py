"""Which cluster, and as whom: options, environment, the pod's own service account."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.http_fault import Fault
from agent.kubernetes.access import PemInMemory, Standing, find_access
from tests.clusters import kubeconfig

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.43.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("first\n")
    (folder / "ca.crt").write_text("an authority")
    (folder / "namespace").write_text("ebbtide")
    return folder


def written(path: Path, server: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kubeconfig({"server": server}, {})))
    return str(path)


async def test_the_service_account(account: Path):
    access = find_access(environ=IN_POD, account=account)
    assert access.server == "https://10.43.0.1:6443"
    assert access.namespace == "ebbtide"
    assert access.tls.ca_file == str(account / "ca.crt")
    assert (await access.credentials()).authorization == "Bearer first"
    (account / "next").write_text("second, which is longer")
    (account / "next").rename(account / "token")
    assert (await access.credentials()).authorization == "Bearer second, which is longer"
    assert not access.credentials.refused()


async def test_a_token_that_is_gone(account: Path):
    access = find_access(environ=IN_POD, account=account)
    (account / "token").unlink()
    with pytest.raises(Fault, match="cannot read `the service account's token`"):
        await access.credentials()


def test_an_ipv6_address_and_a_bare_account(account: Path):
    (account / "ca.crt").unlink()
    (account / "namespace").unlink()
    access = find_access(environ={"KUBERNETES_SERVICE_HOST": "fd00::1"}, account=account)
    assert (access.server, access.tls.ca_file, access.namespace) == ("https://[fd00::1]:443", None, "default")


@pytest.mark.parametrize(
    ("present", "options", "server"),
    [
        (("option", "env", "pod", "home"), {"kubeconfig": "option"}, "https://option"),
        (("env", "pod", "home"), {}, "https://env"),
        (("pod", "home"), {}, "https://10.43.0.1:6443"),
        (("pod", "home"), {"context": "north"}, "https://home"),
        (("home",), {}, "https://home"),
    ],
)
def test_which_is_taken(tmp_path: Path, account: Path, present, options, server):
    environ = {"HOME": str(tmp_path)}
    if "home" in present:
        written(tmp_path / ".kube" / "config", "https://home")
    if "env" in present:
        environ["KUBECONFIG"] = f"{tmp_path / 'missing'}:{written(tmp_path / 'env', 'https://env')}"
    if "pod" in present:
        environ |= IN_POD
    if "option" in present:
        options = {"kubeconfig": written(tmp_path / "option", "https://option")}
    assert find_access(**options, environ=environ, account=account).server == server


def test_none(tmp_path: Path):
    with pytest.raises(Fault, match=r"cannot find a Kubernetes cluster: .*; set `kubeconfig`") as caught:
        find_access(environ={"HOME": str(tmp_path)}, account=tmp_path)
    assert caught.value.kind == "credentials"


def test_an_access_is_outdated_when_its_file_changes(tmp_path: Path):
    path = Path(written(tmp_path / "config", "https://one"))
    access = find_access(str(path), environ={})
    assert not access.outdated()
    path.write_text("changed")
    assert access.outdated()


def test_pem_in_memory():
    pem = PemInMemory(b"text")
    assert Path(pem.path).read_bytes() == b"text"
    path = pem.path
    del pem
    assert not Path(path).exists() or Path(path).read_bytes() != b"text"


async def test_no_credentials():
    assert (await Standing()()).authorization == ""
