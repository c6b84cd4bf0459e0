"""The public face: everything a plugin needs. Re-exports, and runs the command for ``python -m ebbtide``."""

from agent.batch import STALE_NAN, Batch, Bools, Floats, Ints, Row, stale_mask
from agent.http import USER_AGENT, Answer, Client, Fault, Response, deadline, safe_url
from agent.ledger import ExporterCounts, ProcessorCounts, ReceiverCounts
from agent.parts import Part, part_of
from agent.plugin import (
    ClosedOutput,
    ConfigError,
    Context,
    Emit,
    Exporter,
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
from agent.series import (
    AGENT_SCOPE,
    EMPTY_RESOURCE,
    AttributeValue,
    Family,
    Kind,
    Owner,
    Resource,
    Scope,
    Series,
    SeriesTable,
    Target,
)
from agent.settings import BasicAuth, Duration, Secret, Settings, Size, Tls, option
from agent.tls import files_stamp, reason

__all__ = [
    "AGENT_SCOPE",
    "EMPTY_RESOURCE",
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
    "Duration",
    "Emit",
    "Exporter",
    "ExporterCounts",
    "Family",
    "Fault",
    "Floats",
    "Ints",
    "Kind",
    "Owner",
    "Part",
    "Payload",
    "Processor",
    "ProcessorCounts",
    "ReceiveError",
    "Receiver",
    "ReceiverCounts",
    "Rejected",
    "Resource",
    "Response",
    "Retry",
    "Row",
    "RowProcessor",
    "Scope",
    "Secret",
    "Series",
    "SeriesProcessor",
    "SeriesTable",
    "Settings",
    "Size",
    "Target",
    "Tls",
    "TooLarge",
    "ValueProcessor",
    "deadline",
    "files_stamp",
    "option",
    "part_of",
    "reason",
    "safe_url",
    "stale_mask",
]

if __name__ == "__main__":
    from agent.cli import main

    raise SystemExit(main())
