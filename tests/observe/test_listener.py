"""Goal: who listens everywhere is found on every address, of both families. Method: real sockets."""

import socket
from contextlib import closing

import pytest

from common.core.errors import StartupError
from common.observe import listener as module
from common.observe.listener import address_of, listen


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


def greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@needs_ipv6
def test_everywhere_is_both_families():
    with closing(listen("*", 0, backlog=4)) as listener:
        port = listener.getsockname()[1]
        assert all(greets(host, port) for host in ("127.0.0.1", "127.9.8.7", "::1"))
        assert address_of(listener) == f"[::]:{port}"


def test_everywhere_is_ipv4_where_the_kernel_has_nothing_else(monkeypatch):
    real = socket.socket

    def old(family=socket.AF_INET, *rest):
        if family == socket.AF_INET6:
            raise OSError("address family not supported")
        return real(family, *rest)

    monkeypatch.setattr(module.socket, "socket", old)
    with closing(listen("*", 0, backlog=4)) as listener:
        assert listener.family == socket.AF_INET
        assert address_of(listener).startswith("0.0.0.0:")


def test_one_address_is_that_one_alone():
    with closing(listen("127.0.0.1", 0, backlog=4)) as listener:
        port = listener.getsockname()[1]
        assert greets("127.0.0.1", port)
        assert not greets("127.9.8.7", port)


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_told_in_brackets(host):
    with closing(listen(host, 0, backlog=4)) as listener:
        assert address_of(listener) == f"[::1]:{listener.getsockname()[1]}"


def test_a_taken_port_is_refused_by_its_address():
    with (
        closing(listen("127.0.0.1", 0, backlog=4)) as first,
        pytest.raises(StartupError, match=r"127\.0\.0\.1:\d+ cannot be listened on"),
    ):
        listen("127.0.0.1", first.getsockname()[1], backlog=4)
