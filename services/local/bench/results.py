"""Samples on file, a JSON object per line: conditions first, then what was measured under them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TextIO

from common.core.errors import FieldViolation, InvalidRequest
from services.local.bench.sample import Conditions, Sample


class ResultsFile:
    """Appends as it happens, so that a run that is cut short keeps what it has. None: nowhere."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def begin(self, conditions: Conditions) -> None:
        self._write(conditions.as_json())

    def add(self, sample: Sample) -> None:
        self._write(sample.as_json())

    def _write(self, line: Mapping[str, object]) -> None:
        if self._stream is not None:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One figure of one contender under one workload: median and range of `count` samples."""

    contender: str
    workload: str
    figure: str
    count: int
    num_clean: int
    median: float
    low: float
    high: float


def summarise(lines: Iterable[Mapping[str, object]]) -> tuple[Summary, ...]:
    """Every figure that was measured at least once, in the order in which it first appeared.

    Spoiled samples count only where there is no clean one.
    """
    runs: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for line in lines:
        if line.get("kind") == "sample" and not line.get("error"):
            runs.setdefault((str(line["workload"]), str(line["contender"])), []).append(line)
    found = []
    for (workload, contender), samples in runs.items():
        clean = [sample for sample in samples if sample["is_clean"]]
        counted = clean or samples
        for figure, values in _by_figure(counted).items():
            found.append(
                Summary(
                    contender=contender,
                    workload=workload,
                    figure=figure,
                    count=len(values),
                    num_clean=len(clean),
                    median=median(values),
                    low=min(values),
                    high=max(values),
                )
            )
    return tuple(found)


def _by_figure(samples: Sequence[Mapping[str, object]]) -> Mapping[str, list[float]]:
    values: dict[str, list[float]] = {}
    for sample in samples:
        figures = sample["figures"]
        assert isinstance(figures, Mapping)
        for name, value in figures.items():
            values.setdefault(name, []).append(float(value))
    return values


def read_results(file: Path) -> tuple[Mapping[str, object], ...]:
    """The lines of a results file. Raises InvalidRequest when it is none."""
    try:
        lines = tuple(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        violation = FieldViolation(field="FILE", description=f"{file} is no results file: {error}")
        raise InvalidRequest(message="results cannot be read", violations=(violation,)) from error
    return lines
