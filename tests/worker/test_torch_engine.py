"""How a worker finds out what a GPU has left for pages; the GPU itself is stood in for."""

import pytest
import torch

from common.config.sections.engine import EngineSection
from common.core.clock import ManualClock
from common.core.step import Step, StepResult
from common.engine.torch_executor import TorchExecutor
from common.kv.layout import PageLayout
from common.kv.torch_storage import TorchStorage
from common.worker import torch_engine
from common.worker.torch_engine import dtype_in_words, make_executor, rehearse
from tests.engine.torch_rig import small_model

MIB = 2**20


def test_free_memory_is_measured_after_the_largest_steps_and_what_they_took_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    decoder = small_model().decoder
    layout = decoder.spec.page_layout(page_size=16, dtype="float32", model_digest=b"")
    order: list[str] = []
    run = TorchExecutor.run

    def measured(device: torch.device) -> int:
        order.append(f"measured on {device}")
        return 123 * MIB

    def told_run(executor: TorchExecutor, step: Step) -> StepResult:
        order.append(f"{len(step.rows)} rows of {step.num_tokens} tokens")
        return run(executor, step)

    monkeypatch.setattr(torch_engine, "free_device_bytes", measured)
    monkeypatch.setattr(torch_engine, "release_device_memory", lambda: order.append("given back"))
    monkeypatch.setattr(TorchExecutor, "run", told_run)
    told: list[str] = []
    engine = EngineSection(max_batch_tokens=40, max_sequences=3)
    assert rehearse(engine, decoder, layout, ManualClock(), told.append) == 123 * MIB
    assert order == ["1 rows of 40 tokens", "3 rows of 3 tokens", "measured on cpu", "given back"]
    assert told[0].startswith("123 MiB of cpu are free")


def test_a_cpu_has_no_scratch_page_and_records_nothing() -> None:
    decoder = small_model().decoder
    layout = decoder.spec.page_layout(page_size=16, dtype="float32", model_digest=b"")
    executor = make_executor(EngineSection(), decoder, layout, 8, ManualClock())
    assert executor.storage.scratch is None
    assert len(executor.storage.kv_PL2HSD) == 8
    assert executor._graphs is None


def test_a_worker_that_never_decodes_records_no_decode_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage with a scratch page stands for a GPU's."""
    decoder = small_model().decoder
    layout = decoder.spec.page_layout(page_size=16, dtype="float32", model_digest=b"")
    recorded: list[object] = []

    def with_scratch(layout: PageLayout, num_pages: int, device: torch.device, **_facts: object) -> TorchStorage:
        return TorchStorage(layout, num_pages, device, has_scratch=True)

    monkeypatch.setattr(torch_engine, "TorchStorage", with_scratch)
    monkeypatch.setattr(torch_engine, "can_be_recorded", lambda *_given: True)
    monkeypatch.setattr(torch_engine, "recorder", lambda device: device)
    monkeypatch.setattr(torch_engine, "DecodeGraphs", lambda *_given, **facts: recorded.append(facts["buckets"]))
    for decodes, count in ((False, 0), (True, 1)):
        make_executor(EngineSection(), decoder, layout, 8, ManualClock(), decodes=decodes)
        assert len(recorded) == count


@pytest.mark.parametrize(
    ("dtype", "stored", "device", "words"),
    [
        ("float32", "bfloat16", "cpu", "float32 (model.dtype=auto: bfloat16)"),
        ("bfloat16", "bfloat16", "cpu", "bfloat16"),
        ("float32", "float16", "cpu", "float32"),
        ("float32", "float16", "cuda", "float32 (model.dtype=auto: float16)"),
    ],
)
def test_who_computes_in_another_type_than_the_checkpoints_is_told(
    dtype: str, stored: str, device: str, words: str
) -> None:
    """Twice the bytes of every step, by a default that a benchmark's reader may not know of."""
    assert dtype_in_words(dtype, stored=stored, device=device) == words
