"""A pod's volumes as folders of this machine, and what the paths in a container's words become."""

import base64
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.architecture.source import ROOT
from tests.kube.api import Api, ApiError, Object

TOKEN_SECONDS = 3600
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


class Volumes:
    """Volumes of one pod below `folder`. Writer: the pod's own task."""

    def __init__(self, api: Api, pod: Object, folder: Path) -> None:
        self._api = api
        self._pod = pod
        self._folder = folder

    @property
    def _namespace(self) -> str:
        return self._pod["metadata"]["namespace"]

    async def make(self) -> None:
        """Raises ApiError when a ConfigMap or Secret is not there (yet)."""
        for volume in self._pod["spec"].get("volumes") or ():
            folder = self._folder / volume["name"]
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for path, data in (await self._files(volume)).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)

    async def make_token(self, authority: bytes) -> Path | None:
        """The folder that a pod which talks to Kubernetes finds under TOKEN_FOLDER. None: it asked for none."""
        if not self._pod["spec"].get("automountServiceAccountToken", True):
            return None
        folder = self._folder / "service-account"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(await self._token())
        (folder / "ca.crt").write_bytes(authority)
        (folder / "namespace").write_text(self._namespace)
        return folder

    def paths(self, container: Object) -> dict[str, Path]:
        """Where each of a container's mounts really is. The image's own content is this checkout."""
        mounts = {
            each["mountPath"]: self._folder / each["name"] / each.get("subPath", "")
            for each in container.get("volumeMounts") or ()
        }
        return {"/app": ROOT} | mounts

    async def _files(self, volume: Object) -> dict[str, bytes]:
        if "configMap" in volume:
            return await self._config_map(volume["configMap"]["name"], volume["configMap"])
        if "secret" in volume:
            return await self._secret(volume["secret"]["secretName"], volume["secret"])
        if "projected" in volume:
            files: dict[str, bytes] = {}
            for source in volume["projected"]["sources"]:
                files |= await self._projected(source)
            return files
        assert "emptyDir" in volume, f"the double has no such volume: {volume}"
        return {}

    async def _projected(self, source: Object) -> dict[str, bytes]:
        if "serviceAccountToken" in source:
            name = source["serviceAccountToken"]["path"]
            return {name: (await self._token()).encode()}
        if "configMap" in source:
            return await self._config_map(source["configMap"]["name"], source["configMap"])
        if "secret" in source:
            return await self._secret(source["secret"]["name"], source["secret"])
        return {
            each["path"]: str(self._pod["metadata"][each["fieldRef"]["fieldPath"].removeprefix("metadata.")]).encode()
            for each in source["downwardAPI"]["items"]
        }

    async def _token(self) -> str:
        account = self._pod["spec"].get("serviceAccountName", "default")
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return (await self._api.call("POST", path, request | {"spec": {"expirationSeconds": TOKEN_SECONDS}}))["status"][
            "token"
        ]

    async def _config_map(self, name: str, source: Object) -> dict[str, bytes]:
        found = await self._read("configmaps", name, is_optional=source.get("optional", False))
        return _chosen({key: text.encode() for key, text in (found.get("data") or {}).items()}, source)

    async def _secret(self, name: str, source: Object) -> dict[str, bytes]:
        found = await self._read("secrets", name, is_optional=source.get("optional", False))
        return _chosen({key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}, source)

    async def _read(self, kind: str, name: str, *, is_optional: bool) -> Object:
        try:
            return await self._api.get(f"/api/v1/namespaces/{self._namespace}/{kind}/{name}")
        except ApiError as error:
            if error.status == 404 and is_optional:
                return {}
            raise


def _chosen(files: dict[str, bytes], source: Object) -> dict[str, bytes]:
    """Under the paths of `items`, where there are any."""
    if "items" not in source:
        return files
    return {each["path"]: files[each["key"]] for each in source["items"]}


def translated(text: str, paths: Mapping[str, Path]) -> str:
    """`text` with every mounted path where it really is: there is no mount namespace."""
    mounts = "|".join(re.escape(mount) for mount in sorted(paths, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({mounts})(?![\w.-])", lambda found: str(paths[found[1]]), text)
