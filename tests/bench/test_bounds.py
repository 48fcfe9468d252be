"""Figures stand beside what they can be no less than: of a target as fast as its bound, shares are one."""

from dataclasses import replace

import pytest

from common.model.effort import SizedModel
from services.local.bench.bounds import Bounds, Ceilings, beside
from services.local.bench.decode import DecodeSpeed
from services.local.bench.end_to_end import EndToEnd
from services.local.bench.interference import Interference
from services.local.bench.prefill import PrefillSpeed
from services.local.bench.prefix import PrefixReuse
from services.local.bench.tables import SHOWN, bounded, family_of
from services.local.bench.workload import Workload
from tests.bench.test_workloads import figures_of
from tests.gpu.random_decoder import EIGHT_B, TINY

FAST = Ceilings(bytes_per_s=3e12, flops_per_s=6e14)
BOUNDS = Bounds(model=SizedModel.of(EIGHT_B, dtype="bfloat16"), ceilings=FAST)


def test_a_step_is_bound_by_bytes_and_a_prompt_by_operations():
    model = BOUNDS.model
    assert BOUNDS.step_s(1, 1024) == model.step(1, 1024).num_bytes / FAST.bytes_per_s
    assert BOUNDS.prompts_s(8192) == model.prompt(8192).flops / FAST.flops_per_s
    slow = replace(BOUNDS, ceilings=replace(FAST, flops_per_s=1e11))
    assert slow.step_s(64, 1024) == model.step(64, 1024).flops / 1e11


def test_answers_are_a_step_for_every_token_but_the_first():
    assert BOUNDS.answers_s(4, 10, 1) == 0
    assert BOUNDS.answers_s(4, 10, 3) == pytest.approx(BOUNDS.step_s(4, 11) + BOUNDS.step_s(4, 12))


def test_a_copy_reads_and_writes():
    assert BOUNDS.copy_s(3e12) == 2.0


def test_bound_time_and_share_are_told_in_this_order():
    assert list(beside("run_", 1.0, 4.0).items()) == [
        ("run_bound_ms", 1000.0),
        ("run_ms", 4000.0),
        ("run_share_of_bound", 0.25),
    ]


LOADS: tuple[tuple[Workload, tuple[str, ...]], ...] = (
    (PrefillSpeed(prompt_tokens=512), ("ttft",)),
    (DecodeSpeed(num_streams=8), ("run", "step")),
    (EndToEnd(num_streams=16, output_tokens=64), ("run", "step")),
    (PrefixReuse(), ("cold_ttft", "warm_ttft")),
    (Interference(arrival_tokens=1024, every_s=1.0, window_s=5.0), ("quiet_step", "alone_prompt")),
)


@pytest.mark.parametrize(("workload", "names"), LOADS, ids=[workload.name for workload, _ in LOADS])
def test_every_workload_states_bound_time_and_share_and_shows_them_first(workload: Workload, names: tuple[str, ...]):
    figures = figures_of(workload, bounds=BOUNDS, prompt_token_s=0.00005)
    shown = SHOWN[family_of(workload.name)]
    assert shown[: 3 * len(names)] == tuple(figure for name in names for figure in bounded(name))
    for name in names:
        bound, time, share = (figures[figure] for figure in bounded(name))
        assert 0 < bound < time
        assert share == pytest.approx(bound / time)
    without = figures_of(workload, prompt_token_s=0.00005)
    assert not any("bound" in figure for figure in without)
    assert without.items() <= figures.items()


def test_a_target_as_fast_as_its_bound_reaches_it():
    """Prompts are read one behind the other, then a token every step: what a bound of one stream assumes."""
    bounds = Bounds(model=SizedModel.of(TINY, dtype="float32"), ceilings=Ceilings(bytes_per_s=2e9, flops_per_s=1e10))
    prompt_s, step_s = bounds.prompts_s(64), bounds.step_s(1, 128)
    load = DecodeSpeed(num_streams=1)
    figures = figures_of(load, bounds=bounds, step_s=step_s, prompt_token_s=prompt_s / 64)
    assert figures["step_share_of_bound"] == pytest.approx(1, rel=0.01)
    assert figures["run_share_of_bound"] == pytest.approx(1, rel=0.01)
    figures = figures_of(PrefillSpeed(prompt_tokens=64), bounds=bounds, prompt_token_s=prompt_s / 64)
    assert figures["ttft_share_of_bound"] == pytest.approx(1)
    late = figures_of(PrefixReuse(), bounds=bounds, prompt_token_s=0.001)
    assert late["warm_ttft_bound_ms"] == pytest.approx(1e3 * bounds.prompts_s(128, start=1920))
    assert late["warm_ttft_bound_ms"] < late["cold_ttft_bound_ms"] / 9
