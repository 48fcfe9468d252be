"""One pod: volumes, init containers, containers, conditions in its status, and its end."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from tests.kube.api import ApiError, Object
from tests.kube.container import SERVICE, Container, Setting
from tests.kube.network import reachable
from tests.kube.plane import ControlPlane
from tests.kube.services import Services
from tests.kube.variables import variables
from tests.kube.volumes import Volumes

RETRY_S = 0.5
MAX_BACKOFF_S = 8.0
GRACE_S = 30.0


class Pod:
    """Runs one pod to its end. `run` is its task; `end` asks for that end.

    Pending -> (init containers) -> Running <-> Ready -> Succeeded | Failed. Deleted: gone after its processes.
    """

    def __init__(self, plane: ControlPlane, services: Services, *, obj: Object, told: str, dns: str) -> None:
        self._plane = plane
        self._api = plane.api
        self._services = services
        self._children = plane.children
        self._obj = obj
        self._told = told
        self._dns = dns
        self._containers: dict[str, Container] = {}
        self._restarts: dict[str, int] = {}
        self._phase = "Pending"
        self._is_initialized = False
        self._changes = asyncio.Event()
        self._ending = asyncio.Event()
        self._grace_s = GRACE_S

    @property
    def name(self) -> str:
        return self._obj["metadata"]["name"]

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._obj['metadata']['namespace']}/pods/{self.name}"

    def end(self, grace_s: float) -> None:
        """The pod was deleted: it has so long."""
        self._grace_s = grace_s
        self._ending.set()

    async def execute(self, container: str, command: list[str]) -> int:
        """As `kubectl exec`: the exit status. What is said goes to the container's log, `.exec` at its end."""
        return await self._containers[container].execute(command)

    async def run(self) -> None:
        """Until all containers ended for good, or the pod was deleted and they have."""
        async with asyncio.TaskGroup() as group:
            reporter = group.create_task(self._report())
            work = asyncio.create_task(self._work())
            ending = asyncio.create_task(self._ending.wait())
            try:
                await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)  # bounded: a pod's life
                if work.done():
                    await work
                await self._ending.wait()  # bounded: a finished pod stays until it is deleted
                await asyncio.gather(*(each.end(self._grace_s) for each in self._containers.values()))
            finally:
                work.cancel()
                ending.cancel()
                await asyncio.gather(work, ending, return_exceptions=True)
                reporter.cancel()
        await self._api.call("DELETE", self._path, {"gracePeriodSeconds": 0})

    async def _work(self) -> None:
        volumes = Volumes(self._api, self._obj, self._children.folder / "pods" / self._obj["metadata"]["uid"])
        spec = self._obj["spec"]
        await self._until_found(volumes.make)
        for each in spec.get("initContainers") or ():
            while await self._run_once(each, volumes):
                await asyncio.sleep(RETRY_S)
        self._is_initialized, self._phase = True, "Running"
        self._changes.set()
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(self._keep(each, volumes)) for each in spec["containers"]]
        self._phase = "Failed" if any(run.result() for run in runs) else "Succeeded"
        self._changes.set()

    async def _keep(self, spec: Object, volumes: Volumes) -> int:
        """Run a container again as the pod's policy says; the last exit status."""
        policy = self._obj["spec"].get("restartPolicy", "Always")
        while True:
            status = await self._run_once(spec, volumes)
            if self._ending.is_set() or policy == "Never" or (policy == "OnFailure" and status == 0):
                return status
            self._restarts[spec["name"]] = self._restarts.get(spec["name"], 0) + 1
            self._changes.set()
            await asyncio.sleep(min(RETRY_S * 2 ** self._restarts[spec["name"]], MAX_BACKOFF_S))

    async def _run_once(self, spec: Object, volumes: Volumes) -> int:
        address = reachable(self._told)
        found: Mapping[str, str] = self._plane.own_address | await self._until_found(
            lambda: variables(self._api, self._obj, spec, address=address)
        )
        words = [*found.values(), *spec.get("command", ()), *spec.get("args", ())]
        names = await self._addresses(words)
        setting = Setting(
            address=address,
            variables=found,
            paths=volumes.paths(spec),
            rename=lambda word: self._rename(word, names),
            token=await self._until_found(lambda: volumes.make_token(self._plane.authority)),
        )
        log = f"pod-{self.name}-{spec['name']}"
        container = Container(spec, setting, self._children, log, changed=self._changes.set)
        self._containers[spec["name"]] = container
        self._changes.set()
        return await container.run()

    async def _addresses(self, words: list[str]) -> dict[str, str]:
        """ClusterIPs of the Services that are named in words, gRPC's dns:/// targets apart: those are resolved."""
        found = {match.group(): match.groups() for word in words for match in SERVICE.finditer(word)}
        return {
            name: await self._until_found(lambda key=key: self._services.address(key[1], key[0]))
            for name, key in found.items()
        }

    def _rename(self, word: str, addresses: Mapping[str, str]) -> str:
        if word.startswith("dns:///"):
            return word.replace("dns:///", f"dns://{self._dns}/", 1)
        return SERVICE.sub(lambda found: addresses.get(found.group(), found.group()), word)

    async def _until_found(self, look):
        """As the kubelet does with what a pod refers to: until it is there."""
        while True:
            try:
                return await look()
            except ApiError as error:
                if error.status != 404:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _report(self) -> None:
        """The pod's status in the API, after every change."""
        self._changes.set()
        while True:
            await self._changes.wait()  # bounded: lives as long as the pod
            self._changes.clear()
            try:
                await self._api.patch(f"{self._path}/status", {"status": self._status()})
            except ApiError as error:
                if error.status != 404:
                    raise

    def _status(self) -> Object:
        specs = self._obj["spec"]["containers"]
        containers = [self._container_status(each) for each in specs]
        is_ready = self._phase == "Running" and all(each["ready"] for each in containers)
        facts = {"Initialized": self._is_initialized, "Ready": is_ready, "ContainersReady": is_ready}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "phase": self._phase,
            "podIP": self._told,
            "podIPs": [{"ip": self._told}],
            "startTime": self._obj["metadata"]["creationTimestamp"],
            "conditions": [
                {"type": kind, "status": str(is_so), "lastTransitionTime": now}
                for kind, is_so in ({"PodScheduled": True} | facts).items()
            ],
            "containerStatuses": containers,
        }

    def _container_status(self, spec: Object) -> Object:
        name = spec["name"]
        container = self._containers.get(name)
        state: Object = {"waiting": {"reason": "ContainerCreating"}}
        if container is not None:
            state = {"running": {}} if container.status is None else {"terminated": {"exitCode": container.status}}
        return {
            "name": name,
            "image": spec["image"],
            "imageID": "",
            "ready": container is not None and container.is_ready,
            "started": container is not None and container.is_started,
            "restartCount": self._restarts.get(name, 0),
            "state": state,
        }
