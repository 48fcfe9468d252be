"""A text file of bounded size in two halves: `name.jsonl`, and once that is full `name.1.jsonl`, the older half."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from os import SEEK_END, truncate
from pathlib import Path
from typing import TypeVar

from common.core.errors import InvalidRequest, StartupError

Line = TypeVar("Line")


class Rotation:
    """Writer: one thread at a time. Each life of a process, and each half, begins with a header.

    A disk that takes no more, or a part, costs what it did not take and nothing that was recorded before.
    """

    def __init__(self, file: Path, *, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes // 2
        self._size: int | None = None

    def append(self, text: str, header: Callable[[], str]) -> None:
        """`header` is asked where something begins with this text. Raises OSError; then nothing of it is there, and
        what comes next begins anew."""
        size, begins = self._size, ""
        if size is None or size + len(text) > self._max_bytes:
            begins = header()
            size = self._begin(len(begins) + len(text))
        self._size = None
        try:
            with self._file.open("a", encoding="utf-8") as out:
                out.write(begins + text)
        except OSError:
            self._take_back(size)
            raise
        self._size = size + len(begins) + len(text)

    def begin_anew(self) -> None:
        """What comes next does not follow on what was written."""
        self._size = None

    def _begin(self, num_coming: int) -> int:
        """This file where there is room for so much more; else it becomes the older half, and the older half goes.
        Returns the size of the file that is written to."""
        self._size = None
        self._file.parent.mkdir(parents=True, exist_ok=True)
        size = cut_torn(self._file) if self._file.exists() else 0
        if size and size + num_coming > self._max_bytes:
            self._file.replace(older(self._file))
            return 0
        return size

    def _take_back(self, size: int) -> None:
        """A part was written, perhaps. Left there, parts would fill the file, and push out what is whole."""
        with suppress(OSError):
            truncate(self._file, size)


def older(file: Path) -> Path:
    """Where a full file goes."""
    return file.with_suffix(f".1{file.suffix}")


def cut_torn(file: Path) -> int:
    """Takes out a last line without its break; the size that is left."""
    with file.open("r+b") as found:
        size = found.seek(0, SEEK_END)
        if size:
            found.seek(size - 1)
            if found.read(1) != b"\n":
                found.seek(0)
                size = found.read().rfind(b"\n") + 1
                found.truncate(size)
        return size


def read_halves(file: Path, read: Callable[[str], Line]) -> Iterator[Line]:
    """What `read` makes of every line, the older half first, if there is one. A last line without its break was being
    written when the process died, or is still: it is left out.

    Raises InvalidRequest with the line's number where `read` does, and for a file that cannot be read.
    """
    for path in (older(file), file):
        if path != file and not path.exists():
            continue
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.endswith("\n"):
                        yield _at(path, number, line, read)
        except OSError as error:
            raise InvalidRequest(message=f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(message=f"{path} cannot be read: it is no text ({error.reason})") from error


def _at(path: Path, number: int, line: str, read: Callable[[str], Line]) -> Line:
    try:
        return read(line)
    except InvalidRequest as error:
        raise InvalidRequest(message=f"{path}:{number}: {error.message}") from error


def made_folder(path: str, *, knob: str) -> Path | None:
    """The configured folder, made and checked. None when none is configured. Raises StartupError."""
    if not path:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(message=f"{knob} {folder} cannot be made: {error.strerror}") from error
    return folder
