"""`baton explain`: why a request went where it went."""

from services.local import explain as explain_command
from services.local.client import router_client
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, RequestName, Router
from services.local.screen import console


def explain(request_id: RequestName, router: Router = DEFAULT_ROUTER) -> None:
    """Show why a request went where it went, and what lost."""

    async def show() -> None:
        async with router_client(router) as client:
            await explain_command.explain(client, request_id, console)

    run(show())
