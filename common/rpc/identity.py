"""Who is at the other end of a mutually authenticated connection, and which services he may call.

A certificate names roles as DNS names, `<role>.<cluster>.baton`: such names fit every authority, a mesh's or helm's,
addresses of pods need not be known when it is signed, and a certificate of another cluster opens nothing here.
"""

import ssl
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType

from common.config.sections.cluster import ClusterSection
from common.core.errors import Forbidden, StartupError
from common.rpc.bind import Tls

NAMES_KEY = "x509_subject_alternative_name"
"""What grpc calls the names of a peer's certificate."""


class Caller(StrEnum):
    """What a certificate may stand for. Prefill and decode call each other alike, so they are one."""

    ROUTER = "router"
    WORKER = "worker"
    GATEWAY = "gateway"
    OPERATOR = "operator"
    CLIENT = "client"
    SCALER = "scaler"

    def name_in(self, cluster: str) -> str:
        """The DNS name that says so in a certificate."""
        return f"{self.value}.{cluster}.baton"


ANYBODY = frozenset(Caller)
ALLOWED: Mapping[str, frozenset[Caller]] = MappingProxyType(
    {
        "baton.v1.GenerationService": frozenset({Caller.CLIENT, Caller.GATEWAY, Caller.OPERATOR}),
        "baton.v1.ClusterService": frozenset({Caller.OPERATOR}),
        "baton.v1.PrefillService": frozenset({Caller.ROUTER}),
        "baton.v1.DecodeService": frozenset({Caller.ROUTER}),
        "baton.v1.WorkerService": frozenset({Caller.ROUTER, Caller.OPERATOR}),
        "baton.v1.KvService": frozenset({Caller.WORKER}),
        "vllm.grpc.engine.VllmEngine": frozenset({Caller.GATEWAY}),
        "externalscaler.ExternalScaler": frozenset({Caller.SCALER, Caller.OPERATOR}),
        "grpc.health.v1.Health": ANYBODY,
        "grpc.reflection.v1alpha.ServerReflection": ANYBODY,
    }
)
"""Who may call which service. One that is not listed is for nobody."""

ALSO: Mapping[str, frozenset[Caller]] = MappingProxyType(
    # `baton doctor` has a worker measure its link to another one: no page moves, and both show their own certificates.
    {"/baton.v1.KvService/Probe": frozenset({Caller.OPERATOR})}
)
"""Who else may call one method."""


def callers_of(names: Iterable[bytes], cluster: str) -> frozenset[Caller]:
    """The roles that a certificate's names stand for in this cluster."""
    shown = {name.decode("utf-8", "replace") for name in names}
    return frozenset(caller for caller in Caller if caller.name_in(cluster) in shown)


def check_caller(method: str, names: Iterable[bytes], cluster: str) -> None:
    """`method` is /package.Service/Name. Raises Forbidden for a certificate whose roles may not call it."""
    service = method.rpartition("/")[0].lstrip("/")
    callers = callers_of(names, cluster)
    if not callers & (ALLOWED.get(service, frozenset()) | ALSO.get(method, frozenset())):
        shown = ", ".join(sorted(callers)) or "no role of this cluster"
        raise Forbidden(message=f"{method} is not for {shown}: the certificate decides", facts={"caller": shown})


def read_tls(cluster: ClusterSection) -> Tls | None:
    """This process's own identity; None where no certificate is configured.

    Raises StartupError for files that cannot be read or do not belong together, and when one of the three is not
    configured.
    """
    files = {"cert": cluster.tls_cert_file, "key": cluster.tls_key_file, "ca": cluster.tls_ca_file}
    if not any(files.values()):
        return None
    if missing := [f"cluster.tls_{name}_file" for name, path in files.items() if not path]:
        together = "TLS needs a certificate, its key and an authority together"
        raise StartupError(message=f"{together}: {', '.join(missing)} is empty")
    found = _read_all(cluster)
    _check_together(cluster)
    if found != _read_all(cluster):
        raise StartupError(message="the files of cluster.tls_* are being replaced at this moment: start again")
    certificate, private_key, authority = found
    return Tls(
        certificate=certificate,
        private_key=private_key,
        authority=authority,
        cluster=cluster.name,
        renew=partial(_renewed, cluster, found),
    )


def _renewed(cluster: ClusterSection, found: tuple[bytes, bytes, bytes]) -> Tls | None:
    """None where the files are as they were, or not whole just now: whoever asks keeps what he has."""
    try:
        return None if _read_all(cluster) == found else read_tls(cluster)
    except StartupError:
        return None


def _read_all(cluster: ClusterSection) -> tuple[bytes, bytes, bytes]:
    """The certificate, its key, the authority."""
    return (
        _read("tls_cert_file", cluster.tls_cert_file),
        _read("tls_key_file", cluster.tls_key_file),
        _read("tls_ca_file", cluster.tls_ca_file),
    )


def _check_together(cluster: ClusterSection) -> None:
    """grpc only says that it cannot listen, or fails at the first call: with half a file, or another one's key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # what is strong enough is for grpc to say
    try:
        context.load_cert_chain(cluster.tls_cert_file, cluster.tls_key_file, password="")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise StartupError(message=f"cluster.tls_cert_file and tls_key_file do not belong together: {why}") from error
    try:
        context.load_verify_locations(cafile=cluster.tls_ca_file)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise StartupError(message=f"cluster.tls_ca_file is no authority: {why}") from error


def _read(key: str, path: str) -> bytes:
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise StartupError(message=f"cluster.{key} cannot be read: {error.strerror}") from error
    if not pem.startswith(b"-----BEGIN "):
        raise StartupError(message=f"cluster.{key} is not PEM")
    return pem
