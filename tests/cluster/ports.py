"""Ports that stay ours: the kernel gives none of them to somebody's outgoing connection in the meantime."""

import random
from pathlib import Path

from services.local.ports import is_free


def stable_port() -> int:
    """A free loopback port below the range of ephemeral ports. Random: several test runs may share a machine."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chance = random.SystemRandom()
    return next(port for _ in range(100) if is_free(port := chance.randrange(10_000, first_ephemeral)))
