"""What an operator is to apply must be what Linkerd's policy controller takes."""

from __future__ import annotations

import re

from receivers.policy import PROMETHEUS_POLICY, forbidden, proxy_forbidden


def paths(manifest: str) -> dict[str, str]:
    """Read the few forms of YAML that the manifest uses: nested mappings, and a list of one mapping."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in manifest.splitlines():
        match = re.fullmatch(r"( *)(- )?(\w+):(?: (\S+))?", line)
        assert match, f"not read: {line!r}"
        indent = len(match[1]) + len(match[2] or "")
        while stack and stack[-1][0] >= indent:
            stack.pop()
        stack.append((indent, match[3]))
        if match[4]:
            found[".".join(name for _, name in stack)] = match[4]
    return found


def test_the_policy_names_what_linkerd_viz_ships() -> None:
    assert paths(PROMETHEUS_POLICY) == {
        "apiVersion": "policy.linkerd.io/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata.namespace": "linkerd-viz",
        "metadata.name": "ebbtide",
        "spec.targetRef.group": "policy.linkerd.io",
        "spec.targetRef.kind": "Server",
        "spec.targetRef.name": "prometheus-admin",
        "spec.requiredAuthenticationRefs.kind": "ServiceAccount",
        "spec.requiredAuthenticationRefs.name": "ebbtide",
        "spec.requiredAuthenticationRefs.namespace": "ebbtide",
    }
    assert PROMETHEUS_POLICY.endswith("\n")
    assert "\t" not in PROMETHEUS_POLICY


def test_the_sentence_says_where_and_what_to_do_and_ends_with_the_policy() -> None:
    sentence = forbidden("http://prometheus:9090/federate")
    assert sentence.startswith("cannot read http://prometheus:9090/federate: 403")
    assert "linkerd.io/inject: enabled" in sentence
    assert sentence.endswith(":\n" + PROMETHEUS_POLICY)


def test_the_policy_for_a_proxy_stands_in_the_target_s_namespace() -> None:
    sentence = proxy_forbidden("http://10.0.0.1:4191/metrics", "shop")
    assert "linkerd viz allow-scrapes | kubectl apply -n shop -f -" in sentence
    assert paths(sentence.partition(":\n")[2]) == {
        "apiVersion": "policy.linkerd.io/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata.namespace": "shop",
        "metadata.name": "ebbtide-metrics",
        "spec.targetRef.group": "policy.linkerd.io",
        "spec.targetRef.kind": "HTTPRoute",
        "spec.targetRef.name": "proxy-metrics",
        "spec.requiredAuthenticationRefs.kind": "ServiceAccount",
        "spec.requiredAuthenticationRefs.name": "ebbtide",
        "spec.requiredAuthenticationRefs.namespace": "ebbtide",
    }
    assert "namespace: NAMESPACE" in proxy_forbidden("http://10.0.0.1:4191/metrics")
