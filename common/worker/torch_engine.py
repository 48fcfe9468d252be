"""The executor with weights: read the model, size its pages, warm it up. Imported only where torch is wanted.

On a GPU pages take a share of what is left when everything else has what it needs, which is measured: the largest
steps run, and decode steps are recorded, over a few pages first. That way was NOT RUN ON A GPU YET.
"""

from pathlib import Path

from common.config.config import Config
from common.config.sections.engine import EngineSection
from common.core.clock import Clock, SystemClock
from common.core.ids import TokenId
from common.engine.buckets import buckets_up_to
from common.engine.decode_graphs import DecodeGraphs, can_be_recorded
from common.engine.device import find_device, free_device_bytes, release_device_memory, use_device
from common.engine.device_graph import recorder
from common.engine.layer_news import LayerNews
from common.engine.rehearsal import rehearsal_pages, rehearsal_steps
from common.engine.torch_executor import TorchExecutor
from common.kv.layout import PageLayout
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.load import choose_dtype, load_model
from common.worker.capacity import Report, count_pages
from common.worker.compute import check_exact
from common.worker.docking import staged_bytes


def build_torch(
    config: Config, folder: Path, report: Report, *, decodes: bool
) -> tuple[TorchExecutor, tuple[TokenId, ...]]:
    """The executor and the tokens that end an answer. A worker that never `decodes` records no such steps.

    Raises StartupError with the folder's fault.
    """
    clock, device = SystemClock(), find_device(config.engine.device)
    use_device(device)
    began = clock.monotonic()
    model = load_model(
        folder,
        dtype=config.model.dtype,
        device=str(device),
        max_context=config.model.max_context,
        verify_manifest=config.model.verify_manifest,
    )
    is_on_gpu = device.type != "cpu"
    check_exact(config.engine, model.dtype, is_on_gpu=is_on_gpu)
    description = model.description
    layout = description.spec.page_layout(
        page_size=config.engine.page_size,
        dtype=model.dtype if config.engine.kv_dtype == "auto" else config.engine.kv_dtype,
        model_digest=model.digest,
    )
    free_bytes = None
    if is_on_gpu:
        measured = rehearse(config.engine, model.decoder, layout, clock, report, decodes=decodes)
        free_bytes = max(0, measured - staged_bytes(config.transfer, layout.page_bytes, exports=not decodes))
    num_pages = count_pages(config.engine, layout, free_bytes=free_bytes)
    report(
        f"{description.name}: {description.num_parameters / 1e6:.1f} M parameters in "
        f"{dtype_in_words(model.dtype, stored=description.stored_dtype, device=device.type)} on {device}, loaded "
        f"in {clock.monotonic() - began:.1f} s; {num_pages} pages of {layout.page_size} tokens"
    )
    executor = make_executor(config.engine, model.decoder, layout, num_pages, clock, decodes=decodes)
    executor.news = LayerNews(layout.num_layers, config.transfer.layer_groups)
    return executor, description.generation.eos_ids


def dtype_in_words(dtype: str, *, stored: str, device: str) -> str:
    """The type that a model runs in, and the one that `auto` would take: half the bytes are most of a decode step."""
    own = choose_dtype("auto", stored=stored, device=device)
    return dtype if own == dtype else f"{dtype} (model.dtype=auto: {own})"


def make_executor(
    engine: EngineSection, decoder: Decoder, layout: PageLayout, num_pages: int, clock: Clock, *, decodes: bool = True
) -> TorchExecutor:
    """On the decoder's device, over pages of its own; on a GPU with decode steps recorded where it `decodes`."""
    storage = TorchStorage(layout, num_pages, decoder.device, has_scratch=decoder.device.type != "cpu")
    graphs = None
    is_wanted = decodes and engine.cuda_graphs
    if storage.scratch is not None and is_wanted and can_be_recorded(decoder, storage.kv_PL2HSD):
        graphs = DecodeGraphs(
            decoder,
            storage.kv_PL2HSD,
            scratch=storage.scratch,
            buckets=buckets_up_to(engine.max_sequences),
            record=recorder(decoder.device),
        )
    return TorchExecutor(decoder, storage, clock=clock, num_threads=engine.threads, graphs=graphs)


def rehearse(
    engine: EngineSection,
    decoder: Decoder,
    layout: PageLayout,
    clock: Clock,
    report: Report,
    *,
    decodes: bool = True,
) -> int:
    """Bytes of the GPU that are free while the largest steps run and all recorded steps lie in memory.

    What was taken for this is given back: the same is taken again beside the pages.
    """
    began = clock.monotonic()
    sizes = {"num_tokens": engine.max_batch_tokens, "max_context": decoder.max_context}
    executor = make_executor(engine, decoder, layout, rehearsal_pages(layout, **sizes), clock, decodes=decodes)
    for step in rehearsal_steps(layout, num_rows=engine.max_sequences, **sizes):
        executor.run(step)
    free_bytes = free_device_bytes(decoder.device)
    del executor
    release_device_memory()
    report(
        f"{free_bytes >> 20} MiB of {decoder.device} are free beside weights, recorded steps and the largest steps, "
        f"measured in {clock.monotonic() - began:.1f} s"
    )
    return free_bytes
