"""The OpenAI-compatible HTTP entrance: a client of the routers, one of several a cluster may have.

Lives here: the schema of what HTTP clients send, its translation to and from gRPC, events, HTTP's own
limits.
May not: know a worker, hold a request's state beyond its own connection, or decide anything that a router decides.
Called by: nobody; it is a process. The door of `starlette`, `uvicorn` and `pydantic`.
"""
