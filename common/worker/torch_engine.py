"""The executor with weights: read the model, size its pages, warm it up. Imported only where torch is wanted."""

from pathlib import Path

from common.config.config import Config
from common.core.clock import SystemClock
from common.core.ids import TokenId
from common.engine.executor import Executor
from common.engine.torch_executor import TorchExecutor
from common.kv.torch_storage import TorchStorage
from common.model.load import load_model
from common.worker.capacity import Report, count_pages
from common.worker.compute import check_exact


def build_torch(config: Config, folder: Path, report: Report) -> tuple[Executor, tuple[TokenId, ...]]:
    """The executor and the tokens that end an answer. Raises StartupError with the folder's fault."""
    clock = SystemClock()
    began = clock.monotonic()
    model = load_model(
        folder,
        dtype=config.model.dtype,
        max_context=config.model.max_context,
        verify_manifest=config.model.verify_manifest,
    )
    check_exact(config.engine, model.dtype)
    description = model.description
    layout = description.spec.page_layout(
        page_size=config.engine.page_size,
        dtype=model.dtype if config.engine.kv_dtype == "auto" else config.engine.kv_dtype,
        model_digest=model.digest,
    )
    num_pages = count_pages(config.engine, layout)
    report(
        f"{description.name}: {description.num_parameters / 1e6:.1f} M parameters in {model.dtype}, loaded in "
        f"{clock.monotonic() - began:.1f} s; {num_pages} pages of {layout.page_size} tokens"
    )
    storage = TorchStorage(layout, num_pages)
    executor = TorchExecutor(model.decoder, storage, clock=clock, num_threads=config.engine.threads)
    return executor, description.generation.eos_ids
