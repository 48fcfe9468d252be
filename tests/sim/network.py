"""A network in memory: processes, the links between them, and what can go wrong with both.

A link delivers in order. What is sent over a cut link, or to and from a frozen process, is held as TCP would hold it:
after healing it arrives, unless the call it belongs to was given up by then. Two processes that cannot reach each
other give up their calls after DETECT_S, as keepalive pings do in production.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from common.rpc.options import LIMITS

if TYPE_CHECKING:
    from tests.sim.call import Call
    from tests.sim.process import Process
    from tests.sim.transport import MemoryServer

Action = Callable[[], None]
Delay = Callable[[str, str], float]
"""Seconds from one process to another, asked once per packet."""

DETECT_S = {surface: (limits.ping_every_ms + limits.ping_timeout_ms) / 1000 for surface, limits in LIMITS.items()}
IN_ORDER_S = 1e-7
"""Least distance of two arrivals on one link: equal times would leave their order to chance."""


def quick(source: str, destination: str) -> float:
    """A machine room."""
    return 0.0002


class Network:
    """Who listens where, and what is on its way. Processes are names; a restarted one may take its old name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, delay: Delay = quick) -> None:
        self.loop = loop
        self.delay = delay
        self.calls: dict[Call, None] = {}
        self.num_packets = 0
        self._servers: dict[str, MemoryServer] = {}
        self._cut: set[tuple[str, str]] = set()
        self._frozen: set[str] = set()
        self._held: defaultdict[tuple[str, str], list[Action]] = defaultdict(list)
        self._last_arrival: dict[tuple[str, str], float] = {}
        self._lives: defaultdict[str, int] = defaultdict(int)
        self._next_port = 20_000
        self._processes: dict[str, Process] = {}
        self._buried: set[str] = set()

    def adopt(self, process: "Process") -> None:
        """What arrives at this process happens in its own context from now on."""
        self._processes[process.name] = process

    # Listening

    def bind(self, host: str, port: int) -> int:
        """A port for a server; 0 asks for a free one. Returns 0 when the port is taken."""
        if port == 0:
            self._next_port += 1
            return self._next_port
        return 0 if f"{host}:{port}" in self._servers else port

    def listen(self, address: str, server: "MemoryServer") -> None:
        self._servers[address] = server

    def unlisten(self, address: str, server: "MemoryServer") -> None:
        if self._servers.get(address) is server:
            del self._servers[address]

    def server_at(self, address: str) -> "MemoryServer | None":
        return self._servers.get(address)

    # Packets

    def send(self, source: str, destination: str, action: Action) -> None:
        """Has `action` happen at the destination, unless either process dies first."""
        if source in self._buried:
            return
        self.num_packets += 1
        lives = (self._lives[source], self._lives[destination])

        def arrive() -> None:
            if lives != (self._lives[source], self._lives[destination]):
                return
            if self.is_blocked(source, destination):
                self._held[source, destination].append(arrive)
                return
            self._do(destination, action)

        link = (source, destination)
        due = max(self.loop.time() + self.delay(source, destination), self._last_arrival.get(link, 0.0) + IN_ORDER_S)
        self._last_arrival[link] = due
        self.loop.call_at(due, arrive, context=Context())

    def _do(self, process: str, action: Action) -> None:
        known = self._processes.get(process)
        if known is None:
            action()
        else:
            known.context().run(action)

    def is_blocked(self, source: str, destination: str) -> bool:
        return (source, destination) in self._cut or source in self._frozen or destination in self._frozen

    # Faults

    def kill(self, process: str) -> None:
        """SIGKILL: listeners close, packets on their way are lost, the other end of every call sees a reset."""
        self._lives[process] += 1
        self._frozen.discard(process)
        for link in [link for link in self._held if process in link]:
            del self._held[link]
        for address, server in list(self._servers.items()):
            if server.process == process:
                del self._servers[address]
                server.die()
        for call in list(self.calls):
            if process in call.ends:
                call.reset(process)

    def bury(self, process: str) -> None:
        """Kills a process whose name never comes back: what its last handlers still say is not sent."""
        self._buried.add(process)
        self.kill(process)
        self._processes.pop(process, None)

    def freeze(self, process: str) -> None:
        """SIGSTOP, as seen from outside: nothing leaves, nothing arrives. The caller stops the process's own work."""
        self._frozen.add(process)
        self._watch(lambda call: process in call.ends)

    def thaw(self, process: str) -> None:
        """SIGCONT: what was held arrives now; calls given up meanwhile are found broken."""
        self._frozen.discard(process)
        self._release()

    def cut(self, source: str, destination: str, *, both_ways: bool = True) -> None:
        """A black hole from one process to another."""
        self._cut.add((source, destination))
        if both_ways:
            self._cut.add((destination, source))
        self._watch(lambda call: {source, destination} == set(call.ends))

    def heal(self, source: str, destination: str) -> None:
        self._cut -= {(source, destination), (destination, source)}
        self._release()

    def heal_all(self, concerns: Callable[[str], bool] = lambda _process: True) -> None:
        """Every cut link whose two ends are concerned."""
        self._cut = {link for link in self._cut if not all(map(concerns, link))}
        self._release()

    def watch_if_blocked(self, call: "Call") -> None:
        """For a call that starts while its ends cannot reach each other."""
        client, server = call.ends
        if self.is_blocked(client, server) or self.is_blocked(server, client):
            self.watch(call)

    def at_process(self, process: str, action: Action) -> None:
        """Something that a process notices by itself: now, or when it wakes."""
        if process in self._frozen:
            self._held[process, process].append(lambda: self._do(process, action))
        else:
            self._do(process, action)

    def watch(self, call: "Call") -> None:
        """Gives the call up if its ends cannot reach each other for its patience from now."""
        client, server = call.ends

        def check() -> None:
            if self.is_blocked(client, server) or self.is_blocked(server, client):
                call.give_up()

        self.loop.call_later(DETECT_S[call.surface], check, context=Context())

    def _watch(self, concerns: Callable[["Call"], bool]) -> None:
        for call in list(self.calls):
            if concerns(call):
                self.watch(call)

    def _release(self) -> None:
        for (source, destination), actions in list(self._held.items()):
            if not self.is_blocked(source, destination):
                del self._held[source, destination]
                for action in actions:
                    action()
