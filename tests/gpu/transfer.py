"""A hand-off's work on one GPU: `python -m tests.gpu.transfer [--out FILE] [--miniature]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` checks in Triton's interpreter and times nothing. 32k tokens of the 8B shape: pages
are gathered into staging with their digests, copied as a channel between processes of one GPU copies them, and
scattered with verification. Each part beside its bound, bytes read and written over the bandwidth of a large copy in
the same run; in all, the share of a single copy. A corrupt page must be found before anything is timed. From a bare
checkout.
"""

import sys
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.bench.ceilings import measured_ceilings
from kernels.bench.stopwatch import measure
from kernels.dispatch import interpreted
from kernels.move_keys import MoveKeys
from kernels.page_move import gather_pages, scatter_pages
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell

TOKENS, PAGE_SIZE = 32_768, 16
EIGHT_B_TOKEN_BYTES = 32 * 2 * 8 * 128 * 2
"""Layers, key and value, heads, channels, bytes of bf16."""

REPEATS = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Pages here and there, staging on both sides, and the keys of the pair."""

    have_PB: Tensor
    want_PB: Tensor
    pages_N: Tensor
    sent_NB: Tensor
    landed_NB: Tensor
    keys: MoveKeys

    @classmethod
    def made(cls, num_pages: int, page_bytes: int, device: torch.device) -> "Scene":
        have_PB = torch.randint(0, 256, (num_pages + 1, page_bytes), dtype=torch.uint8, device=device)
        words_W = torch.randint(-(2**62), 2**62, (page_bytes // 4,), device=device)
        sent_NB = torch.zeros(num_pages, page_bytes, dtype=torch.uint8, device=device)
        return cls(
            have_PB=have_PB,
            want_PB=torch.zeros_like(have_PB),
            pages_N=torch.randperm(num_pages + 1, device=device)[:num_pages],
            sent_NB=sent_NB,
            landed_NB=torch.zeros_like(sent_NB),
            keys=MoveKeys(position=5, words_W=words_W),
        )

    def gather(self) -> Tensor:
        digests_N = gather_pages(self.have_PB, self.pages_N, self.sent_NB, self.keys)
        assert digests_N is not None
        return digests_N

    def scatter(self, digests_N: Tensor) -> Tensor:
        is_corrupt_N = scatter_pages(self.landed_NB, self.want_PB, self.pages_N, self.keys, digests_N)
        assert is_corrupt_N is not None
        return is_corrupt_N

    def hand_off(self) -> Tensor:
        digests_N = self.gather()
        self.landed_NB.copy_(self.sent_NB)
        return self.scatter(digests_N)


def pages_arrive(scene: Scene) -> bool:
    """Whole ones are equal there; a page with one bit changed on its way is named."""
    is_whole = not bool(scene.hand_off().any())
    is_whole &= torch.equal(scene.want_PB[scene.pages_N], scene.have_PB[scene.pages_N])
    digests_N = scene.gather()
    scene.landed_NB.copy_(scene.sent_NB)
    scene.landed_NB[1, 7] ^= 16
    return is_whole and scene.scatter(digests_N).nonzero().tolist() == [[1]]


def timed(scene: Scene, device: torch.device) -> dict[str, object]:
    bytes_per_s = measured_ceilings(device, REPEATS).bytes_per_s
    bound_s = 2 * scene.sent_NB.nbytes / bytes_per_s
    digests_N = scene.gather()
    parts = {
        "gather_with_digests": lambda _: scene.gather(),
        "copy": lambda _: scene.landed_NB.copy_(scene.sent_NB),
        "scatter_with_verification": lambda _: scene.scatter(digests_N),
        "hand_off": lambda _: scene.hand_off(),
    }
    found: dict[str, object] = {"mib": scene.sent_NB.nbytes >> 20, "copy_bound_ms": bound_s * 1e3}
    for name, run in parts.items():
        took_s = measure(run, device, REPEATS).seconds
        found[name] = {"ms": took_s * 1e3, "share_of_one_copy": bound_s / took_s}
    return found


def main() -> int:
    """0 when every page arrived, 1 when not, 2 without a GPU."""
    given = part_parser(__doc__).parse_args()
    device = part_device(is_small=given.miniature)
    if device is None:
        return NO_GPU
    page_bytes = 1024 if given.miniature else PAGE_SIZE * EIGHT_B_TOKEN_BYTES
    num_pages = 5 if given.miniature else TOKENS // PAGE_SIZE
    with torch.inference_mode(), interpreted() if given.miniature else nullcontext():
        scene = Scene.made(num_pages, page_bytes, device)
        is_right = pages_arrive(scene)
        found: dict[str, object] = {"pages_arrive": is_right}
        if is_right and not given.miniature:
            found |= conditions(device) | timed(scene, device)
    tell(found, given.out)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
