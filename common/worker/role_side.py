"""What a role adds to the node of its worker."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

from common.core.ids import RouterRef
from common.core.request import Work
from common.core.ticket import Ticket
from common.rpc.server import Service
from common.worker.drain import Leaver
from common.worker.servicer import WorkerCore

Event_contra = TypeVar("Event_contra", contravariant=True)


class RoleSide(WorkerCore, Leaver, Protocol[Event_contra]):
    """What prefill and decode add to a node, on the event loop."""

    def services(self) -> Sequence[Service]: ...

    def take(self, event: Event_contra) -> None:
        """One event of the core that is not for a router."""
        ...

    def router_lost(self, router: RouterRef) -> None: ...

    async def place(self, work: Work, ticket: Ticket | None) -> None:
        """Work of a placer in this very process. Prefill keeps the pages; decode fetches the ticket's, or reads the
        prompt itself. Raises as the role's own service does."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Whatever the role does in the background, until `stop`."""
        ...
