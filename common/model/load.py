"""From a folder to a model that runs: every check first, then the weights, tensor by tensor."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.model.decoder import Decoder
from common.model.description import ModelDescription, describe
from common.model.folder import load_failed
from common.model.weights import WeightReader

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A decoder together with what its folder says about it. `dtype` is the one it runs in."""

    description: ModelDescription
    decoder: Decoder
    dtype: str


def load_model(
    folder: Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    max_context: int | None = None,
    verify_manifest: bool = True,
) -> LoadedModel:
    """Check the folder and read its weights. dtype `auto` takes the type they are stored in.

    `max_context` may shorten the model's own limit, never lengthen it. Raises StartupError.
    """
    description = describe(folder, verify_manifest=verify_manifest)
    spec = description.spec
    run_dtype = description.stored_dtype if dtype == "auto" else dtype
    if run_dtype not in DTYPES:
        raise load_failed(f"dtype is {dtype}; known are auto, {', '.join(DTYPES)}")
    if max_context is not None and not 1 <= max_context <= spec.max_positions:
        raise load_failed(f"max_context is {max_context}; {folder.name} takes 1 to {spec.max_positions} tokens")
    with WeightReader(folder, description.weights) as reader, torch.inference_mode():

        def read(name: str) -> Tensor:
            # A copy: the file must not change below a running model.
            return reader.tensor(name).to(device=device, dtype=DTYPES[run_dtype], copy=True)

        decoder = Decoder(spec, read, max_context=max_context or spec.max_positions)
    return LoadedModel(description=description, decoder=decoder, dtype=run_dtype)
