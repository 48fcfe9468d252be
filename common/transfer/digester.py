"""Page digests, made where the pages lie: on the host's offload thread, or by the GPU."""

from common.kv.digest import DigestKey, digest_pages
from common.kv.span import Span
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
