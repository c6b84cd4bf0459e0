"""For the tests of plugins: the conformance kit that every built-in runs and a stranger's plugin can run, and its tools.

One line in a test file is enough::

    from agent.testing import conformance
    from my_package import MyProcessor

    test_my_processor = conformance(MyProcessor)

It needs pytest and nothing else that the agent does not need itself. docs/plugins.md says what is promised.
"""

from agent.testing.batches import batches
from agent.testing.candidate import Candidate, Mood, Nonconformance, NotApplicable, Peer
from agent.testing.judge import comparable, reference_request
from agent.testing.kit import Promise, conformance, promises_of, shortcomings

__all__ = [
    "Candidate",
    "Mood",
    "Nonconformance",
    "NotApplicable",
    "Peer",
    "Promise",
    "batches",
    "comparable",
    "conformance",
    "promises_of",
    "reference_request",
    "shortcomings",
]
