"""The variables by which torch's watchdog would take a worker down: they are what we say, not what an image says."""

import os
import re
from pathlib import Path

import pytest
import torch

from common.transfer.nccl_environment import GUARDS, TUNING, prepare_environment

HEADERS = Path(torch.__file__).parent / "include/torch/csrc/distributed/c10d"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nobody had set anything; what is set within is undone."""
    for name in (*GUARDS, *TUNING, "TORCH_NCCL_NONBLOCKING_TIMEOUT", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_nobody_elses_watchdog_ends_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images for training set it, and so do clusters; a lost peer would be the end of every request here."""
    monkeypatch.setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    monkeypatch.setenv("TORCH_NCCL_USE_COMM_NONBLOCKING", "0")
    overruled = prepare_environment("127.0.0.1", 2.5)
    assert {name: os.environ[name] for name in GUARDS} == GUARDS
    assert os.environ["TORCH_NCCL_NONBLOCKING_TIMEOUT"] == "3"
    assert overruled == {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "TORCH_NCCL_USE_COMM_NONBLOCKING": "0"}
    assert prepare_environment("127.0.0.1", 2.5) == {}


def test_what_only_tunes_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_MAX_NCHANNELS", "32")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    prepare_environment("127.0.0.1", 5.0)
    assert os.environ["NCCL_MAX_NCHANNELS"] == "32"
    assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0"
    assert os.environ["NCCL_CUMEM_ENABLE"] == TUNING["NCCL_CUMEM_ENABLE"]


def test_its_sockets_stay_where_the_data_plane_is() -> None:
    """Left to itself NCCL takes any interface but the loopback, and its sockets are open to whoever reaches them."""
    prepare_environment("127.0.0.1", 5.0)
    assert os.environ["NCCL_SOCKET_IFNAME"] == "=lo"


def test_every_guard_is_a_variable_that_this_torch_knows() -> None:
    """A name that torch dropped would guard nothing. Two are read in a source file, which is not shipped."""
    text = (HEADERS / "ProcessGroupNCCL.hpp").read_text()
    known = set(re.findall(r'"(TORCH_NCCL_[A-Z_]+)"', text)) | {"TORCH_NCCL_USE_COMM_NONBLOCKING"}
    assert set(GUARDS) <= known
    killers = {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_ENABLE_MONITORING", "TORCH_NCCL_RETHROW_CUDA_ERRORS"}
    assert killers <= set(GUARDS)
