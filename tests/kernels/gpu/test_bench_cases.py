"""Cases of `kernels.bench` that are bound by bytes: right in miniature, lest a GPU's time is spent on finding out."""

import pytest
import torch

from kernels.bench import layer_cases, page_cases, sampling_cases
from kernels.bench.__main__ import main
from kernels.bench.case import Planned
from kernels.bench.run import CASES

OWN = (*layer_cases.CASES, *page_cases.CASES, *sampling_cases.CASES[:4], *sampling_cases.CASES[-1:])


@pytest.mark.parametrize("planned", OWN, ids=lambda planned: planned.name)
def test_every_case_passes_its_own_check_in_miniature_and_runs_again(planned: Planned, device: torch.device) -> None:
    torch.manual_seed(0)
    case = planned.make(device, is_small=True)
    assert case.error() <= case.tolerance
    case.run(1)
    assert case.num_bytes > 0


def test_a_run_measures_them_and_names_each_once() -> None:
    names = [planned.name for planned in CASES]
    assert len(set(names)) == len(names)
    assert set(OWN) <= set(CASES)


def test_a_miniature_checks_and_times_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert main(["--miniature", "--only", "gate 64"]) == 0
        assert capsys.readouterr().out.split() == ["gate", "64", "right,", "not", "timed"]
