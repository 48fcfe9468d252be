"""A container's environment, as the kubelet would make it."""

import base64
import re
from collections.abc import Mapping

from tests.kube.api import Api, Object
from tests.kube.network import reachable


async def variables(api: Api, pod: Object, container: Object, *, address: str) -> dict[str, str]:
    """`env` and `envFrom`, references resolved. Raises ApiError when something they refer to is not there."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if kind in source:
                found |= await _data(api, pod, plural, source[kind]["name"])
    for each in container.get("env") or ():
        found[each["name"]] = (
            expanded(each["value"], found)
            if "value" in each
            else await _referred(api, pod, each.get("valueFrom") or {}, address)
        )
    return found


def expanded(text: str, known: Mapping[str, str]) -> str:
    """$(NAME) replaced where NAME is known."""
    return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda found: known.get(found[1], found[0]), text)


async def _referred(api: Api, pod: Object, source: Object, address: str) -> str:
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"], address)
    for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        if kind in source:
            return (await _data(api, pod, plural, source[kind]["name"]))[source[kind]["key"]]
    assert not source, f"the double knows no such source: {source}"
    return ""


def _field(pod: Object, path: str, address: str) -> str:
    if path == "status.podIP":
        return address
    if path == "status.hostIP":
        return reachable(pod["status"]["hostIP"])
    found: Object = pod
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(match[1], {}).get(match[2], ""))
    for name in path.split("."):
        found = found[name]
    return str(found)


async def _data(api: Api, pod: Object, plural: str, name: str) -> dict[str, str]:
    found = (await api.get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/{plural}/{name}")).get("data") or {}
    return {key: base64.b64decode(text).decode() if plural == "secrets" else text for key, text in found.items()}
