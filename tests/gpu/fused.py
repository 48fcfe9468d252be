"""Four passes over memory instead of eight: a run is gathered with its digests straight into the other process's slot,
and scattered out of it with verification.

kernels/page_move has both; no worker does it. What a worker would have to change stands in docs/gpu.md.
"""

from collections.abc import Sequence

import torch

from common.core.ids import PageId
from common.kv.digest import DigestKey
from common.kv.span import DeviceSpan
from common.kv.torch_device import tensor_of
from common.kv.torch_storage import TorchStorage
from kernels.page_move import WORD_BYTES, MoveKeys, gather_pages, scatter_pages


class FusedMoves:
    """At one end, over its pages. Both calls block until the device is done."""

    def __init__(self, storage: TorchStorage, key: DigestKey) -> None:
        self._storage = storage
        self._size = storage.layout.page_bytes
        stream = key.stream(self._size // WORD_BYTES + 1).view("<i8")
        words_W = torch.from_numpy(stream[1:].copy()).to(storage.device)
        self._keys = MoveKeys(position=int(stream[0]), words_W=words_W)

    def gather(self, pages: Sequence[PageId], slot: DeviceSpan, *, first_index: int) -> bytes:
        """The pages' bytes are in the slot; their digests."""
        told_N = torch.empty(len(pages), dtype=torch.int64, pin_memory=self._storage.device.type == "cuda")
        staged_NB = tensor_of(slot, self._storage.device).view(len(pages), self._size)

        def move() -> None:
            found_N = gather_pages(self._bytes(), self._listed(pages), staged_NB, self._keys, first_index=first_index)
            assert found_N is not None, "digests were asked for"
            told_N.copy_(found_N, non_blocking=True)

        self._storage.streams.take(move)
        return told_N.numpy().astype("<i8").tobytes()

    def scatter(self, pages: Sequence[PageId], slot: DeviceSpan, digests: bytes, *, first_index: int) -> bool:
        """The slot's bytes are in the pages; whether all are what was sent. Nobody may read pages that are not."""
        told_N = torch.empty(len(pages), dtype=torch.bool, pin_memory=self._storage.device.type == "cuda")
        staged_NB = tensor_of(slot, self._storage.device).view(len(pages), self._size)
        wanted_N = torch.frombuffer(bytearray(digests), dtype=torch.int64)

        def move() -> None:
            is_corrupt_N = scatter_pages(
                staged_NB,
                self._bytes(),
                self._listed(pages),
                self._keys,
                wanted_N.to(self._storage.device),
                first_index=first_index,
            )
            assert is_corrupt_N is not None, "digests were given"
            told_N.copy_(is_corrupt_N, non_blocking=True)

        self._storage.streams.lower(move)
        return not bool(told_N.any())

    def _bytes(self) -> torch.Tensor:
        kv = self._storage.kv_PL2HSD
        return kv.view(len(kv), -1).view(torch.uint8)

    def _listed(self, pages: Sequence[PageId]) -> torch.Tensor:
        return torch.tensor(pages, dtype=torch.int64).to(self._storage.device)
