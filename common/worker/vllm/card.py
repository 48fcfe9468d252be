"""The model card from a model folder: what its own JSON files say."""

import json
from pathlib import Path
from typing import Any

from common.config.config import Config
from common.core.errors import StartupError
from common.worker.vllm.asked import ModelCard

SIM_VOCAB = 512
SIM_CONTEXT = 4096


def read_card(config: Config) -> ModelCard:
    """Raises StartupError when the folder says nothing about its model."""
    folder = Path(config.model.path)
    name = config.model.name or folder.name
    if config.engine.executor == "sim":
        return ModelCard(
            name=name, folder="", max_context=config.model.max_context or SIM_CONTEXT, vocab_size=SIM_VOCAB
        )
    try:
        described: dict[str, Any] = json.loads((folder / "config.json").read_text())
        eos = described.get("eos_token_id")
        return ModelCard(
            name=name,
            folder=str(folder.resolve()),
            max_context=min(config.model.max_context or 1 << 30, described["max_position_embeddings"]),
            vocab_size=described["vocab_size"],
            model_type=described.get("model_type", ""),
            architectures=tuple(described.get("architectures", ())),
            eos_ids=tuple(eos) if isinstance(eos, list) else (() if eos is None else (eos,)),
        )
    except (OSError, ValueError, KeyError) as error:
        raise StartupError(message=f"{folder}: config.json does not describe a model: {error!r}") from error
