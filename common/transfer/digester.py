"""Page digests, made where the pages lie: on the host's offload thread, or by the GPU."""

from common.kv.digest import DigestKey, digest_pages
from common.kv.seal import Sealing
from common.kv.span import DeviceSpan, Span
from common.transfer.dock import Dock
from common.transfer.offload import Offload


class Digester:
    """Stateless. The digests are the same, wherever they are made."""

    def __init__(self, offload: Offload, dock: Dock | None) -> None:
        self._offload = offload
        self._dock = dock

    async def digest(self, data: Span, page_bytes: int, key: DigestKey, *, first_index: int) -> bytes:
        """Digests of the pages in `data`, one behind the other. Returns or raises only when `data` is not read any
        more."""
        if not data:
            return b""
        if isinstance(data, memoryview):
            host = data
            return b"".join(
                await self._offload.run(lambda: digest_pages(host, page_bytes, key, first_index=first_index))
            )
        assert self._dock is not None, "bytes of a GPU where there is none"
        span, device = data, self._dock.device
        return await self._dock.offload.run(lambda: device.digests(span, page_bytes, key, first_index=first_index))

    async def finish(self, sealing: Sealing) -> bytes:
        """Digests that were made, or launched, where their pages were gathered. Then the gather is over."""
        if sealing.is_made:
            return sealing.finish()
        return await self._waiting.run(sealing.finish)

    async def make_keys(self, page_bytes: int, key: DigestKey) -> None:
        """What digests of such pages are made with: for whoever may not wait for it. Raises TransferFailed where a GPU
        has no memory for them."""
        if self._dock is None:
            await self._offload.run(lambda: key.expand(page_bytes))
            return
        device = self._dock.device
        await self._dock.offload.run(lambda: device.make_keys(page_bytes, key))

    async def finish_lift(self, out: DeviceSpan) -> None:
        """Until nothing that was gathered into `out` is under way."""
        assert self._dock is not None, "bytes of a GPU where there is none"
        device = self._dock.device
        await self._dock.offload.run(lambda: device.finish_lift(out))

    @property
    def _waiting(self) -> Offload:
        """Where the device is waited for, if there is one."""
        return self._offload if self._dock is None else self._dock.offload
