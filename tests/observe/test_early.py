"""A process that is asked to leave before it serves leaves at once, with the status of one that was asked."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from common.observe.announce import Phase, read_announcement
from tests.architecture.source import ROOT

SERVICES = ("router", "gateway", "planner", "prefill", "decode")
SOON_S = 10.0
"""The machine may be busy; loading would take longer than a second in any case, and nobody to find takes for ever."""

LOADING = """
import asyncio, time
from common.observe.early import leave_while_early
leave_while_early()
print("loads", flush=True)
asyncio.run(asyncio.to_thread(time.sleep, 60))
"""
SENT_AWAY = """
import socket, sys, threading
if sys.argv[1:]:
    from common.observe.early import hush_libraries
    hush_libraries()
import grpc
listener = socket.create_server(("127.0.0.1", 0))
def send_away():
    peer, _ = listener.accept()
    peer.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    peer.recv(1000)
    peer.sendall(bytes([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]))
    peer.recv(1000)
threading.Thread(target=send_away, daemon=True).start()
channel = grpc.insecure_channel("127.0.0.1:%d" % listener.getsockname()[1])
try:
    channel.unary_unary("/a/b")(b"", timeout=1)
except grpc.RpcError:
    print("sent away")
"""
"""A server that says goodbye with an error, as one does whose pings are not answered."""
LIGHT = """
import sys
for name in sys.argv[1:]:
    __import__(f"services.{name}.__main__")
print(*sorted({"asyncio", "grpc", "torch", "google"} & set(sys.modules)))
"""


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_thread_that_loads_is_not_waited_for(number: signal.Signals) -> None:
    with started("-c", LOADING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loads\n"
        process.send_signal(number)
        assert process.wait(SOON_S) == 0


def test_nothing_is_imported_before_signals_are_heard() -> None:
    """Imports take seconds, and the first process of a container does not hear of a signal that it did not ask for."""
    with started("-c", LIGHT, *SERVICES) as process:
        assert process.communicate(timeout=60)[0].split() == []


@pytest.mark.cluster
@pytest.mark.calm
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_leaves_while_it_loads_or_looks_for_others(service: str) -> None:
    """A port where nobody listens stands for Redis, and for routers: none of them is there when it starts."""
    settings = ("cluster.redis_url=redis://127.0.0.1:9/0", "gateway.routers=127.0.0.1:9", "listen.metrics_port=0")
    options = [option for each in settings for option in ("--set", each)]
    with started("-m", f"services.{service}", *options) as process:
        assert process.stdout is not None
        said = read_announcement(process.stdout.readline())
        assert said is not None, process.stderr and process.stderr.read()
        assert said.phase is Phase.LOADING
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == 0, process.stderr and process.stderr.read()


def test_what_grpc_says_of_peers_that_close_stays_out_of_the_log() -> None:
    """And without the hush it does not: otherwise this would show nothing."""
    said = {}
    for arguments in ((), ("hushed",)):
        with started("-c", SENT_AWAY, *arguments) as process:
            told, said[arguments] = process.communicate(timeout=60)
            assert told == "sent away\n"
    assert "goaway" in said[()]
    assert said["hushed",] == ""


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("first", ["leave_while_early()", "hush_libraries()", "hold_collector()"])
def test_every_service_does_this_before_it_imports(name: str, first: str) -> None:
    (_, main) = (ROOT / "services" / name / "__main__.py").read_text().split("__main__")[-2:]
    assert main.index(first) < main.index("import leave, run_service")
