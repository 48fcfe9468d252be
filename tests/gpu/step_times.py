"""Decode steps of the 8B shape against their bound, with the draw that ends them. Part of tests.gpu.decode_step.

A step is what the device does for one token of each row: the recorded forward, and the draw of the next ids, which stay
on the device. The bound is the weights, and the keys and values, over the bandwidth of a large copy of the same run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import torch

from common.core.step import StepRow
from common.engine.buckets import Buckets
from common.engine.decode_graphs import DecodeGraphs
from common.engine.device_graph import recorder
from common.engine.sampler import draw_ids
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.effort import SizedModel
from tests.gpu.draws import WAYS, drawing_s
from tests.gpu.random_decoder import EIGHT_B, random_decoder
from tests.gpu.rows import PAGE_SIZE, contexts, eager, step_row, storage_for

WARM_UPS, REPEATS = 3, 20
CASES = ((1, 1024), (64, 1024), (8, 1024), (64, 4096))
"""Rows and tokens of context of the timed steps; those that have a bar come first."""


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Median of wall time, the launch included: what a step loop sees."""
    times = []
    for turn in range(WARM_UPS + REPEATS):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        if turn >= WARM_UPS:
            times.append(time.perf_counter() - began)
    return median(times)


def copied_bytes_per_s(device: torch.device) -> float:
    """Read and written, by a copy of a gibibyte."""
    source = torch.randint(0, 127, (2**30,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * 2**30 / seconds_of(lambda: target.copy_(source), device)


def timed_steps(device: torch.device) -> Iterator[dict[str, object]]:
    """After each case what was found so far, with what recording cost."""
    bytes_per_s = copied_bytes_per_s(device)
    decoder = random_decoder(EIGHT_B, dtype=torch.bfloat16, device=device, max_context=8192)
    num_pages = max(rows * context for rows, context in CASES) // PAGE_SIZE
    storage = storage_for(EIGHT_B, "bfloat16", num_pages, device)
    storage.kv_PL2HSD.normal_()
    graphs, recorded = _recorded(decoder, storage, device)
    steps = []
    for num_rows, context in CASES:
        tables = contexts([context] * num_rows)
        rows = [step_row(place, context - 1, 1, table) for place, table in enumerate(tables)]
        token_bytes = storage.layout.token_bytes
        bound = {
            "weights_ms": SizedModel.of(EIGHT_B, dtype="bfloat16").read_weight_bytes() / bytes_per_s * 1e3,
            "keys_and_values_ms": num_rows * context * token_bytes / bytes_per_s * 1e3,
        }
        took = _timed(decoder, storage, graphs, rows)
        steps.append(with_shares({"rows": num_rows, "context": context, **bound, **took}))
        yield {"copy_bytes_per_s": bytes_per_s, "recorded": recorded, "steps": steps}


def with_shares(step: dict[str, float]) -> dict[str, float]:
    """And what a step's times say of its bars. Draws are the device's work alone: what the host asks for one with is
    made beside it."""
    bound_ms = step["weights_ms"] + step["keys_and_values_ms"]
    shares = {f"share_of_{name}": step[f"{name}_ms"] / step["step_ms"] for name in WAYS}
    return {
        **step,
        "bound_ms": bound_ms,
        "share_of_bound": bound_ms / step["step_ms"],
        "share_of_weights_bound": step["weights_ms"] / step["step_ms"],
        **shares,
    }


def _recorded(decoder: Decoder, storage: TorchStorage, device: torch.device) -> tuple[DecodeGraphs, dict[str, float]]:
    assert storage.scratch is not None
    before, _ = torch.cuda.mem_get_info(device)
    began = time.perf_counter()
    graphs = DecodeGraphs(
        decoder,
        storage.kv_PL2HSD,
        scratch=storage.scratch,
        buckets=Buckets(sizes=tuple(sorted({rows for rows, _ in CASES}))),
        record=recorder(device),
    )
    recorded_s, (after, _) = time.perf_counter() - began, torch.cuda.mem_get_info(device)
    return graphs, {"seconds": recorded_s, "mib": (before - after) >> 20}


def _timed(decoder: Decoder, storage: TorchStorage, graphs: DecodeGraphs, rows: Sequence[StepRow]) -> dict[str, float]:
    """Wall time of the forward recorded and as it comes, and of the recorded step with a greedy draw; device time of
    draws alone."""
    device, own = storage.device, list(rows)
    samples = [row.samples[0] for row in own]

    def step() -> None:
        logits_RV = graphs.forward(own)
        assert logits_RV is not None
        draw_ids(logits_RV, samples)

    logits_RV = graphs.forward(own)
    assert logits_RV is not None
    draws = {f"{name}_ms": took_s * 1e3 for name, took_s in drawing_s(logits_RV.clone(), REPEATS).items()}
    return {
        "recorded_ms": seconds_of(lambda: graphs.forward(own), device) * 1e3,
        "as_it_comes_ms": seconds_of(lambda: eager(decoder, storage, own), device) * 1e3,
        "step_ms": seconds_of(step, device) * 1e3,
        **draws,
    }
