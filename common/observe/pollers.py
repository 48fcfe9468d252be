"""gRPC's poller thread, as an event loop meets it: how far it runs ahead, and how it is held while a loop writes.

The poller takes completions from gRPC's queue, queues them for the loop, and writes a byte to a socket to wake it.
While it sleeps in gRPC's queue every completion wakes it, to meet the lock of the one who completes: two changes of
threads for each message that a loop hands over. Stuck in its write it is woken by none.
"""

import array
import fcntl
import gc
import socket
import termios
from collections.abc import Callable
from contextlib import suppress

WAKES_BYTES = 8192
"""Of the wakes' socket: some twenty of them as Linux counts. Measured: with six the turns cost what the changes of
threads did, with two hundred and eighty (as it comes) the poller is hardly ever stuck."""
ROOMY_BYTES = 106_496
"""As it comes."""
FILLING = bytes(8 * WAKES_BYTES)
"""More than the socket takes, so that the next wake finds no room."""


class Poller:
    """The socket by which gRPC's poller wakes one loop. Writer: that loop. `owner` has the handler, and both ends;
    where the end that is written to is not found, the poller is left as it is."""

    def __init__(self, wakes: socket.socket, owner: object) -> None:
        self._wakes = wakes
        held = [each for each in gc.get_referents(owner) if isinstance(each, socket.socket)]
        self._written = [each for each in held if each is not wakes]

    def limit(self) -> None:
        """It may run ahead of whoever reads the wakes by some twenty of them."""
        self._resize(WAKES_BYTES)

    def hold(self) -> None:
        """Its next wake is stuck until `let_go`, and completions gather in gRPC's queue meanwhile. Not for a wait: what
        is waited for may be among them."""
        for each in self._written:
            with suppress(OSError):  # full already, or closed
                each.send(FILLING, socket.MSG_DONTWAIT)

    def let_go(self) -> None:
        """Room for its wakes. One byte stays: completions that came before may have no other to be heard by."""
        with suppress(OSError):  # closed
            take_all_but_one(self._wakes)

    def set_free(self) -> None:
        """Nobody reads the wakes from now on, perhaps: it has its room back, and what it is stuck in ends."""
        self._resize(ROOMY_BYTES)
        with suppress(OSError):  # nothing to read, or closed
            self._wakes.recv(ROOMY_BYTES)

    def _resize(self, num_bytes: int) -> None:
        for each in self._written:
            with suppress(OSError):  # closed
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, num_bytes)


def take_all(wakes: socket.socket, handle: Callable[[], object]) -> None:
    """Reads all wakes but one, then has `handle` read that, and take what is queued.

    A byte is written behind its completion, so whatever the bytes stand for is queued by now.
    """
    take_all_but_one(wakes)
    handle()


def take_all_but_one(wakes: socket.socket) -> None:
    num_wakes = array.array("i", [0])
    fcntl.ioctl(wakes.fileno(), termios.FIONREAD, num_wakes)
    if num_wakes[0] > 1:
        with suppress(BlockingIOError):  # another loop of this process reads them as well
            wakes.recv(num_wakes[0] - 1)
