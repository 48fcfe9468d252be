"""Just enough of an API server for helm's `lookup`: objects by their path, and the two lists that say what there is."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from tests.deploy.chart import CHART, Manifest, helm

FOUND = 200, 404


def _kinds(group: str, kind: str, plural: str) -> Manifest:
    resource = {"name": plural, "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
    return {"kind": "APIResourceList", "groupVersion": group, "resources": [resource]}


ALWAYS: Mapping[str, Manifest] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": _kinds("v1", "Secret", "secrets"),
    "/apis/apps/v1": _kinds("apps/v1", "Deployment", "deployments"),
    "/apis/autoscaling/v1": _kinds("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
}
PLURALS = {
    "Secret": "/api/v1/namespaces/ns/secrets",
    "Deployment": "/apis/apps/v1/namespaces/ns/deployments",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v1/namespaces/ns/horizontalpodautoscalers",
}


@contextmanager
def cluster(*there: Manifest) -> Iterator[str]:
    """The address of an API server that has these objects in the namespace `ns`."""
    paths = {f"{PLURALS[each['kind']]}/{each['metadata']['name']}": each for each in there}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = ({**ALWAYS, **paths}).get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(found or missing).encode()
            self.send_response(FOUND[found is None])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: helm says what it misses."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def upgrade(address: str, *settings: str) -> tuple[Manifest, ...] | str:
    """What an upgrade of the release `demo` would send; a string is helm's refusal."""
    flags = [flag for setting in settings for flag in ("--set", setting)]
    where = ("--namespace", "ns", "--dry-run=server", "--kube-apiserver", address)
    done = helm("template", "demo", str(CHART), *where, *flags)
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each) if done.returncode == 0 else done.stderr
