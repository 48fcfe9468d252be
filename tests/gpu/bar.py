"""A bar: what is promised of a GPU, and what a run says of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Figures = Mapping[str, Any]
"""What a part wrote, as JSON gives it back."""


class Verdict(StrEnum):
    KEPT = "kept"
    MISSED = "missed"
    TOLD = "told"
    """There is no bar for it."""
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`reached` is judged; the bound and the time that it came from, where there are such."""

    reached: float
    bound_ms: float | None = None
    time_ms: float | None = None
    note: str = ""


class Refused(Exception):
    """A part measured everything but this. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """`part` names a file of the run, DIR/<part>.json. Neither `least` nor `most`: the figure is told, not judged.

    `read` raises KeyError where the part did not get so far, and Refused where it says why not.
    """

    name: str
    part: str
    read: Callable[[Figures], Reading]
    least: float | None = None
    most: float | None = None

    @property
    def wanted(self) -> str:
        if self.least is not None:
            return f">= {self.least:g}"
        return "" if self.most is None else f"<= {self.most:g}"

    def judge(self, reading: Reading) -> Verdict:
        """NaN keeps no bar."""
        if self.least is not None:
            return Verdict.KEPT if reading.reached >= self.least else Verdict.MISSED
        if self.most is not None:
            return Verdict.KEPT if reading.reached <= self.most else Verdict.MISSED
        return Verdict.TOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A bar after a run. Without a reading, `why` says what is missing."""

    bar: Bar
    reading: Reading | None
    why: str = ""

    @property
    def verdict(self) -> Verdict:
        return Verdict.NOT_MEASURED if self.reading is None else self.bar.judge(self.reading)
