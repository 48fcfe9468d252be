"""One release of the chart on the control plane: installed by helm, waited for, asked, watched."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from common.core.errors import BatonError, Reason, Unavailable
from common.rpc.bind import Tls
from common.rpc.client import grpc_connect
from common.rpc.options import Surface
from services.local.answer import Answer
from services.local.client import RouterClient
from tests.cluster.house import CLOCK, Ask, Told
from tests.kube.chart import Helm
from tests.kube.kubelet import Kubelet
from tests.kube.plane import ControlPlane

NAMESPACE = "inference"
READY_S = 90.0
LOOK_S = 0.2
MAX_TRIES = 8
UNBEGUN = (Reason.DRAINING, Reason.CHANNEL_BROKEN)
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """`name` in NAMESPACE. Raises TimeoutError with what is missing when a wait is too long."""

    name: str
    helm: Helm
    plane: ControlPlane
    kubelet: Kubelet

    async def install(self, *flags: str) -> float:
        """Installs or upgrades. When it began."""
        began = time.monotonic()
        await self.helm.install(self.name, *flags)
        return began

    async def uninstall(self) -> None:
        """Until nothing of it runs."""
        await self.helm("uninstall", self.name)
        await self.until(self._is_gone)

    async def get(self, path: str) -> Object:
        """An object, or a list of them: `pods`, `deployments/demo-baton-router`."""
        group = {
            "deployments": "apis/apps/v1",
            "replicasets": "apis/apps/v1",
            "horizontalpodautoscalers": "apis/autoscaling/v2beta2",
        }
        kind = path.partition("/")[0]
        return await self.plane.api.get(f"/{group.get(kind, 'api/v1')}/namespaces/{NAMESPACE}/{path}")

    async def deployment(self, role: str) -> Object:
        return await self.get(f"deployments/{self.name}-baton-{role}")

    async def pods(self, role: str = "") -> list[Object]:
        """Pods of the release, those that are on their way out too."""
        found = (await self.get("pods"))["items"]
        return [
            each
            for each in found
            if each["metadata"]["labels"].get("app.kubernetes.io/instance") == self.name
            and role in ("", each["metadata"]["labels"]["app.kubernetes.io/component"])
        ]

    async def wait_rolled_out(self, *, timeout_s: float = READY_S) -> None:
        """As `kubectl rollout status` waits: every Deployment has its replicas, new and available, and no old one."""
        await self.until(self._is_rolled_out, timeout_s=timeout_s)

    async def until(self, is_so: Callable[[], Awaitable[bool]], *, timeout_s: float = READY_S) -> None:
        """Until something is so, looked at from outside."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await is_so():
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise TimeoutError(await self._picture()) from None

    async def tls(self, identity: str) -> Tls:
        data = (await self.get(f"secrets/{self.name}-baton-{identity}-tls"))["data"]
        return Tls(
            certificate=base64.b64decode(data["tls.crt"]),
            private_key=base64.b64decode(data["tls.key"]),
            authority=base64.b64decode(data["ca.crt"]),
            cluster=f"{self.name}-baton",
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RouterClient]:
        """Calls the routers by name, each in turn, with the certificate that is there for clients."""
        address = f"dns://{self.kubelet.dns}/{self.name}-baton-router-headless.{NAMESPACE}.svc:7450"
        channel = grpc_connect(Surface.CLIENT, await self.tls("client"), is_spread=True)(address)
        try:
            yield RouterClient(address=address, channel=channel)
        finally:
            await channel.close(grace=None)

    async def _is_rolled_out(self) -> bool:
        for each in (await self.get("deployments"))["items"]:
            wanted, status = each["spec"]["replicas"], each["status"]
            if status.get("observedGeneration", 0) < each["metadata"]["generation"]:
                return False
            counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
            if counts != [wanted] * 3:
                return False
        return not any("deletionTimestamp" in each["metadata"] for each in await self.pods())

    async def _is_gone(self) -> bool:
        return not await self.pods()

    async def _picture(self) -> str:
        """What runs, and the last words of what is not ready."""
        lines = []
        for each in await self.pods():
            name = each["metadata"]["name"]
            status = each["status"]
            is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
            lines.append(f"{name}: {status.get('phase')}, {'ready' if is_ready else 'not ready'}")
            if not is_ready:
                role = each["spec"]["containers"][0]["name"]
                lines.append(self.plane.children.log(f"pod-{name}-{role}", last=5))
        return "\n".join(lines) or "no pods"


async def ask(client: RouterClient, request: Ask, *, timeout_s: float = 60.0, tries: int = MAX_TRIES) -> Told:
    """One request to its end, whatever that is. As the gateway does: what no router has begun is asked again."""
    for _ in range(tries):
        told = Told(answer=Answer(CLOCK))
        try:
            async for response in client.generate(request.message(), timeout_s=timeout_s):
                told.times.append(CLOCK.monotonic())
                told.answer.take(response)
        except BatonError as error:
            told.error = error
            if isinstance(error, Unavailable) and error.reason in UNBEGUN and not told.times:
                await asyncio.sleep(error.retry_after_s or LOOK_S)
                continue
        break
    told.ended_at = CLOCK.monotonic()
    return told


def check_whole(told: Sequence[Told], *, max_tokens: int) -> None:
    """None failed, none was cut short, none is missing an index or has one twice."""
    for each in told:
        each.check_whole(max_tokens)
