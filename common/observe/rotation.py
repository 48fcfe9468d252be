"""A text file of bounded size in two halves: `name.jsonl`, and once that is full `name.1.jsonl`, the older half."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from common.core.errors import InvalidRequest, StartupError

Line = TypeVar("Line")


class Rotation:
    """Writer: one thread at a time. Each life of a process, and each half, begins with a header."""

    def __init__(self, file: Path, *, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes // 2
        self._size: int | None = None

    def append(self, text: str, header: Callable[[], str]) -> None:
        """`header` is asked where a file begins with this text. Raises OSError; perhaps a part was written then, and
        what comes next goes into another file."""
        if self._size is None or self._size + len(text) > self._max_bytes:
            self._begin(header())
        try:
            with self._file.open("a", encoding="utf-8") as out:
                out.write(text)
        except OSError:
            self.begin_anew()
            raise
        self._size = (self._size or 0) + len(text)

    def begin_anew(self) -> None:
        """What comes next does not follow on what was written."""
        self._size = None

    def _begin(self, header: str) -> None:
        """The file before becomes the older half, and the older half goes."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            self._file.replace(older(self._file))
        self._file.write_text(header, encoding="utf-8")
        self._size = len(header)


def older(file: Path) -> Path:
    """Where a full file goes."""
    return file.with_suffix(f".1{file.suffix}")


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
