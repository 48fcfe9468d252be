"""A log in two halves is read as one, and what is wrong with it is said with its place."""

from pathlib import Path
from typing import Self

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


def test_of_a_failed_write_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes some of the bytes; whoever wrote counts all of them as lost."""
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
    assert list(read_halves(file, number)) == [0, 1, 0, 4]


@pytest.mark.parametrize("num_taken", [0, 2, 3])
def test_a_disk_that_stays_full_costs_nothing_that_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_taken: int
) -> None:
    """Of each file that is begun it takes nothing, the header, or a part of a line too."""
    file = tmp_path / "log.jsonl"
    rotation = Rotation(file, max_bytes=1000)
    for value in (1, 2):
        rotation.append(f"{value}\n", lambda: "0\n")
    real_open = Path.open

    class Full:
        """A file on that disk."""

        def __init__(self, path: Path, mode: str) -> None:
            self.path, self.mode = path, mode

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, text: str) -> int:
            with real_open(self.path, self.mode) as out:
                room = max(0, num_taken - out.tell())
                out.write(text[:room])
            if room < len(text):
                raise OSError(28, "No space left on device")
            return len(text)

    def full(path: Path, mode: str = "r", *rest: object, **options: object) -> object:
        return Full(path, mode) if mode in "wa" else real_open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        for _life in range(3):
            rotation = Rotation(file, max_bytes=10)
            for _ in range(3):
                with pytest.raises(OSError, match="No space"):
                    rotation.append("33\n", lambda: "0\n")
    rotation.append("4\n", lambda: "0\n")
    assert list(read_halves(file, number)) == [0, 1, 2, 0, 4]


def test_lives_of_a_process_share_a_file_until_it_is_full(tmp_path: Path) -> None:
    """One that dies again and again would otherwise have thrown away all but its last two lives."""
    file = tmp_path / "log.jsonl"
    for value in (1, 2, 3):
        Rotation(file, max_bytes=1000).append(f"{value}\n", lambda: "0\n")
        with file.open("a") as out:
            out.write("9")  # it died within a line
    assert not older(file).exists()
    assert list(read_halves(file, number)) == [0, 1, 0, 2, 0, 3]


def test_a_header_that_could_not_be_written_is_written_before_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is full, and so is the disk: the next line, though it is short, begins the new file."""
    file = tmp_path / "log.jsonl"
    rotation = Rotation(file, max_bytes=20)
    rotation.append("11111\n", lambda: "0\n")

    real_open = Path.open

    def full(path: Path, mode: str = "r", **options: str) -> object:
        if mode == "a":
            raise OSError(28, "No space left on device")
        return real_open(path, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            rotation.append("22222\n", lambda: "0\n")
    rotation.append("3\n", lambda: "0\n")
    assert list(read_halves(file, number)) == [0, 11111, 0, 3]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        list(read_halves(tmp_path / "log.jsonl", number))
