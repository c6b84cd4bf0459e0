"""What to apply where Linkerd's own policy keeps the agent out.

linkerd-viz ships a Server for its Prometheus and lets in the ServiceAccount ``metrics-api`` alone (linkerd2,
viz/charts/linkerd-viz/templates/prometheus-policy.yaml, since 2.13). The proxy before Prometheus answers 403 to all
others, which no documentation of the export mentions.
"""

PROMETHEUS_POLICY = """\
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata:
  namespace: linkerd-viz
  name: ebbtide
spec:
  targetRef:
    group: policy.linkerd.io
    kind: Server
    name: prometheus-admin
  requiredAuthenticationRefs:
    - kind: ServiceAccount
      name: ebbtide
      namespace: ebbtide
"""


def forbidden(where: str) -> str:
    """Return the sentence for a 403 that came from a Linkerd proxy, and the policy that cures it."""
    return (
        f"cannot read {where}: 403, Linkerd's policy lets nobody but its own metrics-api in; mesh the agent "
        "(linkerd.io/inject: enabled) and apply this policy, with the name and namespace of the agent's ServiceAccount:\n"
        + PROMETHEUS_POLICY
    )


PROXY_POLICY = """\
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata:
  namespace: {namespace}
  name: ebbtide-metrics
spec:
  targetRef:
    group: policy.linkerd.io
    kind: HTTPRoute
    name: proxy-metrics
  requiredAuthenticationRefs:
    - kind: ServiceAccount
      name: ebbtide
      namespace: ebbtide
"""


def proxy_forbidden(where: str, namespace: str = "") -> str:
    """Return the sentence for a 403 from a proxy's own port in this namespace, and the policy that cures it.

    The HTTPRoute that it names is one of those that ``linkerd viz allow-scrapes`` prints (linkerd2,
    viz/cmd/allow-scrapes.go), beside the Server, and a route that keeps the kubelet's probes alive.
    """
    namespace = namespace or "NAMESPACE"
    return (
        f"cannot read {where}: 403, the proxy's policy does not let this agent in; mesh the agent "
        f"(linkerd.io/inject: enabled), run `linkerd viz allow-scrapes | kubectl apply -n {namespace} -f -` for the "
        "target's namespace, and apply this policy there, with the name and namespace of the agent's ServiceAccount:\n"
        + PROXY_POLICY.format(namespace=namespace)
    )
