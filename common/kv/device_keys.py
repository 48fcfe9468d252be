"""Digest keys of pairs on the GPU, for whoever digests there: in a pass of its own, or while pages move.

They are made on the stream of their readers: on the steps' own a first digest would wait for a step. NOT RUN ON A GPU.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch

from common.kv.digest import DigestKey
from common.kv.page_device import MAX_KEYS
from common.kv.page_streams import Mark, PageStreams
from kernels.move_keys import WORD_BYTES, MoveKeys


@dataclass(slots=True, eq=False)
class KeySet:
    """A pair's keys for pages of one size. Whoever uses them holds the set until the device is done with it."""

    words: MoveKeys | None = None
    """There for what the device does behind `made`."""
    made: Mark | None = None

    def there(self) -> MoveKeys:
        assert self.words is not None, "read before they were made"
        return self.words


class DeviceKeys:
    """Any thread may call. At most MAX_KEYS sets are kept."""

    def __init__(self, device: torch.device, streams: PageStreams) -> None:
        self._device = device
        self._streams = streams
        self._sets: OrderedDict[tuple[DigestKey, int], KeySet] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sets)

    def sets(self) -> tuple[KeySet, ...]:
        return tuple(self._sets.values())

    def known(self, key: DigestKey, page_bytes: int) -> KeySet | None:
        """What was made before, without making it."""
        with self._lock:
            if (known := self._sets.get((key, page_bytes))) is not None:
                self._sets.move_to_end((key, page_bytes))
            return known

    def of(self, key: DigestKey, page_bytes: int) -> KeySet:
        """Made before their use is launched: that takes ms of a processor, and others want streams and sets meanwhile;
        two who want a new set at once make it twice."""
        if (known := self.known(key, page_bytes)) is not None:
            return known
        made, stream = KeySet(), key.stream(page_bytes // WORD_BYTES + 1).view("<i8")
        host_W = torch.from_numpy(stream[1:].copy())
        if self._device.type == "cuda":
            host_W = host_W.pin_memory()

        def bring() -> None:
            words_W = host_W.to(self._device, non_blocking=True)
            made.words = MoveKeys(position=int(stream[0]), words_W=words_W)

        made.made = self._streams.provide(bring)
        with self._lock:
            self._sets[key, page_bytes] = made
            if len(self._sets) > MAX_KEYS:
                self._sets.popitem(last=False)
        return made
