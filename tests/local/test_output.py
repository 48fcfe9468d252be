"""Goal: a command that writes files at its end says so before it begins, where it will not be able to."""

import json
from pathlib import Path

import pytest

from common.core.errors import InvalidRequest
from services.local.exits import Exit
from services.local.output import check_output, check_picture, writing
from tests.local.test_cli import invoke


@pytest.fixture
def trace(tmp_path: Path) -> str:
    line = {"timestamp": 0, "input_length": 40, "output_length": 2, "hash_ids": [1]}
    file = tmp_path / "trace.jsonl"
    file.write_text(f"{json.dumps(line)}\n{json.dumps({**line, 'timestamp': 900})}\n")
    return str(file)


@pytest.mark.parametrize("command", ["simulate", "plan"])
@pytest.mark.parametrize(
    ("flag", "place", "words"),
    [
        ("--json", "none/out.json", "there is no folder"),
        ("--json", ".", "is a folder"),
        ("--plot", "none/out.png", "there is no folder"),
        ("--plot", "out.gif", "a picture ends in .png or .svg, not in '.gif'"),
    ],
)
def test_nothing_is_computed_for_a_file_that_cannot_be_written(
    trace: str, tmp_path: Path, command: str, flag: str, place: str, words: str
) -> None:
    code, text = invoke(command, "--trace", trace, flag, str(tmp_path / place))
    assert (code, words in text) == (Exit.USAGE, True), text
    assert "requests" not in text, "the study began"


def test_a_file_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _path, _mode: False)  # root may write everywhere
    with pytest.raises(InvalidRequest, match=r"out\.json may not be written"):
        check_output(tmp_path / "out.json", "--json")


def test_no_file_and_one_that_can_be_written_are_fine(tmp_path: Path) -> None:
    check_output(None, "--json")
    check_picture(None)
    check_output(tmp_path / "new.json", "--json")
    assert not list(tmp_path.iterdir()), "looking leaves nothing"


def test_a_disk_that_is_full_at_the_end_is_told() -> None:
    with pytest.raises(InvalidRequest, match="--json: /dev/full cannot be written: No space left"), writing("--json"):
        raise OSError(28, "No space left on device", "/dev/full")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--day", "nan"),
        ("--day", "inf"),
        ("--start", "-1"),
        ("--depth", "0"),
        ("--depth", "nan"),
        ("--chart", "0"),
        ("--late", "-1"),
        ("--late", "nan"),
        ("--followed", "2"),
        ("--ttft", "nan"),
        ("--itl", "-1"),
    ],
)
def test_a_number_that_says_nothing_is_wrong_usage(trace: str, flag: str, value: str) -> None:
    code, text = invoke("plan", "--trace", trace, flag, value)
    assert (code, flag in text) == (Exit.USAGE, True), text


@pytest.mark.parametrize(("flag", "value"), [("--speed", "1e300"), ("--speed", "nan"), ("--load", "1e300")])
def test_nobody_arrives_faster_than_any_clock_tells(trace: str, flag: str, value: str) -> None:
    code, text = invoke("simulate", "--trace", trace, flag, value)
    assert (code, flag in text) == (Exit.USAGE, True), text


def test_a_day_without_requests_is_refused(trace: str) -> None:
    code, text = invoke("plan", "--trace", trace, "--day", "60", "--max-prompt-tokens", "1")
    assert (code, "no prompt of it has at most 1 tokens" in text) == (Exit.USAGE, True), text
