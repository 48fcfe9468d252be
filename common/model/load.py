"""From a folder to a model that runs: every check first, then the weights, tensor by tensor."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from common.model.decoder import Decoder
from common.model.description import ModelDescription, describe
from common.model.folder import load_failed
from common.model.rope_form import LongScaling
from common.model.spec import ModelSpec
from common.model.tensor_names import EMBEDDING, HEAD
from common.model.weights import WeightReader

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A decoder together with what its folder says about it. `dtype` is the one it runs in.

    `digest` names its pages: the weights, and the longest context where that decides how keys are turned.
    """

    description: ModelDescription
    decoder: Decoder
    dtype: str

    @property
    def digest(self) -> bytes:
        factors = long_factors(self.decoder.spec, self.decoder.max_context)
        return self.description.digest if not factors else sha256(self.description.digest + factors).digest()


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
    run_dtype = choose_dtype(dtype, stored=description.stored_dtype, device=device)
    if max_context is not None and not 1 <= max_context <= spec.max_positions:
        raise load_failed(f"max_context is {max_context}; {folder.name} takes 1 to {spec.max_positions} tokens")
    with WeightReader(folder, description.weights) as reader, torch.inference_mode():
        check_tied(description, reader)

        def read(name: str, dtype: torch.dtype | None = None) -> Tensor:
            # A copy: the file must not change below a running model.
            return reader.tensor(name).to(device=device, dtype=dtype or DTYPES[run_dtype], copy=True)

        stored, running = DTYPES[description.stored_dtype], DTYPES[run_dtype]
        try:
            decoder = Decoder(
                spec,
                read,
                max_context=max_context or spec.max_positions,
                dtype=running,
                table_dtype=stored if stored.itemsize < running.itemsize else running,
            )
        except (RuntimeError, MemoryError) as error:  # torch's word for memory that is not there
            context = f"a context of {max_context or spec.max_positions} (model.max_context)"
            raise load_failed(
                f"{folder.name} cannot be loaded with {context} in {run_dtype}: {error!s:.200}"
            ) from error
    return LoadedModel(description=description, decoder=decoder, dtype=run_dtype)


def check_tied(description: ModelDescription, reader: WeightReader) -> None:
    """Refuse a head beside an embedding that config.json calls one and the same: either of the two was meant, and the
    answers differ. Fine-tuning that untied them leaves such folders. Raises StartupError.
    """
    if not description.spec.is_tied or HEAD not in description.weights.tensors:
        return
    head, embedding = reader.tensor(HEAD), reader.tensor(EMBEDDING)
    if head.shape != embedding.shape or not torch.equal(head, embedding.to(head.dtype)):
        raise load_failed(
            f"{description.name}: {HEAD} is not {EMBEDDING}, though config.json ties them (tie_word_embeddings); "
            "set it to false to use the head, or remove the head"
        )


def choose_dtype(asked: str, *, stored: str, device: str) -> str:
    """The type to run in; `auto` takes the stored one, but fp32 for fp16 weights on a CPU. Raises StartupError.

    What is computed in fp16 overflows above 65,504, which activations of large models reach, and processors widen it
    before they multiply. Every fp16 number is an fp32 number, so fp32 loses nothing but memory. Who asks for float16
    by name gets it.
    """
    run = stored if asked == "auto" else asked
    if run not in DTYPES:
        raise load_failed(f"dtype is {asked}; known are auto, {', '.join(DTYPES)}")
    return "float32" if asked == "auto" and run == "float16" and device == "cpu" else run


def long_factors(spec: ModelSpec, max_context: int) -> bytes:
    """Names the factors that ropes for long contexts take for this one; empty where the context decides nothing."""
    scalings = [rope.scaling for rope in spec.ropes if isinstance(rope.scaling, LongScaling)]
    return repr([scaling.factors(max_context) for scaling in scalings]).encode() if scalings else b""
