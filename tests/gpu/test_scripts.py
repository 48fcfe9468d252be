"""The GPU's scripts on a CPU: their checks pass, bounds can be counted by hand, and a bare checkout is enough."""

import os
import subprocess
import sys
from math import isnan

import pytest
import torch

from tests.architecture.source import ROOT
from tests.gpu import e2e, interference
from tests.gpu.roles import FULL, SMALL, Arrivals, Load

CPU = torch.device("cpu")

BARE = """
import sys
from importlib.abc import MetaPathFinder
ALLOWED = {"torch", "triton", "numpy", "tests", "common", "kernels", "functorch", "torchgen", "nvidia"}
ALLOWED |= {"typing_extensions", "sympy", "mpmath", "networkx", "filelock", "fsspec", "jinja2", "markupsafe"}

class Nothing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if not top.startswith("_") and top not in ALLOWED and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"a bare checkout has no {top}", name=name)

sys.meta_path.insert(0, Nothing())
import torch
from tests.gpu import __main__, choice, e2e, hand_over, hand_over_receiver, interference, nccl_pair, prefill, transfer
import kernels.bench.__main__, kernels.bench.tune, common.engine.device_graph, common.transfer.nccl_group
torch.set_num_threads(1)
sys.argv = ["-", "--miniature"]
assert prefill.main() == transfer.main() == hand_over.main() == choice.main() == e2e.main() == 0
"""


def test_tokens_are_those_of_transformers() -> None:
    """Which a bare checkout has not; what else is checked is checked there."""
    with torch.inference_mode():
        assert e2e.tokens_are_equal(CPU, None, is_interpreted=True)


@pytest.mark.parametrize("way", interference.WAYS)
def test_every_way_of_sharing_a_gpu_runs_on_a_cpu(way: str) -> None:
    with torch.inference_mode():
        found = interference.measured(way, SMALL, CPU, Load(apart_s=0.1, good_s=0.1), is_small=True)
    figures = [value for value in found.values() if isinstance(value, float)]
    assert len(figures) >= 5
    assert not any(isnan(value) for value in figures)
    assert isinstance(found["prompts_due"], int)
    assert found["prompts_due"] >= 1


def test_prompts_arrive_half_as_often_as_they_are_read_alone() -> None:
    load = interference.load_of({"prompt_ms": 40.0, "itl_ms_p99": 10.0})
    assert (load.apart_s, load.good_s) == (0.08, 0.015)


def test_a_way_that_fails_or_hangs_is_told_and_costs_the_others_nothing() -> None:
    """Without a GPU a process says so at once; within no time it says nothing."""
    if not torch.cuda.is_available():
        found = interference.apart("priority", 60.0, Load(apart_s=1.0, good_s=1.0))
        assert "ended with 2: no GPU here" in found["failed"]
    assert interference.apart("priority", 0.01) == {"failed": "no answer within 0 s"}


def test_steps_are_judged_by_what_decode_does_alone_whatever_a_way_makes_of_quiet() -> None:
    steps_s = [0.01] * 50 + [0.03] * 50
    load = Load(apart_s=1.0, good_s=0.015)
    found = interference.told(steps_s, Arrivals(num_due=5, waits_s=[0.1, 0.2]), load, FULL)
    assert found["itl_p99_over_undisturbed"] == pytest.approx(3.0)
    assert found["goodput_tokens_per_s"] == pytest.approx(50 * FULL.streams / 2.0)
    assert (found["prompts_due"], found["prompts_read"], found["keeps_up"]) == (5, 2, False)


def test_a_bare_checkout_with_torch_triton_and_numpy_runs_them() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    made = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert '"chunks_are_equal": true' in made.stdout
    assert '"pages_arrive": true' in made.stdout
    assert '"tokens_are_equal": "not compared"' in made.stdout
    assert '"other_digests_are_found": true' in made.stdout
    assert "keeps its pages in host memory" in made.stdout
