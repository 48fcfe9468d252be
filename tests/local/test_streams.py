"""Whatever the standard streams are, a command ends in order: no traceback, and nothing written into another's file."""

import errno
import subprocess

import pytest

from services.local.exits import Exit
from services.local.streams import why_unwritable
from tests.local.shell import BATON

PRINT = " ".join([*BATON, "config", "--print"])


def shell(command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=60, check=False)


def test_a_full_disk_is_told_in_one_line() -> None:
    ended = shell(f"{PRINT} > /dev/full")
    assert ended.returncode == Exit.FAILED
    assert ended.stderr.decode() == "baton: the output cannot be written: No space left on device\n"


def test_a_command_runs_without_any_stream() -> None:
    assert shell(f"{PRINT} <&- >&- 2>&-").returncode == Exit.OK


def test_an_encoding_that_cannot_spell_a_text_gets_question_marks() -> None:
    ended = shell(f"BATON_CLUSTER__NAME=x PYTHONIOENCODING=ascii {PRINT} --set local.run_dir=/tmp/\u017elu\u0165")
    assert ended.returncode == Exit.OK, ended.stderr
    assert b"/tmp/?lu?" in ended.stdout


def full(**more: str) -> OSError:
    error = OSError(errno.ENOSPC, "No space left on device")
    error.filename = more.get("filename")
    return error


@pytest.mark.parametrize(
    ("error", "is_output"),
    [
        (full(), True),
        (ExceptionGroup("tasks", [full(), ExceptionGroup("more", [full()])]), True),
        (ExceptionGroup("tasks", [full(), ValueError("a bug")]), False),
        (full(filename="results.json"), False),
        (OSError(errno.ENOMEM, "no memory"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_what_the_output_is_at_fault_for_is_told_so(error: BaseException, is_output: bool) -> None:
    assert bool(why_unwritable(error)) is is_output
