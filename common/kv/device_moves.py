"""Pages that move within a GPU with their digests: gathered and sealed, or scattered and verified, in one pass.

NOT RUN ON A GPU YET: bit for bit the CPU's in Triton's interpreter, in order on a device that is late.

Legend: N pages that move, U parts of pages, B bytes of a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from common.kv.cuda_stream import on_device
from common.kv.device_keys import DeviceKeys, KeySet
from common.kv.device_memory import listed_on, memory_for, tensor_of
from common.kv.digest import DigestKey
from common.kv.page_streams import Mark, PageStreams
from common.kv.seal import Seal
from common.kv.span import DeviceSpan
from kernels.move_keys import MoveKeys
from kernels.page_move import gather_pages, scatter_pages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaunchedSealing:
    """A gather that was launched: its digests come to `told_N` behind it."""

    key: DigestKey
    told_N: torch.Tensor
    mark: Mark
    device: torch.device
    is_made: bool = False

    def finish(self) -> bytes:
        with on_device(self.device):
            self.mark.finish()
        return self.told_N.numpy().astype("<i8").tobytes()


class DeviceMoves:
    """Over the pages of one storage, and on its streams. `parts_UB` are its bytes, cut as the call wants them."""

    def __init__(self, device: torch.device, streams: PageStreams, keys: DeviceKeys) -> None:
        self._device = device
        self._streams = streams
        self._keys = keys

    def gather(
        self, parts_UB: torch.Tensor, numbers: Sequence[int], out: DeviceSpan, key: DigestKey, first_index: int
    ) -> LaunchedSealing:
        """Launched, not awaited. Keys that are there already are not waited for either (PageDevice.make_keys)."""
        with on_device(self._device), memory_for(self._device, "digests"):
            keys = self._keys.of(key, parts_UB.shape[1])
            told_N = torch.empty(len(numbers), dtype=torch.int64, pin_memory=self._is_cuda)
            staged_NB = tensor_of(out, self._device).view(len(numbers), -1)

            def move() -> None:
                words = self._held(keys)
                found_N = gather_pages(
                    parts_UB, listed_on(self._device, numbers), staged_NB, words, first_index=first_index
                )
                assert found_N is not None, "digests were asked for"
                told_N.copy_(found_N, non_blocking=True)

            mark = self._streams.lift(move, out, after=keys.made)
        return LaunchedSealing(key=key, told_N=told_N, mark=mark, device=self._device)

    def scatter(self, parts_UB: torch.Tensor, numbers: Sequence[int], data: DeviceSpan, seal: Seal) -> bool:
        """Awaited. Whether every part is what was sealed; parts that are not were written like the others."""
        with on_device(self._device), memory_for(self._device, "digests"):
            keys = self._keys.of(seal.key, parts_UB.shape[1])
            told_N = torch.empty(len(numbers), dtype=torch.bool, pin_memory=self._is_cuda)
            staged_NB = tensor_of(data, self._device).view(len(numbers), -1)
            wanted_N = torch.frombuffer(bytearray(seal.digests), dtype=torch.int64)
            wanted_N = wanted_N.pin_memory() if self._is_cuda else wanted_N

            def move() -> None:
                is_corrupt_N = scatter_pages(
                    staged_NB,
                    parts_UB,
                    listed_on(self._device, numbers),
                    self._held(keys),
                    wanted_N.to(self._device, non_blocking=True),
                    first_index=seal.first_index,
                )
                assert is_corrupt_N is not None, "digests were given"
                told_N.copy_(is_corrupt_N, non_blocking=True)

            self._streams.lower(move, after=keys.made)
        return not bool(told_N.any())

    @property
    def _is_cuda(self) -> bool:
        return self._device.type == "cuda"

    def _held(self, keys: KeySet) -> MoveKeys:
        """Their memory goes to nobody before what is launched here is done, should the set be forgotten meanwhile."""
        words = keys.there()
        if self._is_cuda:
            words.words_W.record_stream(torch.cuda.current_stream(self._device))
        return words
