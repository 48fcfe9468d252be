"""`baton waterfall`: where one request's time went."""

from services.local import waterfall as waterfall_command
from services.local.client import router_client
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, RequestName, Router
from services.local.screen import console


def waterfall(request_id: RequestName, router: Router = DEFAULT_ROUTER) -> None:
    """Show where one recent request's time went."""

    async def show() -> None:
        async with router_client(router) as client:
            await waterfall_command.waterfall(client, request_id, console)

    run(show())
