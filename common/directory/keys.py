"""The keys of one cluster. The braces keep them in one slot of a Redis Cluster, so that transactions work there too."""

from dataclasses import dataclass

from common.core.ids import RouterId, WorkerId


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key begins with the cluster's prefix; nothing in a key comes from a prompt."""

    cluster: str

    @property
    def prefix(self) -> str:
        return f"baton:{{{self.cluster}}}:"

    @property
    def workers(self) -> str:
        """Set of worker ids that announced themselves; who is alive says the record's lease."""
        return f"{self.prefix}workers"

    @property
    def routers(self) -> str:
        return f"{self.prefix}routers"

    @property
    def events(self) -> str:
        """Stream of ownership changes, trimmed."""
        return f"{self.prefix}events"

    def worker(self, worker: WorkerId) -> str:
        """The member record: a lease."""
        return f"{self.prefix}worker:{worker}"

    def owned(self, worker: WorkerId) -> str:
        """The whole of what a worker owns."""
        return f"{self.prefix}owned:{worker}"

    def queue(self, router: RouterId) -> str:
        return f"{self.prefix}queue:{router}"
