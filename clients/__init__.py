"""A small Python client of the gRPC surface: what a user's own code imports.

    from clients.asynchronous import AsyncBaton        or, without asyncio:  from clients.synchronous import Baton

Lives here: calls, streams that are taken up again after a broken connection, errors with a reason, the service config.
May not: import anything of the cluster but the generated messages.
"""
