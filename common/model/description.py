"""What can be said of a model folder without running it: all checks of a start, and the numbers a person wants to see.

Torch is not needed: `baton doctor` and the router use it too.
"""

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from common.model.digest import model_digest
from common.model.end_token import tokenizer_end
from common.model.families.registry import model_spec
from common.model.fields import Fields
from common.model.folder import CONFIG_FILE, GENERATION_FILE, check_folder, read_config, read_generation_config
from common.model.forbidden import Forbidden, forbidden
from common.model.generation import GenerationDefaults, generation_defaults
from common.model.manifest import check_manifest
from common.model.spec import ModelSpec
from common.model.tensor_names import EMBEDDING, expected_tensors
from common.model.weights import WeightFiles, check_weights, inspect_weights

STORED_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """A folder that passed every check. `digest` names its weights, 32 bytes."""

    name: str
    spec: ModelSpec
    generation: GenerationDefaults
    forbidden: Forbidden
    weights: WeightFiles
    digest: bytes
    has_manifest: bool

    @property
    def num_parameters(self) -> int:
        """Of what runs. Tied embeddings count once."""
        return sum(prod(shape) for shape in expected_tensors(self.spec).values())

    @property
    def stored_dtype(self) -> str:
        """The type of the embeddings in the file; norms may be stored wider."""
        return STORED_DTYPES[self.weights.tensors[EMBEDDING].dtype]

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""
        spec = self.spec
        millions = self.num_parameters / 1e6
        heads = f"{spec.num_heads} heads of {spec.head_dim}, {spec.num_kv_heads} key-value heads"
        manifest = "manifest verified" if self.has_manifest else "no manifest verified"
        return (
            f"{self.name}: {spec.architecture}, {millions:.1f} M parameters stored as {self.stored_dtype}",
            f"{spec.num_layers} layers of {spec.hidden}, {heads}",
            f"vocabulary {spec.vocab_size}, context {spec.max_positions}, end tokens {list(self.generation.eos_ids)}",
            f"digest {self.digest.hex()[:16]}, {manifest}",
        )


def describe(folder: Path, *, verify_manifest: bool = True) -> ModelDescription:
    """Check a folder as a worker does before it loads it. Raises StartupError with what to do."""
    check_folder(folder)
    config = read_config(folder)
    spec = model_spec(config)
    told = read_generation_config(folder)
    generation = generation_defaults(config, told)
    end = tokenizer_end(folder)
    ends = generation.eos_ids if end is None or end in generation.eos_ids else (*generation.eos_ids, end)
    drawable = tuple(token for token in ends if token < spec.vocab_size)
    generation = replace(generation, eos_ids=drawable)  # the others end nothing, and no mask has a place for them
    weights = inspect_weights(folder)
    check_weights(folder, weights, spec)
    read = {CONFIG_FILE, *weights.files} | ({GENERATION_FILE} if (folder / GENERATION_FILE).exists() else set())
    return ModelDescription(
        name=folder.resolve().name,
        spec=spec,
        generation=generation,
        forbidden=forbidden(Fields(told, GENERATION_FILE), spec.vocab_size, drawable),
        weights=weights,
        digest=model_digest(folder, (CONFIG_FILE, *weights.files)),
        has_manifest=verify_manifest and check_manifest(folder, needed=read),
    )
