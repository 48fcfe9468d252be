"""One Generate call after validation."""

from dataclasses import dataclass

from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.worker.vllm.handover import HandOver


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`seed` None: the request's name stands in, so that both legs draw with the same noise."""

    name: str
    prompt: tuple[TokenId, ...]
    sampling: TokenSampling
    num_choices: int = 1
    seed: int | None = None
    streams: bool = False
    stops: tuple[str, ...] = ()
    handover: HandOver | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a gateway asks about the model. `folder` empty: there is none, and no tokenizer."""

    name: str
    folder: str
    max_context: int
    vocab_size: int
    model_type: str = ""
    architectures: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
