"""A TCP forwarder that damages what passes: it stands where a switch would, between the two ends of a data plane."""

import asyncio
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536


@dataclass(slots=True)
class Damage:
    """Bits to flip, on whichever of several forwarders the next large chunk passes; and those that were flipped."""

    due: int = 0
    done: int = 0


class FlippingProxy:
    """Forwards one loopback port. So many chunks of `min_bytes` or more as are due lose a bit downstream."""

    def __init__(self, target_port: int, damage: Damage, *, min_bytes: int) -> None:
        self.port = 0
        self._damage = damage
        self._target_port = target_port
        self._min_bytes = min_bytes
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self, listener: socket.socket) -> None:
        self.port = int(listener.getsockname()[1])
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._begin(self._pump(reader, upstream_writer, may_flip=False))
        self._begin(self._pump(upstream_reader, writer, may_flip=True))

    def _begin(self, pump: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(pump)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, may_flip: bool) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                writer.write(self._damaged(chunk) if may_flip else chunk)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _damaged(self, chunk: bytes) -> bytes:
        """The last byte of a large chunk is payload, whatever header came before."""
        if not self._damage.due or len(chunk) < self._min_bytes:
            return chunk
        self._damage.due -= 1
        self._damage.done += 1
        return chunk[:-1] + bytes([chunk[-1] ^ 0x10])


def listen_first() -> socket.socket:
    """A loopback listener on a port that gloo sorts before every one the kernel hands out.

    It compares ports byte-swapped: a multiple of 256 below the ephemeral range comes before all others.
    """
    for port in range(0x7F00, 0x0400, -0x100):
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
        else:
            listener.listen()
            return listener
    raise AssertionError("none of the ports that gloo sorts first is free")
