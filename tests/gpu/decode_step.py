"""An engine's parts on a GPU, checked and then timed: `python -m tests.gpu.decode_step [--out FILE]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` runs everything but the captures and the times in Triton's interpreter, as CI does.
From a bare checkout: torch, triton and numpy. Checks: a small model's logits and pages against the CPU's; decode steps
recorded as graphs against the same padded steps as they come, bit for bit; pages gathered and scattered with the
digests of common/kv/digest; tokens that go from one step to the next on the device; draws against a CPU's. Times, where
what they rest on passed: decode steps of the 8B shape in bf16 and the share of them that draws take (step_times).
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from common.core.ids import PageId, TokenId
from common.core.step import STAND_IN
from common.engine.buckets import Buckets, padded
from common.engine.decode_graphs import DecodeGraphs, Record
from common.engine.device_graph import recorder
from common.engine.following import Draws, following
from common.engine.inputs import ragged_tokens
from kernels.dispatch import interpreted
from kernels.move_keys import MoveKeys
from kernels.page_move import gather_pages, page_digests, scatter_pages
from tests.gpu.draws import draws_are_equal
from tests.gpu.page_moves import moves_keep_their_order
from tests.gpu.part import NO_GPU, conditions, keep, part_device, part_parser, tell
from tests.gpu.random_decoder import TINY, random_decoder
from tests.gpu.rows import contexts, eager, step_row, storage_for
from tests.gpu.step_times import timed_steps

TIMES_REST_ON = {"forward_error", "recorded_steps_are_equal", "draws_are_equal"}


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
            found += [eager(decoder, storage, rows).cpu() for rows in (prompts, singles)]
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
    eager(decoder, storage, [step_row(place, 0, end, tables[place]) for place, end in enumerate(ends)])
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


def checks(device: torch.device, record: Record, *, is_interpreted: bool) -> dict[str, object]:
    """Each by itself: one that fails, or cannot be run, is told, and what does not rest on it goes on."""
    inside = interpreted if is_interpreted else nullcontext
    found: dict[str, object] = {}
    with torch.inference_mode():
        found["forward_error"] = told(lambda: forward_error(device, is_interpreted=is_interpreted))
        found["draws_are_equal"] = told(lambda: draws_are_equal(device, is_interpreted=is_interpreted))
        with inside():
            found["recorded_steps_are_equal"] = told(lambda: graphs_are_equal(device, record))
            found["pages_and_digests_are_equal"] = told(lambda: pages_are_equal(device))
            found["moves_keep_their_order"] = told(
                lambda: moves_keep_their_order(storage_for(TINY, "bfloat16", 3, device))
            )
            found["steps_ahead_are_equal"] = told(lambda: ahead_is_equal(device, record))
    passed = {name for name, said in found.items() if said is True}
    error = found["forward_error"]
    # Logits are of the order of one, in fp32.
    passed |= {"forward_error"} if isinstance(error, float) and error < 1e-3 else set()
    return found | {"all_passed": passed == set(found), "may_be_timed": passed >= TIMES_REST_ON}


def told(check: Callable[[], object]) -> object:
    """What it found, or how it failed."""
    try:
        return check()
    except Exception as failure:  # noqa: BLE001  # a check that cannot be run has not passed, whatever the reason
        return f"{type(failure).__name__}: {failure}"[:300]


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
        if found["may_be_timed"]:
            with torch.inference_mode():
                for so_far in timed_steps(device):
                    found |= so_far
                    keep(found, given.out)
    tell(found, given.out)
    return 0 if found["all_passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
