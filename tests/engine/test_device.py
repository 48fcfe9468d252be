"""Which device is computed on."""

import pytest
import torch

from common.core.errors import StartupError
from common.engine.device import find_device


@pytest.fixture
def num_gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize(
    ("num_gpus", "asked", "found"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda:0"), (2, "cpu", "cpu"), (2, "cuda", "cuda:0"),
     (2, "cuda:1", "cuda:1")],
    indirect=["num_gpus"],
)  # fmt: skip
@pytest.mark.usefixtures("num_gpus")
def test_a_device_is_found_by_name_and_auto_prefers_a_gpu(asked: str, found: str) -> None:
    assert find_device(asked) == torch.device(found)


@pytest.mark.parametrize(
    ("num_gpus", "asked", "says"),
    [(0, "cuda", "sees no GPU"), (0, "cuda:1", "sees no GPU"), (1, "cuda:1", "sees 1 GPUs")],
    indirect=["num_gpus"],
)
@pytest.mark.usefixtures("num_gpus")
def test_a_gpu_that_is_not_there_ends_the_start_with_the_knob(asked: str, says: str) -> None:
    with pytest.raises(StartupError, match=f"engine.device is {asked}.*{says}"):
        find_device(asked)


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_another_name_is_refused_with_those_there_are(asked: str) -> None:
    with pytest.raises(StartupError, match="known are auto, cpu, cuda"):
        find_device(asked)
