"""The public face: everything a plugin needs. Re-exports, and runs the command for ``python -m ebbtide``."""

if __name__ == "__main__":  # first: the command imports no more than it needs
    from agent.cli import main

    raise SystemExit(main())

from agent.batch import STALE_BITS, STALE_NAN, Batch, Bools, Floats, Ints, Row, stale_mask
from agent.credentials import read_secret
from agent.folded import FoldedLog
from agent.heap import settle
from agent.http import USER_AGENT, Answer, Client, Fault, Response, deadline, safe_url
from agent.http_fault import certificate_cure
from agent.http_kept import KeptGet
from agent.httpserver import Limits as HttpLimits
from agent.httpserver import Request as HttpRequest
from agent.httpserver import Response as HttpAnswer
from agent.httpserver import serve_listeners
from agent.identity import (
    AGENT_SCOPE,
    EMPTY_RESOURCE,
    OWN_LABELS,
    AttributeValue,
    Family,
    Kind,
    Labels,
    Owner,
    Resource,
    Scope,
    Target,
    flatten,
    join_own,
    pairs,
    split_own,
)
from agent.kubernetes.address import is_address, split_address
from agent.kubernetes.api import Api, ApiFault, ApiResource
from agent.kubernetes.extra import check_kubeconfig, need_kubernetes
from agent.kubernetes.watching import Watch
from agent.ledger import ExporterCounts, ProcessorCounts, ReceiverCounts
from agent.listening import (
    CannotListen,
    ServerTls,
    close_listeners,
    open_listeners,
    port_of,
    server_context,
    share_listeners,
)
from agent.native import (
    CUSTOM_BUCKETS,
    MAX_BUCKETS,
    Buckets,
    Exemplar,
    Extra,
    NativeHistogram,
    index_limits,
    sparse,
    upper_bound,
)
from agent.parts import Part, number_of, part_of
from agent.plugin import (
    ClosedOutput,
    ConfigError,
    Context,
    Emit,
    Exporter,
    Partly,
    Payload,
    Processor,
    ReceiveError,
    Receiver,
    Rejected,
    Retry,
    RowProcessor,
    SeriesProcessor,
    TooLarge,
    ValueProcessor,
)
from agent.proxy import ProxyError, proxy_of
from agent.recording import Recording
from agent.relabelling import Draft, Relabelling, RelabelRule
from agent.selectors import SERIES_NAME, Matcher, Selector, SelectorError, parse_selector
from agent.series import Series, SeriesTable
from agent.settings import (
    LOOPBACK,
    BasicAuth,
    ClusterSettings,
    Duration,
    OptionError,
    PositiveDuration,
    PositiveSize,
    Secret,
    ServerUrl,
    Settings,
    Size,
    Tls,
    option,
    parse_address,
)
from agent.tls import client_context, file_stamp, files_stamp, reason
from agent.tracing import span, traceparent

__all__ = [
    "AGENT_SCOPE",
    "CUSTOM_BUCKETS",
    "EMPTY_RESOURCE",
    "LOOPBACK",
    "MAX_BUCKETS",
    "OWN_LABELS",
    "SERIES_NAME",
    "STALE_BITS",
    "STALE_NAN",
    "USER_AGENT",
    "Answer",
    "Api",
    "ApiFault",
    "ApiResource",
    "AttributeValue",
    "BasicAuth",
    "Batch",
    "Bools",
    "Buckets",
    "CannotListen",
    "Client",
    "ClosedOutput",
    "ClusterSettings",
    "ConfigError",
    "Context",
    "Draft",
    "Duration",
    "Emit",
    "Exemplar",
    "Exporter",
    "ExporterCounts",
    "Extra",
    "Family",
    "Fault",
    "Floats",
    "FoldedLog",
    "HttpAnswer",
    "HttpLimits",
    "HttpRequest",
    "Ints",
    "KeptGet",
    "Kind",
    "Labels",
    "Matcher",
    "NativeHistogram",
    "OptionError",
    "Owner",
    "Part",
    "Partly",
    "Payload",
    "PositiveDuration",
    "PositiveSize",
    "Processor",
    "ProcessorCounts",
    "ProxyError",
    "ReceiveError",
    "Receiver",
    "ReceiverCounts",
    "Recording",
    "Rejected",
    "RelabelRule",
    "Relabelling",
    "Resource",
    "Response",
    "Retry",
    "Row",
    "RowProcessor",
    "Scope",
    "Secret",
    "Selector",
    "SelectorError",
    "Series",
    "SeriesProcessor",
    "SeriesTable",
    "ServerTls",
    "ServerUrl",
    "Settings",
    "Size",
    "Target",
    "Tls",
    "TooLarge",
    "ValueProcessor",
    "Watch",
    "certificate_cure",
    "check_kubeconfig",
    "client_context",
    "close_listeners",
    "deadline",
    "file_stamp",
    "files_stamp",
    "flatten",
    "index_limits",
    "is_address",
    "join_own",
    "need_kubernetes",
    "number_of",
    "open_listeners",
    "option",
    "pairs",
    "parse_address",
    "parse_selector",
    "part_of",
    "port_of",
    "proxy_of",
    "read_secret",
    "reason",
    "safe_url",
    "serve_listeners",
    "server_context",
    "settle",
    "share_listeners",
    "span",
    "sparse",
    "split_address",
    "split_own",
    "stale_mask",
    "traceparent",
    "upper_bound",
]
