"""Everything that waits for a GPU, within ten minutes: `python -m tests.gpu --out DIR --when DATE`.

NOT RUN YET on a GPU. Each part is a process with a deadline of its own, so that one that hangs or dies costs the
others nothing; its JSON and its last words lie in DIR. What was measured so far outlives the deadline: parts write as
they go. At the end, or once more with `python -m tests.gpu.summary DIR`, one table of every bar: bound, time, share,
kept or missed; DIR/summary.json keeps it. With two GPUs and more, `--two-gpus` lets the NCCL pair have one each.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.gpu.part import keep
from tests.gpu.summary import RUN, summarise

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process: `python -m module arguments`, and the most seconds it may take."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float


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
        Part(name="nccl_pair", arguments=("tests.gpu.nccl_pair", *pair), limit_s=35),
    )


def run_part(part: Part, out: Path) -> dict[str, object]:
    """How it ended; what it said is in DIR."""
    began = time.perf_counter()
    said, told = out / f"{part.name}.out", out / f"{part.name}.err"
    with said.open("wb") as stdout, told.open("wb") as stderr:
        child = subprocess.Popen([sys.executable, "-m", *part.arguments], cwd=ROOT, stdout=stdout, stderr=stderr)
        try:
            status: int | None = child.wait(timeout=part.limit_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout=10)
            status = None
    return {
        "part": part.name,
        "status": "deadline" if status is None else status,
        "seconds": round(time.perf_counter() - began, 1),
        "last_words": told.read_text(errors="replace")[-500:] if status else "",
    }


def main() -> int:
    """0 when every part ended well and every bar was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--when", default="", help="the date, as it is kept with the figures")
    parser.add_argument("--two-gpus", action="store_true")
    given = parser.parse_args()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ended = []
    for part in parts(out, given.when, has_two=given.two_gpus):
        ended.append(run_part(part, out))
        keep({"when": given.when, "parts": ended}, out / f"{RUN}.json")
        sys.stdout.write(json.dumps(ended[-1]) + "\n")
        sys.stdout.flush()
    are_kept = summarise(out)
    return 0 if are_kept and all(each["status"] == 0 for each in ended) else 1


if __name__ == "__main__":
    sys.exit(main())
