"""Everything that waits for a GPU, within ten minutes: `python -m tests.gpu --out DIR --when DATE`.

NOT RUN YET on a GPU. Each part is a process with a deadline of its own, so that one that hangs or dies costs the others
nothing, and whose processes are gone when the next begins; its JSON and its last words lie in DIR, where nothing of an
earlier run is taken for this one's. What was measured so far outlives the deadline: parts write as they go. At the end,
or once more with `python -m tests.gpu.summary DIR`, one table of every bar: bound, time, share, kept or missed;
DIR/summary.json keeps it. With two GPUs and more, `--two-gpus` lets the NCCL pair have one each.

`--miniature` checks every part but the NCCL pair on a CPU, in Triton's interpreter, and measures nothing: what to run
before a GPU is paid for.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.gpu.part import keep
from tests.gpu.process_group import run_group
from tests.gpu.summary import RUN, SUMMARY, summarise

WITHIN_S = 585.0
"""Of all parts: what may take so long is often given ten minutes. Each may need some seconds more to be ended."""

LEAST_S = 15.0
"""Chosen: what has less time left does not get through its imports."""

SMALL_S = 900.0
"""Chosen: of each part in the interpreter, on a machine that has other work."""

NCCL_PAIR = "nccl_pair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process: `python -m module arguments`, and the most seconds it may take."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float

    def small(self) -> "Part":
        """On a CPU: interpreted, which is slow."""
        return replace(self, arguments=(*self.arguments, "--miniature"), limit_s=SMALL_S)


def parts(out: Path, when: str, *, has_two: bool) -> tuple[Part, ...]:
    """Checks before times; what the others rest on first. 595 s in all, most of them for compiling."""

    def part(module: str, limit_s: float, *arguments: str) -> Part:
        name = module.rpartition(".")[2] if module.startswith("tests") else "kernels"
        return Part(name=name, arguments=(module, *arguments, "--out", str(out / f"{name}.json")), limit_s=limit_s)

    pair = () if has_two else ("--one-gpu",)
    return (
        part("tests.gpu.decode_step", 135),
        part("kernels.bench", 100, "--repeats", "20", "--when", when),
        part("tests.gpu.prefill", 50),
        part("tests.gpu.transfer", 25),
        part("tests.gpu.hand_over", 35),
        part("tests.gpu.choice", 25),
        part("tests.gpu.e2e", 75),
        part("tests.gpu.interference", 115, "--deadline-s", "23"),
        Part(name=NCCL_PAIR, arguments=("tests.gpu.nccl_pair", *pair), limit_s=35),
    )


def run_part(part: Part, out: Path, *, left_s: float = WITHIN_S) -> dict[str, object]:
    """How it ended; what it said is in DIR. `left_s` of the whole run."""
    if left_s < LEAST_S:
        return {"part": part.name, "status": "no time left", "seconds": 0.0, "last_words": ""}
    began = time.perf_counter()
    said, told = out / f"{part.name}.out", out / f"{part.name}.err"
    with said.open("wb") as stdout, told.open("wb") as stderr:
        command = [sys.executable, "-m", *part.arguments]
        status = run_group(command, limit_s=min(part.limit_s, left_s), stdout=stdout, stderr=stderr)
    return {
        "part": part.name,
        "status": "deadline" if status is None else status,
        "seconds": round(time.perf_counter() - began, 1),
        "last_words": told.read_text(errors="replace")[-500:] if status != 0 else "",
    }


def forget(out: Path, names: Iterable[str]) -> None:
    """What an earlier run left: a part that writes nothing this time would be judged by it."""
    for name in names:
        (out / f"{name}.json").unlink(missing_ok=True)


def check_small(out: Path) -> int:
    """0 when every check passed."""
    os.environ["TRITON_INTERPRET"] = "1"
    ended = []
    for part in parts(out, "", has_two=False):
        if part.name != NCCL_PAIR:
            ended.append(run_part(part.small(), out, left_s=SMALL_S))
            sys.stdout.write(json.dumps(ended[-1]) + "\n")
            sys.stdout.flush()
    return 0 if all(each["status"] == 0 for each in ended) else 1


def main() -> int:
    """0 when every part ended well and every bar was kept, or every check in miniature passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--when", default="", help="the date, as it is kept with the figures")
    parser.add_argument("--two-gpus", action="store_true")
    parser.add_argument("--miniature", action="store_true")
    given = parser.parse_args()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    own = parts(out, given.when, has_two=given.two_gpus)
    forget(out, (RUN, SUMMARY, *(part.name for part in own)))
    if given.miniature:
        return check_small(out)
    began, ended = time.perf_counter(), []
    for part in own:
        ended.append(run_part(part, out, left_s=began + WITHIN_S - time.perf_counter()))
        keep({"when": given.when, "parts": ended}, out / f"{RUN}.json")
        sys.stdout.write(json.dumps(ended[-1]) + "\n")
        sys.stdout.flush()
    are_kept = summarise(out)
    return 0 if are_kept and all(each["status"] == 0 for each in ended) else 1


if __name__ == "__main__":
    sys.exit(main())
