"""How a process ends."""

import subprocess
import sys
from pathlib import Path

from common.observe.entry import EXIT_FAILED

ENDING = """
import atexit, sys
from common.observe.entry import leave
atexit.register(print, "taken apart")
sys.stdout.write("last words")
leave({status})
"""


def test_a_process_leaves_with_its_status_and_its_last_words_and_is_not_taken_apart() -> None:
    command = [sys.executable, "-c", ENDING.format(status=EXIT_FAILED)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (EXIT_FAILED, "last words"), ended.stderr


def test_a_full_disk_changes_no_status() -> None:
    """Without what the environment says of buffers: the words are in one when the process leaves."""
    command = [sys.executable, "-E", "-c", ENDING.format(status=EXIT_FAILED)]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(command, stdout=full, stderr=full, timeout=60, check=False).returncode == EXIT_FAILED
