"""The least that a model needs can be counted by hand, and is the same however a prompt is cut."""

from dataclasses import replace

import pytest

from common.model.effort import SizedModel
from common.model.spec import ExpertsSpec, ModelSpec
from tests.gpu.random_decoder import EIGHT_B, TINY

KEYS_AND_VALUES = 64 * 2 * 2 * 16
REST = 64 * (4 + 4) * 16 + 3 * 64 * 160
HEAD = 64 * 512
PAIR = 4 * 16 * 4
"""Operations of one token that sees another, four heads of 16."""


def windowed(spec: ModelSpec, window: int) -> ModelSpec:
    """With its first layer sliding."""
    first, *others = spec.layers
    return replace(spec, layers=(replace(first, form=replace(first.form, window=window)), *others))


def of_experts(spec: ModelSpec) -> ModelSpec:
    own = ExpertsSpec(num_experts=8, num_chosen=2, intermediate=32, is_normalized=True, shared_intermediate=48)
    return replace(spec, layers=tuple(replace(layer, experts=own) for layer in spec.layers))


def test_of_the_last_layer_only_keys_and_values_of_every_token_count():
    effort = SizedModel.of(TINY, dtype="bfloat16").prompt(3)
    front = 2 * 3 * (KEYS_AND_VALUES + REST) + PAIR * (1 + 2 + 3)
    last = 2 * (3 * KEYS_AND_VALUES + REST) + PAIR * 3
    assert effort.flops == front + last + 2 * HEAD


def test_a_step_reads_every_weight_once_and_every_rows_keys_and_values():
    sized = SizedModel.of(TINY, dtype="bfloat16")
    effort = sized.step(5, 100)
    norms = 5 * 64
    assert sized.read_weight_bytes() == 2 * (2 * (KEYS_AND_VALUES + REST) + HEAD + norms)
    assert effort.num_bytes == sized.read_weight_bytes() + 5 * 100 * 2 * 2 * 2 * 16 * 2
    assert effort.flops == 5 * (2 * 2 * (KEYS_AND_VALUES + REST) + 2 * HEAD + 2 * PAIR * 100)


def test_pages_of_eight_bits_are_read_with_their_scales():
    narrow = SizedModel.of(TINY, dtype="bfloat16", kv_dtype="fp8")
    assert narrow.step(1, 100).num_bytes == narrow.read_weight_bytes() + 100 * 2 * 2 * 2 * (16 + 4)


def test_a_tied_head_is_the_table_of_embeddings_and_is_read():
    untied, tied = SizedModel.of(TINY, dtype="float32"), SizedModel.of(replace(TINY, is_tied=True), dtype="float32")
    assert tied.read_weight_bytes() == untied.read_weight_bytes()


def test_a_window_bounds_what_is_seen():
    sized = SizedModel.of(windowed(TINY, 4), dtype="bfloat16")
    whole = SizedModel.of(TINY, dtype="bfloat16")
    seen = 1 + 2 + 3 + 4 * 7
    assert whole.prompt(10).flops - sized.prompt(10).flops == PAIR * (55 - seen)
    assert whole.step(1, 10).flops - sized.step(1, 10).flops == PAIR * 6
    assert whole.prompt(1, start=9).num_bytes - sized.prompt(1, start=9).num_bytes == 6 * 2 * 2 * 16 * 2


@pytest.mark.parametrize("spec", [TINY, windowed(TINY, 4), of_experts(TINY)], ids=["plain", "window", "experts"])
def test_chunks_compute_what_the_whole_computes_but_for_ends_that_nobody_draws_from(spec: ModelSpec):
    """A chunk that ends nothing is charged for an end all the same: the difference is that and no more."""
    sized = SizedModel.of(spec, dtype="bfloat16")
    chunks = [sized.prompt(5), sized.prompt(3, start=5), sized.prompt(9, start=8)]
    ends = [sized.prompt(1, start=4), sized.prompt(1, start=7)]
    over = sum(each.flops for each in chunks) - sized.prompt(17).flops
    assert 0 < over < sum(each.flops for each in ends)


def test_of_experts_those_count_that_one_token_chooses():
    sized = SizedModel.of(of_experts(TINY), dtype="bfloat16")
    inner = 2 * 3 * 64 * 32 + 8 * 64 + 3 * 64 * 48 + 64
    attention = KEYS_AND_VALUES + 64 * (4 + 4) * 16
    assert sized.step(1, 1).flops == 2 * 2 * (attention + inner) + 2 * HEAD + 2 * PAIR
    assert sized.read_weight_bytes() == 2 * (2 * (attention + inner) + HEAD + 5 * 64)


def test_prompts_of_one_step_share_its_weights():
    sized = SizedModel.of(TINY, dtype="bfloat16")
    one, three = sized.prompt(7, start=2), sized.prompt(7, start=2, num_prompts=3)
    assert three.flops == 3 * one.flops
    assert three.num_bytes - one.num_bytes == 2 * (one.num_bytes - sized.read_weight_bytes())


def test_an_8b_model_reads_15_gigabytes_a_step_and_computes_130_trillion_operations_for_8k_tokens():
    sized = SizedModel.of(EIGHT_B, dtype="bfloat16")
    assert 14.9e9 < sized.read_weight_bytes() < 15.1e9
    assert 126e12 < sized.prompt(8192).flops < 132e12
