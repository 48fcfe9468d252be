"""One table of a run: every bar, its bound, its time, what was reached, kept or missed.

    python -m tests.gpu.summary DIR        what `python -m tests.gpu --out DIR` left there, once more

Reads the parts' JSON and nothing else. Ends with 0 when every bar was kept, 1 when not: what was not measured is not
kept.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.gpu.bar import Bar, Figures, Line, Refused, Verdict
from tests.gpu.bars import BARS

RUN = "run"
"""File of how the parts ended: DIR/run.json."""

SUMMARY = "summary"


def collate(out: Path, bars: Sequence[Bar] = BARS) -> list[Line]:
    """Every bar, whether its part ended well or not."""
    ends = {end["part"]: end for end in _read(out, RUN).get("parts", [])}
    return [line_of(bar, _read(out, bar.part), ends.get(bar.part, {})) for bar in bars]


def line_of(bar: Bar, figures: Figures, end: Mapping[str, object]) -> Line:
    """`end` is how the part ended, empty where nobody knows."""
    try:
        return Line(bar=bar, reading=bar.read(figures))
    except Refused as refusal:
        return Line(bar=bar, reading=None, why=str(refusal))
    except (KeyError, TypeError, ZeroDivisionError) as missing:
        status = end.get("status", "not run")
        return Line(bar=bar, reading=None, why=f"{bar.part}: {status}; no figure: {missing}")


def table(lines: Sequence[Line]) -> str:
    """As it is read, a line per bar."""
    heading = f"{'bar':52} {'bound ms':>10} {'time ms':>10} {'reached':>8} {'wanted':>8}  verdict"
    return "\n".join([heading, *map(_row, lines)])


def as_json(lines: Sequence[Line], conditions: Mapping[str, object]) -> dict[str, object]:
    """As it is kept."""
    bars = [
        {
            "bar": line.bar.name,
            "part": line.bar.part,
            "wanted": line.bar.wanted,
            **(asdict(line.reading) if line.reading else {"why": line.why}),
            "verdict": line.verdict.value,
        }
        for line in lines
    ]
    return {**conditions, "bars": bars}


def summarise(out: Path) -> bool:
    """Write DIR/summary.json, print the table; whether every bar was kept."""
    lines, conditions = collate(out), conditions_of(out)
    (out / f"{SUMMARY}.json").write_text(json.dumps(as_json(lines, conditions), indent=1) + "\n")
    sys.stdout.write(", ".join(str(value) for value in conditions.values() if value) + "\n" + table(lines) + "\n")
    return all(line.verdict in (Verdict.KEPT, Verdict.TOLD) for line in lines)


def conditions_of(out: Path) -> dict[str, object]:
    """As the first part that got so far tells them, and when."""
    told = [_read(out, part) for part in dict.fromkeys(bar.part for bar in BARS)]
    found = next((part for part in [each.get("conditions", each) for each in told] if "device" in part), {})
    return {"device": found.get("device"), "versions": found.get("versions"), "when": _read(out, RUN).get("when")}


def _row(line: Line) -> str:
    bar, reading = line.bar, line.reading
    if reading is None:
        return f"{bar.name:52} {'':10} {'':10} {'':8} {bar.wanted:>8}  {line.verdict}: {line.why}"
    bound, time = ("" if each is None else f"{each:.4g}" for each in (reading.bound_ms, reading.time_ms))
    note = f" ({reading.note})" if reading.note else ""
    return f"{bar.name:52} {bound:>10} {time:>10} {reading.reached:8.3f} {bar.wanted:>8}  {line.verdict}{note}"


def _read(out: Path, part: str) -> Figures:
    """Empty where a part left nothing, or half a file: it was killed."""
    try:
        found: Figures = json.loads((out / f"{part}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.summary", description="One table of a run.")
    parser.add_argument("out", type=Path, metavar="DIR")
    return 0 if summarise(parser.parse_args(arguments).out) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
