"""Ceilings are measured in the run that they bound; where they cannot be, figures go without and somebody says why."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.config.config import Config
from common.config.loader import load
from common.core.clock import SystemClock
from kernels.bench.host_ceilings import host_ceilings
from services.local.bench.bounds import Bounds, Ceilings
from services.local.bench.yardstick import measured_bounds
from tests.architecture.source import ROOT

DEMO = ROOT / "models/demo"


def config_of(*settings: str) -> Config:
    return load(None, {}, (f"model.path={DEMO}", *settings))


def bounds_of(config: Config, script: str, limit_s: float = 20.0) -> tuple[Bounds | None, list[str]]:
    """With a script in the place of what measures."""
    said: list[str] = []
    command = (sys.executable, "-c", script)
    found = asyncio.run(measured_bounds(config, said.append, command=command, limit_s=limit_s))
    return found, said


def test_bounds_are_of_the_models_type_and_of_what_was_measured():
    told = {"device": "cpu", "dtype": "bfloat16", "bytes_per_s": 2e10, "flops_per_s": 4e11}
    script = f"import sys; assert '--stored' in sys.argv and '--threads' in sys.argv; print({json.dumps(told)!r})"
    bounds, said = bounds_of(config_of("engine.kv_dtype=int8"), script)
    assert bounds is not None
    assert bounds.ceilings == Ceilings(bytes_per_s=2e10, flops_per_s=4e11)
    assert bounds.model.weight_bytes == 2
    assert bounds.model.vector_bytes == bounds.model.spec.head_dim + 4
    assert said == ["this cpu: 20 GB/s moved, 400 GFLOP/s of bfloat16 products"]


def test_the_simulated_engine_has_no_bound():
    assert bounds_of(config_of("engine.executor=sim"), "raise SystemExit(3)") == (None, [])


@pytest.mark.parametrize(
    ("script", "limit_s", "words"),
    [
        ("import sys; sys.exit('engine.device is cuda: no GPU')", 20.0, "no bounds: engine.device is cuda: no GPU"),
        ("import time; time.sleep(60)", 0.5, "no bounds: ceilings were not measured within 0 s"),
    ],
)
def test_what_cannot_be_measured_is_said(script: str, limit_s: float, words: str):
    assert bounds_of(config_of(), script, limit_s) == (None, [words])


def test_a_folder_that_is_no_model_has_no_bounds(tmp_path: Path):
    config = config_of()
    config = replace(config, model=replace(config.model, path=str(tmp_path)))
    bounds, said = bounds_of(config, "raise SystemExit(3)")
    assert bounds is None
    assert said[0].startswith("no bounds: ")


def test_a_processors_ceilings_are_of_this_machine():
    """In miniature: within a factor of what any machine does."""
    clock, threads = SystemClock(), torch.get_num_threads()
    try:
        found = host_ceilings(torch.float32, num_threads=1, now=clock.monotonic, moved_bytes=2**22, matrix=256)
    finally:
        torch.set_num_threads(threads)
    assert 1e8 < found.bytes_per_s < 1e13
    assert 1e8 < found.flops_per_s < 1e13
