"""kube-proxy's double: every ClusterIP is a listener that passes connections on to the endpoints of the moment.

What is an endpoint is decided by the real Endpoints controller, from the readiness that the kubelet's double reports.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Self

from tests.kube.api import Api, Object
from tests.kube.network import reachable

CONNECT_S = 5.0
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(slots=True)
class Endpoints:
    """Ready addresses of one Service, and the number of each of its named ports."""

    addresses: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    _turn: count = field(default_factory=count)

    def take(self, obj: Object) -> None:
        subsets = [each for each in obj.get("subsets") or () if each.get("addresses")]
        self.addresses = tuple(reachable(each["ip"]) for subset in subsets for each in subset["addresses"])
        self.ports = {port.get("name", ""): port["port"] for subset in subsets for port in subset["ports"]}

    def next(self) -> str:
        """Round robin. Raises ConnectionRefusedError when there is none, as iptables would."""
        if not self.addresses:
            raise ConnectionRefusedError("no endpoints")
        return self.addresses[next(self._turn) % len(self.addresses)]


class Services:
    """All Services of the cluster. An async context manager: it watches, listens and forwards inside."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._endpoints: dict[Key, Endpoints] = {}
        self._listening: dict[Key, AsyncExitStack] = {}
        self._ports: dict[Key, list[Object]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._watches: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._watches = [asyncio.create_task(self._watch_services()), asyncio.create_task(self._watch_endpoints())]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._watches, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stack in self._listening.values():
            await stack.aclose()

    def endpoints(self, namespace: str, name: str) -> Endpoints:
        return self._endpoints.setdefault((namespace, name), Endpoints())

    async def address(self, namespace: str, name: str) -> str:
        """The ClusterIP of a Service. Raises ApiError when there is none."""
        return (await self._api.get(f"/api/v1/namespaces/{namespace}/services/{name}"))["spec"]["clusterIP"]

    async def _watch_services(self) -> None:
        while True:
            async for event, obj in self._api.watch("/api/v1/services"):
                key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
                address, ports = obj["spec"].get("clusterIP") or "None", obj["spec"].get("ports") or []
                if event == "MODIFIED" and self._ports.get(key) == ports:
                    continue
                if (stack := self._listening.pop(key, None)) is not None:
                    await stack.aclose()
                if event != "DELETED" and address != "None":
                    self._listening[key] = await self._listen(key, address, ports)
                    self._ports[key] = ports

    async def _watch_endpoints(self) -> None:
        while True:
            async for event, obj in self._api.watch("/api/v1/endpoints"):
                self.endpoints(obj["metadata"]["namespace"], obj["metadata"]["name"]).take(
                    {} if event == "DELETED" else obj
                )

    async def _listen(self, key: Key, address: str, ports: Sequence[Object]) -> AsyncExitStack:
        stack = AsyncExitStack()
        for port in ports:
            if key == ("default", "kubernetes"):
                continue  # the API server's own, which has no endpoints here
            forward = self._forwarder(self.endpoints(*key), port.get("name", ""))
            server = await asyncio.start_server(forward, address, port["port"])
            stack.callback(server.close)
        return stack

    def _forwarder(self, endpoints: Endpoints, port: str):
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(CONNECT_S):
                        far = await asyncio.open_connection(endpoints.next(), endpoints.ports[port])
                    await _join((reader, writer), far)
            finally:
                self._connections.discard(task)
                writer.transport.abort()

        return forward


Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(near: Pipe, far: Pipe) -> None:
    """Copies both ways until one side is closed."""
    copies = [asyncio.create_task(_copy(near[0], far[1])), asyncio.create_task(_copy(far[0], near[1]))]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)  # bounded: by the connection's life
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        far[1].transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
