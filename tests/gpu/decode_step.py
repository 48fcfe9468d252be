"""An engine's parts on a GPU, checked and then timed: `python -m tests.gpu.decode_step [--out FILE]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` runs everything but the captures and the times in Triton's interpreter, as CI does.
From a bare checkout: torch, triton and numpy. Checks: a small model's logits and pages against the CPU's; decode steps
recorded as graphs against the same padded steps as they come, bit for bit; pages gathered and scattered with the
digests of common/kv/digest; tokens that go from one step to the next on the device. Times, where every check passed:
decode steps of the 8B shape in bf16, recorded and not, beside their bound, weights and keys and values over the copy
bandwidth measured in the same run.
"""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import STAND_IN, Sample, StepRow
from common.engine.buckets import Buckets, padded
from common.engine.decode_graphs import DecodeGraphs, Record
from common.engine.device_graph import recorder
from common.engine.following import Draws, following
from common.engine.inputs import ragged_tokens
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.spec import ModelSpec
from kernels.dispatch import interpreted
from kernels.page_move import MoveKeys, gather_pages, page_digests, scatter_pages
from tests.gpu.page_moves import moves_keep_their_order
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell
from tests.gpu.random_decoder import EIGHT_B, TINY, num_weight_bytes, random_decoder

PAGE_SIZE = 16
GREEDY = TokenSampling(temperature=0.0)
WARM_UPS, REPEATS = 3, 20
CASES = ((1, 1024), (8, 1024), (64, 1024), (64, 4096))
"""Rows and tokens of context of the timed steps."""


def step_row(place: int, start: int, count: int, pages: list[PageId]) -> StepRow:
    return StepRow(
        sequence=SequenceId(RequestId(f"row-{place}")),
        tokens=tuple(TokenId((7 * position + place) % 500) for position in range(start, start + count)),
        start=start,
        pages=tuple(pages),
        samples=(Sample(seed=0, position=start + count, sampling=GREEDY),),
    )


def contexts(lengths: list[int]) -> list[list[PageId]]:
    """Pages of each context, in turns, so that no context lies in one piece."""
    free = iter(range(sum(-(-length // PAGE_SIZE) for length in lengths)))
    tables: list[list[PageId]] = [[] for _ in lengths]
    while any(len(table) * PAGE_SIZE < length for table, length in zip(tables, lengths, strict=True)):
        for table, length in zip(tables, lengths, strict=True):
            if len(table) * PAGE_SIZE < length:
                table.append(PageId(next(free)))
    return tables


def storage_for(spec: ModelSpec, dtype: str, num_pages: int, device: torch.device) -> TorchStorage:
    layout = spec.page_layout(page_size=PAGE_SIZE, dtype=dtype, model_digest=b"")
    return TorchStorage(layout, num_pages, device, has_scratch=True)


def forward_error(device: torch.device, *, is_interpreted: bool) -> float:
    """The largest difference between a GPU's logits and pages and a CPU's, of a prompt step and a decode step."""
    found: list[Tensor] = []
    for own, is_gpu in ((torch.device("cpu"), False), (device, True)):
        with interpreted() if is_gpu and is_interpreted else nullcontext():
            decoder = random_decoder(TINY, dtype=torch.float32, device=own, max_context=256, made_on="cpu")
            storage = storage_for(TINY, "float32", 8, own)
            tables = contexts([41, 20])
            prompts = [step_row(0, 0, 40, tables[0]), step_row(1, 0, 19, tables[1])]
            singles = [step_row(0, 40, 1, tables[0]), step_row(1, 19, 1, tables[1])]
            found += [_eager(decoder, storage, rows).cpu() for rows in (prompts, singles)]
            found.append(storage.kv_PL2HSD[:8].cpu())
    half = len(found) // 2
    return max(float((gpu - cpu).abs().max()) for cpu, gpu in zip(found[:half], found[half:], strict=True))


def graphs_are_equal(device: torch.device, record: Record) -> bool:
    """Recorded steps, with other steps in between, against the same padded steps as they come: bit for bit."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    decoder = random_decoder(TINY, dtype=dtype, device=device, max_context=256)
    storage = storage_for(TINY, str(dtype).removeprefix("torch."), 24, device)
    kv, scratch, buckets = storage.kv_PL2HSD, storage.scratch, Buckets(sizes=(1, 4))
    assert scratch is not None
    graphs = DecodeGraphs(decoder, kv, scratch=scratch, buckets=buckets, record=record)
    tables = contexts([70, 3, 20])
    for first in range(2):
        rows = [step_row(place, first, 1, table) for place, table in enumerate(tables)]
        for own in (rows, rows[:1], rows[1:]):
            size = buckets.choose(len(own))
            found = graphs.forward(own)
            assert found is not None
            assert size is not None
            found = found.clone()
            filled = [step_row(9, 0, 1, [scratch]) if not row.samples else row for row in padded(own, size, scratch)]
            expected = decoder.forward(ragged_tokens(filled, kv), kv)[: len(own)]
            if not torch.equal(found, expected):
                return False
    return True


def ahead_is_equal(device: torch.device, record: Record) -> bool:
    """A recorded step that takes tokens from where the step before drew them: the bits of one that was told them."""
    decoder = random_decoder(TINY, dtype=torch.float32, device=device, max_context=256)
    storage = storage_for(TINY, "float32", 8, device)
    kv, scratch = storage.kv_PL2HSD, storage.scratch
    assert scratch is not None
    graphs = DecodeGraphs(decoder, kv, scratch=scratch, buckets=Buckets(sizes=(2,)), record=record)
    tables = contexts([20, 9])
    ends = (16, 5)
    _eager(decoder, storage, [step_row(place, 0, end, tables[place]) for place, end in enumerate(ends)])
    rows = [step_row(place, end, 1, tables[place]) for place, end in enumerate(ends)]
    first = graphs.forward(rows)
    assert first is not None
    last = Draws(ids_S=first.argmax(dim=1), places=[0, 1])
    rows = [step_row(place, end + 1, 1, tables[place]) for place, end in enumerate(ends)]
    behind = [replace(row, tokens=(STAND_IN,), follows=place) for place, row in enumerate(rows)]
    ahead = graphs.forward(behind, following(behind, last, vocab_size=TINY.vocab_size))
    assert ahead is not None
    ahead, drawn = ahead.clone(), last.ids_S.tolist()
    known = graphs.forward([replace(row, tokens=(TokenId(token),)) for row, token in zip(rows, drawn, strict=True)])
    assert known is not None
    return torch.equal(ahead, known)


def pages_are_equal(device: torch.device) -> bool:
    """Gathered with digests, scattered and verified, and through the storage's host buffers."""
    storage = storage_for(TINY, "bfloat16", 9, device)
    pages_PB = storage.kv_PL2HSD.view(10, -1).view(torch.uint8)
    pages_PB.copy_(torch.randint(0, 256, pages_PB.shape, dtype=torch.uint8, device=device))
    pages_N = torch.tensor([7, 0, 3], device=device)
    words_W = torch.randint(-(2**62), 2**62, (pages_PB.shape[1] // 4,), device=device)
    keys = MoveKeys(position=3, words_W=words_W)
    staging_NB = torch.empty((3, pages_PB.shape[1]), dtype=torch.uint8, device=device)
    digests_N = gather_pages(pages_PB, pages_N, staging_NB, keys)
    assert digests_N is not None
    expected_NB = pages_PB[pages_N].clone()
    is_right = torch.equal(staging_NB, expected_NB)
    is_right &= torch.equal(digests_N, page_digests(expected_NB, keys, 0))
    corrupt_N = scatter_pages(staging_NB, pages_PB, pages_N.flip(0), keys, digests_N)
    assert corrupt_N is not None
    is_right &= not bool(corrupt_N.any())
    out = bytearray(3 * storage.layout.page_bytes)
    storage.gather([PageId(3), PageId(0), PageId(7)], memoryview(out))
    return is_right and bytes(out) == expected_NB.cpu().numpy().tobytes()


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


def timed_steps(device: torch.device) -> list[dict[str, object]]:
    """Decode steps of the 8B shape, without the draw: the forward's logits stay on the device."""
    bytes_per_s = copied_bytes_per_s(device)
    decoder = random_decoder(EIGHT_B, dtype=torch.bfloat16, device=device, max_context=8192)
    num_pages = max(rows * context for rows, context in CASES) // PAGE_SIZE
    storage = storage_for(EIGHT_B, "bfloat16", num_pages, device)
    assert storage.scratch is not None
    before, _ = torch.cuda.mem_get_info(device)
    began = time.perf_counter()
    graphs = DecodeGraphs(
        decoder,
        storage.kv_PL2HSD,
        scratch=storage.scratch,
        buckets=Buckets(sizes=(1, 8, 64)),
        record=recorder(device),
    )
    recorded_s, (after, _) = time.perf_counter() - began, torch.cuda.mem_get_info(device)
    found: list[dict[str, object]] = [{"recorded_s": recorded_s, "recorded_mib": (before - after) >> 20}]
    for num_rows, context in CASES:
        tables = contexts([context] * num_rows)
        rows = [step_row(place, context - 1, 1, table) for place, table in enumerate(tables)]
        num_bytes = num_weight_bytes(EIGHT_B, torch.bfloat16) + num_rows * context * storage.layout.token_bytes
        bound_s = num_bytes / bytes_per_s
        recorded = seconds_of(lambda rows=rows: graphs.forward(rows), device)  # type: ignore[misc]  # bound at once
        eager = seconds_of(lambda rows=rows: _eager(decoder, storage, rows), device)  # type: ignore[misc]
        found.append(
            {
                "rows": num_rows,
                "context": context,
                "bound_ms": bound_s * 1e3,
                "recorded_ms": recorded * 1e3,
                "as_it_comes_ms": eager * 1e3,
                "share_of_bound": bound_s / recorded,
            }
        )
    return found


def _eager(decoder: Decoder, storage: TorchStorage, rows: list[StepRow]) -> Tensor:
    return decoder.forward(ragged_tokens(rows, storage.kv_PL2HSD), storage.kv_PL2HSD)


def checks(device: torch.device, record: Record, *, is_interpreted: bool) -> dict[str, object]:
    with torch.inference_mode():
        error = forward_error(device, is_interpreted=is_interpreted)
        with interpreted() if is_interpreted else nullcontext():
            are_equal = graphs_are_equal(device, record)
            are_moved = pages_are_equal(device)
            are_ordered = moves_keep_their_order(storage_for(TINY, "bfloat16", 3, device))
            are_ahead = ahead_is_equal(device, record)
    return {
        "forward_error": error,
        "recorded_steps_are_equal": are_equal,
        "pages_and_digests_are_equal": are_moved,
        "moves_keep_their_order": are_ordered,
        "steps_ahead_are_equal": are_ahead,
        # Logits are of the order of one, in fp32.
        "all_passed": error < 1e-3 and are_equal and are_moved and are_ordered and are_ahead,
    }


def main() -> int:
    """0 when every check passed, 1 when one did not, 2 without a GPU."""
    given = part_parser(__doc__).parse_args()
    device = part_device(is_small=given.miniature)
    if device is None:
        return NO_GPU
    if given.miniature:
        found = checks(device, lambda run: run, is_interpreted=True)
    else:
        torch.backends.cuda.matmul.allow_tf32 = False
        found = conditions(device)
        found |= checks(device, recorder(device), is_interpreted=False)
        if found["all_passed"]:
            with torch.inference_mode():
                found["steps"] = timed_steps(device)
    tell(found, given.out)
    return 0 if found["all_passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
