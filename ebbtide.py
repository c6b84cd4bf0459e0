"""The public face: everything a plugin needs. Re-exports, and runs the command for ``python -m ebbtide``."""

if __name__ == "__main__":  # first: the command imports no more than it needs
    from agent.cli import main

    raise SystemExit(main())

from agent.batch import STALE_NAN, Batch, Bools, Floats, Ints, Row, stale_mask
from agent.credentials import read_secret
from agent.folded import FoldedLog
from agent.heap import settle
from agent.http import USER_AGENT, Answer, Client, Fault, Response, deadline, safe_url
from agent.http_fault import certificate_cure
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
from agent.ledger import ExporterCounts, ProcessorCounts, ReceiverCounts
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
    BasicAuth,
    Duration,
    OptionError,
    PositiveDuration,
    PositiveSize,
    Secret,
    Settings,
    Size,
    Tls,
    option,
)
from agent.tls import client_context, file_stamp, files_stamp, reason
from agent.tracing import span, traceparent

__all__ = [
    "AGENT_SCOPE",
    "EMPTY_RESOURCE",
    "OWN_LABELS",
    "SERIES_NAME",
    "STALE_NAN",
    "USER_AGENT",
    "Answer",
    "AttributeValue",
    "BasicAuth",
    "Batch",
    "Bools",
    "Client",
    "ClosedOutput",
    "ConfigError",
    "Context",
    "Draft",
    "Duration",
    "Emit",
    "Exporter",
    "ExporterCounts",
    "Family",
    "Fault",
    "Floats",
    "FoldedLog",
    "Ints",
    "Kind",
    "Labels",
    "Matcher",
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
    "Settings",
    "Size",
    "Target",
    "Tls",
    "TooLarge",
    "ValueProcessor",
    "certificate_cure",
    "client_context",
    "deadline",
    "file_stamp",
    "files_stamp",
    "flatten",
    "join_own",
    "number_of",
    "option",
    "pairs",
    "parse_selector",
    "part_of",
    "proxy_of",
    "read_secret",
    "reason",
    "safe_url",
    "settle",
    "span",
    "split_own",
    "stale_mask",
    "traceparent",
]
