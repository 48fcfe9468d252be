"""The cluster's DNS, as small as gRPC's resolver needs: an A record for each endpoint of a headless Service."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.kube.services import Services

PORT = 5353
TTL_S = 1
_A, _IN, _RESPONSE, _NO_SUCH_NAME = 1, 1, 0x8400, 3


class Names(asyncio.DatagramProtocol):
    """Answers from the endpoints of the moment."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(answer(data, self._services), addr)


def answer(query: bytes, services: Services) -> bytes:
    """The reply to one question. Records other than A do not exist here."""
    labels, end = _labels(query)
    kind = struct.unpack_from("!H", query, end)[0]
    question = query[12 : end + 4]
    addresses: tuple[str, ...] = ()
    if len(labels) > 2 and labels[2] == "svc":
        addresses = services.endpoints(labels[1], labels[0]).addresses
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, _A, _IN, TTL_S, 4) + bytes(int(part) for part in each.split("."))
        for each in addresses
        if kind == _A
    )
    status = _RESPONSE if addresses else _RESPONSE | _NO_SUCH_NAME
    number = len(addresses) if kind == _A else 0
    return query[:2] + struct.pack("!HHHHH", status, 1, number, 0, 0) + question + records


def _labels(query: bytes) -> tuple[list[str], int]:
    """The name that is asked for, and where it ends."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += length + 1
    return labels, at + 1


@asynccontextmanager
async def names(services: Services, host: str) -> AsyncIterator[str]:
    """Serving inside the block, at the address that it gets."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Names(services), local_addr=(host, PORT))
    try:
        yield f"{host}:{PORT}"
    finally:
        transport.close()
