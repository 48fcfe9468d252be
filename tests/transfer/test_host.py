"""What a process tells of where it runs."""

import os
from pathlib import Path

import pytest

from common.transfer.host import read_host
from common.transfer.interface import find_interface
from common.transfer.messages import GpuFacts
from common.transfer.nccl_facts import read_gpu


def test_a_process_tells_its_namespaces_and_its_gpu() -> None:
    gpu = GpuFacts(uuid="GPU-a")
    host = read_host(gpu)
    assert host is not None
    told = (host.network_namespace, host.ipc_namespace, host.pid_namespace)
    assert told == tuple(Path(f"/proc/self/ns/{name}").stat().st_ino for name in ("net", "ipc", "pid"))
    assert 0 not in told
    assert (host.user, host.gpu) == (os.geteuid(), gpu)


def test_where_the_system_does_not_say_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("common.transfer.host.NAMESPACES", tmp_path)
    assert read_host() is None


@pytest.mark.parametrize(
    ("address", "interface"),
    [("127.0.0.1", "lo"), ("::1", "lo"), ("192.0.2.1", None), ("2001:db8::1", None), ("*", None)],
)
def test_an_address_is_found_on_its_interface(address: str, interface: str | None) -> None:
    found = find_interface(address)
    assert found == interface or (address == "::1" and found is None), "a machine may be without IPv6"


class Card:
    """What torch tells of one GPU."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid


def test_a_gpu_is_read_by_name_with_the_peers_that_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cards; the first reaches the second, not the third. Not run: torch's own answers on a GPU."""
    cards = [Card("a"), Card("b"), Card("c")]
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(cards))
    monkeypatch.setattr("torch.cuda.get_device_properties", cards.__getitem__)
    monkeypatch.setattr("torch.cuda.can_device_access_peer", lambda here, there: {here, there} == {0, 1})
    assert (read_gpu(0).uuid, read_gpu(0).peers) == ("a", frozenset({"b"}))
    assert (read_gpu(2).uuid, read_gpu(2).peers) == ("c", frozenset())
    del cards[0].uuid
    assert (read_gpu(0).uuid, read_gpu(1).peers) == ("", frozenset()), "a driver that does not say"
