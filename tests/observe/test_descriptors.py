"""A process takes as many open files as it may have, whatever its shell began with."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from common.observe.descriptors import num_descriptors, take_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
take_descriptors()
print(num_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""


@pytest.mark.parametrize(("soft", "hard", "has"), [(64, 900, 900), (900, 900, 900), (64, 64, 64)])
def test_the_soft_limit_becomes_the_hard_one(soft: int, hard: int, has: int) -> None:
    """In a process of its own: a limit that was lowered stays low."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == [str(has), str(hard)]
