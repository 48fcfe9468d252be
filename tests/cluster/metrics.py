"""What a process of a cluster says at /metrics."""

import asyncio
import re
import urllib.request
from collections.abc import Mapping

from services.local.supervisor import Supervised

AT_REST = re.compile(
    "baton_(requests_in_flight|running_sequences|waiting_requests|waiting_tokens|outstanding_exports|reservations"
    '|queue_requests|queue_tokens|transfers_in_flight|pages\\{.*state="(promised|referenced|filling)")'
    "(\\{.*|$)"
)
"""Gauges that are zero where nobody waits for anything."""


async def samples(process: Supervised) -> Mapping[str, float]:
    """Name and labels, as they are written there, and the value."""
    assert process.last is not None
    address = process.last.metrics

    def scrape() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5.0) as response:
            return str(response.read().decode())

    lines = (await asyncio.to_thread(scrape)).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def still_busy(process: Supervised) -> Mapping[str, float]:
    """Gauges that are zero at rest and are not."""
    return {name: value for name, value in (await samples(process)).items() if value and AT_REST.match(name)}
