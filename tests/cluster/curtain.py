"""A TCP forwarder with a curtain: while it is down nothing passes, and no connection is told."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536


class Curtain:
    """Forwards `port` to `target_port`, both on loopback. While it is down bytes are dropped: what TCP calls half-open
    is a peer that is gone and whose end nobody heard of. A connection that lost bytes is of no use any more."""

    def __init__(self, port: int, target_port: int) -> None:
        self.is_down = False
        self._port = port
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_connection("127.0.0.1", self._target_port)
        except ConnectionError:  # whoever listens there is not up
            writer.close()
            return
        self._begin(self._pump(reader, asks))
        self._begin(self._pump(answers, writer))

    def _begin(self, pump: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(pump)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_torn = False
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                is_torn = is_torn or self.is_down
                if not is_torn:
                    writer.write(chunk)
                    await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()
