"""The channels that this worker can open, best first, and which of them do not reach whom."""

from collections import OrderedDict

from common.core.ids import Epoch, WorkerId, WorkerRef
from common.transfer.channel import ChannelFactory
from common.transfer.messages import HostFacts

MAX_REMEMBERED_PEERS = 4096
"""Chosen: far above the workers of one cluster; a peer that is forgotten costs one more try."""


class ChannelMenu:
    """Writer: the event loop. The sender chooses: it asks for its best, and for the next when that does not fit.

    What did not fit is remembered per incarnation: a process does not move to another host.
    """

    def __init__(self, *factories: ChannelFactory, host: HostFacts | None = None) -> None:
        """`host` goes to every peer that is met: None where the system does not say."""
        assert factories, "a worker without channels"
        self.host = host
        self._factories = factories
        self._unfit: OrderedDict[tuple[WorkerId, Epoch], dict[str, str]] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(factory.name for factory in self._factories)

    def at(self, name: str) -> ChannelFactory | None:
        """The channel of this name, where it is offered."""
        return next((factory for factory in self._factories if factory.name == name), None)

    def misfit(self, name: str, there: HostFacts | None) -> str:
        """Why the channel that an end at `there` asks for will not do, readable; empty when it is worth a try."""
        factory = self.at(name)
        if factory is None:
            return f"channel {name} there, {' or '.join(self.names)} here"
        why = factory.misfit(there)
        return why and f"channel {name}: {why}"

    def candidates(self, peer: WorkerRef) -> tuple[ChannelFactory, ...]:
        """What to try with this incarnation, best first; never empty: the last one is always worth a try."""
        unfit = self._unfit.get((peer.worker, peer.epoch), {})
        return tuple(factory for factory in self._factories if factory.name not in unfit) or self._factories[-1:]

    def pass_over(self, peer: WorkerRef, name: str, why: str) -> None:
        """This channel does not reach this incarnation."""
        self._unfit.setdefault((peer.worker, peer.epoch), {})[name] = why
        if len(self._unfit) > MAX_REMEMBERED_PEERS:
            self._unfit.popitem(last=False)

    def passed_over(self, peer: WorkerRef) -> str:
        """Why better channels are not used with this incarnation, readable; empty where the best one is."""
        return "; ".join(self._unfit.get((peer.worker, peer.epoch), {}).values())
