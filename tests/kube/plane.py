"""etcd, kube-apiserver and kube-controller-manager as processes of this test run.

BATON_CONTROL_PLANE names a folder with the three binaries, an archive of them (.tar.zst, .tar.gz), or a folder with one
such archive. Checked with v1.20.2 and etcd 3.5.
"""

import asyncio
import os
import secrets
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.kube.api import Api, ApiError
from tests.kube.children import Children, stop
from tests.kube.network import Network, free_network
from tests.rpc.certificates import Authority

VARIABLE = "BATON_CONTROL_PLANE"
LOGS_VARIABLE = "BATON_KUBE_LOGS"
"""Names a folder that gets the logs of everything that ran."""
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager")
START_S = 60.0
METRIC_PERIOD_S = 2.0
"""How often the HPA controller looks, instead of every 15 s."""
SERVER_NAME = "kube-apiserver"
_PORT, _ETCD, _ETCD_PEERS, _MANAGER = 6443, 2379, 2380, 10257
_CONTROLLERS = (
    "deployment,replicaset,statefulset,job,horizontalpodautoscaling,endpoint,disruption,garbagecollector,namespace"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A running one. `kubeconfig` is an administrator's."""

    api: Api
    kubeconfig: Path
    network: Network
    children: Children

    @property
    def own_address(self) -> dict[str, str]:
        """What the kubelet tells every container of the API server."""
        return {"KUBERNETES_SERVICE_HOST": self.network.host, "KUBERNETES_SERVICE_PORT": str(_PORT)}

    @property
    def authority(self) -> bytes:
        """What clients inside pods trust the API server by."""
        return (self.children.folder / "pki/ca.crt").read_bytes()


def archive() -> Path | None:
    """What BATON_CONTROL_PLANE names, if it is there."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named and Path(named).exists() else None


def unpack(source: Path, into: Path) -> Path:
    """The folder that has the binaries."""
    if source.is_dir() and (source / BINARIES[1]).exists():
        return source
    packed = source if source.is_file() else next(source.glob("*.tar.*"))
    into.mkdir()
    subprocess.run(["tar", "-xf", packed, "-C", into], check=True, timeout=60)
    return next(into.rglob(BINARIES[1])).parent


@asynccontextmanager
async def control_plane(source: Path, folder: Path) -> AsyncIterator[ControlPlane]:
    """For the block; `folder` is there, and gone afterwards with every process."""
    async with Children(folder) as children:
        binaries = unpack(source, folder / "bin")
        network = free_network(port=_PORT)
        authority = Authority(folder / "pki")
        authority.sign(SERVER_NAME, network.host)
        token = secrets.token_hex(16)
        (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        etcd = await children.start("etcd", _etcd(binaries, folder, network))
        server = await children.start("kube-apiserver", _api_server(binaries, folder, network))
        api = Api(address=(network.host, _PORT), server_name=SERVER_NAME, tls=_trust(folder), token=token)
        await _wait_ready(api, server, children)
        kubeconfig = _write_kubeconfig(folder, network, token)
        manager = await children.start("kube-controller-manager", _manager(binaries, folder, network, kubeconfig))
        yield ControlPlane(api=api, kubeconfig=kubeconfig, network=network, children=children)
        for process in (manager, server, etcd):
            await stop(process)
        children.keep_logs(os.environ.get(LOGS_VARIABLE, ""))


def _etcd(binaries: Path, folder: Path, network: Network) -> list[str]:
    clients, peers = f"http://{network.host}:{_ETCD}", f"http://{network.host}:{_ETCD_PEERS}"
    return [
        str(binaries / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=error",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]


def _api_server(binaries: Path, folder: Path, network: Network) -> list[str]:
    pki = folder / "pki"
    key, certificate = pki / f"{SERVER_NAME}.key", pki / f"{SERVER_NAME}.crt"
    return [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://{network.host}:{_ETCD}",
        f"--bind-address={network.host}",
        f"--secure-port={_PORT}",
        f"--advertise-address=10.{network.number}.0.1",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={network.services}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificate}",
        f"--service-account-signing-key-file={key}",
        # Aggregated APIs see who asks by these headers, from a caller with this certificate.
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certificate}",
        f"--proxy-client-key-file={key}",
    ]


def _manager(binaries: Path, folder: Path, network: Network, kubeconfig: Path) -> list[str]:
    return [
        str(binaries / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--bind-address={network.host}",
        f"--secure-port={_MANAGER}",
        "--port=0",
        f"--cert-dir={folder}",
        "--leader-elect=false",
        # Each controller as its own service account, so that RBAC holds for the HPA too.
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={folder / 'pki' / SERVER_NAME}.key",
        f"--controllers={_CONTROLLERS}",
        f"--horizontal-pod-autoscaler-sync-period={METRIC_PERIOD_S:g}s",
    ]


def _trust(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "pki/ca.crt"))


async def _wait_ready(api: Api, server: asyncio.subprocess.Process, children: Children) -> None:
    async with asyncio.timeout(START_S):
        while True:
            assert server.returncode is None, children.log("kube-apiserver")
            try:
                await api.get("/readyz")
                return
            except (OSError, ApiError, EOFError):
                await asyncio.sleep(0.1)  # a process of others has no event to wait for


def _write_kubeconfig(folder: Path, network: Network, token: str) -> Path:
    server = {
        "server": f"https://{network.host}:{_PORT}",
        "tls-server-name": SERVER_NAME,
        "certificate-authority": str(folder / "pki/ca.crt"),
    }
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "double",
        "clusters": [{"name": "double", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "double", "context": {"cluster": "double", "user": "admin", "namespace": "default"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(text))
    path.chmod(0o600)
    return path
