"""What test files import from ``agent.testing`` is there, and importing it needs no pytest."""

import subprocess
import sys

import agent.testing


def test_all_names_are_there() -> None:
    assert all(hasattr(agent.testing, name) for name in agent.testing.__all__)
    assert sorted(agent.testing.__all__) == agent.testing.__all__


def test_importing_it_needs_no_pytest_and_no_hypothesis() -> None:
    program = "import sys, agent.testing; sys.exit(bool({'pytest', 'hypothesis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
