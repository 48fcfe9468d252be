"""Which processes a local cluster consists of, and how each is started. Pure."""

import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from common.config.config import Config
from common.core.address import join_address

ROOT = Path(__file__).resolve().parents[2]
"""Relative paths of the configuration begin here: every child's working directory."""

LOOPBACK = "127.0.0.1"


class Kind(StrEnum):
    """What a process is, in the order in which a cluster starts; it stops in the opposite order, routers first."""

    VALKEY = "valkey"
    PREFILL = "prefill"
    DECODE = "decode"
    ROUTER = "router"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process: how to start it, again after a crash."""

    name: str
    kind: Kind
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the person at the command line gave; every process gets the same. `of_process`: more for one, by name."""

    file: Path | None = None
    settings: tuple[str, ...] = ()
    of_process: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def service_specs(
    config: Config,
    overrides: Overrides,
    *,
    redis_url: str,
    secret_file: Path,
    router_ports: Sequence[int],
    gateway_ports: Sequence[int] = (),
) -> tuple[ProcessSpec, ...]:
    """The workers, routers and gateways of `config.local`, on this interpreter.

    A port that the configuration names would be taken by the first of them: all but the routers' own are free ones.
    """
    local = config.local
    threads = config.engine.threads or max(1, (os.cpu_count() or 1) // max(1, local.prefill + local.decode))
    shared = [
        f"cluster.redis_url={redis_url}",
        "cluster.redis_login=role",
        f"cluster.secret_file={secret_file}",
        f"engine.threads={threads}",
        "listen.metrics_port=0",
    ]
    worker = [*shared, "listen.port=0"]
    specs = [_spec(Kind.PREFILL, number, overrides, worker) for number in range(local.prefill)]
    specs += [_spec(Kind.DECODE, number, overrides, worker) for number in range(local.decode)]
    specs += [
        _spec(Kind.ROUTER, number, overrides, [*shared, f"listen.port={port}"])
        for number, port in enumerate(router_ports)
    ]
    host = dialled(config.listen.host)
    routers = ("ipv6:" if ":" in host else "ipv4:") + ",".join(join_address(host, port) for port in router_ports)
    specs += [
        _spec(Kind.GATEWAY, number, overrides, [*shared, f"gateway.routers={routers}", f"listen.port={port}"])
        for number, port in enumerate(gateway_ports)
    ]
    return tuple(specs)


def dialled(host: str) -> str:
    """Where a process that listens at `host` is found from the same machine. Of names only localhost is known."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return LOOPBACK
    if address.is_unspecified:
        return LOOPBACK if address.version == 4 else "::1"
    return str(address)


def _spec(kind: Kind, number: int, overrides: Overrides, extra: Sequence[str]) -> ProcessSpec:
    name = f"{kind}-{number}"
    command = [sys.executable, "-m", f"services.{kind}", "--name", name]
    if overrides.file is not None:
        command += ["--config", str(overrides.file)]
    for setting in (*overrides.settings, *extra, *overrides.of_process.get(name, ())):
        command += ["--set", setting]
    return ProcessSpec(name=name, kind=kind, command=tuple(command))
