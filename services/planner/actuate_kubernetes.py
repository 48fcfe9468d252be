"""The API server, through the `kubernetes` client: scales, a Lease, pods' deletion costs, the front proxy's authority.

Every call blocks for at most TIMEOUT_S and belongs on a thread. Whatever the API refuses is Unavailable.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from common.core.clock import Clock
from common.core.errors import StartupError, Unavailable
from common.core.worker import Role
from services.planner.lease import DURATION_S, LeaseView, Step
from services.planner.metrics_server import FrontProxy

TIMEOUT_S = 5.0
RETRY_S = 5.0
COST = "controller.kubernetes.io/pod-deletion-cost"
CONFLICT, NOT_FOUND = 409, 404


def _client(kubeconfig: str = "") -> Any:
    """An API client with the pod's own account, or with a kubeconfig. Raises StartupError where neither will do."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise StartupError(message="this needs the Kubernetes client: pip install 'baton[planner]'") from error
    try:
        if kubeconfig:
            return config.new_client_from_config(kubeconfig)  # type: ignore[no-untyped-call]  # the library left it so
        settings = client.Configuration()
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]  # likewise
        return client.ApiClient(settings)
    except (config.ConfigException, OSError) as error:
        raise StartupError(message=f"the API server cannot be found: {error}") from error


@contextmanager
def _translated(what: str) -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        message = f"{what}: the API server says {error.status} {error.reason}"
        raise Unavailable(message=message, retry_after_s=RETRY_S) from error
    except (HTTPError, OSError) as error:
        raise Unavailable(message=f"{what}: no answer from the API server", retry_after_s=RETRY_S) from error


def read_front_proxy(kubeconfig: str = "") -> FrontProxy:
    """Whose certificate an API server shows to aggregated APIs. Raises StartupError."""
    api = _client(kubeconfig)
    from kubernetes import client

    try:
        with _translated("extension-apiserver-authentication"):
            found = client.CoreV1Api(api).read_namespaced_config_map(
                "extension-apiserver-authentication", "kube-system", _request_timeout=TIMEOUT_S
            )
    except Unavailable as error:
        raise StartupError(message=error.message) from error
    data = found.data or {}
    authority = data.get("requestheader-client-ca-file", "")
    if not authority:
        raise StartupError(message="this API server names no authority of its front proxy: metrics_api cannot serve it")
    return FrontProxy(authority=authority, names=frozenset(json.loads(data.get("requestheader-allowed-names") or "[]")))


class KubernetesScales:
    """The scales of `<release>-prefill` and `<release>-decode`, and the Lease `<release>-planner`. Writer: the
    actuator, on one thread at a time."""

    def __init__(self, *, namespace: str, release: str, clock: Clock, kubeconfig: str = "") -> None:
        api = _client(kubeconfig)
        from kubernetes import client

        self._client = client
        self._apps = client.AppsV1Api(api)
        self._core = client.CoreV1Api(api)
        self._leases = client.CoordinationV1Api(api)
        self._namespace = namespace
        self._release = release
        self._clock = clock

    def lease(self) -> LeaseView | None:
        from kubernetes.client.exceptions import ApiException

        with _translated("Lease"):
            try:
                found = self._leases.read_namespaced_lease(self._lease, self._namespace, _request_timeout=TIMEOUT_S)
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return None
                raise
        assert found.spec is not None
        assert found.metadata is not None
        return LeaseView(holder=found.spec.holder_identity or "", version=found.metadata.resource_version or "")

    def hold(self, step: Step, *, me: str, version: str) -> bool:
        return self._write(step, holder=me, version=version)

    def let_go(self, *, version: str) -> bool:
        return self._write(Step.RENEW, holder=None, version=version)

    def _write(self, step: Step, *, holder: str | None, version: str) -> bool:
        from kubernetes.client.exceptions import ApiException

        client = self._client
        renewed = datetime.fromtimestamp(self._clock.wall(), UTC)
        spec = client.V1LeaseSpec(holder_identity=holder, lease_duration_seconds=round(DURATION_S), renew_time=renewed)
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name=self._lease, resource_version=version or None), spec=spec
        )
        with _translated("Lease"):
            try:
                if step is Step.CREATE:
                    self._leases.create_namespaced_lease(self._namespace, body, _request_timeout=TIMEOUT_S)
                else:
                    self._leases.replace_namespaced_lease(
                        self._lease, self._namespace, body, _request_timeout=TIMEOUT_S
                    )
            except ApiException as error:
                if error.status == CONFLICT:
                    return False
                raise
        return True

    def replicas(self, role: Role) -> int:
        with _translated(f"scale of {role}"):
            found = self._apps.read_namespaced_deployment_scale(
                self._workload(role), self._namespace, _request_timeout=TIMEOUT_S
            )
        return int(found.spec.replicas or 0) if found.spec else 0

    def scale(self, role: Role, replicas: int) -> None:
        with _translated(f"scale of {role}"):
            self._apps.patch_namespaced_deployment_scale(
                self._workload(role), self._namespace, {"spec": {"replicas": replicas}}, _request_timeout=TIMEOUT_S
            )

    def set_deletion_cost(self, pod: str, cost: int) -> None:
        body = {"metadata": {"annotations": {COST: str(cost)}}}
        with _translated(f"pod {pod}"):
            self._core.patch_namespaced_pod(pod, self._namespace, body, _request_timeout=TIMEOUT_S)

    @property
    def _lease(self) -> str:
        return f"{self._release}-planner"

    def _workload(self, role: Role) -> str:
        return f"{self._release}-{role}"
