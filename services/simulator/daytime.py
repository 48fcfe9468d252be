"""Times of day in a table, as seconds from the first one's whole second."""

import re
from datetime import datetime

SHAPE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


class Daytime:
    """Reads a table's column of times. All have a zone, or none has."""

    def __init__(self) -> None:
        self._start: datetime | None = None

    def __call__(self, value: object, name: str) -> float:
        """Seconds since the first time read. Raises ValueError."""
        shape = SHAPE.fullmatch(value.strip()) if isinstance(value, str) else None
        if shape is None:
            raise ValueError(f"{name} is {str(value)[:40]!r}, a time like 2024-05-10 00:00:00.009930+00:00 is needed")
        day, clock, fraction, zone = shape.groups()
        try:
            second = datetime.fromisoformat(f"{day} {clock}{zone or ''}")
        except ValueError as error:  # a day or a time that no calendar has
            raise ValueError(f"{name} is {str(value)[:40]!r}: {error}") from error
        if self._start is None:
            self._start = second
        if (second.tzinfo is None) != (self._start.tzinfo is None):
            raise ValueError(f"{name} has a time zone here and none elsewhere, or the other way round")
        return (second - self._start).total_seconds() + float(f"0{fraction or ''}")
