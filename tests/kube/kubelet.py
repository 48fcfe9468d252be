"""The kubelet's double, and the scheduler's: every pod is bound to one node and runs as processes of this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.kube.api import ApiError, Object
from tests.kube.names import names
from tests.kube.plane import ControlPlane
from tests.kube.pod import Pod
from tests.kube.services import Services

NODE = "double"


@dataclass(slots=True)
class Kubelet:
    """Follows the pods of the API server. Writer: its own task."""

    plane: ControlPlane
    services: Services
    dns: str
    pods: dict[str, Pod] = field(default_factory=dict)
    """By uid, those that run or have not been deleted."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                async for event, obj in self.plane.api.watch("/api/v1/pods"):
                    if event in ("ADDED", "MODIFIED"):
                        await self._follow(obj, group)

    async def _follow(self, obj: Object, group: asyncio.TaskGroup) -> None:
        uid, spec = obj["metadata"]["uid"], obj["spec"]
        if "nodeName" not in spec:
            await self._bind(obj)
        elif uid not in self.pods and "deletionTimestamp" not in obj["metadata"]:
            told = self.plane.network.new_pod()
            pod = Pod(self.plane, self.services, obj=obj, told=told, dns=self.dns)
            self.pods[uid] = pod
            group.create_task(self._live(uid, pod), name=f"pod-{pod.name}")
        if "deletionTimestamp" in obj["metadata"] and uid in self.pods:
            self.pods[uid].end(obj["metadata"].get("deletionGracePeriodSeconds", 0))

    async def _live(self, uid: str, pod: Pod) -> None:
        with suppress(ApiError):
            await pod.run()
        self.pods.pop(uid, None)

    async def _bind(self, obj: Object) -> None:
        """What a scheduler does. A pod that went in the meantime needs none."""
        meta = obj["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        with suppress(ApiError):
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
            await self.plane.api.call("POST", path, binding)


@asynccontextmanager
async def kubelet(plane: ControlPlane) -> AsyncIterator[Kubelet]:
    """Pods live inside the block. Whatever still runs at its end is killed."""
    async with Services(plane.api) as services, names(services, plane.network.host) as dns:
        double = Kubelet(plane, services, dns)
        task = asyncio.create_task(double.run(), name="kubelet")
        try:
            yield double
            assert not task.done() or task.exception() is None, f"the kubelet's double failed: {task.exception()!r}"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
