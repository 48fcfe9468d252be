"""What would end every worker seconds after its start, said before anything is started."""

from importlib.util import find_spec

from common.config.config import DEFAULT_ORIGIN, Config
from common.core.errors import Reason, StartupError
from common.model.families.registry import model_spec
from common.model.folder import CONFIG_FILE, check_folder, read_config
from common.model.manifest import check_manifest
from common.model.weights import check_weights, inspect_weights
from common.text.tokenizer_file import find_tokenizer
from services.local.topology import ROOT

MAX_HASHED_BYTES = 4 << 20
"""Chosen: configs and templates, in a few milliseconds. Vocabularies and weights are the workers' to read in full."""


def check_start(config: Config) -> None:
    """The library workers compute with, whether the model is of a kind they know, its folder what its manifest says,
    its weights those of its config by name and shape, and a tokenizer there. Numbers and words are theirs to read.

    Raises StartupError.
    """
    if find_spec("torch") is None:
        message = "workers compute with torch, which is not installed: pip install 'baton[worker]', or '.[worker]' here"
        raise StartupError(message=message)
    folder = ROOT / config.model.path
    if not folder.exists() and config.origin("model.path") == DEFAULT_ORIGIN:
        message = f"there is no demo model in {folder}: it comes with a checkout; give a model with --model DIR"
        raise StartupError(message=message, reason=Reason.MODEL_LOAD_FAILED)
    check_folder(folder)
    spec = model_spec(read_config(folder))
    check_weights(folder, inspect_weights(folder), spec)
    find_tokenizer(folder)
    if config.model.verify_manifest and config.engine.executor != "sim":
        check_manifest(folder, needed={CONFIG_FILE}, max_hashed_bytes=MAX_HASHED_BYTES)
