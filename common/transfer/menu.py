"""The channels that this worker can open, best first, and where it runs."""

from common.transfer.channel import ChannelFactory
from common.transfer.messages import HostFacts


class ChannelMenu:
    """Immutable. The sender chooses: it asks for its best, and for the next when that does not fit; see `opening`."""

    def __init__(self, *factories: ChannelFactory, host: HostFacts | None = None) -> None:
        """`host` goes to every peer that is met: None where the system does not say."""
        assert factories, "a worker without channels"
        self.host = host
        self.factories = factories

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(factory.name for factory in self.factories)

    def at(self, name: str) -> ChannelFactory | None:
        """The channel of this name, where it is offered."""
        return next((factory for factory in self.factories if factory.name == name), None)

    def misfit(self, name: str, there: HostFacts | None) -> str:
        """Why the channel that an end at `there` asks for will not do, readable; empty when it is worth a try."""
        factory = self.at(name)
        if factory is None:
            return f"channel {name} there, {' or '.join(self.names)} here"
        why = factory.misfit(there)
        return why and f"channel {name}: {why}"
