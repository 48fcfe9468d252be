"""A log in two halves is read as one, and what is wrong with it is said with its place."""

from pathlib import Path

import pytest

from common.core.errors import InvalidRequest
from common.observe.rotation import Rotation, older, read_halves


def number(line: str) -> int:
    if not line.strip().isdigit():
        raise InvalidRequest(message="no number")
    return int(line)


def test_the_older_half_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    rotation = Rotation(file, max_bytes=12)
    for value in (1, 2, 3):
        rotation.append(f"{value}\n", lambda: "0\n")
    assert older(file).exists()
    assert list(read_halves(file, number)) == [0, 1, 2, 0, 3]


@pytest.mark.parametrize(("content", "said"), [(b"1\nx\n", ":2: no number"), (b"1\n\xff\n", "it is no text")])
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(content)
    with pytest.raises(InvalidRequest, match=said):
        list(read_halves(file, number))


def test_a_line_that_a_dying_process_left_unfinished_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    older(file).write_text("1\n2\n3")
    file.write_text("4\n5")
    assert list(read_halves(file, number)) == [1, 2, 4]


def test_what_follows_a_failed_write_is_not_joined_to_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes some of the bytes."""
    file = tmp_path / "log.jsonl"
    rotation = Rotation(file, max_bytes=1000)
    rotation.append("1\n", lambda: "0\n")
    real_open = Path.open

    def full(path: Path, mode: str = "r", **options: str) -> object:
        with real_open(path, mode, encoding=options["encoding"]) as out:
            out.write("2\n3")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            rotation.append("2\n33\n", lambda: "0\n")
    rotation.append("4\n", lambda: "0\n")
    assert list(read_halves(file, number)) == [0, 1, 2, 0, 4]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        list(read_halves(tmp_path / "log.jsonl", number))
