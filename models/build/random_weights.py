"""Random-weight model folders of any shape: `python -m models.build.random_weights S --out DIR --seed 7`.

They exercise loading, speed and page traffic where the text does not matter. The same seed, shape and torch build
give the same files, whatever the number of threads.
"""

import argparse
import dataclasses
import hashlib
import platform
from pathlib import Path

import torch
from torch import Tensor

from models.build.folder import (
    MAX_SHARD_BYTES,
    TORCH_TYPES,
    plan_shards,
    write_description,
    write_shards,
    write_weights,
)
from models.build.manifest import Origin, write_manifest
from models.build.shape import NAMED_SHAPES, ModelShape, RopeScaling, WeightType
from models.build.tokenizer import synthetic_tokenizer

DTYPE_FLAGS = {"bf16": WeightType.BF16, "fp32": WeightType.FP32}
GAIN_STD = 0.1
SIZE_FLAGS = (
    "hidden",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate",
    "vocab",
    "max_positions",
    "rope_theta",
)


def random_tensor(name: str, dims: tuple[int, ...], *, seed: int) -> Tensor:
    """The fp32 tensor of this name: each has its own generator, so order and sharding change nothing.

    Matrices keep the variance of unit inputs (std 1/sqrt(fan in)), so attention really depends on its keys; norm
    gains scatter around one, so that two of them mixed up change the output.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    noise = torch.randn(dims, generator=generator)
    return 1.0 + GAIN_STD * noise if len(dims) == 1 else noise * dims[-1] ** -0.5


def write_random_model(
    folder: Path,
    shape: ModelShape,
    *,
    seed: int,
    weight_type: WeightType,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a whole model folder: config, tokenizer of the shape's vocabulary, weights (sharded if large), manifest."""
    write_description(folder, shape, weight_type, synthetic_tokenizer(vocab=shape.vocab))
    dims = shape.tensor_shapes()

    def stored(name: str) -> Tensor:
        return random_tensor(name, dims[name], seed=seed).to(TORCH_TYPES[weight_type])

    plan = plan_shards(shape, weight_type, max_shard_bytes=max_shard_bytes)
    if len(plan) == 1:
        write_weights(folder, {name: stored(name) for name in dims}, weight_type)
    else:
        write_shards(folder, plan, stored)
    origin = Origin(
        command="python -m models.build.random_weights",
        seed=seed,
        python=platform.python_version(),
        torch=torch.__version__,
    )
    write_manifest(folder, origin)


def shape_from(options: argparse.Namespace) -> ModelShape:
    """The named shape with every size that a flag overrides."""
    shape = NAMED_SHAPES[options.name]
    given = {field: getattr(options, field) for field in SIZE_FLAGS if getattr(options, field) is not None}
    shape = dataclasses.replace(shape, **given, is_tied=shape.is_tied and not options.untied)
    if options.rope_factor is None:
        return shape
    return dataclasses.replace(shape, rope_scaling=llama3_scaling(shape.max_positions, options.rope_factor))


def llama3_scaling(max_positions: int, factor: float) -> RopeScaling:
    """Scaling with Llama 3.1's frequency factors, for a context `factor` times as long as the original one."""
    return RopeScaling(
        factor=factor,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_positions=round(max_positions / factor),
    )


def main() -> None:
    """Read the flags and write the folder."""
    parser = argparse.ArgumentParser(prog="python -m models.build.random_weights", description=__doc__)
    parser.add_argument("name", choices=sorted(NAMED_SHAPES), help="shape to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=sorted(DTYPE_FLAGS), default="bf16")
    for field in SIZE_FLAGS:
        kind = float if field == "rope_theta" else int
        parser.add_argument(f"--{field.replace('_', '-')}", type=kind, help="overrides the named shape")
    parser.add_argument("--untied", action="store_true", help="a separate lm_head")
    parser.add_argument("--max-shard-bytes", type=int, default=MAX_SHARD_BYTES, help="largest weights file")
    parser.add_argument("--rope-factor", type=float, help="Llama 3 rope scaling by this factor")
    options = parser.parse_args()
    shape = shape_from(options)
    write_random_model(
        options.out,
        shape,
        seed=options.seed,
        weight_type=DTYPE_FLAGS[options.dtype],
        max_shard_bytes=options.max_shard_bytes,
    )
    print(f"wrote {options.out}, seed {options.seed}")


if __name__ == "__main__":
    main()
