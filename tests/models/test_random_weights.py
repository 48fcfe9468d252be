"""Random-weight folders: reproducible, complete, of the shape asked for."""

import argparse
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.build.folder import MAX_SHARD_BYTES, plan_shards, read_shape
from models.build.manifest import file_hashes
from models.build.random_weights import DTYPE_FLAGS, SIZE_FLAGS, random_tensor, shape_from, write_random_model
from models.build.shape import NAMED_SHAPES, ModelShape, WeightType

TINY = NAMED_SHAPES["tiny"]


def flags(**given: object) -> argparse.Namespace:
    """Parsed options with only these flags set."""
    unset = dict.fromkeys(SIZE_FLAGS, None) | {"name": "tiny", "untied": False, "rope_factor": None}
    return argparse.Namespace(**(unset | given))


@pytest.mark.parametrize("weight_type", list(DTYPE_FLAGS.values()))
def test_the_same_seed_writes_the_same_files(tmp_path: Path, weight_type: WeightType) -> None:
    """Every byte is compared, by hash, between two folders of one seed; another seed differs in the weights only."""
    for folder, seed in (("one", 7), ("two", 7), ("other", 8)):
        write_random_model(tmp_path / folder, TINY, seed=seed, weight_type=weight_type)
    one, two, other = (file_hashes(tmp_path / folder) for folder in ("one", "two", "other"))
    assert one == two
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_the_folder_holds_exactly_the_tensors_of_its_shape(tmp_path: Path) -> None:
    """Names, shapes and stored type are those that the shape announces, with and without tied embeddings."""
    for is_tied in (True, False):
        shape = dataclasses.replace(TINY, is_tied=is_tied)
        folder = tmp_path / f"tied-{is_tied}"
        write_random_model(folder, shape, seed=1, weight_type=WeightType.BF16)
        tensors = load_file(folder / "model.safetensors")
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shape.tensor_shapes()
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        assert ("lm_head.weight" in tensors) is not is_tied
        assert read_shape(folder) == shape


def test_shards_together_hold_what_one_file_holds(tmp_path: Path) -> None:
    """The index names each tensor once, and cutting into shards changes no value."""
    write_random_model(tmp_path / "one", TINY, seed=3, weight_type=WeightType.FP32)
    write_random_model(tmp_path / "cut", TINY, seed=3, weight_type=WeightType.FP32, max_shard_bytes=100_000)
    whole = load_file(tmp_path / "one" / "model.safetensors")
    index = json.loads((tmp_path / "cut" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    assert set(index["weight_map"]) == set(whole)
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / "cut" / file)[name], whole[name])


def test_the_largest_named_shape_is_cut_into_shards_under_the_limit() -> None:
    """Planned, not written: 16 GB in nine or so files, every tensor in exactly one, in file order."""
    shape = NAMED_SHAPES["8B"]
    plan = plan_shards(shape, WeightType.BF16, max_shard_bytes=MAX_SHARD_BYTES)
    dims = shape.tensor_shapes()
    assert [name for names in plan for name in names] == list(dims)
    sizes = [sum(2 * torch.Size(dims[name]).numel() for name in names) for names in plan]
    assert max(sizes) <= MAX_SHARD_BYTES
    assert len(sizes) < 12


def test_a_tensor_depends_on_its_name_and_seed_alone() -> None:
    """Its values do not depend on what was drawn before it, nor on the thread count."""
    first = random_tensor("model.layers.0.mlp.up_proj.weight", (96, 64), seed=5)
    random_tensor("model.norm.weight", (64,), seed=5)
    assert torch.equal(first, random_tensor("model.layers.0.mlp.up_proj.weight", (96, 64), seed=5))
    assert not torch.equal(first, random_tensor("model.layers.1.mlp.up_proj.weight", (96, 64), seed=5))
    assert abs(float(first.std()) - 64**-0.5) < 0.1 * 64**-0.5


def test_flags_override_the_named_shape() -> None:
    """A flag replaces one size and leaves the others; rope scaling keeps the stretched context length."""
    assert shape_from(flags(name="M")) == NAMED_SHAPES["M"]
    shape = shape_from(flags(hidden=128, untied=True, rope_factor=4.0))
    assert shape == dataclasses.replace(TINY, hidden=128, is_tied=False, rope_scaling=shape.rope_scaling)
    assert shape.rope_scaling is not None
    assert shape.rope_scaling.original_max_positions == TINY.max_positions // 4


def test_an_impossible_shape_is_refused() -> None:
    """Key/value heads that do not divide the query heads cannot be grouped."""
    with pytest.raises(ValueError, match="not a multiple"):
        dataclasses.replace(TINY, num_kv_heads=3)


@pytest.mark.parametrize(("name", "millions"), [("demo", 6.95), ("S", 114.2), ("M", 473.2), ("8B", 8030.3)])
def test_named_shapes_have_their_known_size(name: str, millions: float) -> None:
    """Parameter counts, in millions, computed by hand from the published sizes."""
    shape: ModelShape = NAMED_SHAPES[name]
    counted = sum(torch.Size(dims).numel() for dims in shape.tensor_shapes().values())
    assert counted / 1e6 == pytest.approx(millions, abs=0.1)
