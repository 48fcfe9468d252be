"""A container's probes, carried out for real and counted as the kubelet counts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Ask = Callable[[], Awaitable[bool]]
RunExec = Callable[[list[str]], Awaitable[int]]


def asker(probe: dict[str, Any], *, address: str, ports: dict[str, int], run: RunExec) -> Ask:
    """What one look at a container does, within its time. Kinds that the chart does not use are refused."""

    async def ask() -> bool:
        try:
            async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
                return await look()
        except (OSError, TimeoutError):
            return False

    async def look() -> bool:
        if "exec" in probe:
            return await run(probe["exec"]["command"]) == 0
        kind = "httpGet" if "httpGet" in probe else "tcpSocket"
        port = probe[kind]["port"]
        number = ports[port] if isinstance(port, str) else port
        if kind == "httpGet":
            return await _http_get(address, number, probe[kind].get("path", "/"))
        _, writer = await asyncio.open_connection(address, number)
        writer.close()
        return True

    return ask


async def verdicts(probe: dict[str, Any], ask: Ask) -> AsyncIterator[bool]:
    """True or False when the thresholds say so: the first verdict, each change, and each further failure."""
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    needed = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
    last: bool | None = None
    in_a_row, verdict = 0, None
    while True:
        found = await ask()
        in_a_row = in_a_row + 1 if found == last else 1
        last = found
        if in_a_row >= needed[found] and (found != verdict or not found):
            verdict = found
            yield found
        await asyncio.sleep(probe.get("periodSeconds", 10))  # a probe is a poll


async def _http_get(address: str, port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        status = (await reader.readline()).split()  # bounded: by the probe's own time
        return len(status) > 1 and 200 <= int(status[1]) < 400
    finally:
        writer.transport.abort()
