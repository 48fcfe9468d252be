"""`baton drain`: one worker finishes or hands over what it has, and leaves. Its supervisor starts another."""

from rich.console import Console

from common.core.errors import NotFound, Unavailable
from common.rpc.client import call
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from services.local.client import RouterClient

MARGIN_S = 10.0
"""Chosen: what a worker needs beyond its grace, to tell of what it cut and to answer."""


async def drain(client: RouterClient, name: str, grace_s: float, console: Console) -> None:
    """Returns when the worker is empty. Raises NotFound for a name that no worker has, Unavailable for a dead one."""
    workers = {each.worker.worker_id: each for each in (await client.cluster()).workers}
    if name not in workers:
        raise NotFound(message=f"no worker {name} is known to the router: {', '.join(sorted(workers)) or 'nobody is'}")
    address = workers[name].worker.address
    channel = client.connect_worker(address)
    try:
        request = worker_pb2.DrainRequest(grace_ms=round(grace_s * 1000))
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        answer = await call(stub.Drain, request, peer=name, timeout_s=grace_s + MARGIN_S)
    except Unavailable as error:
        if error.facts.get(ORIGIN_FACT) != TRANSPORT:
            raise
        message = f"{name} does not answer at {address}: if it has died its answers go on elsewhere, undrained"
        raise Unavailable(message=message, reason=error.reason, facts=error.facts) from error
    finally:
        await channel.close(grace=None)
    left = answer.active_sequences
    told = f"{left} sequences were cut and go on elsewhere, read again" if left else "everything ended, or moved"
    console.print(f"{name} leaves: {told}", highlight=False)
