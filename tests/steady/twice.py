"""`python -m tests.steady.twice ARGUMENTS`: pytest, and where a few tests failed, just those once more, alone.

A test that fails beside others and passes alone met a slow machine, or is wrong at times: the run passes and names it,
for somebody to mend. What fails again has failed; so has a run with many failures, for they have a cause.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

MAX_AGAIN = 3
TESTS_FAILED = 1
"""How pytest ends when its tests ran and some failed, and nothing else was wrong."""


def run(arguments: list[str]) -> int:
    with TemporaryDirectory() as cache:
        pytest = [sys.executable, "-m", "pytest", *arguments, "-o", f"cache_dir={cache}"]
        status = subprocess.run(pytest, check=False).returncode
        failed = failed_tests(Path(cache))
        if status != TESTS_FAILED or not 0 < len(failed) <= MAX_AGAIN:
            return status
        print(f"\nOnce more, alone: {', '.join(failed)}", flush=True)
        alone = subprocess.run([*pytest, "--last-failed", "-n", "0"], check=False, stdout=subprocess.PIPE, text=True)
        *lines, closing = alone.stdout.rstrip("\n").split("\n")
        print(*lines, sep="\n")
        if alone.returncode == 0:
            print(f"UNSTEADY: failed beside others, passed alone: {', '.join(failed)}")
        print(closing, flush=True)
        return alone.returncode


def failed_tests(cache: Path) -> list[str]:
    file = cache / "v/cache/lastfailed"
    return sorted(json.loads(file.read_text())) if file.exists() else []


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
