"""`baton drain` says what became of the worker, also of one that is not there any more."""

import grpc
import pytest
from rich.console import Console

from common.core.errors import Unavailable
from protos.baton.v1 import cluster_pb2, types_pb2
from services.local.client import RouterClient
from services.local.drain import drain
from services.local.ports import free_port


class Listing(RouterClient):
    """A router that still lists a worker: its lease is not over."""

    async def cluster(self) -> cluster_pb2.GetClusterResponse:
        worker = types_pb2.WorkerRef(worker_id="decode-0", address=self.address)
        return cluster_pb2.GetClusterResponse(workers=[cluster_pb2.WorkerView(worker=worker)])


async def test_a_worker_that_has_died_is_named_with_its_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    client = Listing(address, grpc.aio.insecure_channel(address))
    with pytest.raises(Unavailable, match=f"decode-0 does not answer at {address}: if it has died its answers go on"):
        await drain(client, "decode-0", 1.0, Console())
